//! SIGINT and SIGTERM: the push stops at once, takes its sessions back, and leaves SOURCE and tags alone.

mod cleanup;
mod moments;
mod phases;
mod twice;

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use local_ecr::{Answer, Entry, Fault, FaultKind, LocalEcr};

use crate::support::command::Running;
use crate::support::{Layout, Push, Ran, Tree, builder, ecr, requests, start};

/// A second to cancel sessions, and time for a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What hasn't come by then never will.
const NEVER: Duration = Duration::from_mins(1);

/// A run that is interrupted; gives what it came to, and the time that it took to stop.
fn interrupted(run: Running, signal: &str) -> (Ran, Duration) {
    let sent = Instant::now();
    run.signal(signal);
    (run.wait(), sent.elapsed())
}

/// Goes on once the journal has an entry like this.
fn wait_for(ecr: &LocalEcr, wanted: impl Fn(&Entry) -> bool) {
    let since = Instant::now();
    while !ecr.registry_requests().iter().any(&wanted) {
        assert!(since.elapsed() < NEVER, "the request never came: {:?}", ecr.registry_requests());
        thread::yield_now();
    }
}

/// Waits for an answer that is like this, from now on.
struct Awaited(Receiver<()>);

impl Awaited {
    fn new(ecr: &LocalEcr, wanted: impl Fn(&Entry) -> bool + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        ecr.on_answer(move |entry| {
            if wanted(entry) {
                let _ = sender.send(());
            }
        });
        Self(receiver)
    }

    fn arrives(&self) {
        self.0.recv_timeout(NEVER).expect("the answer was given");
    }
}

#[track_caller]
fn stops(signal: &str, status: i32, kind: FaultKind, options: &[&str]) {
    let fault = Fault::on("PUT", "/blobs/uploads/").times(u64::MAX).does(kind);
    let ecr = start(builder().upload_cancel(true).fault(fault));
    let layout = Layout::of_layers(&[900_000, 700_000, 1000]);
    let before = Tree::of(layout.parent());
    let run = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]).args(options).start();
    // The upload has begun, and stands still.
    wait_for(&ecr, |entry| entry.method == "PUT" && entry.bytes >= 200_000);
    let (ran, time) = interrupted(run, signal);
    ran.exits(status).prints(&[]).says(["interrupted", "SOURCE is untouched", "no tag was written"]);
    assert!(time < AT_ONCE, "it took {time:?}");
    assert_eq!(ecr.open_sessions(), 0);
    assert!(!requests(&ecr, "DELETE", "/blobs/uploads/").is_empty());
    assert!(ecr.tags("app").is_empty());
    before.is_unchanged(layout.parent());
}

#[test]
fn sigint_stops_an_upload() {
    stops("INT", 130, FaultKind::StallAfter(300_000), &[]);
}

#[test]
fn sigterm_stops_an_upload() {
    stops("TERM", 143, FaultKind::StallAfter(300_000), &["--jobs", "1"]);
}

#[test]
fn a_signal_while_a_session_is_being_opened_leaves_none() {
    let slow = Fault::on("POST", "/blobs/uploads/").times(u64::MAX).does(FaultKind::Delay(Duration::from_millis(300)));
    let ecr = start(builder().upload_cancel(true).fault(slow));
    let layout = Layout::of_layers(&[900_000]);
    let opened = Awaited::new(&ecr, |entry| entry.method == "POST" && entry.path.contains("/blobs/uploads/"));
    let run = Push::of(layout.path()).at(&ecr).to("app:v1").start();
    // The session is open, and the client hasn't been told yet.
    opened.arrives();
    let (ran, time) = interrupted(run, "TERM");
    ran.exits(143);
    assert!(time < AT_ONCE, "it took {time:?}");
    ecr.wait_for_quiet();
    assert_eq!(ecr.open_sessions(), 0);
}

