//! Others who use the layout while it is pushed and cleaned: builders, another ecr-push, and whoever has a lock on it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStderr};
use std::sync::{Arc, Mutex};
use std::thread;

use local_ecr::LocalEcr;
use serde_json::Value;

use super::{clean, left};
use crate::support::command::signal;
use crate::support::layout::digest;
use crate::support::{Layout, Push, Tree, assert_arrived, builder, ecr, reference, start};

/// Does this once the layout was read and the image is there, right before clean-up.
pub(super) fn meanwhile(ecr: &LocalEcr, change: impl FnOnce() + Send + 'static) {
    let change = Mutex::new(Some(change));
    ecr.on_answer(move |entry| {
        if entry.method == "PUT" && entry.tag.is_some() {
            let change = change.lock().unwrap().take();
            change.expect("one tag is written")();
        }
    });
}

#[test]
fn an_image_that_a_builder_adds_meanwhile_keeps_all_that_it_needs() {
    let (layout, ecr) = (Arc::new(Layout::empty()), ecr());
    let base = layout.layer(200_000);
    layout.list(&layout.image(&[base.clone(), layout.layer(100)]), Some("old"));
    let (old, builds) = (layout.reach(&layout.root()), Arc::clone(&layout));
    meanwhile(&ecr, move || builds.list(&builds.image(&[base, builds.layer(200)]), Some("new")));
    clean(&layout, ":old", &ecr).run().exits(0);
    assert_eq!(layout.names(), ["new"]);
    let new = layout.reach(&layout.named("new"));
    assert_eq!(layout.blobs(), new.manifests.union(&new.blobs).cloned().collect());
    assert!(new.blobs.intersection(&old.blobs).count() > 0, "they share a layer");
    let fresh = start(builder());
    clean(&layout, "", &fresh).run().exits(0);
}

#[test]
fn an_image_that_is_given_another_name_meanwhile_stays() {
    let (layout, ecr) = (Arc::new(Layout::fixture("good/one-manifest")), ecr());
    let (names, root) = (Arc::clone(&layout), layout.root());
    meanwhile(&ecr, move || names.list(&names.entries()[0].clone(), Some("kept")));
    let blobs = layout.blobs();
    clean(&layout, ":v1", &ecr).run().exits(0);
    assert_eq!((layout.names(), layout.blobs()), (vec!["kept".to_owned()], blobs));
    assert_arrived(&ecr, "app", &layout, &root);
}

#[test]
fn a_name_that_is_given_to_another_image_meanwhile_stays() {
    let (layout, ecr) = (Arc::new(Layout::fixture("good/one-manifest")), ecr());
    let (moves, root) = (Arc::clone(&layout), layout.root());
    meanwhile(&ecr, move || {
        let other = moves.image(&[moves.layer(10)]);
        let mut index = moves.index();
        index["manifests"] = Value::Array(Vec::new());
        moves.write_index(&index);
        moves.list(&other, Some("v1"));
    });
    let ran = clean(&layout, ":v1", &ecr).run().exits(7).prints(&[&reference(&ecr, "app", &root)]);
    let other = layout.named("v1");
    ran.says(["\"v1\"", other.as_str(), "is kept"]);
    assert!(layout.blobs().contains(&root));
}

#[test]
fn a_layout_that_is_gone_meanwhile_needs_no_clean_up() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let (path, root) = (layout.path().to_owned(), layout.root());
    meanwhile(&ecr, move || fs::remove_dir_all(path).unwrap());
    clean(&layout, "", &ecr).run().exits(0).prints(&[&reference(&ecr, "app", &root)]);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn an_index_that_breaks_meanwhile_keeps_everything() {
    let (layout, ecr) = (Layout::fixture("good/several-images"), ecr());
    let (path, root) = (layout.path().join("index.json"), layout.named("v1"));
    let blobs = layout.blobs();
    meanwhile(&ecr, move || fs::write(path, "{\"manifests\": [").unwrap());
    let ran = clean(&layout, ":v1", &ecr).run().exits(7).prints(&[&reference(&ecr, "app", &root)]);
    ran.says(["clean-up", "index.json"]);
    assert_eq!(layout.blobs(), blobs);
}

#[test]
fn what_remains_and_cannot_be_read_keeps_the_blobs() {
    let (layout, ecr) = (Layout::fixture("good/several-images"), ecr());
    let other = layout.named("registry.example/team/app:v2");
    fs::write(layout.blob(&other), "no manifest any more").unwrap();
    let blobs = layout.blobs();
    clean(&layout, ":v1", &ecr).run().exits(7).says([other.as_str(), "is kept"]);
    assert_eq!(layout.blobs(), blobs);
}

