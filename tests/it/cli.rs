//! The command line: what it says, what it refuses, and what the environment stands in for.

use std::process::Command;

use crate::support::{Layout, Push, ecr, reference};

/// What a command line in a table may use.
struct Row {
    line: &'static str,
    environment: &'static [(&'static str, &'static str)],
    status: i32,
    words: &'static [&'static str],
}

/// Runs one command line, its words split at blanks; `DIR` stands for a layout with one image.
#[track_caller]
fn check(row: &Row) {
    let layout = Layout::fixture("good/one-manifest");
    let directory = layout.path().to_str().unwrap();
    let words = row.line.split_whitespace().map(|word| word.replace("DIR", directory));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-push"));
    let command = command.args(words).env_clear().envs(row.environment.iter().copied()).env("HOME", layout.parent());
    let output = command.env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(row.status), "{:?} {:?}:\n{stdout}{stderr}", row.line, row.environment);
    let (said, silent) = if row.status == 0 { (stdout, stderr) } else { (stderr, stdout) };
    assert_eq!(silent, "", "{:?}", row.line);
    for word in row.words {
        assert!(said.contains(word), "no {word:?} for {:?} {:?} in:\n{said}", row.line, row.environment);
    }
}

macro_rules! rows {
    ($($line:literal $environment:tt => $status:literal $words:tt;)*) => {
        for row in [$(Row { line: $line, environment: &$environment, status: $status, words: &$words }),*] {
            check(&row);
        }
    };
}

#[test]
fn what_is_asked_for_is_said_on_standard_output() {
    rows! {
        "--help" [] => 0 ["Usage:", "--cleanup", "Examples:", "ECR_PUSH_", "Exit status:", "130, 143"];
        "-h" [] => 0 ["Usage:", "--cleanup"];
        "--version" [] => 0 ["ecr-push 0.", "linux"];
        "-V" [] => 0 ["ecr-push 0."];
    }
}

#[test]
fn every_option_is_in_the_help() {
    let output = Command::new(env!("CARGO_BIN_EXE_ecr-push")).arg("--help").env_clear().output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for option in [
        "--tag",
        "--cleanup",
        "--no-referrers",
        "--follow-symlinks",
        "--mount-from",
        "--cache-dir",
        "--no-cache",
        "--jobs",
        "--digest-file",
        "--output",
        "--progress",
        "--verbose",
        "--quiet",
        "--profile",
        "--endpoint-url",
        "--registry-endpoint",
        "--ca-file",
        "--plain-http",
        "--connect-timeout",
        "--timeout",
        "--retries",
    ] {
        assert!(help.contains(option), "{option} is not in the help");
    }
    assert!(!help.contains('\u{1b}'), "no colours where nobody looks");
}

#[test]
fn what_is_missing_or_unknown_is_said() {
    rows! {
        "" [] => 2 ["Usage:"];
        "DIR" [] => 2 ["<DESTINATION>", "Usage:"];
        "--unknown DIR h.example/app" [] => 2 ["--unknown"];
        "DIR h.example/app --clean-up" [] => 2 ["--clean-up", "--cleanup"];
        "DIR h.example/app --output xml" [] => 2 ["xml", "text", "json"];
        "DIR h.example/app --progress loud" [] => 2 ["loud", "auto", "plain"];
        "DIR h.example/app --jobs 0" [] => 2 ["--jobs", "0"];
        "DIR h.example/app --retries many" [] => 2 ["--retries", "many"];
        "DIR h.example/app -q -v" [] => 2 ["--quiet", "--verbose"];
    }
}

