//! `cargo xtask test`: everything that has to hold before a change lands, one step after the other.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixtures;
use crate::servers::{self, MUSL_GCC, Servers, succeeds};

/// Pinned, so that a new lint of cargo-deny doesn't break a build that nobody touched.
const DENY: &str = "0.20.2";

/// The variable that tells the tests where the static binary is.
const STATIC: &str = "ECR_PUSH_TEST_STATIC";

/// The variable that tells the tests that leaving something out was announced: they then skip and say so.
const LEFT_OUT: &str = "ECR_PUSH_TEST_LEFT_OUT";

/// The variable that gives local-ecr its other answers, and its value.
const UNKNOWNS: (&str, &str) = ("ECR_PUSH_TEST_UNKNOWNS", "other");

/// Modules of the integration tests to which those answers make no difference: they ask others, turn the answers
/// themselves, or ask nobody at all.
const OTHERWISE: [&str; 17] = [
    "real",
    "unknowns",
    "golden",
    "cli",
    "hosts",
    "distance",
    "progress",
    "hostile",
    "any_archive",
    "fuzz",
    "inspect",
    "signals::moments",
    "cleanup::kill",
    "cleanup::faults",
    "cleanup::closure",
    "cleanup::freed",
    "cleanup::others",
];

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// It, or part of it, couldn't be done here.
    LeftOut(Vec<String>),
}

impl Outcome {
    fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }

    /// What it comes to that these could not be done.
    fn left_out(things: Vec<String>) -> Self {
        if things.is_empty() { Self::Passed } else { Self::LeftOut(things) }
    }
}

/// A step that ended.
struct Row {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

struct Test<'a> {
    root: &'a Path,
    target: &'a Path,
    /// In CI everything has to be there.
    ci: bool,
    /// Whether missing programs may be installed.
    install: bool,
    rows: Vec<Row>,
}

