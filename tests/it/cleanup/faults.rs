//! A clean-up any of whose system calls fails says so, says truly what is left, and leaves a valid layout.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use super::traced::{Point, Scene, Traced};
use super::whole::{State, is_between, layout_of, state};
use crate::support::Layout;
use crate::support::strace::{Tampering, no_strace};

/// What a disk that is full, closed, or failing says.
const ERRORS: [&str; 4] = ["ENOSPC", "EACCES", "EROFS", "EIO"];

/// What a clean-up that doesn't come to its end leaves for the next one.
const JOURNAL: &str = "layout/.ecr-push.removing";

/// Lets a clean-up fail at each of its calls, with each of the errors that `choose` gives for it.
#[track_caller]
#[expect(clippy::print_stdout, reason = "how much was shown is said where tests speak")]
fn sweep(scene: &Scene, choose: impl Fn(usize, &Point) -> Vec<&'static str>) {
    if no_strace() {
        return;
    }
    let warm = scene.warm();
    let record = scene.run(&warm, None);
    assert!(record.status.success(), "{}", record.stderr);
    let (before, end) = (state(&scene.layout, 0), state(&record.layout, record.process));
    let (mut tried, mut failed) = (0, Vec::new());
    for (number, point) in record.points().0.iter().enumerate() {
        for error in choose(number, point) {
            tried += 1;
            let ran = scene.run(&warm, Some((point, Tampering::Fail(error))));
            let judged = catch_unwind(AssertUnwindSafe(|| judge(&before, &end, &ran, &record)));
            if let Err(panic) = judged {
                let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                failed.push(format!("{error} at {point}: {why}"));
            }
        }
    }
    println!("{tried} errors");
    assert!(failed.is_empty(), "{} of {tried} errors:\n{}", failed.len(), failed.join("\n"));
}

/// What standard output has.
#[track_caller]
fn document(ran: &Traced) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error} in {:?}:\n{}", ran.stdout, ran.stderr))
}

/// Asserts that a run that met an error ended as it should, and that all it says is true.
#[track_caller]
fn judge(before: &State, end: &State, ran: &Traced, record: &Traced) {
    let now = state(&ran.layout, ran.process);
    is_between(before, &now, end, ran);
    let (told, clean) = (document(ran), document(record));
    assert_eq!(told["destinations"][0]["status"], "verified", "{told}");
    let reference = told["destinations"][0]["reference"].as_str().unwrap_or_default();
    assert!(reference.ends_with(&format!("/app@{}", told["digest"].as_str().unwrap_or("-"))), "{told}");
    let left: Vec<_> = now.keys().filter(|path| !end.contains_key(*path)).collect();
    match ran.status.code() {
        Some(0) => {
            assert_eq!(left, Vec::<&String>::new(), "exit 0 with something left");
            // A file that can't be looked at before it goes isn't counted among the bytes that come back.
            let freed = |told: &Value| told["cleanup"]["bytesFreed"].as_u64();
            assert!(freed(&told).is_some() && freed(&told) <= freed(&clean), "{told}");
            for said in ["status", "namesRemoved", "blobsRemoved", "folderRemoved"] {
                assert_eq!(told["cleanup"][said], clean["cleanup"][said], "what is said to be removed");
            }
        }
        Some(7) => {
            assert_eq!((&told["exitStatus"], &told["cleanup"]["status"]), (&7.into(), &"failed".into()));
            assert_ne!(&now, end, "nothing is left:\n{}", ran.stderr);
            is_counted(&told["cleanup"], before, &now);
            is_named(&left, before, &now, ran);
        }
        other => panic!("exit status {other:?}:\n{}", ran.stderr),
    }
}

/// Asserts that what is said to be gone is what is gone. Where nothing is said nothing is.
#[track_caller]
fn is_counted(told: &Value, before: &State, now: &State) {
    let is_blob = |path: &&String| path.starts_with("layout/blobs/") && !path.ends_with('/');
    let gone = before.keys().filter(is_blob).filter(|path| !now.contains_key(*path)).count();
    assert_eq!(told["blobsRemoved"].as_u64().unwrap_or(0), gone as u64, "{told}");
    let named = now.get("layout/index.json") == before.get("layout/index.json");
    assert_eq!(told["namesRemoved"].as_array().is_none_or(Vec::is_empty), named, "{told}");
    // Half a skeleton stays where it was moved to.
    let is_there = now.keys().any(|path| path == "layout/" || path.starts_with(".layout.ecr-push-"));
    assert_eq!(told["folderRemoved"] == true, !is_there, "{told}");
}

