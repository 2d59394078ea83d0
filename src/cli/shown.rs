//! What people see while a push runs, and what has to be said of it if it is stopped.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use ecr_push::event::{Event, Reporter};

use super::args::Progress;
use super::bars::Bars;
use super::plain::{self, Plain, line};
use super::settings::Settings;

/// What shows progress, and remembers what became of tags, to say so if the run is stopped.
pub(super) struct Shown {
    inner: Mutex<Option<Box<dyn Reporter>>>,
    quiet: bool,
    tags: Mutex<Tags>,
}

/// Tags of this run, by their full names.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags {
    written: Vec<String>,
    being_written: Vec<String>,
}

impl Tags {
    /// What the user has to know of them when the run was stopped.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        if !self.written.is_empty() {
            words.push(format!("these tags had been written: {}", self.written.join(", ")));
        }
        if !self.being_written.is_empty() {
            let may = if words.is_empty() { "these tags may have been written" } else { "these may have been" };
            words.push(format!("{may}: {}", self.being_written.join(", ")));
        }
        if words.is_empty() { "no tag was written".to_owned() } else { words.join("; ") }
    }
}

impl Reporter for Shown {
    fn report(&self, event: &Event) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Tagging { repository, tag } => tags.being_written.push(format!("{repository}:{tag}")),
            Event::Tagged { repository, tag } => {
                let name = format!("{repository}:{tag}");
                tags.being_written.retain(|other| *other != name);
                tags.written.push(name);
            }
            _ => {}
        }
        drop(tags);
        match &*self.inner.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(inner) => inner.report(event),
            None if !self.quiet && matches!(event, Event::Warning { .. }) => {
                line(&plain::words(event).unwrap_or_default());
            }
            None => {}
        }
    }
}

impl Shown {
    /// What is known of this run's tags by now.
    pub(super) fn tags(&self) -> Tags {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends progress before anything else is printed. A connection that is being torn down may still hold a reporter, and
    /// a bar that is drawn late would overwrite the error.
    pub(super) fn close(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Begins to show a run, with what the user should know before anything else.
    pub(super) fn begin(settings: &Settings) -> Arc<Self> {
        let shown = Arc::new(Self::new(settings));
        for text in &settings.warnings {
            shown.report(&Event::Warning { text: text.clone() });
        }
        shown
    }

    fn new(settings: &Settings) -> Self {
        let inner: Option<Box<dyn Reporter>> = match settings.progress {
            _ if settings.quiet => None,
            Progress::None => None,
            // Log lines would tear the bars apart.
            Progress::Auto if std::io::stderr().is_terminal() && settings.bars && settings.verbose == 0 => {
                Some(Box::new(Bars::new(settings.utf8)))
            }
            Progress::Bar => Some(Box::new(Bars::new(settings.utf8))),
            Progress::Auto | Progress::Plain => Some(Box::new(Plain::new())),
        };
        Self { inner: Mutex::new(inner), quiet: settings.quiet, tags: Mutex::default() }
    }
}