/// Runs every step and says whether all passed; `arguments` go to the test runner.
pub(crate) fn run(root: &Path, target: &Path, install: bool, arguments: &[String]) -> bool {
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    let mut test = Test { root, target, ci, install, rows: Vec::new() };

    let mut servers = Servers::default();
    test.step(
        "tools",
        "what the tests run: docker-registry, skopeo, buildah, podman, umoci, moto, strace, musl-gcc",
        |test| {
            servers = servers::provide(test.target, test.install);
            Outcome::left_out(servers.missing.clone())
        },
    );
    test.step("fmt", "cargo fmt --all --check", |test| test.cargo(&["fmt", "--all", "--check"]));
    test.step("clippy", "cargo clippy --workspace --all-targets -- -D warnings", |test| {
        test.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    test.step("doc", "cargo doc --workspace --no-deps, warnings denied", |test| {
        let mut doc = test.command(&["doc", "--workspace", "--no-deps"]);
        succeeds_aloud(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    test.step("deny", "cargo deny check bans licenses sources", Test::deny);
    test.step("fixtures", "cargo xtask fixtures --check", |test| Outcome::of(fixtures::check(test.root)));
    let mut binary = None;
    test.step("static", "the static binary, optimized less than a release", |test| test.static_binary(&mut binary));
    servers.variables.push((STATIC, binary));
    let announced = !test.ci && servers.variables.iter().any(|(_, path)| path.is_none());
    test.step("tests", "unit, integration and documentation tests", |test| test.tests(&servers, announced, arguments));
    // Whoever asks for certain tests means those.
    if arguments.is_empty() {
        let what = "the tests against local-ecr once more, with its other answers to what is unknown of ECR";
        test.step("unknowns", what, |test| test.unknowns(&servers, announced));
    }
    test.close()
}

impl Test<'_> {
    fn step(&mut self, name: &'static str, what: &str, work: impl FnOnce(&Self) -> Outcome) {
        println!("== {name}: {what}");
        let start = Instant::now();
        let outcome = work(self);
        if let Outcome::LeftOut(things) = &outcome {
            for thing in things {
                println!("   left out: {thing}");
            }
        }
        self.rows.push(Row { name, outcome, took: start.elapsed() });
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // The cargo that runs this, and not whichever comes first in PATH.
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(self.root);
        command
    }

    fn cargo(&self, arguments: &[&str]) -> Outcome {
        succeeds_aloud(&mut self.command(arguments))
    }

    /// Whether cargo has this subcommand.
    fn has(&self, subcommand: &str) -> bool {
        self.command(&[subcommand, "--version"]).output().is_ok_and(|output| output.status.success())
    }

    fn deny(&self) -> Outcome {
        let get = ["install", "cargo-deny", "--locked", "--version", DENY];
        // It takes minutes to compile: for a person's own machine that is the person's decision.
        if !self.has("deny") && self.install && (self.ci || servers::is_root()) {
            println!("   installing cargo-deny, which takes a few minutes once");
            succeeds(&mut self.command(&get));
        }
        if self.has("deny") {
            self.cargo(&["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
        } else {
            Outcome::left_out(vec![format!("cargo-deny (`cargo {}`)", get.join(" "))])
        }
    }

    fn static_binary(&self, binary: &mut Option<PathBuf>) -> Outcome {
        let target = format!("{}-unknown-linux-musl", env::consts::ARCH);
        if self.install && env::consts::OS == "linux" && !has_target(&target) {
            println!("   installing the target {target} with rustup");
            succeeds(Command::new("rustup").args(["target", "add", &target]));
        }
        if let Some(lacking) = lacking_for(&target) {
            return Outcome::left_out(vec![format!("the static binary: {lacking}")]);
        }
        let outcome = self.cargo(&["build", "--profile", "quick", "--target", &target, "--bin", "ecr-push"]);
        if outcome == Outcome::Passed {
            *binary = Some(self.target.join(target).join("quick/ecr-push"));
        }
        outcome
    }

    fn tests(&self, servers: &Servers, announced: bool, arguments: &[String]) -> Outcome {
        // Those of the documentation first, so that the last lines are the summary of all others.
        let documentation = self.cargo(&["test", "--workspace", "--doc"]);
        let mut tests = if self.has("nextest") {
            self.command(&["nextest", "run", "--workspace", "--no-fail-fast"])
        } else {
            self.command(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])
        };
        equip(&mut tests, servers, announced);
        match succeeds_aloud(tests.args(arguments)) {
            Outcome::Passed => documentation,
            failed => failed,
        }
    }

    fn unknowns(&self, servers: &Servers, announced: bool) -> Outcome {
        let mut tests = if self.has("nextest") {
            let others = format!("binary_id(ecr-push::it) and not test(/^({})::/)", OTHERWISE.join("|"));
            // The whole workspace, as before: of one package alone the dependencies would be compiled once more.
            self.command(&["nextest", "run", "--workspace", "--no-fail-fast", "-E", &others])
        } else {
            let others = OTHERWISE.map(|module| format!("--skip={module}::"));
            let mut tests = self.command(&["test", "--workspace", "--test", "it", "--"]);
            tests.args(others);
            tests
        };
        equip(&mut tests, servers, announced);
        succeeds_aloud(tests.env(UNKNOWNS.0, UNKNOWNS.1))
    }

    /// Sums up, and says whether everything passed.
    fn close(self) -> bool {
        println!("== summary");
        let mut left_out = Vec::new();
        for Row { name, outcome, took } in &self.rows {
            let word = match outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "FAILED",
                Outcome::LeftOut(things) => {
                    left_out.extend_from_slice(things);
                    "left out, all or in part"
                }
            };
            println!("   {name:<9} {:>7.1} s  {word}", took.as_secs_f64());
        }
        let failed = self.rows.iter().any(|row| row.outcome == Outcome::Failed);
        if left_out.is_empty() {
            println!("   nothing was left out");
            return !failed;
        }
        println!("   left out{}: {}", if self.ci { ", which CI may not" } else { "" }, left_out.join("; "));
        !failed && !self.ci
    }
}

/// Tells tests where the programs are that they run, and whether some may be left out.
fn equip(tests: &mut Command, servers: &Servers, announced: bool) {
    for (variable, path) in &servers.variables {
        match path {
            Some(path) => tests.env(variable, path),
            None => tests.env_remove(variable),
        };
    }
    if announced {
        tests.env(LEFT_OUT, "1");
    } else {
        tests.env_remove(LEFT_OUT);
    }
}

/// What a static build lacks here, and how to get it.
fn lacking_for(target: &str) -> Option<String> {
    if env::consts::OS != "linux" {
        Some(format!("it is for Linux, and this is {}", env::consts::OS))
    } else if servers::find(MUSL_GCC).is_none() {
        Some(format!("there is no {MUSL_GCC} (`sudo apt-get install musl-tools`)"))
    } else if !has_target(target) {
        Some(format!("the toolchain lacks {target} (`rustup target add {target}`)"))
    } else {
        None
    }
}

/// Whether the toolchain has the standard library of a target.
fn has_target(target: &str) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output();
    printed.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Path::new(&sysroot).join("lib/rustlib").join(target).join("lib").exists()
    })
}

/// Runs a command whose output is for whoever watches.
fn succeeds_aloud(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) => Outcome::of(status.success()),
        Err(error) => {
            eprintln!("   {command:?} can't be run: {error}");
            Outcome::Failed
        }
    }
}
