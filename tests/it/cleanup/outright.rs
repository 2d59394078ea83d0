//! `ecr-push clean`: removes what it is asked to without a push, and says beforehand what that would be.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::left;
use crate::support::layout::{digest, fixture_names};
use crate::support::servers::{Engine, Kind, Saved};
use crate::support::{Layout, Push, Ran, Tar, Tree};

/// `ecr-push clean`, with further arguments.
fn clean(source: impl AsRef<OsStr>, args: &[&str]) -> Push {
    let source = source.as_ref().to_str().expect("paths of the tests are UTF-8").to_owned();
    Push::of("clean").to_reference(source).args(args)
}

fn cleanup(ran: &Ran) -> Value {
    let document: Value = serde_json::from_str(&ran.stdout).expect("a document");
    assert_eq!(document["exitStatus"], ran.status);
    document["cleanup"].clone()
}

/// The lines of standard output, without the path of the layout.
fn lines(ran: &Ran, layout: &Layout) -> Vec<String> {
    let path = layout.path().display().to_string();
    ran.stdout.lines().map(|line| line.strip_prefix(&path).expect("it begins with SOURCE").to_owned()).collect()
}

/// A layout with so many images, called `n0`, `n1` and so on, the first one the oldest.
fn aged(count: usize) -> Layout {
    let layout = Layout::empty();
    let base = layout.layer(5000);
    for number in 0..count {
        let image = layout.image(&[base.clone(), layout.layer(100 + number)]);
        layout.list(&image, Some(&format!("n{number}")));
        written(&layout, digest(&image), number as u64);
    }
    layout
}

