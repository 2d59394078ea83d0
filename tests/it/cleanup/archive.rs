//! The file of an archive goes when everything in it was pushed, and when it is still the one that was read.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use ecr_push::cleanup::CleanupError;
use ecr_push::cleanup::archive::{Removal, clean};
use ecr_push::source::Choice;
use ecr_push::source::archive::Archive;
use ecr_push::source::docker::DockerArchive;
use ecr_push::source::layout::Layout as Read;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::layout::sha256;
use crate::support::{Layout, Push, Ran, Tar, ecr};

/// A folder with an archive in it.
fn archive(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix("ecr-push-archive-").unwrap();
    let path = folder.path().join("image.tar");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn push(source: &Path) -> Ran {
    let ecr = ecr();
    Push::of(source).at(&ecr).to("app:v1").args(["--cleanup"]).run()
}

/// A docker archive without its end: a config and a layer for each name, and the list.
fn saved(names: &[&str]) -> Tar {
    let (mut tar, mut list) = (Tar::new(), Vec::new());
    for name in names {
        let config = json!({"os": "linux", "architecture": name, "rootfs": {"diff_ids": [sha256(name.as_bytes())]}});
        let (config, layer) = (config.to_string(), format!("{name}.tar"));
        let member = format!("{}.json", &sha256(config.as_bytes())[7..]);
        tar = tar.file(&member, config.as_bytes()).file(&layer, name.as_bytes());
        list.push(json!({"Config": member, "RepoTags": [format!("{name}:v1")], "Layers": [layer]}));
    }
    tar.file("manifest.json", Value::from(list).to_string().as_bytes())
}

#[test]
fn the_file_goes_when_everything_in_it_was_pushed() {
    let layout = |name| Tar::of(&Layout::fixture(name)).end();
    let packed = zstd::encode_all(&*layout("good/referrers"), 1).unwrap();
    let files =
        [layout("good/index"), layout("good/two-names"), layout("good/referrers-tag"), packed, saved(&["a"]).end()];
    for bytes in files {
        let (folder, path) = archive(&bytes);
        push(&path).exits(0).says(["clean-up: the archive is removed", "freed"]);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}

/// Asserts that the file is kept, and what is said of that.
#[track_caller]
fn is_kept(bytes: &[u8], choice: &str, words: &[&str]) {
    let (_folder, path) = archive(bytes);
    let mut source = path.clone().into_os_string();
    source.push(choice);
    push(Path::new(&source)).exits(7).says(words.iter().copied()).says(["image.tar is kept", "the image was pushed"]);
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn the_file_stays_when_something_in_it_was_not_pushed() {
    let several = Layout::fixture("good/several-images");
    let other = several.named("registry.example/team/app:v2");
    let words = [&*format!("@{other}"), ":registry.example/team/app:v2", "more than this image"];
    is_kept(&Tar::of(&several).end(), ":v1", &words);
    is_kept(&saved(&["a", "b"]).end(), ":a:v1", &[":b:v1", "more than this image"]);
    let held = Layout::fixture("good/non-distributable-held");
    is_kept(&Tar::of(&held).end(), "", &["non-distributable layers"]);
}

#[test]
fn what_is_in_the_file_for_others_counts() {
    // For `skopeo copy docker-archive:` there is another image in it.
    let beside = saved(&["a"]).raw(&Tar::of(&Layout::fixture("good/one-manifest")).cut());
    let (_folder, path) = archive(&beside.end());
    let source = format!("oci-archive:{}", path.display());
    push(Path::new(&source)).exits(7).says([":a:v1", "more than this image"]);
    // And so there is for `skopeo copy oci-archive:`.
    let source = format!("docker-archive:{}", path.display());
    push(Path::new(&source)).exits(7).says(["more than this image", &Layout::fixture("good/one-manifest").root()]);
    assert!(path.exists());
}

#[test]
fn a_symbolic_link_stays_and_so_does_what_it_leads_to() {
    let (folder, path) = archive(&saved(&["a"]).end());
    let link = folder.path().join("result");
    symlink("image.tar", &link).unwrap();
    push(&link).exits(7).says(["result is kept: it is a symbolic link", "remove it by hand"]);
    assert!(link.is_symlink() && path.exists());
}

#[test]
fn a_fifo_stays() {
    let folder = TempDir::with_prefix("ecr-push-archive-").unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (bytes, to) = (saved(&["a"]).end(), fifo.clone());
    let writer = thread::spawn(move || File::options().write(true).open(to).unwrap().write_all(&bytes).unwrap());
    push(&fifo).exits(7).says(["fifo is kept: it is a FIFO and not a regular file"]);
    writer.join().unwrap();
    assert!(fifo.exists());
}

#[test]
fn standard_input_leaves_nothing_to_remove() {
    let (_folder, path) = archive(&saved(&["a"]).end());
    let ecr = ecr();
    let push = Push::of("-").at(&ecr).to("app:v1").args(["--cleanup"]);
    push.run_with(File::open(&path).unwrap()).exits(0).says(["standard input leaves nothing to remove"]);
    assert!(path.exists());
}

#[test]
fn a_push_that_fails_removes_nothing() {
    let (_folder, path) = archive(&saved(&["a"]).end());
    let ecr = ecr();
    Push::of(&path).at(&ecr).to("nowhere:v1").args(["--cleanup"]).run().exits(5);
    assert!(path.exists());
}

/// The removal of an archive whose one image is taken for pushed.
fn removal(path: &Path) -> Removal {
    let archive = Archive::open(path, None, Path::new("/nowhere")).unwrap();
    let docker = DockerArchive::open(Arc::new(archive)).unwrap();
    Removal::of_docker(&docker, docker.choose(&Choice::Only).unwrap())
}

#[test]
fn a_file_that_is_another_by_now_stays() {
    let bytes = saved(&["a"]).end();
    let check = |change: fn(&Path)| {
        let (_folder, path) = archive(&bytes);
        let removal = removal(&path);
        change(&path);
        let cleaned = clean(&removal, || false);
        assert!(matches!(cleaned, Err(CleanupError::Changed { .. })), "{cleaned:?}");
        assert!(path.exists());
    };
    check(|path| File::options().append(true).open(path).unwrap().write_all(b"x").unwrap());
    check(|path| fs::write(path, saved(&["b"]).end()).unwrap());
    check(|path| {
        let aside = path.with_extension("new");
        fs::copy(path, &aside).unwrap();
        let times = fs::metadata(path).unwrap().modified().unwrap();
        File::options().append(true).open(&aside).unwrap().set_modified(times).unwrap();
        fs::rename(aside, path).unwrap();
    });
    // The same inode, size and time: only the time of the change itself tells.
    check(|path| {
        let times = fs::metadata(path).unwrap().modified().unwrap();
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
        File::options().append(true).open(path).unwrap().set_modified(times).unwrap();
    });
}

#[test]
fn a_file_that_is_gone_already_is_no_failure() {
    let (_folder, path) = archive(&saved(&["a"]).end());
    let removal = removal(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(clean(&removal, || false).unwrap().file, Some(true));
}

#[test]
fn a_file_stays_when_the_run_is_stopped() {
    let (_folder, path) = archive(&saved(&["a"]).end());
    let kept = clean(&removal(&path), || true);
    assert!(matches!(&kept, Err(CleanupError::Interrupted { left: 0, .. })), "{kept:?}");
    assert!(path.exists());
}

#[test]
fn a_file_of_two_names_frees_nothing() {
    let (folder, path) = archive(&saved(&["a"]).end());
    fs::hard_link(&path, folder.path().join("other.tar")).unwrap();
    let cleaned = clean(&removal(&path), || false).unwrap();
    assert_eq!((cleaned.file, cleaned.freed), (Some(true), 0));
    assert!(folder.path().join("other.tar").exists() && !path.exists());
}

#[test]
fn an_entry_that_is_no_image_counts() {
    let layout = Layout::fixture("good/one-manifest");
    let mut index = layout.index();
    let note = json!({"mediaType": "application/vnd.example.note", "digest": sha256(b"note"), "size": 4});
    index["manifests"].as_array_mut().unwrap().push(note);
    layout.write_index(&index);
    let (_folder, path) = archive(&Tar::of(&layout).end());
    let opened = Archive::open(&path, None, Path::new("/nowhere")).unwrap();
    let read = Read::in_archive(&opened).unwrap();
    let image = read.read(&read.choose(&Choice::Only).unwrap(), &[], true).unwrap();
    let kept = clean(&Removal::of_layout(&opened, &read, &image), || false).unwrap_err();
    assert!(matches!(&kept, CleanupError::HoldsMore { others, .. } if others[0].digest.as_str() == sha256(b"note")));
}
