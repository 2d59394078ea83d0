//! Archives on standard input: a file is read where it lies, a pipe is kept beside, and there may be no room for that.

use std::fs::File;
use std::io::{self, PipeReader};
use std::path::Path;
use std::thread;

use local_ecr::LocalEcr;

use super::{Archive, good, layout};
use crate::support::{Push, Tar, assert_arrived, ecr, has_tool};

fn push(ecr: &LocalEcr, temporary: &Path) -> Push {
    Push::of("-").at(ecr).to("app:v1").env("TMPDIR", temporary)
}

/// The reading end of a pipe that a file is written to.
fn pipe(path: &Path) -> PipeReader {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut file = File::open(path).unwrap();
    // Who reads may have seen enough before the end.
    thread::spawn(move || drop(io::copy(&mut file, &mut writer)));
    reader
}

#[test]
fn a_file_on_standard_input_needs_no_copy() {
    let (layout, ecr) = (layout(), ecr());
    let archive = Archive::new(Tar::of(&layout).end());
    push(&ecr, Path::new("/nowhere")).run_with(File::open(archive.path()).unwrap()).exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn a_pipe_is_kept_in_a_file_without_a_name() {
    let (layout, ecr) = (layout(), ecr());
    let archive = Archive::new(Tar::of(&layout).end());
    push(&ecr, archive.folder.path()).run_with(pipe(&archive.path())).exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    archive.is_unchanged();
}

#[test]
fn what_comes_from_a_pipe_is_looked_at_as_well() {
    let begin = good();
    let at = format!("standard input is not a sound archive: at byte {}: ", begin.position());
    let archive = Archive::new(begin.file("/x", b"").end());
    let ecr = ecr();
    push(&ecr, archive.folder.path()).run_with(pipe(&archive.path())).exits(3).says([&*at, "absolute"]);
    assert_eq!(ecr.registry_requests(), []);
}

#[test]
fn no_input_is_said() {
    let ecr = ecr();
    push(&ecr, Path::new("/tmp")).run().exits(3).says(["standard input is empty", "pipefail"]);
}

#[test]
fn a_folder_that_takes_no_file_is_named() {
    let archive = Archive::new(good().end());
    let ecr = ecr();
    let ran = push(&ecr, Path::new("/nowhere")).run_with(pipe(&archive.path())).exits(3);
    ran.says(["/nowhere", "takes no temporary file", "TMPDIR"]);
}

#[test]
fn a_full_disk_is_named() {
    if !has_tool("unshare") {
        return;
    }
    // A disk of 48 MiB, 32 of which are left to others.
    let archive = Archive::new(Tar::of(&crate::support::Layout::of_mebibytes(40).0).end());
    let small = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=48m none \"$TMPDIR\" && exec \"$0\" \"$@\"";
    let ecr = ecr();
    let push = push(&ecr, small.path()).under(&["unshare", "--map-root-user", "--mount", "sh", "-c", script]);
    let ran = push.run_with(pipe(&archive.path())).exits(3).prints(&[]);
    ran.says([&*small.path().to_string_lossy(), "has no room left", "TMPDIR"]);
    assert_eq!(ecr.registry_requests(), []);
}