/// Has a blob be written so many seconds after the beginning of time.
fn written(layout: &Layout, blob: &str, seconds: u64) {
    let file = File::options().write(true).open(layout.blob(blob)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// Everything that the entries of the index reach.
fn needed(layout: &Layout) -> BTreeSet<String> {
    let reaches = layout.entries().iter().map(|entry| layout.reach(digest(entry))).collect::<Vec<_>>();
    reaches.into_iter().flat_map(|reach| reach.manifests.into_iter().chain(reach.blobs)).collect()
}

#[test]
fn a_dry_run_says_what_the_run_does() {
    let options: [&[&str]; 4] = [&[], &["--keep=1"], &["--keep=0"], &["--prune-orphans=0s", "--older-than=0s"]];
    for fixture in fixture_names("good") {
        for choice in ["", "@"] {
            for options in options {
                let layout = Layout::fixture(&format!("good/{fixture}"));
                layout.layer(123);
                let choice = if choice == "@" { format!("@{}", layout.root()) } else { String::new() };
                let aged = options.iter().any(|option| !option.starts_with("--prune"));
                if aged && !choice.is_empty() {
                    continue;
                }
                let json = [options, &["--output=json"]].concat();
                let before = Tree::of(layout.parent());
                let dry = clean(layout.choosing(&choice), &json).args(["--dry-run"]).run();
                before.is_unchanged(layout.parent());
                let ran = clean(layout.choosing(&choice), &json).run();
                let context = format!("{fixture}{choice} {options:?}");
                assert_eq!(dry.status, ran.status, "{context}");
                if ran.status == 2 {
                    continue;
                }
                let mut planned = cleanup(&dry);
                assert_eq!(planned["status"], "planned", "{context}");
                planned["status"] = json!("done");
                assert_eq!(planned, cleanup(&ran), "{context}");
                assert_eq!(layout.path().exists(), planned["folderRemoved"] == false, "{context}");
            }
        }
    }
}

#[test]
fn an_image_goes_whatever_it_is_made_of() {
    for fixture in fixture_names("good") {
        let layout = Layout::fixture(&format!("good/{fixture}"));
        let root = layout.root();
        clean(layout.choosing(&format!("@{root}")), &[]).run().exits(0).says(["clean-up: "]);
        if layout.path().exists() {
            assert!(layout.entries().iter().all(|entry| digest(entry) != root), "{fixture}");
            assert_eq!(layout.blobs(), needed(&layout), "{fixture}");
        }
    }
}

#[test]
fn names_go_as_they_are_given() {
    let layout = Layout::fixture("good/two-names");
    let ran = clean(layout.choosing(":v1"), &[]).run().exits(0);
    assert_eq!((lines(&ran, &layout), layout.names()), (vec![":v1".to_owned()], vec!["latest".to_owned()]));
    let ran = clean(layout.path(), &[]).run().exits(0);
    assert_eq!(lines(&ran, &layout), [":latest"]);
    assert_eq!(left(&layout), Vec::<String>::new());

    let layout = Layout::of_layers(&[100]);
    let root = layout.root();
    let ran = clean(layout.path(), &["-q"]).run().exits(0);
    assert_eq!((lines(&ran, &layout), ran.stderr.as_str()), (vec![format!("@{root}")], ""));
}

#[test]
fn an_image_that_could_not_be_pushed_goes_all_the_same() {
    for fixture in
        ["missing-blob", "wrong-bytes", "wrong-size", "truncated-manifest", "wrong-bytes-manifest", "two-defects"]
    {
        let layout = Layout::fixture(&format!("bad/{fixture}"));
        let root = layout.root();
        clean(layout.choosing(&format!("@{root}")), &[]).run().exits(0);
        assert!(!layout.blob(&root).exists(), "{fixture}");
    }
    // Somebody else may distribute what a push has to leave behind.
    let layout = Layout::fixture("good/non-distributable-held");
    clean(layout.path(), &[]).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn the_newest_names_are_kept() {
    let layout = aged(5);
    // The last one in the index is the oldest.
    written(&layout, &layout.named("n4"), 0);
    written(&layout, &layout.named("n0"), 9);
    let ran = clean(layout.path(), &["--keep", "2"]).run().exits(0);
    assert_eq!(lines(&ran, &layout), [":n1", ":n2", ":n4"]);
    assert_eq!(layout.names(), ["n0", "n3"]);
    assert_eq!(layout.blobs(), needed(&layout));
    clean(layout.path(), &["--keep", "2"]).run().exits(0).says(["nothing to remove"]);
    clean(layout.path(), &["--keep", "0"]).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn of_names_that_are_equally_old_the_last_is_the_newest() {
    let layout = Layout::fixture("good/two-names");
    let names: Vec<String> = layout.entries().iter().map(|entry| entry["annotations"].to_string()).collect();
    clean(layout.path(), &["--keep", "1"]).run().exits(0);
    assert_eq!(layout.entries()[0]["annotations"].to_string(), names[1]);
}

#[test]
fn what_refers_to_an_image_is_no_name_of_its_own_and_goes_with_its_last_one() {
    let layout = aged(3);
    let image = layout.entries()[0].clone();
    let note = layout.referrer(
        &json!({"mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"]}),
        "a note",
    );
    layout.list(&note, None);
    layout.list(&image, Some("again"));
    clean(layout.path(), &["--keep", "4"]).run().exits(0).says(["nothing to remove"]);
    clean(layout.path(), &["--keep", "3"]).run().exits(0);
    assert_eq!(
        (layout.names(), layout.blobs().contains(digest(&note))),
        (vec!["again".into(), "n1".into(), "n2".into()], true)
    );
    clean(layout.path(), &["--keep", "2"]).run().exits(0);
    assert_eq!((layout.names(), layout.blobs().contains(digest(&note))), (vec!["n1".into(), "n2".into()], false));
}

#[test]
fn a_name_goes_by_age_only_if_it_is_not_kept_by_number() {
    let layout = aged(3);
    // Their manifests were written long ago, and came here just now.
    clean(layout.path(), &["--older-than", "1h"]).run().exits(0).says(["nothing to remove"]);
    clean(layout.path(), &["--older-than", "0s", "--keep", "3"]).run().exits(0).says(["nothing to remove"]);
    clean(layout.path(), &["--older-than", "0s", "--keep", "2"]).run().exits(0);
    assert_eq!(layout.names(), ["n1", "n2"]);
    clean(layout.path(), &["--older-than", "0s"]).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn blobs_that_nothing_names_go_when_they_are_old() {
    let layout = aged(2);
    let before = layout.blobs();
    let orphan = layout.layer(777);
    let foreign = [layout.path().join("blobs/sha256/oci-put-blob123"), layout.path().join("blobs/note")];
    for path in &foreign {
        fs::write(path, "somebody's").unwrap();
    }
    clean(layout.path(), &["--prune-orphans", "1h"]).run().exits(0).says(["nothing to remove"]);
    assert!(layout.blob(digest(&orphan)).exists());
    let ran = clean(layout.path(), &["--prune-orphans", "0s", "--output=json"]).run().exits(0);
    let metadata = fs::metadata(layout.path()).unwrap();
    assert!(metadata.is_dir());
    let cleanup = cleanup(&ran);
    assert_eq!((&cleanup["blobsRemoved"], &cleanup["orphansRemoved"]), (&json!(1), &json!(1)));
    assert_eq!((&cleanup["namesRemoved"], layout.names()), (&json!([]), vec!["n0".to_owned(), "n1".to_owned()]));
    for path in &foreign {
        assert_eq!(fs::read_to_string(path).unwrap(), "somebody's");
        fs::remove_file(path).unwrap();
    }
    assert_eq!(layout.blobs(), before);
}

#[test]
fn orphans_go_with_an_image_that_is_cleaned() {
    let layout = aged(2);
    layout.layer(777);
    clean(layout.choosing(":n0"), &["--prune-orphans", "0s"]).run().exits(0).says(["(1 that nothing named)"]);
    assert_eq!((layout.names(), layout.blobs()), (vec!["n1".to_owned()], needed(&layout)));
    // And after a push, where that is asked for.
    let ecr = crate::support::ecr();
    layout.layer(778);
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup", "--prune-orphans=0s"]).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn a_layout_without_images_is_kept_by_options_for_all_of_them() {
    let layout = Layout::empty();
    clean(layout.path(), &["--keep", "3"]).run().exits(0).says(["nothing to remove"]);
    assert!(layout.path().exists());
    clean(layout.path(), &[]).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn what_could_not_be_removed_is_removed_by_the_next_run() {
    let layout = aged(2);
    let open = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for path in [layout.parent(), layout.path(), &layout.path().join("blobs")] {
        open(path, 0o777);
    }
    let folder = layout.path().join("blobs/sha256");
    open(&folder, 0o555);
    let ran = clean(layout.choosing(":n0"), &["--output=json"]).unprivileged().run().exits(7);
    let cleanup = cleanup(&ran);
    assert_eq!((&cleanup["status"], &cleanup["namesRemoved"]), (&json!("failed"), &json!(["n0"])));
    assert_eq!((layout.names(), layout.blobs() == needed(&layout)), (vec!["n1".to_owned()], false));
    open(&folder, 0o777);
    // By one that is after another image, too; and it is none of ours to leave behind.
    clean(layout.choosing(":n1"), &[]).unprivileged().run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn a_folder_that_was_cut_short_while_it_went_goes() {
    let layout = Layout::empty();
    // The number of a process that is not there any more.
    let moved = layout.parent().join(".layout.ecr-push-4194305");
    fs::rename(layout.path(), &moved).unwrap();
    fs::remove_file(moved.join("oci-layout")).unwrap();
    // Not ours: nobody makes such a name, and this one holds something.
    let others = [".layout.ecr-push-x", ".layout.ecr-push-7"].map(|name| layout.parent().join(name));
    for other in &others {
        fs::create_dir(other).unwrap();
    }
    fs::write(others[1].join("note"), "somebody's").unwrap();
    clean(layout.path(), &["--dry-run"]).run().exits(3);
    assert!(moved.exists());
    clean(layout.choosing(":v1"), &[]).run().exits(0).says(["and the folder"]);
    assert!(!moved.exists() && others.iter().all(|other| other.exists()));
    clean(layout.path(), &[]).run().exits(3);
}

#[test]
fn an_archive_goes_if_nothing_else_is_in_it() {
    let folder = TempDir::with_prefix("ecr-push-archive-").unwrap();
    let path = folder.path().join("image.tar");
    let write = |fixture: &str| fs::write(&path, Tar::of(&Layout::fixture(fixture)).end()).unwrap();
    write("good/referrers");
    let size = fs::metadata(&path).unwrap().len();
    let ran = clean(&path, &["--dry-run", "--output=json"]).run().exits(0);
    let planned = cleanup(&ran);
    assert!(path.exists() && planned["bytesFreed"].as_u64().unwrap() >= size, "{planned}");
    let ran = clean(&path, &["--output=json"]).run().exits(0);
    assert_eq!(cleanup(&ran)["bytesFreed"], planned["bytesFreed"]);
    assert!(!path.exists());

    write("good/several-images");
    clean(&path, &[]).run().exits(2).says(["2 images"]);
    let mut one = path.clone().into_os_string();
    one.push(":v1");
    clean(&one, &[]).run().exits(7).says(["is kept: it holds more than this image"]);
    clean(&path, &["--keep=1"]).run().exits(2).says(["--keep"]);
    fs::write(&path, "no archive").unwrap();
    clean(&path, &[]).run().exits(3);
    assert!(path.exists());
}

#[test]
fn an_engine_loses_the_name_and_nothing_by_force() {
    for kind in Kind::all() {
        let engine = Engine::start(kind);
        let clean = |image: &str, args: &[&str]| {
            clean(format!("docker-daemon:{image}"), args).env("DOCKER_HOST", engine.host()).run()
        };
        let names = || engine.images().into_iter().map(|(_, names)| names.len()).collect::<Vec<_>>();
        let id = engine.load(&Saved::new(1, &[5_000], &["app:v1", "app:v2"]));
        let ran = clean("app:v1", &["--dry-run", "--output=json"]).exits(0);
        let planned = cleanup(&ran);
        assert_eq!((&planned["status"], &planned["imageRemoved"]), (&json!("planned"), &json!(false)), "{kind:?}");
        assert_eq!(names(), [2], "{kind:?}");
        let ran = clean("app:v1", &[]).exits(0).says(["the image stays, for it has more names"]);
        assert!(
            ran.stdout.starts_with("docker-daemon:") && ran.stdout.ends_with("app:v1\n"),
            "{kind:?}: {}",
            ran.stdout
        );
        clean(&id, &[]).exits(7).says(["no name of it was given"]);
        engine.create("holder", "app:v2");
        clean("app:v2", &[]).exits(7).says(["the container holder uses"]).says_nothing_of(["pushed"]);
        assert_eq!(names(), [1], "{kind:?}");
        clean("app:v9", &[]).exits(3);
    }
}

#[test]
fn a_name_that_stands_there_twice_is_one_name() {
    let layout = aged(2);
    let mut index = layout.index();
    let twice = index["manifests"][1].clone();
    index["manifests"].as_array_mut().unwrap().push(twice);
    layout.write_index(&index);
    clean(layout.path(), &["--keep", "1"]).run().exits(0);
    assert_eq!((layout.names(), layout.entries().len()), (vec!["n1".to_owned()], 2));
    // What cosign hangs on an image is no name of its own.
    let hung = layout.image(&[layout.layer(9)]);
    layout.list(&hung, Some(&format!("sha256-{}.sig", "a".repeat(64))));
    clean(layout.path(), &["--keep", "1"]).run().exits(0).says(["nothing to remove"]);
}

#[test]
fn values_that_nobody_understands_survive_as_they_were_written() {
    let layout = aged(2);
    let path = layout.path().join("index.json");
    let text = fs::read_to_string(&path).unwrap();
    let odd = r#""number":12345678901234567890123,"large":1e999,"half":"\ud800","#;
    fs::write(&path, text.replacen('{', &format!("{{{odd}"), 1)).unwrap();
    clean(layout.choosing(":n0"), &[]).run().exits(0);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(odd) && text.contains("\"n1\"") && !text.contains("\"n0\""), "{text}");
}

#[test]
fn what_cannot_be_read_of_an_unknown_type_keeps_everything() {
    let layout = aged(1);
    let shared = layout.layer(4000);
    layout.list(&layout.image(std::slice::from_ref(&shared)), Some("image"));
    let text = json!({"blobs": [shared]}).to_string();
    let artifact = layout.add("application/vnd.example.unknown", text.as_bytes());
    layout.list(&artifact, Some("artifact"));
    let file = layout.blob(digest(&artifact));
    let open = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for path in [layout.path(), &layout.path().join("blobs"), &layout.path().join("blobs/sha256")] {
        open(path, 0o777);
    }
    open(&file, 0o000);
    let blobs = layout.blobs();
    clean(layout.choosing(":image"), &[]).unprivileged().run().exits(7).says([digest(&artifact), "is kept"]);
    assert_eq!((layout.blobs(), layout.names().len()), (blobs, 3));
    open(&file, 0o644);
    clean(layout.choosing(":image"), &[]).run().exits(0);
    assert!(layout.blob(digest(&shared)).exists());
    // A text that is no document may name blobs all the same.
    fs::write(&file, &text[..text.len() - 1]).unwrap();
    clean(layout.choosing(":n0"), &["--prune-orphans=0s"]).run().exits(0);
    assert!(layout.blob(digest(&shared)).exists());
}

#[test]
fn what_a_link_within_the_layout_leads_to_stays() {
    let layout = aged(2);
    let reach = layout.reach(&layout.named("n0"));
    let only = reach.blobs.difference(&layout.reach(&layout.named("n1")).blobs).next().unwrap().clone();
    let name = "c".repeat(128);
    fs::create_dir(layout.path().join("blobs/sha512")).unwrap();
    std::os::unix::fs::symlink(layout.blob(&only), layout.path().join("blobs/sha512").join(&name)).unwrap();
    let linked = json!({"mediaType": "application/vnd.example.link", "digest": format!("sha512:{name}"), "size": 1});
    layout.list(&linked, Some("link"));
    clean(layout.choosing(":n0"), &[]).run().exits(0);
    assert!(layout.blob(&only).exists());
}

#[test]
fn what_was_cut_short_is_ended_and_nothing_else() {
    let open = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let cut = || {
        let layout = aged(2);
        for path in [layout.parent(), layout.path(), &layout.path().join("blobs")] {
            open(path, 0o777);
        }
        let folder = layout.path().join("blobs/sha256");
        open(&folder, 0o555);
        let ran = clean(layout.choosing(":n0"), &[]).unprivileged().run().exits(7);
        assert!(ran.stderr.contains("n0 is gone"), "{}", ran.stderr);
        open(&folder, 0o777);
        layout
    };
    for again in ["", ":n0"] {
        let layout = cut();
        clean(layout.choosing(again), &[]).unprivileged().run().exits(0).says(["removed"]);
        assert_eq!((layout.names(), layout.blobs()), (vec!["n1".to_owned()], needed(&layout)), "{again:?}");
        let left = layout.path().read_dir().unwrap().count();
        assert_eq!(left, 3, "nothing of ours is left");
        // It is over, and the same says what it says of every layout.
        clean(layout.choosing(":n0"), &[]).run().exits(2);
    }
}

#[test]
fn a_layout_whose_blobs_lie_elsewhere_is_left_as_it_is() {
    let layout = aged(2);
    let elsewhere = layout.parent().join("elsewhere");
    fs::rename(layout.path().join("blobs"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, layout.path().join("blobs")).unwrap();
    let before = Tree::of(layout.parent());
    for options in [&["--follow-symlinks"][..], &["--follow-symlinks", "--dry-run"]] {
        clean(layout.choosing(":n0"), options).run().exits(7).says(["lies outside of the layout"]);
        before.is_unchanged(layout.parent());
    }
}

#[test]
fn what_refers_to_the_image_and_has_a_name_stays() {
    let layout = aged(1);
    let image = layout.entries()[0].clone();
    let bare = json!({"mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"]});
    layout.list(&layout.referrer(&bare, "named"), Some("note"));
    layout.list(&layout.referrer(&bare, "without a name"), None);
    let blobs = layout.blobs();
    // The note's subject is the image, and that note stays: so does all that it says something of.
    clean(layout.choosing(":n0"), &[]).run().exits(0).says(["and no blob removed"]);
    assert_eq!((layout.names(), layout.blobs()), (vec!["note".to_owned()], blobs));
}

#[test]
fn why_a_folder_stays_is_said() {
    let layout = aged(1);
    fs::write(layout.path().join("note\n.txt"), "somebody's").unwrap();
    for options in [&["--dry-run"][..], &[]] {
        clean(layout.path(), options).run().exits(0).says(["the folder stays: note\u{fffd}.txt is in it"]);
    }
}

#[test]
fn another_process_that_has_the_layout_is_waited_for_and_not_for_ever() {
    let layout = aged(2);
    let before = Tree::of(layout.parent());
    let held = File::open(layout.path()).unwrap();
    held.lock().unwrap();
    clean(layout.choosing(":n0"), &["--timeout=1"]).run().exits(7).says(["another process has locked it"]);
    before.is_unchanged(layout.parent());
}

#[test]
fn half_a_skeleton_is_removed_and_nothing_more() {
    for gone in ["oci-layout", "index.json"] {
        let layout = Layout::empty();
        fs::remove_dir_all(layout.path().join("blobs")).unwrap();
        fs::remove_file(layout.path().join(gone)).unwrap();
        let note = layout.path().join("note");
        fs::write(&note, "somebody's").unwrap();
        clean(layout.path(), &[]).run().exits(3);
        fs::remove_file(note).unwrap();
        clean(layout.path(), &["--dry-run"]).run().exits(3);
        clean(layout.path(), &[]).run().exits(0);
        assert_eq!(left(&layout), Vec::<String>::new());
    }
    // An empty folder is nobody's layout.
    let folder = TempDir::with_prefix("ecr-push-empty-").unwrap();
    clean(folder.path(), &[]).run().exits(3);
    assert!(folder.path().exists());
}

#[test]
fn a_list_that_refers_to_what_stays_does_so_too() {
    let layout = aged(1);
    let entry = layout.entries()[0].clone();
    let image = json!({"mediaType": entry["mediaType"], "digest": entry["digest"], "size": entry["size"]});
    layout.list(&image, Some("again"));
    let note = layout.referrer(&image, "a note");
    layout.list(&note, None);
    let index = |children: &[&Value]| {
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": children, "subject": note});
        layout.add(kind, index.to_string().as_bytes())
    };
    // Called after something that only itself has, and of the note all the same.
    let inner = index(&[&note]);
    layout.list(&index(&[&inner]), Some(&digest(&inner).replace(':', "-")));
    let (entries, blobs) = (layout.entries().len(), layout.blobs());
    clean(layout.choosing(":again"), &[]).run().exits(0).says(["and no blob removed"]);
    assert_eq!((layout.entries().len(), layout.blobs()), (entries - 1, blobs));
}