/// Starts a push while somebody else has a lock on the layout, and comes back when it says that it waits for that.
pub(super) fn waiting(push: &Push) -> (Child, BufReader<ChildStderr>) {
    let mut child = push.command().spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for another process") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended without a wait");
    }
    (child, stderr)
}

#[test]
fn another_process_that_uses_the_layout_is_waited_for() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    for (lock, there) in [(File::lock as fn(&File) -> io::Result<()>, false), (File::lock_shared, true)] {
        let layout = Layout::fixture("good/one-manifest");
        let ecr = start(builder());
        let held = File::open(layout.path()).unwrap();
        lock(&held).unwrap();
        let push = clean(&layout, "", &ecr);
        let (mut child, mut stderr) = waiting(&push);
        // Whoever reads it may do so beside others; only who removes it is alone.
        assert_eq!(ecr.tag("app", "v1").is_some(), there);
        assert!(layout.path().is_dir());
        drop(held);
        stderr.read_to_end(&mut Vec::new()).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(left(&layout), Vec::<String>::new());
    }
    // Nobody has a lock, and nobody is waited for.
    clean(&layout, "", &ecr).run().exits(0).says_nothing_of(["waiting for"]);
}

#[test]
fn a_signal_ends_the_wait_for_another_process() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let before = Tree::of(layout.parent());
    let held = File::open(layout.path()).unwrap();
    held.lock_shared().unwrap();
    let push = clean(&layout, "", &ecr);
    let (mut child, mut stderr) = waiting(&push);
    signal(child.id(), "TERM");
    stderr.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    before.is_unchanged(layout.parent());
}

#[test]
fn what_a_crash_left_behind_does_not_matter() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    fs::write(layout.path().join(".index.json.ecr-push"), "half of an ind").unwrap();
    clean(&layout, "", &ecr).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn a_link_in_the_place_of_the_new_index_is_not_followed() {
    let (layout, ecr) = (Layout::fixture("good/several-images"), ecr());
    let victim = layout.parent().join("victim");
    fs::write(&victim, "somebody's").unwrap();
    symlink(&victim, layout.path().join(".index.json.ecr-push")).unwrap();
    clean(&layout, ":v1", &ecr).run().exits(0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "somebody's");
    assert_eq!(layout.names(), ["registry.example/team/app:v2"]);
}

#[test]
fn a_digest_file_that_cannot_be_written_any_more_keeps_source() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let folder = layout.parent().join("results");
    let file = folder.join("digest");
    fs::create_dir(&folder).unwrap();
    meanwhile(&ecr, move || fs::remove_dir(folder).unwrap());
    let before = Tree::of(layout.path());
    let ran = clean(&layout, "", &ecr).args(["--digest-file".as_ref(), file.as_os_str()]).run();
    assert_ne!(ran.status, 0);
    ran.says(["--digest-file", file.to_str().unwrap(), "kept"]);
    before.is_unchanged(layout.path());
}

#[test]
fn ten_runs_on_one_layout_all_arrive_and_the_folder_goes() {
    let (layout, ecr) = (Layout::empty(), ecr());
    let base = layout.layer(200_000);
    let images: Vec<_> = (0..10)
        .map(|number| {
            let image = layout.image(&[base.clone(), layout.layer(1000 + number)]);
            layout.list(&image, Some(&format!("n{number}")));
            digest(&image).to_owned()
        })
        .collect();
    let reaches: Vec<_> = images.iter().map(|image| layout.reach(image)).collect();
    let pushes: Vec<_> = (0..10)
        .map(|number| {
            let push = Push::of(layout.choosing(&format!(":n{number}"))).at(&ecr);
            push.to(&format!("app:n{number}")).args(["--cleanup"]).start()
        })
        .collect();
    let waiting: Vec<_> = pushes.into_iter().map(|push| thread::spawn(move || push.wait())).collect();
    for (run, image) in waiting.into_iter().zip(&images) {
        run.join().unwrap().exits(0).prints(&[&reference(&ecr, "app", image)]);
    }
    for (number, reach) in reaches.iter().enumerate() {
        assert_eq!(ecr.tag("app", &format!("n{number}")).as_ref(), Some(&images[number]));
        assert!(reach.blobs.iter().all(|blob| ecr.has_blob("app", blob)));
    }
    assert_eq!(left(&layout), Vec::<String>::new());
}