/// Asserts that standard error names all that is left, or the layout that is kept, and whatever lies about that is ours.
#[track_caller]
fn is_named(left: &[&String], before: &State, now: &State, ran: &Traced) {
    let full = |path: &str| {
        let path = path.trim_end_matches('/').replace(".ecr-push-PID", &format!(".ecr-push-{}", ran.process));
        ran.layout.parent().join(path).display().to_string()
    };
    let says = |path: &str| ran.stderr.contains(&full(path));
    // The journal stays for the next clean-up, which removes it; whatever else is ours is named.
    let ours = |path: &&String| !before.contains_key(*path) && !path.ends_with('/') && *path != JOURNAL;
    let own: Vec<_> = now.keys().filter(ours).collect();
    // Half a skeleton is named as a whole.
    let names = |path: &str| says(path) || path.starts_with(".layout.") && says(path.split('/').next().unwrap_or(path));
    assert!(own.iter().all(|path| names(path)), "{own:?} are left, and not named:\n{}", ran.stderr);
    let layout = full("layout");
    let mut mentioned = ran.stderr.match_indices(&layout).map(|(at, found)| &ran.stderr[at + found.len()..]);
    // The layout as a whole, and not something in it.
    if layout_of(ran).is_some() && mentioned.any(|rest| !rest.starts_with('/') || rest.starts_with("/index.json")) {
        return;
    }
    let blobs = left.iter().filter(|path| path.starts_with("layout/blobs/") && !path.ends_with('/'));
    let silent: Vec<_> = blobs.filter(|path| !says(path)).collect();
    assert!(silent.is_empty(), "{silent:?} are left, and not named:\n{}", ran.stderr);
    assert!(left.iter().any(|path| says(path)), "{left:?} are left, and not named:\n{}", ran.stderr);
}

/// What of the four errors a call meets. Nobody asks what came of `close`, and `fcntl` is a check of Rust's own library.
/// Calls that only look are told apart by what they look at and not by why that fails: each meets two of them.
fn errors(number: usize, point: &Point) -> Vec<&'static str> {
    match point.call.name.as_str() {
        "close" | "fcntl" => Vec::new(),
        _ if point.call.changes() => [&ERRORS[..], &more(point)].concat(),
        _ => vec!["EIO", ERRORS[number % 3]],
    }
}

/// What else calls that change something may meet.
fn more(point: &Point) -> Vec<&'static str> {
    match point.call.name.as_str() {
        // That it isn't there, which it is, would be a lie of what is to be removed.
        "unlink" | "unlinkat" => vec!["EDQUOT", "EBUSY"],
        // A mount point can neither be renamed nor be removed, which is no failure.
        "rmdir" => vec!["EDQUOT"],
        _ if is_folder_rename(point) => vec!["EDQUOT"],
        _ => vec!["EDQUOT", "EBUSY", "ENOENT"],
    }
}

/// Whether the layout's folder leaves its place here.
fn is_folder_rename(point: &Point) -> bool {
    point.call.name.starts_with("rename") && point.paths[0] == "layout"
}

#[test]
fn one_of_two_images_that_share_layers() {
    sweep(&Scene::of(Layout::fixture("good/shared-layers"), ":one"), errors);
}

#[test]
fn the_only_image_with_the_folder() {
    sweep(&Scene::of(Layout::fixture("good/one-manifest"), ""), errors);
}

#[test]
fn a_folder_that_is_a_mount_point_stays_and_is_empty() {
    if no_strace() {
        return;
    }
    let scene = Scene::of(Layout::fixture("good/one-manifest"), "");
    let warm = scene.warm();
    let points = scene.run(&warm, None).points().0;
    let rename = points.iter().find(|point| is_folder_rename(point)).expect("the folder is renamed");
    let ran = scene.run(&warm, Some((rename, Tampering::Fail("EBUSY"))));
    assert_eq!(ran.status.code(), Some(0), "{}", ran.stderr);
    assert_eq!(document(&ran)["cleanup"]["folderRemoved"], false);
    assert_eq!((ran.layout.entries().len(), ran.layout.blobs().len()), (0, 0));
}