#[test]
fn destinations_that_are_none_are_said() {
    rows! {
        "DIR app:v1" [] => 2 ["app:v1", "HOST/REPOSITORY"];
        "DIR team/app" [] => 2 ["team/app", "HOST/REPOSITORY"];
        "DIR https://h.example/app" [] => 2 ["begins with a scheme"];
        "DIR h.example/" [] => 2 ["repository"];
        "DIR h.example/App" [] => 2 ["App", "lower-case"];
        "DIR h.example/app:" [] => 2 ["tag"];
        "DIR h.example/app:-v1" [] => 2 ["-v1", "no tag"];
        "DIR h.example/app --tag a/b" [] => 2 ["a/b", "no tag"];
        "DIR h.example/app@sha256:abc" [] => 2 ["sha256:abc", "no digest"];
        "DIR h.example/app@md5:d41d8cd98f00b204e9800998ecf8427e" [] => 2 ["md5", "unknown algorithm"];
        "DIR h..example/app" [] => 2 ["h..example", "no host name"];
        "DIR h.example:99999/app" [] => 2 ["h.example:99999"];
        // One that is wrong is enough, and nothing is sent to the others.
        "DIR h.example/app other" [] => 2 ["other"];
    }
}

#[test]
fn sources_that_are_not_read_name_the_way() {
    rows! {
        "containers-storage:x h.example/app" [] => 2 ["containers-storage", "podman save", "ecr-push"];
        "containerd:x h.example/app" [] => 2 ["containerd", "ctr image export", "ecr-push DIR"];
        "docker-daemon: h.example/app" [] => 2 ["ends where the choice"];
        "-: h.example/app" [] => 2 ["ends where the choice"];
        "oci-archive:x.tar h.example/app" [] => 3 ["there is nothing at x.tar"];
        "oci-archive:DIR h.example/app" [] => 3 ["is a folder and not a file"];
        "- h.example/app" [] => 3 ["standard input is empty"];
        "DIR: h.example/app" [] => 2 ["ends where the choice"];
        "DIR@sha256:abc h.example/app" [] => 2 ["sha256:abc"];
        "DIR:v9 h.example/app" [] => 2 [":v9", ":v1"];
        "/nowhere h.example/app" [] => 3 ["there is nothing at /nowhere", "oci-layout"];
        "/nowhere:v1 h.example/app" [] => 3 ["/nowhere"];
    }
}

#[test]
fn options_for_hosts_fit_the_destinations() {
    rows! {
        "DIR a.example/app b.example/app --registry-endpoint http://127.0.0.1:1" [] => 2 ["--registry-endpoint", "HOST=URL"];
        "DIR a.example/app --registry-endpoint ftp://127.0.0.1" [] => 2 ["--registry-endpoint", "ftp://127.0.0.1"];
        "DIR a.example/app --registry-endpoint b.example=http://127.0.0.1:1" [] => 2 ["--registry-endpoint", "b.example"];
        "DIR a.example/app --profile b.example=p" [] => 2 ["--profile", "b.example"];
        "DIR a.example/app --endpoint-url nonsense" [] => 2 ["--endpoint-url", "nonsense"];
        "DIR a.example/app --ca-file /nowhere.pem" [] => 2 ["/nowhere.pem"];
        "DIR a.example/app --external-id x" [] => 2 ["--external-id", "no --role-arn"];
        "DIR a.example/app b.example/app --role-arn b.example=arn:aws:iam::123456789012:role/x --external-id a.example=x" []
            => 2 ["--external-id", "a.example"];
        "DIR a.invalid/app b.invalid/app --retries=0 --role-arn b.invalid=arn:aws:iam::123456789012:role/x --external-id x" []
            => 6 ["a.invalid"];
        "DIR a.example/app --endpoint-url http://user:secret@127.0.0.1" [] => 2 ["http://…@127.0.0.1"];
    }
}

#[test]
fn the_environment_that_is_wrong_is_named() {
    rows! {
        "DIR h.example/app" [("ECR_PUSH_CLEANUP", "maybe")] => 2 ["ECR_PUSH_CLEANUP", "maybe"];
        "DIR h.example/app" [("ECR_PUSH_JOBS", "many")] => 2 ["ECR_PUSH_JOBS", "many"];
        "DIR h.example/app" [("ECR_PUSH_OUTPUT", "xml")] => 2 ["ECR_PUSH_OUTPUT", "xml"];
        "DIR h.example/app" [("ECR_PUSH_TAG", "a/b")] => 2 ["a/b"];
        "DIR h.example/app" [("ECR_PUSH_REGISTRY_ENDPOINT", "nonsense")] => 2 ["nonsense"];
    }
}

