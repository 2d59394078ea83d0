//! SIGINT, SIGTERM and SIGHUP: the first stops the run, the second ends the process at once, whatever it is doing.
//!
//! What is said here holds until the process has ended: a run that has done its work may still have to print what came of
//! it, to a pipe that nobody reads.

use std::ffi::c_int;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};
use tokio_util::sync::CancellationToken;

/// What a run gets to come to its end after the first signal. Cancelling sessions is bounded well within; what isn't is a
/// file system that hangs, or a standard error that nobody reads.
const LONGEST: Duration = Duration::from_secs(5);

/// What a shell adds to a signal's number, and gives as the status of what it ended.
const ENDED_BY: c_int = 128;

/// What was caught so far.
pub(super) struct Caught(Arc<AtomicUsize>);

impl Caught {
    /// The exit status that the first signal asks for, if there was one.
    pub(super) fn status(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::SeqCst)).ok().filter(|status| *status != 0)
    }
}

/// Cancels `cancel` at the first signal. Without the means to do so signals do what they do to every process.
pub(super) fn catch(cancel: CancellationToken) -> Caught {
    let caught = Arc::new(AtomicUsize::new(0));
    if let Err(error) = watch(cancel, &caught) {
        tracing::debug!("signals can't be watched for: {error}");
    }
    Caught(caught)
}

fn watch(cancel: CancellationToken, caught: &Arc<AtomicUsize>) -> io::Result<()> {
    let mut awaited = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        awaited.push(SIGHUP);
    }
    let mut signals = Signals::new(&awaited)?;
    let before = Arc::new(AtomicBool::new(false));
    for signal in awaited {
        let status = ENDED_BY + signal;
        // In the handler itself, so that it works while every thread is busy or blocked. In this order: the first signal finds
        // nothing before it.
        flag::register_conditional_shutdown(signal, status, before.clone())?;
        flag::register_usize(signal, caught.clone(), usize::try_from(status).unwrap_or_default())?;
        flag::register(signal, before.clone())?;
    }
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            cancel.cancel();
            std::thread::sleep(LONGEST);
            low_level::exit(ENDED_BY + signal);
        }
    })?;
    Ok(())
}

/// Whether whoever started this process wants a signal to be ignored: `nohup` does so with SIGHUP. Where nobody tells it isn't.
fn is_ignored(signal: c_int) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

/// Whether a process of this status (proc(5)) ignores a signal.
fn ignores(status: &str, signal: c_int) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stays_ignored() {
        let check = |status: &str, expected: bool| assert_eq!(ignores(status, SIGHUP), expected, "{status}");
        check("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", true);
        check("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n", false);
        check("SigIgn:\tnonsense\n", false);
        check("", false);
    }
}
