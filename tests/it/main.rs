//! The integration tests: the real binary, its environment cleared, against real servers wherever there is one.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails; clippy allows it in test functions alone")]

mod support;

mod accounts;
mod any_archive;
mod archives;
mod cleanup;
mod cli;
mod credentials;
mod distance;
mod doctor;
mod dry_run;
mod engines;
mod faults;
mod fuzz;
mod golden;
mod hostile;
mod hosts;
mod inspect;
mod layouts;
mod mounts;
mod neighbours;
mod pace;
mod platform;
mod progress;
mod public;
mod push;
mod real;
mod recompress;
mod repositories;
mod resume;
mod scans;
mod signals;
mod streams;
mod unknowns;
