//! What a user sees while a push goes on, and what it costs the machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use local_ecr::{Fault, FaultKind};
use serde_json::json;
use tempfile::TempDir;

use crate::support::layout::{MANIFEST, digest};
use crate::support::{Layout, Push, Tree, assert_arrived, builder, ecr, has_tool, reference, start};

/// Asserts that a log can be read: nothing that moves a cursor, and no line that nobody reads to its end.
#[track_caller]
fn is_plain(stderr: &str) {
    let control = stderr.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "a control character in:\n{stderr:?}");
    for line in stderr.lines() {
        assert!(line.chars().count() <= 200, "{} characters in a line:\n{line}", line.chars().count());
    }
}

#[test]
fn a_log_has_a_line_for_the_start_and_the_end_of_each_blob() {
    let (layout, ecr) = (Layout::of_layers(&[700_000, 1000, 2000]), ecr());
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    is_plain(&ran.stderr);
    for blob in layout.reach(&layout.root()).blobs {
        let short = &blob["sha256:".len()..][..12];
        for begin in ["uploading ", "uploaded "] {
            let lines = ran.stderr.lines().filter(|line| line.starts_with(begin) && line.contains(short)).count();
            assert_eq!(lines, 1, "{begin}{short} in:\n{}", ran.stderr);
        }
    }
    ran.says(["pushed ", "4 blobs uploaded", "0 blobs there already"]);
}

#[test]
fn a_log_of_a_push_that_has_trouble_is_readable_too() {
    for (method, path, kind) in [
        ("PUT", "/blobs/uploads/", FaultKind::status(500)),
        ("PUT", "/blobs/uploads/", FaultKind::CutAfter(100)),
        ("POST", "/blobs/uploads/", FaultKind::Cut),
        ("PUT", "/manifests/", FaultKind::status(429)),
    ] {
        let ecr = start(builder().fault(Fault::on(method, path).does(kind)));
        let layout = Layout::of_layers(&[700_000]);
        let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0).says(["trying again"]);
        is_plain(&ran.stderr);
    }
}

#[test]
fn quiet_says_nothing_of_what_went_well() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["-q", "--cleanup"]).run().exits(0);
    let ran = ran.prints(&[&format!("{}/app@{}", ecr.host(), ecr.tag("app", "v1").unwrap())]);
    assert_eq!(ran.stderr, "");
}

#[test]
fn quiet_says_what_went_wrong() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let ran = Push::of(layout.path()).at(&ecr).to("missing:v1").args(["-q"]).run().exits(5).says_one_error();
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}

#[test]
fn progress_none_leaves_warnings_and_errors() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let push = || Push::of(layout.path()).at(&ecr).to("app:v1").args(["--progress", "none"]);
    assert_eq!(push().run().exits(0).stderr, "");
    push().to("missing:v1").run().exits(5).says_one_error();
}

#[test]
fn verbose_shows_each_request_and_no_name_of_a_session() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["-vv"]).run().exits(0);
    for entry in ecr.registry_requests() {
        let path = entry.path.split('?').next().unwrap();
        // Whoever knows a session's name may write to it.
        let (shown, session) = match path.split_once("/blobs/uploads/") {
            Some((repository, session)) => (format!("{repository}/blobs/uploads/"), session),
            None => (path.to_owned(), ""),
        };
        let line = ran.stderr.lines().any(|line| line.contains(&entry.method) && line.contains(&shown));
        assert!(line, "no {} {shown} in:\n{}", entry.method, ran.stderr);
        assert!(session.is_empty() || !ran.stderr.contains(session), "{session} in:\n{}", ran.stderr);
    }
}

/// Runs a push on a terminal; gives its standard output, and what the terminal got.
fn on_a_terminal(push: &Push, term: &str) -> (String, String) {
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', r"'\''"));
    let command = push.command();
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("stdout");
    let line = format!("{} > {}", words.collect::<Vec<_>>().join(" "), quoted(output.as_os_str()));
    let mut script = push.command_of("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", term).env("SHELL", "/bin/sh");
    let ran = script.output().unwrap();
    let terminal = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{terminal}");
    (fs::read_to_string(output).unwrap(), terminal)
}

