//! Progress on a terminal: a bar for each blob in flight, and one for the whole.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ecr_push::event::{Attempt, Ending, Event, Reporter};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{plain, render};

/// Draws on standard error.
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    utf8: bool,
    flights: Mutex<HashMap<Attempt, ProgressBar>>,
}

fn style(template: &str, utf8: bool) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    if utf8 { style.progress_chars("━╸─") } else { style.progress_chars("=> ") }
}

impl Bars {
    /// With `utf8` the bars are drawn with box characters.
    pub(super) fn new(utf8: bool) -> Self {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::no_length());
        let template =
            "{prefix:22} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>12} {eta:>4}";
        total.set_style(style(template, utf8));
        total.set_prefix("all");
        Self { all, total, utf8, flights: Mutex::new(HashMap::new()) }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // The summary says what the bars said; left on screen they would only be in the way.
        let _ = self.all.clear();
    }
}

impl Reporter for Bars {
    fn report(&self, event: &Event) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { bytes, .. } => {
                self.total.set_length(self.total.length().unwrap_or_default() + bytes);
                self.total.tick();
            }
            Event::Compressing { bytes, destinations, .. } => {
                self.total.set_length(self.total.length().unwrap_or_default() + bytes * *destinations as u64);
                self.total.tick();
            }
            Event::Spared { size, .. } => {
                self.total.set_length(self.total.length().unwrap_or_default().saturating_sub(*size));
                self.total.tick();
            }
            Event::Started { attempt, digest, role, size, from, .. } => {
                let bar = self.all.insert_before(&self.total, ProgressBar::new(*size));
                bar.set_style(style("{prefix:22} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:10}", self.utf8));
                bar.set_prefix(format!("{} {}", render::role(*role), &digest.short()[..8]));
                bar.set_position(*from);
                self.total.inc(*from);
                flights.insert(*attempt, bar);
            }
            Event::Moved { attempt, bytes } => {
                if let Some(bar) = flights.get(attempt) {
                    bar.inc(*bytes);
                    self.total.inc(*bytes);
                }
            }
            Event::Ended { attempt, ending } => {
                let Some(bar) = flights.remove(attempt) else { return };
                if *ending != Ending::Done {
                    // This attempt's bytes only: a retry takes them back off the bar, and counts again what is there.
                    self.total.dec(bar.position());
                }
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            Event::Created { .. } | Event::Waiting { .. } | Event::Scanning { .. } | Event::Warning { .. } => {
                if let Some(text) = plain::words(event) {
                    let _ = self.all.println(render::printable(&text));
                }
            }
            Event::Read { .. }
            | Event::Manifest { .. }
            | Event::Tagging { .. }
            | Event::Tagged { .. }
            | Event::Verified { .. }
            | Event::Checked { .. } => {}
        }
    }
}
