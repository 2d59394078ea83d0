//! `ecr-push`: see the crate `ecr_push` for what it does, and `--help` for how it is used.

mod cli;

use std::process::ExitCode;

/// A bug in ecr-push.
const BUG: u8 = 1;

fn main() -> ExitCode {
    // Rust's own status for a panic is 101, and the contract's is 1.
    ExitCode::from(std::panic::catch_unwind(cli::run).unwrap_or_else(|_| {
        cli::confess();
        BUG
    }))
}