#[test]
fn on_a_terminal_there_are_bars_and_standard_output_stays_clean() {
    if !has_tool("script") {
        return;
    }
    let slow = FaultKind::Delay(Duration::from_millis(400));
    let ecr = start(builder().fault(Fault::on("PUT", "/blobs/uploads/").does(slow)));
    let layout = Layout::of_layers(&[700_000]);
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--progress", "auto"]);
    let (stdout, terminal) = on_a_terminal(&push, "xterm");
    assert_eq!(stdout, format!("{}\n", reference(&ecr, "app", &layout.root())));
    for words in ["\u{1b}[", "layer 1/1", "all", "pushed "] {
        assert!(terminal.contains(words), "no {words:?} in {terminal:?}");
    }
    assert!(!terminal.contains("uploading "), "lines beside the bars: {terminal:?}");
    // What is left when the bars are gone is the summary alone.
    let last = terminal.rsplit(['\r', '\u{1b}']).next().unwrap();
    assert!(last.contains("pushed ") || terminal.trim_end().ends_with("there already"), "{terminal:?}");
}

#[test]
fn on_a_terminal_that_cannot_move_its_cursor_there_are_lines() {
    if !has_tool("script") {
        return;
    }
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).at(&ecr).to("app:v1");
    let (_, terminal) = on_a_terminal(&push, "dumb");
    is_plain(&terminal.replace("\r\n", "\n"));
    assert!(terminal.contains("uploading "), "{terminal:?}");
}

#[test]
fn an_image_of_20_kib_arrives() {
    let (layout, ecr) = (Layout::of_layers(&[18_000, 1500]), ecr());
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn nothing_but_a_key_is_needed_and_nothing_is_left_behind() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let root = layout.root();
    let mut push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--endpoint-url", &ecr.api_url()]);
    push = push.without("AWS_EC2_METADATA_DISABLED").without("AWS_ENDPOINT_URL_ECR");
    if let Some(binary) = std::env::var_os("ECR_PUSH_TEST_STATIC") {
        push = push.program(binary);
    }
    let folder = TempDir::new().unwrap();
    let mut command = push.command();
    let mut names: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    assert_eq!(names, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HOME", "PATH"]);
    let output = command.env("PATH", "/usr/bin:/bin").current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_arrived(&ecr, "app", &layout, &root);
    // Only the record of where blobs are, which is safe to delete.
    let record = [".cache", ".cache/ecr-push", ".cache/ecr-push/blobs.jsonl"].map(Path::new);
    assert_eq!(Tree::of(push.home()).paths(), record, "{}", push.home().display());
    assert_eq!(Tree::of(folder.path()).paths(), Vec::<&Path>::new(), "{}", folder.path().display());
}

/// 2 GiB of zeros, and their digest (`head -c 2147483648 /dev/zero | sha256sum`).
const LARGE: u64 = 2 << 30;
const LARGE_DIGEST: &str = "sha256:a7c744c13cc101ed66c29f672f92455547889cc586ce6d44fe76ae824958ea51";

/// What a push may take, in bytes, whatever the size of a layer.
const MEMORY: u64 = 48 << 20;

#[test]
fn memory_does_not_grow_with_the_layer() {
    let (layout, ecr) = (Layout::empty(), ecr());
    let config = layout.add("application/vnd.oci.image.config.v1+json", b"{}");
    let file = File::create(layout.blob(LARGE_DIGEST)).unwrap();
    file.set_len(LARGE).unwrap();
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": LARGE_DIGEST, "size": LARGE});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let manifest = layout.add(MANIFEST, manifest.to_string().as_bytes());
    layout.list(&manifest, None);

    let run = Push::of(layout.path()).at(&ecr).to("app:v1").args(["-q"]).start();
    let (peak, status) = (Arc::new(Mutex::new(0)), format!("/proc/{}/status", run.id()));
    let measured = Arc::clone(&peak);
    // Read while the process waits for its last answer. What `wait4` gives would be the peak of the tests, if that is
    // higher: a process has its parent's memory until it runs a program.
    ecr.on_answer(move |entry| {
        if entry.tag.is_some() {
            *measured.lock().unwrap() = resident(&fs::read_to_string(&status).unwrap());
        }
    });
    run.wait().exits(0);
    assert_eq!(ecr.registry_requests().last().and_then(|entry| entry.tag.as_deref()), Some("v1"));
    assert_eq!(ecr.tag("app", "v1").as_deref(), Some(digest(&manifest)));
    let stored = File::open(ecr.blob_path("app", LARGE_DIGEST).unwrap()).unwrap();
    let mut last = [1];
    stored.read_exact_at(&mut last, LARGE - 1).unwrap();
    assert_eq!((stored.metadata().unwrap().len(), last), (LARGE, [0]));
    let peak = *peak.lock().unwrap();
    assert!(0 < peak && peak < MEMORY, "{} KiB", peak >> 10);
}

/// The most memory that a process ever had, in bytes, out of its `/proc/PID/status`.
fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}
