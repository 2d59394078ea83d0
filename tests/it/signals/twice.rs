//! A second signal, signals that come when the work is done, and who wants none.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;

use local_ecr::{Answer, Fault, FaultKind};

use super::{AT_ONCE, Awaited, interrupted, wait_for};
use crate::support::command::Running;
use crate::support::{Layout, Push, ecr, reference};

#[test]
fn a_second_signal_ends_the_run_at_once() {
    for (first, second, status) in
        [("INT", "INT", 130), ("TERM", "INT", 130), ("INT", "TERM", 143), ("HUP", "TERM", 143)]
    {
        let ecr = ecr();
        ecr.allow_open_sessions();
        ecr.inject(Fault::on("PUT", "/blobs/uploads/").times(u64::MAX).does(FaultKind::StallAfter(300_000)));
        ecr.inject(Fault::on("DELETE", "/blobs/uploads/").times(u64::MAX).does(FaultKind::Stall));
        let layout = Layout::of_layers(&[900_000]);
        let run = Push::of(layout.path()).at(&ecr).to("app:v1").start();
        wait_for(&ecr, |entry| entry.method == "PUT" && entry.bytes >= 200_000);
        let cancelling = Awaited::new(&ecr, |entry| entry.method == "DELETE");
        run.signal(first);
        cancelling.arrives();
        // It says so in the end, which it doesn't come to.
        interrupted(run, second).0.exits(status).says_nothing_of(["interrupted"]);
    }
}

#[test]
fn a_second_signal_ends_a_run_whose_standard_error_nobody_reads() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let (_unread, full) = full_pipe();
    let looked = Awaited::new(&ecr, |entry| entry.actions.contains(&"ecr:GetAuthorizationToken"));
    let run = Push::of(layout.path()).at(&ecr).to("app:v1").start_with(|command| _ = command.stderr(full));
    looked.arrives();
    run.signal_and_wait("TERM");
    interrupted(run, "TERM").0.exits(143).prints(&[]);
}

/// A pipe that takes no more.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    // What the kernel gives to every pipe (pipe(7)).
    writer.write_all(&vec![b'x'; 65536]).unwrap();
    (reader, writer)
}

/// A push that has done its work, and can't print what came of it.
fn printing(layout: &Layout, push: &Push) -> (Running, io::PipeReader) {
    let (reader, full) = full_pipe();
    let run = push.start_with(|command| _ = command.stdout(full));
    gone(layout.path());
    (run, reader)
}

fn gone(path: &Path) {
    while path.exists() {
        thread::yield_now();
    }
}

#[test]
fn a_run_that_cannot_print_ends_at_the_second_signal() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]);
    let (run, _unread) = printing(&layout, &push);
    run.signal_and_wait("INT");
    interrupted(run, "INT").0.exits(130);
}

#[test]
fn a_run_that_cannot_print_ends_some_time_after_the_first_signal() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]);
    let (run, _unread) = printing(&layout, &push);
    interrupted(run, "TERM").0.exits(143);
}

#[test]
fn a_signal_that_comes_when_the_work_is_done_is_told() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let line = reference(&ecr, "app", &layout.root());
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]);
    let (run, mut reader) = printing(&layout, &push);
    run.signal_and_wait("TERM");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    run.wait().exits(0).says(["the signal came when all was over"]);
    assert_eq!(reading.join().unwrap().unwrap().trim_start_matches('x'), format!("{line}\n"));
}

#[test]
fn a_terminal_that_is_closed_stops_the_run_unless_nohup_says_otherwise() {
    for (under, status) in [(&[][..], 129), (&["nohup"][..], 143)] {
        let ecr = ecr();
        ecr.inject(Fault::on("HEAD", "/manifests/v1").does(FaultKind::Stall));
        let layout = Layout::fixture("good/one-manifest");
        let stalled = Awaited::new(&ecr, |entry| entry.answer == Answer::Stalled);
        let run = Push::of(layout.path()).at(&ecr).to("app:v1").under(under).start();
        stalled.arrives();
        run.signal("HUP");
        let (ran, time) = if status == 129 { (run.wait(), AT_ONCE / 2) } else { interrupted(run, "TERM") };
        ran.exits(status).prints(&[]).says(["interrupted"]);
        assert!(time < AT_ONCE, "it took {time:?}");
    }
}

#[test]
fn what_a_clean_up_did_is_told_although_nobody_reads_standard_output() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let line = reference(&ecr, "app", &layout.root());
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let run = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]);
    let ran = run.start_with(|command| _ = command.stdout(writer)).wait();
    ran.exits(2).says(["clean-up: ", "freed", "standard output can't be written", &line]);
    assert!(!fs::exists(layout.path()).unwrap());
}
