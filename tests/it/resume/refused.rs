//! What ends an upload that broke off: a corrupt blob, a signal, something else that fails.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use local_ecr::{Fault, FaultKind, LocalEcr, UploadStatus};

use super::{Case, FORMS, MIB, SIZE};
use crate::support::{Layout, Push, assert_arrived, builder, requests, start};

/// Turns one bit of a file.
fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[track_caller]
fn is_corrupt(case: &Case) {
    let ran = case.push().run().exits(3).prints(&[]);
    ran.says([case.layer.as_str(), "is corrupt", "trying again"]);
    assert!(!case.ecr.has_blob("app", &case.layer) && case.ecr.tags("app").is_empty());
    case.is_closed();
}

#[test]
fn a_corrupt_layer_never_arrives_whatever_was_cut() {
    for form in FORMS {
        for at in [0, 20 * MIB, SIZE * MIB - 1] {
            let case = Case::new(form);
            flip(&case.layout.blob(&case.layer), at);
            case.put(1, 1, FaultKind::CutAfter(10 * MIB));
            case.patch(1, FaultKind::CutAfter(10 * MIB));
            is_corrupt(&case);
        }
    }
}

#[test]
fn a_layer_that_changes_after_a_cut_never_arrives() {
    for form in FORMS {
        // Before and behind the byte at which it goes on.
        for at in [5, 30 * MIB] {
            let case = Case::new(form);
            case.put(1, 1, FaultKind::CutAfter(10 * MIB));
            let path = case.layout.blob(&case.layer);
            case.ecr.on_answer(move |entry| {
                if entry.method == "PUT" && entry.bytes == 10 * MIB {
                    flip(&path, at);
                }
            });
            is_corrupt(&case);
        }
    }
}

#[test]
fn what_arrived_damaged_is_sent_anew_once_the_file_is_found_right() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(10 * MIB));
        let body = r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"None of the provided"}]}"#.to_owned();
        case.put(2, 1, FaultKind::Status { status: 400, headers: Vec::new(), body });
        case.arrives(&[]);
        case.took(2);
        // In the second session nothing is asked any more.
        case.sent_again(SIZE * MIB);
    }
}

#[test]
fn parts_that_are_refused_at_the_end_are_sent_anew_as_one() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(20 * MIB));
        let body = r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"some of its parts are odd"}]}"#.to_owned();
        case.put(2, 1, FaultKind::Status { status: 400, headers: Vec::new(), body });
        case.put(3, 1, FaultKind::CutAfter(20 * MIB));
        let ran = case.arrives(&[]).says(["its parts are odd"]);
        // In parts it is tried once.
        assert_eq!(ran.stderr.matches("going on with").count(), 1, "{}", ran.stderr);
        case.took(3);
    }
}

#[test]
fn a_signal_while_an_upload_waits_to_go_on_cancels_its_session() {
    let headers = vec![("Retry-After".to_owned(), "60".to_owned())];
    let busy = FaultKind::Status { status: 503, headers, body: String::new() };
    let case = Case::new(UploadStatus::Progress);
    case.put(1, 1, FaultKind::CutAfter(20 * MIB));
    case.ecr.inject(Fault::on("GET", "/blobs/uploads/").does(busy));
    let (sender, asked) = mpsc::channel();
    case.ecr.on_answer(move |entry| {
        if entry.method == "GET" && entry.path.contains("/blobs/uploads/") {
            let _ = sender.send(());
        }
    });
    let run = case.push().start();
    asked.recv_timeout(Duration::from_mins(1)).unwrap();
    assert_eq!(requests(&case.ecr, "DELETE", "/blobs/uploads/").len(), 0);
    let since = Instant::now();
    run.signal("TERM");
    run.wait().exits(143).prints(&[]).says(["no tag was written"]);
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!(requests(&case.ecr, "DELETE", "/blobs/uploads/").len(), 1);
    case.is_closed();
}

/// A second registry, with another name.
fn other() -> LocalEcr {
    start(builder().account("210987654321").region("eu-west-1").upload_cancel(true))
}

#[test]
fn a_destination_that_fails_is_sent_no_more_while_the_others_go_on() {
    let (layout, layer) = Layout::of_mebibytes(SIZE);
    let (good, bad) = (other(), start(builder().upload_cancel(true)));
    let hex = &layer["sha256:".len()..];
    // The layer would take until the time is over; the config is refused at once.
    bad.inject(Fault::on("PUT", hex).does(FaultKind::StallAfter(10 * MIB)));
    bad.inject(Fault::on("PUT", "/blobs/uploads/").nth(1).times(2).does(FaultKind::status(403)));
    let since = Instant::now();
    let push = Push::of(layout.path()).at(&bad).to("app:v1").at(&good).to("app:v1").args(["--timeout=60"]);
    push.run().exits(4).says(["DENIED"]);
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    assert_arrived(&good, "app", &layout, &layout.root());
    bad.wait_for_quiet();
    assert_eq!((bad.open_sessions(), bad.tags("app")), (0, Vec::new()));
}

#[test]
fn what_waits_to_be_tried_again_is_reported_with_what_fails_for_good() {
    let layout = Layout::of_layers(&[900_000, 800_000]);
    let ecr = start(builder().upload_cancel(true));
    let headers = vec![("Retry-After".to_owned(), "60".to_owned())];
    let busy = FaultKind::Status { status: 503, headers, body: String::new() };
    ecr.inject(Fault::on("PUT", "/blobs/uploads/").nth(1).does(busy));
    ecr.inject(Fault::on("PUT", "/blobs/uploads/").nth(3).does(FaultKind::status(403)));
    let since = Instant::now();
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs=2"]).run().prints(&[]).says_one_error();
    ran.says(["2 blobs could not be uploaded", "503", "403"]);
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    ecr.wait_for_quiet();
    assert_eq!(ecr.open_sessions(), 0);
}
