//! The record of where blobs are: what a push learns, the next one mounts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use local_ecr::LocalEcr;
use tempfile::TempDir;

use super::{config, digests, mounting, one_on_the_other, push, sent, tried, without_mounting};
use crate::support::layout::digest;
use crate::support::{Layout, Push, assert_arrived, start};

const FILE: &str = "blobs.jsonl";

/// A folder for a record, which anybody may use.
fn folder() -> TempDir {
    let folder = TempDir::with_prefix("ecr-push-cache-").expect("a temporary folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("it is ours");
    folder
}

/// Pushes as [`push`] does, with the record in a folder.
fn with(cache: &Path, layout: &Layout, ecr: &LocalEcr, name: &str) -> Push {
    push(layout, ecr, name).args([format!("--cache-dir={}", cache.display())])
}

/// Asserts that a push of `app` mounts what `base` has.
#[track_caller]
fn is_mounted(layout: &Layout, ecr: &LocalEcr) {
    let missing = sent(ecr, "base").into_iter().filter(|blob| sent(ecr, "app").contains(blob)).count();
    assert_eq!(missing, 0, "sent twice");
    assert_arrived(ecr, "app", layout, &layout.named("app"));
}

#[test]
fn what_one_push_put_somewhere_the_next_one_mounts() {
    let (layout, _, own) = one_on_the_other(3);
    let (cache, ecr) = (folder(), start(mounting()));
    with(cache.path(), &layout, &ecr, "base").run().exits(0);
    with(cache.path(), &layout, &ecr, "app").run().exits(0).says(["3 mounted", "2 blobs uploaded"]);
    is_mounted(&layout, &ecr);
    let asked: Vec<_> = tried(&ecr, "base").into_iter().filter_map(|entry| entry.digest).collect();
    assert_eq!(asked.len(), 3, "what isn't known to be there is not asked for: {asked:?}");
    assert!(!asked.contains(&digest(&own).to_owned()));
}

#[test]
fn what_was_found_is_learned_too() {
    let (layout, _, _) = one_on_the_other(3);
    let (cache, ecr) = (folder(), start(mounting()));
    push(&layout, &ecr, "base").run().exits(0);
    with(cache.path(), &layout, &ecr, "base").run().exits(0).says(["0 blobs uploaded"]);
    with(cache.path(), &layout, &ecr, "app").run().exits(0).says(["3 mounted"]);
}

#[test]
fn without_it_everything_is_sent() {
    let (layout, _, _) = one_on_the_other(3);
    let (cache, ecr) = (folder(), start(mounting()));
    with(cache.path(), &layout, &ecr, "base").run().exits(0);
    let before = fs::read(cache.path().join(FILE)).unwrap();
    with(cache.path(), &layout, &ecr, "app").args(["--no-cache"]).run().exits(0).says(["5 blobs uploaded"]);
    assert_eq!(tried(&ecr, "base"), []);
    assert_eq!(fs::read(cache.path().join(FILE)).unwrap(), before, "nothing is written either");
}

#[test]
fn its_place_is_the_users_cache() {
    let layout = Layout::fixture("good/one-manifest");
    let ecr = start(mounting());
    let ran = |change: &dyn Fn(Push) -> Push| {
        let push = change(Push::of(layout.path()).at(&ecr).to("app:v1"));
        push.run().exits(0).says_nothing_of(["warning"]);
        push
    };
    let push = ran(&|push| push);
    let file = push.home().join(".cache/ecr-push").join(FILE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let entries = fs::read_dir(file.parent().unwrap()).unwrap().count();
    assert_eq!(entries, 1, "nothing is left beside it");

    let cache = folder();
    let push = ran(&|push| push.env("XDG_CACHE_HOME", cache.path()));
    assert!(cache.path().join("ecr-push").join(FILE).is_file());
    assert!(!push.home().join(".cache").exists());

    // Neither is a place for it.
    let push = ran(&|push| push.env("HOME", "").env("XDG_CACHE_HOME", "relative"));
    assert!(!push.home().join(".cache").exists() && !Path::new("relative").exists());
    let push = ran(&|push| push.args(["--no-cache"]));
    assert!(!push.home().join(".cache").exists());
    let push = ran(&|push| push.env("ECR_PUSH_NO_CACHE", "yes"));
    assert!(!push.home().join(".cache").exists());
}

#[test]
fn only_what_was_verified_is_learned() {
    let (layout, _, _) = one_on_the_other(2);
    let (cache, ecr) = (folder(), start(mounting().deny("ecr:PutImage")));
    with(cache.path(), &layout, &ecr, "base").run().exits(4);
    assert!(!cache.path().join(FILE).exists());
}

#[test]
fn what_is_refused_is_forgotten_and_who_refuses_is_asked_no_more() {
    let (layout, base, _) = one_on_the_other(6);
    let (cache, ecr) = (folder(), start(without_mounting()));
    with(cache.path(), &layout, &ecr, "base").run().exits(0);
    with(cache.path(), &layout, &ecr, "app").args(["--jobs=1"]).run().exits(0).says_nothing_of(["warning"]);
    let refused: Vec<_> = tried(&ecr, "base").into_iter().filter_map(|entry| entry.digest).collect();
    assert_eq!(refused.len(), 3);
    let record = fs::read_to_string(cache.path().join(FILE)).unwrap();
    let places = |blob: &str| {
        let line = record.lines().find(|line| line.contains(blob)).unwrap().to_owned();
        (line.contains("\"base\""), line.contains("\"app\""))
    };
    for layer in digests(&base) {
        assert_eq!(places(&layer), (!refused.contains(&layer), true), "{layer}");
    }
}

#[test]
fn whatever_is_wrong_with_it_the_push_goes_on() {
    type Spoil<'a> = &'a dyn Fn(&Path);
    let (layout, _, _) = one_on_the_other(1);
    let long = "x".repeat(3 * 1024 * 1024);
    let spoil: [(&str, Spoil); 7] = [
        ("garbage", &|file| fs::write(file, "garbage").unwrap()),
        ("binary", &|file| fs::write(file, [0xff, 0, 1]).unwrap()),
        ("too long", &|file| fs::write(file, &long).unwrap()),
        ("another version", &|file| fs::write(file, "{\"version\":99}\n").unwrap()),
        ("a folder", &|file| fs::create_dir(file).unwrap()),
        ("a pipe", &|file| assert!(Command::new("mkfifo").arg(file).status().unwrap().success())),
        ("a link to nowhere", &|file| symlink("/nowhere/at/all", file).unwrap()),
    ];
    for (what, spoil) in spoil {
        let (cache, ecr) = (folder(), start(mounting()));
        spoil(&cache.path().join(FILE));
        with(cache.path(), &layout, &ecr, "base").run().exits(0).says_nothing_of(["warning", "error"]);
        let ran = with(cache.path(), &layout, &ecr, "app").run().exits(0);
        if what == "a folder" {
            ran.says(["3 blobs uploaded"]);
            assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1, "what was written aside is gone");
        } else {
            ran.says(["1 mounted"]);
        }
    }
}

#[test]
fn a_folder_that_can_not_be_used_is_no_failure() {
    let layout = Layout::fixture("good/one-manifest");
    let (cache, ecr) = (folder(), start(mounting()));
    let file = cache.path().join("file");
    fs::write(&file, "").unwrap();
    let closed = cache.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o500)).unwrap();
    for folder in [&file, &closed, &closed.join("below"), &file.join("below")] {
        let push = Push::of(layout.path()).at(&ecr).to("app:v1").unprivileged();
        let cache = format!("--cache-dir={}", folder.display());
        push.args([cache]).run().exits(0).says_nothing_of(["warning", "error"]);
    }
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}

