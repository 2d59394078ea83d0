//! Golden cases: what the user reads, and the exit status, for each answer that AWS or a registry can give.
//!
//! A case is `testdata/cli/TOPIC/NAME.toml` ([`case::Case`]); beside it lie `NAME.stdout` (none if there is no such file)
//! and `NAME.stderr`. `ECR_PUSH_TEST_WRITE_GOLDEN=1` writes them anew: read what `git diff` says of them.

mod case;
mod coverage;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use local_ecr::{LocalEcr, ViolationKind};

use self::case::{Case, Command, Places};
use crate::support::servers::{Authority, Front};
use crate::support::{Layout, Push, Ran, start};

/// Set to have the expected files written.
const WRITE: &str = "ECR_PUSH_TEST_WRITE_GOLDEN";

/// Cases that run at once: most of the time they wait.
const THREADS: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cli")
}

/// All files below `testdata/cli`, sorted.
fn files() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

/// All cases, by the path of their file.
fn cases() -> BTreeMap<PathBuf, Case> {
    let files = files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, case)
    };
    files.map(read).collect()
}

#[test]
fn every_case_says_what_is_written() {
    let cases = cases();
    assert!(!cases.is_empty(), "there are no cases");
    let waiting = Mutex::new(cases.iter());
    let failures = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().next();
                    let Some((path, case)) = next else { break };
                    let checked = catch_unwind(AssertUnwindSafe(|| check(path, case)));
                    let checked = checked.unwrap_or_else(|panic| Err(words(&*panic)));
                    if let Err(failure) = checked {
                        failures.lock().unwrap().insert(path, failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let text: String = failures
        .iter()
        .map(|(path, failure)| {
            format!("\n== {}: {}\n{failure}", path.strip_prefix(folder()).unwrap_or(path).display(), cases[*path].about)
        })
        .collect();
    assert!(failures.is_empty(), "{} of {} cases differ ({WRITE}=1 writes them):\n{text}", failures.len(), cases.len());
}

#[test]
fn every_file_belongs_to_a_case() {
    let files = files();
    for path in &files {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        assert!(
            extension == "toml"
                || matches!(&*extension, "stdout" | "stderr") && files.contains(&path.with_extension("toml")),
            "{} belongs to no case",
            path.display()
        );
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("{}\n", text.unwrap_or("a panic without words"))
}

/// Runs a case and compares what came of it with what is written; says what differs.
fn check(path: &Path, case: &Case) -> Result<(), String> {
    let (ran, places) = run(case);
    let mut failure = String::new();
    if ran.status != case.status {
        let _ = writeln!(failure, "exit status {}, and {} is expected", ran.status, case.status);
    }
    if case.command != Command::Doctor {
        failure += &manners(&ran);
    }
    for (extension, found) in [("stdout", places.settle(&ran.stdout)), ("stderr", places.settle(&ran.stderr))] {
        let file = path.with_extension(extension);
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if expected == found {
            continue;
        }
        if std::env::var_os(WRITE).is_none() {
            let _ = write!(failure, "{extension}:\n{}", difference(&expected, &found));
        } else if found.is_empty() {
            fs::remove_file(&file).expect("a file that was read can be removed");
        } else {
            fs::write(&file, found).expect("the test data can be written");
        }
    }
    if failure.is_empty() { Ok(()) } else { Err(failure) }
}

/// What holds for every push: an error is one line with at most one piece of advice behind it, and success has none.
fn manners(ran: &Ran) -> String {
    let count = |start: &str| ran.stderr.lines().filter(|line| line.starts_with(start)).count();
    let mut failure = String::new();
    if count("error: ") != usize::from(ran.status != 0) || count("  next: ") > 1 {
        let _ = writeln!(failure, "errors: {}, pieces of advice: {}", count("error: "), count("  next: "));
    }
    failure
}

/// Sets everything up and runs the binary.
fn run(case: &Case) -> (Ran, Places) {
    let ecr = start(case.server.builder());
    let layout = match case.layer {
        Some(size) => Layout::of_holes(size),
        None => Layout::fixture(&case.layout),
    };
    let mut places = Places::default();
    places.add("registry", without_scheme(&ecr.registry_url()));
    places.add("api", without_scheme(&ecr.api_url()));
    places.add("container", without_scheme(&ecr.container_url()));
    places.add("identity", without_scheme(&ecr.identity_url()));
    places.add("elsewhere", without_scheme(&ecr.elsewhere_url()));
    places.add_path("layout", layout.path());
    // The registry once more, with a certificate that nobody trusts who isn't told to.
    let (authority, address) = (Authority::new(), without_scheme(&ecr.registry_url()));
    let tls = Front::start_tls(&authority, move |asked| asked.forward(&address));
    places.add("tls", tls.address());
    places.add_path("ca", &authority.ca_file());

    // A host has a dot or a port, and so has each of the places.
    let host = |destination: &str| destination.split_once('/').is_some_and(|(host, _)| host.contains(['.', '{', ':']));
    let push = |layout: &Layout, source: &str, places: &mut Places| {
        let source = places.fill(&source.replace("{layout}", &layout.path().to_string_lossy()));
        // A command stands where a push has its SOURCE.
        let push = match case.command {
            Command::Push => Push::of(&source),
            Command::Doctor => Push::of("doctor"),
            Command::Inspect => Push::of("inspect"),
            Command::Clean => Push::of("clean"),
        };
        places.add_path("home", push.home());
        if matches!(case.command, Command::Inspect | Command::Clean) {
            return push.to_reference(source);
        }
        if host(&case.destination) {
            push.to_reference(places.fill(&case.destination))
        } else {
            push.at(&ecr).to(&case.destination)
        }
    };
    if let Some(before) = &case.before {
        let layout = Layout::fixture(before);
        push(&layout, "{layout}", &mut Places::default()).run().exits(0);
    }
    for fault in case.faults.iter().flat_map(|failing| failing.faults(&places)) {
        ecr.inject(fault);
    }
    if case.command == Command::Doctor {
        ecr.expect_violation(ViolationKind::ForbiddenAction);
    }
    let mut push = push(&layout, &case.source, &mut places);
    // Progress has a test of its own; with one blob at a time it is always the same one that fails.
    for (option, value) in [("--progress", "none"), ("--jobs", "1"), ("--retries", "1")] {
        let is_known = case.command == Command::Push || option == "--retries";
        if is_known && !case.args.iter().any(|arg| arg.starts_with(option)) {
            push = push.args([format!("{option}={value}")]);
        }
    }
    push = push.args(case.args.iter().map(|arg| places.fill(arg)));
    push = asking_here(push, &ecr, case.keys);
    for (name, value) in &case.environment {
        push = push.env(name, places.fill(value));
    }
    for (name, text) in &case.files {
        let file = push.home().join(name);
        fs::create_dir_all(file.parent().expect("a file in HOME")).expect("HOME is ours");
        fs::write(&file, places.fill(text)).expect("HOME is ours");
        if text.starts_with("#!") {
            fs::set_permissions(file, PermissionsExt::from_mode(0o755)).expect("HOME is ours");
        }
    }
    // The server panics when it goes, if the run did what no run may do.
    (push.run(), places)
}

/// Whoever gives credentials is asked where the server is, and with `keys` nobody has to be.
fn asking_here(push: Push, ecr: &LocalEcr, keys: bool) -> Push {
    let places = ["ENDPOINT_URL_STS", "ENDPOINT_URL_SSO", "ENDPOINT_URL_SSO_OIDC", "EC2_METADATA_SERVICE_ENDPOINT"];
    let push = places.iter().fold(push, |push, name| push.env(&format!("AWS_{name}"), ecr.identity_url()));
    let keys_and_switch = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"];
    if keys { push } else { keys_and_switch.iter().fold(push, |push, name| push.without(name)) }
}

fn without_scheme(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

/// The lines of both, those that only one has marked.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old[start..].iter().rev().zip(new[start..].iter().rev());
    let end = rest.take_while(|(old, new)| old == new).count();
    let marked = |mark: &str, lines: &[&str]| lines.iter().map(|line| format!("  {mark} {line}\n")).collect::<String>();
    [
        marked(" ", &old[..start]),
        marked("-", &old[start..old.len() - end]),
        marked("+", &new[start..new.len() - end]),
        marked(" ", &new[new.len() - end..]),
    ]
    .concat()
}