#[test]
fn the_environment_stands_in_for_options() {
    let check = |environment: &[(&str, &str)], args: &[&str], tags: &[&str], kept: bool| {
        let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
        let root = layout.root();
        let push = Push::of(layout.path()).at(&ecr).to("app").args(args);
        let push = environment.iter().fold(push, |push, (name, value)| push.env(name, value));
        push.run().exits(0).prints(&[&reference(&ecr, "app", &root)]);
        assert_eq!(ecr.tags("app"), tags, "{environment:?} {args:?}");
        assert_eq!(layout.path().exists(), kept, "{environment:?} {args:?}");
    };
    check(&[("ECR_PUSH_TAG", "v1 v2\tv3\nv4")], &[], &["v1", "v2", "v3", "v4"], true);
    check(&[("ECR_PUSH_TAG", "v1 v2")], &["--tag", "v9"], &["v9"], true);
    check(&[("ECR_PUSH_TAG", "")], &[], &["latest"], true);
    check(&[("ECR_PUSH_TAG", " \t")], &[], &["latest"], true);
    for value in ["true", "1", "yes", "YES", "True"] {
        check(&[("ECR_PUSH_CLEANUP", value)], &[], &["latest"], false);
    }
    for value in ["false", "0", "no", "No", ""] {
        check(&[("ECR_PUSH_CLEANUP", value)], &[], &["latest"], true);
    }
    check(&[("ECR_PUSH_CLEANUP", "no"), ("ECR_PUSH_JOBS", "")], &["--cleanup"], &["latest"], false);
}

#[test]
fn a_switch_of_the_environment_can_be_turned_off_on_the_command_line() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).at(&ecr).to("app").env("ECR_PUSH_CLEANUP", "true").args(["--cleanup=false"]);
    push.run().exits(0);
    assert!(layout.path().exists());
}

#[test]
fn endpoints_come_from_the_environment_too() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).to_reference(format!("{}/app:v1", ecr.host()));
    let push = ecr.environment().into_iter().fold(push, |push, (name, value)| push.env(name, value));
    let endpoints = format!("{}={}", ecr.host(), ecr.registry_url());
    let push = push.env("ECR_PUSH_REGISTRY_ENDPOINT", endpoints).without("AWS_ENDPOINT_URL_ECR");
    push.env("ECR_PUSH_ENDPOINT_URL", ecr.api_url()).run().exits(0);
    assert_eq!(ecr.tag("app", "v1"), Some(layout.root()));
}

#[test]
fn output_and_quiet_come_from_the_environment_too() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).at(&ecr).to("app").env("ECR_PUSH_OUTPUT", "json").env("ECR_PUSH_QUIET", "1");
    let ran = push.run().exits(0);
    assert!(ran.stdout.starts_with('{') && ran.stderr.is_empty(), "{}\n{}", ran.stdout, ran.stderr);

    let push = Push::of(layout.path()).at(&ecr).to("app").env("ECR_PUSH_VERBOSE", "1").args(["-q"]);
    assert_eq!(push.run().exits(0).stderr, "");
}

#[test]
fn a_bare_registry_endpoint_serves_several_repositories_of_one_host() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).to_reference(format!("{}/app:v1", ecr.host()));
    let push = ecr.environment().into_iter().fold(push, |push, (name, value)| push.env(name, value));
    let push = push.to_reference(format!("{}/app:v2", ecr.host()));
    push.args(["--registry-endpoint", &ecr.registry_url()]).run().exits(0);
    assert_eq!(ecr.tags("app"), ["v1", "v2"]);
}

#[test]
fn a_source_that_is_called_like_a_type_is_a_path_first() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let odd = layout.parent().join("oci:odd@name:v1");
    std::fs::rename(layout.path(), &odd).unwrap();
    Push::of(&odd).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(ecr.tags("app"), ["v1"]);
}
