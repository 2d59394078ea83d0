//! Progress where nobody watches a terminal: short lines without control characters, and a sign of life every 10 s.

use std::collections::HashMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ecr_push::event::{Attempt, Ending, Event, Reporter};

use super::render;

/// How often a line says that it still goes on.
const HEARTBEAT: Duration = Duration::from_secs(10);

struct Flight {
    name: String,
    size: u64,
    moved: u64,
    since: Instant,
}

struct State {
    since: Instant,
    total: u64,
    done: u64,
    /// Bytes that went over the line, those among them that were in vain.
    sent: u64,
    flights: HashMap<Attempt, Flight>,
}

impl State {
    fn moved(&self) -> u64 {
        self.done + self.flights.values().map(|flight| flight.moved).sum::<u64>()
    }
}

/// Writes lines to standard error.
pub(super) struct Plain {
    state: Arc<Mutex<State>>,
    quit: Option<Sender<()>>,
    heart: Option<JoinHandle<()>>,
}

impl Plain {
    pub(super) fn new() -> Self {
        let state = State { since: Instant::now(), total: 0, done: 0, sent: 0, flights: HashMap::new() };
        let state = Arc::new(Mutex::new(state));
        let (quit, quitting) = channel();
        let watched = state.clone();
        let heart = std::thread::spawn(move || beat(&watched, &quitting));
        Self { state, quit: Some(quit), heart: Some(heart) }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.quit.take();
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
    }
}

/// Says every now and then how far it is; ends with the sender.
fn beat(state: &Mutex<State>, quitting: &Receiver<()>) {
    let mut before = 0;
    while quitting.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = state.moved();
        let rate = (state.sent - before) / HEARTBEAT.as_secs();
        before = state.sent;
        let seconds = state.since.elapsed().as_secs();
        match (moved * 100).checked_div(state.total) {
            Some(percent) => line(&format!(
                "{percent} %, {} of {}, {}/s, {seconds} s",
                render::size(moved),
                render::size(state.total),
                render::size(rate)
            )),
            None => line(&format!("working, {seconds} s")),
        }
    }
}

/// One line, whole even when several threads write.
pub(super) fn line(text: &str) {
    let text = render::printable(text);
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

impl Reporter for Plain {
    fn report(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { attempt, repository, digest, role, size, from } => {
                let name = format!("{} {} ({})", render::role(*role), digest.short(), render::size(*size));
                match from {
                    0 => line(&format!("uploading {name} to {repository}")),
                    from => line(&format!("going on with {name} to {repository} at {}", render::size(*from))),
                }
                let flight = Flight { name, size: *size, moved: *from, since: Instant::now() };
                state.flights.insert(*attempt, flight);
            }
            Event::Moved { attempt, bytes } => {
                state.sent += bytes;
                if let Some(flight) = state.flights.get_mut(attempt) {
                    flight.moved += bytes;
                }
            }
            Event::Ended { attempt, ending } => {
                let Some(flight) = state.flights.remove(attempt) else { return };
                match ending {
                    Ending::Done => {
                        state.done += flight.size;
                        line(&format!("uploaded {} in {:.1} s", flight.name, flight.since.elapsed().as_secs_f64()));
                    }
                    Ending::GivenUp => line(&format!("gave up {}", flight.name)),
                    Ending::Broken => {
                        line(&format!("broke off {} after {}", flight.name, render::size(flight.moved)));
                    }
                }
            }
            other => {
                match other {
                    Event::Planned { bytes, .. } => state.total += bytes,
                    Event::Compressing { bytes, destinations, .. } => state.total += bytes * *destinations as u64,
                    Event::Spared { size, .. } => state.total = state.total.saturating_sub(*size),
                    _ => {}
                }
                if let Some(text) = words(other) {
                    line(&text);
                }
            }
        }
    }
}

/// The words for an event that isn't about a blob in flight.
pub(super) fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Read { digest, manifests, blobs, bytes } => format!(
            "image {digest}: {}, {}, {}",
            render::number(*manifests, "manifest"),
            render::number(*blobs, "blob"),
            render::size(*bytes)
        ),
        Event::Compressing { layers, bytes, .. } => {
            format!("compressing {} on the way ({})", render::number(*layers, "layer"), render::size(*bytes))
        }
        Event::Planned { repository, blobs, bytes, at_most: true, .. } => {
            format!("{repository}: up to {} to upload ({})", render::number(*blobs, "blob"), render::size(*bytes))
        }
        Event::Planned { repository, blobs, bytes, at_most: false, present } => format!(
            "{repository}: {} to upload ({}), {present} there already",
            render::number(*blobs, "blob"),
            render::size(*bytes)
        ),
        Event::Spared { repository, digest, role, size, from } => {
            let name = format!("{} {} ({})", render::role(*role), digest.short(), render::size(*size));
            match from {
                Some(from) => format!("mounted {name} from {from} to {repository}"),
                None => format!("{name} is in {repository} already"),
            }
        }
        Event::Created { repository } => format!("repository {repository} created"),
        Event::Waiting { what, why, wait } => {
            format!("{what}: {why}; trying again in {:.1} s", wait.as_secs_f64())
        }
        Event::Manifest { repository, digest } => format!("manifest {} written to {repository}", digest.short()),
        Event::Tagged { repository, tag } => format!("tag {repository}:{tag} written"),
        Event::Verified { repository } => format!("{repository} verified"),
        Event::Scanning { repository, images } => {
            format!("waiting for ECR's scan of {} in {repository}", render::number(*images, "image"))
        }
        Event::Warning { text } => format!("warning: {text}"),
        Event::Started { .. }
        | Event::Moved { .. }
        | Event::Ended { .. }
        | Event::Tagging { .. }
        | Event::Checked { .. } => return None,
    })
}
