//! The chores of this workspace, as `cargo xtask …`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to whoever started them")]

mod bench;
mod demo;
mod docs;
mod fixtures;
mod servers;
mod test;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Push the same images with ecr-push and with other tools, and compare; installs nothing
    Bench(bench::Args),
    /// The floor of the benchmark, as a process
    #[command(hide = true)]
    BenchFloor(bench::FloorArgs),
    /// Run a program that ends when standard input does
    #[command(hide = true)]
    BenchKeep(bench::KeepArgs),
    /// Remove folders when standard input ends
    #[command(hide = true)]
    BenchClear(bench::ClearArgs),
    /// Push an image to an imitation of ECR on this machine, and show what happens
    Demo,
    /// Write the man pages into target/man
    Docs,
    /// Write the layouts in testdata/ anew
    Fixtures {
        /// Write nothing; say what differs from what would be written
        #[arg(long)]
        check: bool,
    },
    /// Check and test everything; installs what the tests need where it may
    Test {
        /// Install nothing; say what is left out
        #[arg(long)]
        no_install: bool,
        /// For the test runner, behind `--`: a test's name, for instance
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = workspace();
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder));
    let done = match Args::parse().chore {
        Chore::Fixtures { check: true } => fixtures::check(&root),
        Chore::Fixtures { check: false } => fixtures::write(&root),
        Chore::Test { no_install, arguments } => test::run(&root, &target, !no_install, &arguments),
        Chore::Bench(args) => bench::run(&root, &target, &args),
        Chore::BenchFloor(args) => bench::floor(&args),
        Chore::BenchKeep(args) => bench::keep(&args),
        Chore::BenchClear(args) => bench::clear(&args),
        Chore::Demo => demo::run(&root, &target),
        Chore::Docs => docs::run(&target),
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The workspace's folder.
fn workspace() -> PathBuf {
    // Set by cargo, and at compile time for whoever starts the program without it.
    let here = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}