#[test]
fn many_at_once_leave_a_whole_file() {
    let layout = Layout::of_layers(&[100, 200, 300]);
    let repositories: Vec<String> = (0..8).map(|number| format!("app{number}")).collect();
    let builder = repositories.iter().fold(mounting(), |builder, name| builder.repository(name));
    let (cache, ecr) = (folder(), start(builder));
    let option = format!("--cache-dir={}", cache.path().display());
    let push = |name: &String| Push::of(layout.path()).at(&ecr).to(&format!("{name}:v1")).args([option.clone()]);
    let pushes: Vec<Push> = repositories.iter().map(push).collect();
    let running: Vec<_> = pushes.iter().map(Push::start).collect();
    for running in running {
        running.wait().exits(0);
    }
    let record = fs::read_to_string(cache.path().join(FILE)).unwrap();
    assert_eq!(record.lines().count(), 5, "a head and four blobs:\n{record}");
    assert!(record.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{record}");
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1, "nothing is left beside it");
    // The last one may have lost what others wrote, and not what it wrote itself.
    Push::of(layout.path()).at(&ecr).to("base:v1").args([option]).run().exits(0).says(["4 mounted"]);
}

#[test]
fn the_same_image_elsewhere_is_not_sent_at_all() {
    let (layout, _, _) = one_on_the_other(2);
    let (cache, ecr) = (folder(), start(mounting()));
    with(cache.path(), &layout, &ecr, "app").run().exits(0);
    let to_base = Push::of(layout.choosing(":app")).at(&ecr).to("base:v1");
    to_base.args([format!("--cache-dir={}", cache.path().display())]).run().exits(0).says(["0 blobs uploaded"]);
    assert_eq!(sent(&ecr, "base"), [].into());
    assert!(ecr.has_blob("base", &config(&layout, "app")));
}
