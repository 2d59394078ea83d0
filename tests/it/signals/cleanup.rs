//! A signal when the push is over and clean-up is not: what was pushed is told, and so is what is left.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};

use super::{AT_ONCE, NEVER, interrupted};
use crate::support::archive::{Era, Saved, Stored, layer};
use crate::support::engine::Engine;
use crate::support::layout::sha256;
use crate::support::{Layout, Push, Tree, builder, ecr, reference, start};

/// Sends a signal once the push is verified and before its clean-up: whoever writes a digest file to a FIFO waits there.
fn before_clean_up(source: &Path, parent: &Path, output: &str) {
    let ecr = ecr();
    let before = Tree::of(parent);
    let folder = tempfile::TempDir::with_prefix("ecr-push-it-").unwrap();
    let fifo = folder.path().join("digest");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let args = ["--cleanup", "--output", output, "--digest-file", fifo.to_str().unwrap()];
    let (sender, verified) = mpsc::channel();
    ecr.on_answer(move |entry| {
        if entry.method == "HEAD" && entry.tag.is_some() && entry.answer == local_ecr::Answer::Status(200) {
            let _ = sender.send(());
        }
    });
    let run = Push::of(source).at(&ecr).to("app:v1").args(args).start();
    verified.recv_timeout(NEVER).unwrap();
    // It comes to the FIFO by itself, and waits there for its reader.
    while !is_opening(run.id()) {
        std::thread::yield_now();
    }
    run.signal_and_wait("TERM");
    let mut written = String::new();
    File::open(&fifo).unwrap().read_to_string(&mut written).unwrap();
    let root = ecr.tag("app", "v1").expect("it was pushed");
    let line = reference(&ecr, "app", &root);
    let ran = run.wait().exits(143).says(["the image was pushed, and SOURCE is untouched"]);
    assert_eq!(written, format!("{line}\n"));
    if output == "json" {
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(document["exitStatus"], 143);
        assert_eq!(document["cleanup"]["status"], "interrupted");
        assert_eq!(document["cleanup"]["error"]["exitStatus"], 143);
        assert_eq!(document["destinations"][0]["status"], "verified");
    } else {
        ran.prints(&[&line]);
    }
    before.is_unchanged(parent);
}

/// Whether a process waits for the other end of a FIFO (`wait_for_partner` in Linux's fs/pipe.c).
fn is_opening(process: u32) -> bool {
    let waits = fs::read_to_string(format!("/proc/{process}/wchan")).expect("the process runs");
    waits.contains("wait_for_partner")
}

#[test]
fn a_signal_between_push_and_clean_up_keeps_source() {
    for output in ["text", "json"] {
        let layout = Layout::fixture("good/one-manifest");
        before_clean_up(layout.path(), layout.parent(), output);
        let image = Saved::new(&["app:v1"], vec![layer(1, 1000)]);
        let archive = Stored::new(&Era::Podman.save(&[&image]));
        before_clean_up(archive.path(), archive.parent(), output);
    }
}

/// An engine with an image of these names.
fn engine(image: &Saved, names: &[String]) -> Engine {
    let diff_ids: Vec<String> = image.layers.iter().map(|layer| sha256(layer)).collect();
    let inspected = json!({
        "Id": image.id(), "RepoTags": names, "RepoDigests": [], "Os": "linux", "Architecture": "amd64",
        "Size": 1000, "RootFS": {"Type": "layers", "Layers": diff_ids},
    });
    Engine::start(&inspected, Era::Podman.save(&[image]), None)
}

#[test]
fn a_signal_between_the_names_of_an_engine_says_which_are_left() {
    // The engine never answers to the second removal, or answers it and is asked for no more.
    for answers in [false, true] {
        let ecr = start(builder().repository("second"));
        let image = Saved::new(&["app:v1"], vec![layer(1, 1000)]);
        let [first, second] = ["app", "second"].map(|repository| format!("{}/{repository}:v1", ecr.host()));
        let engine = engine(&image, &[first.clone(), second.clone(), "app:v1".to_owned()]);
        let (asked, removals) = mpsc::channel();
        let (answer, answered) = mpsc::channel::<()>();
        let (count, answered) = (AtomicUsize::new(0), Mutex::new(answered));
        engine.on_removal(move || {
            if count.fetch_add(1, Ordering::SeqCst) > 0 {
                let _ = asked.send(());
                let _ = answered.lock().unwrap().recv_timeout(NEVER);
            }
            json!([{"Untagged": "x"}])
        });
        let push = Push::of("docker-daemon:app:v1").at(&ecr).to("app:v1").to("second:v1").args(["--cleanup"]);
        let run = push.env("DOCKER_HOST", engine.host()).start();
        removals.recv_timeout(NEVER).unwrap();
        run.signal_and_wait("TERM");
        if answers {
            answer.send(()).unwrap();
        }
        let ran = run.wait().exits(143);
        drop(answer);
        let root = ecr.tag("app", "v1").unwrap();
        let lines = ["app", "second"].map(|repository| reference(&ecr, repository, &root));
        let gone = if answers {
            format!("{first}, {second} are gone; app:v1 is kept")
        } else {
            format!("{first} is gone; {second} may or may not be gone; app:v1 is kept")
        };
        let ran = ran.prints(&lines.each_ref().map(String::as_str));
        ran.says(["interrupted: ", gone.as_str()]);
        assert_eq!(removals.try_iter().count(), 0, "it was asked for more");
    }
}

#[test]
fn an_engine_that_does_not_answer_cannot_hold_the_end_up() {
    let ecr = ecr();
    let image = Saved::new(&["app:v1"], vec![layer(1, 1000)]);
    let engine = engine(&image, &["app:v1".to_owned()]);
    let (asked, removals) = mpsc::channel();
    let (answer, answered) = mpsc::channel::<()>();
    let answered = Mutex::new(answered);
    engine.on_removal(move || {
        let _ = asked.send(());
        let _ = answered.lock().unwrap().recv_timeout(NEVER);
        json!([])
    });
    let push = Push::of("docker-daemon:app:v1").at(&ecr).to("app:v1").args(["--cleanup"]);
    let run = push.env("DOCKER_HOST", engine.host()).start();
    removals.recv_timeout(NEVER).unwrap();
    let (ran, time) = interrupted(run, "INT");
    ran.exits(130).says(["app:v1 may or may not be gone"]);
    drop(answer);
    assert!(time < AT_ONCE, "it took {time:?}");
}
