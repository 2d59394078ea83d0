//! `ecr-push`: see the crate `ecr_push` for what it does, and `--help` for how it is used.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::run())
}