#[test]
fn a_signal_while_a_registry_is_silent_stops_the_push() {
    let look = |path| Fault::on("HEAD", path).times(u64::MAX).does(FaultKind::Stall);
    let check = |kind| Fault::operation("BatchCheckLayerAvailability").times(u64::MAX).does(kind);
    let blocked = vec![check(FaultKind::status(404)), look("/blobs/sha256")];
    for faults in [vec![look("/manifests/v1")], vec![check(FaultKind::Stall)], blocked] {
        let ecr = start(faults.iter().cloned().fold(builder(), local_ecr::Builder::fault));
        let layout = Layout::fixture("good/one-manifest");
        let stalled = Awaited::new(&ecr, |entry| entry.answer == Answer::Stalled);
        let run = Push::of(layout.path()).at(&ecr).to("app:v1").start();
        stalled.arrives();
        let (ran, time) = interrupted(run, "INT");
        ran.exits(130).prints(&[]).says(["no tag was written"]);
        assert!(time < AT_ONCE, "{faults:?}: it took {time:?}");
    }
}

#[test]
fn a_signal_while_the_token_is_fetched_stops_the_push() {
    let ecr = start(builder().fault(Fault::api().does(FaultKind::Stall)));
    let layout = Layout::fixture("good/one-manifest");
    let stalled = Awaited::new(&ecr, |entry| entry.answer == Answer::Stalled);
    let run = Push::of(layout.path()).at(&ecr).to("app:v1").start();
    stalled.arrives();
    let (ran, time) = interrupted(run, "INT");
    ran.exits(130).prints(&[]);
    assert!(time < AT_ONCE, "it took {time:?}");
    assert_eq!(ecr.registry_requests(), []);
}

#[test]
fn a_signal_while_a_failed_request_waits_stops_the_push() {
    let headers = vec![("Retry-After".to_owned(), "60".to_owned())];
    let busy = FaultKind::Status { status: 503, headers, body: String::new() };
    let ecr = start(builder().fault(Fault::on("PUT", "/blobs/uploads/").does(busy)));
    let layout = Layout::fixture("good/one-manifest");
    let cancelled = Awaited::new(&ecr, |entry| entry.method == "DELETE");
    let run = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs", "1"]).start();
    cancelled.arrives();
    let (ran, time) = interrupted(run, "TERM");
    ran.exits(143).prints(&[]);
    assert!(time < AT_ONCE, "it took {time:?}");
}

#[test]
fn a_signal_after_tags_were_written_says_which() {
    let stall = Fault::on("PUT", "/manifests/v2").does(FaultKind::Stall);
    let ecr = start(builder().fault(stall));
    let layout = Layout::fixture("good/one-manifest");
    let before = Tree::of(layout.parent());
    let stalled = Awaited::new(&ecr, |entry| entry.answer == Answer::Stalled);
    let run = Push::of(layout.path()).at(&ecr).to("app").args(["-t", "v1", "-t", "v2", "--cleanup"]).start();
    stalled.arrives();
    let (ran, _) = interrupted(run, "INT");
    ran.exits(130)
        .prints(&[])
        .says(["these tags had been written: ", "/app:v1"])
        .says(["these may have been: ", "/app:v2"]);
    before.is_unchanged(layout.parent());
}

#[test]
fn a_registry_that_will_not_cancel_cannot_hold_the_end_up() {
    let ecr = ecr();
    ecr.inject(Fault::on("PUT", "/blobs/uploads/").times(u64::MAX).does(FaultKind::StallAfter(300_000)));
    ecr.inject(Fault::on("DELETE", "/blobs/uploads/").times(u64::MAX).does(FaultKind::Stall));
    let layout = Layout::of_layers(&[900_000]);
    let run = Push::of(layout.path()).at(&ecr).to("app:v1").start();
    wait_for(&ecr, |entry| entry.method == "PUT" && entry.bytes >= 200_000);
    let (ran, time) = interrupted(run, "INT");
    ran.exits(130);
    assert!(time < AT_ONCE, "it took {time:?}");
}
