//! Builders that write into a layout while ecr-push cleans other images of it: whatever is named in the end is whole.
//!
//! No lock is common to both, so that what a builder skips because it is there, and what it writes over because it read the
//! index before, is nobody's to promise: the builders here either share nothing with what is cleaned meanwhile, or write
//! between two steps of the clean-up.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::builders::Workshop;
use super::{blobs, images};
use crate::support::layout::noise;
use crate::support::servers::{Tool, left_out};
use crate::support::{Push, ecr};

/// How many images are pushed and cleaned while others build.
const ROUNDS: usize = 8;

/// Reads an image of a layout wholly, as two who have nothing to do with us understand it.
fn is_whole(workshop: &Workshop, source: &str) {
    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name).display().to_string();
    workshop.skopeo_copy(&[], &format!("oci:{source}"), &format!("dir:{}", path("dir")));
    workshop.umoci(&["raw", "unpack", "--rootless", "--image", source, &path("rootfs")]);
}

fn names(layout: &Path) -> BTreeSet<String> {
    images(layout).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn builders_that_share_nothing_with_what_is_cleaned_lose_nothing() {
    if left_out(&[Tool::Umoci, Tool::Skopeo, Tool::Buildah]) {
        return;
    }
    let (source, workshop) = (Workshop::new(), Workshop::new());
    source.two_images();
    workshop.build("app", "amd64");
    let layout = workshop.path("layout");
    workshop.umoci(&["init", "--layout", &layout]);
    for round in 0..ROUNDS {
        let (image, content) = (workshop.source(&format!("gone-{round}")), workshop.path(&format!("content-{round}")));
        fs::write(&content, noise(100 + round as u64, 50_000)).unwrap();
        workshop.umoci(&["new", "--image", &image]);
        workshop.umoci(&["insert", "--image", &image, &content, "/content"]);
    }
    workshop.umoci(&["gc", "--layout", &layout]);

    let (ecr, over, one) = (ecr(), AtomicBool::new(false), Mutex::new(()));
    let (late, app) = (workshop.path("late"), format!("oci:{}", source.source("v2")));
    let umoci = |number: usize| {
        let image = workshop.source(&format!("umoci-{number}"));
        workshop.umoci(&["new", "--image", &image]);
        workshop.umoci(&["insert", "--image", &image, &late, "/late"]);
    };
    let skopeo = |number: usize| {
        workshop.skopeo_copy(&[], &app, &format!("oci:{}", workshop.source(&format!("skopeo-{number}"))));
    };
    let buildah = |number: usize| {
        let to = format!("oci:{}", workshop.source(&format!("buildah-{number}")));
        workshop.buildah(&["push", "--quiet", "app", &to]);
    };
    let again = |build: &dyn Fn(usize)| {
        for number in 0.. {
            // They would lose each other's names.
            let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
            // One that finds its own name lost, since ecr-push wrote the index between its reading and its writing, gives up.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| build(number)));
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    let mut cleaned = 0;
    thread::scope(|scope| {
        scope.spawn(|| again(&umoci));
        scope.spawn(|| again(&skopeo));
        scope.spawn(|| again(&buildah));
        for round in 0..ROUNDS {
            let push = Push::of(workshop.source(&format!("gone-{round}"))).at(&ecr);
            let push = push.to(&format!("app:gone-{round}")).args(["--cleanup"]);
            let mut ran = push.run();
            // Neither is their index written at once.
            while ran.status == 3 && ran.stderr.contains("index.json is malformed") {
                ran = push.run();
            }
            // skopeo writes a manifest that is there already once more, in its place: whoever reads half of it can't tell what it
            // needs, and keeps the rest.
            let unclear = ran.status == 7 && ran.stderr.contains("what remains in it can't be read");
            over.store(round == ROUNDS - 1 || ran.status != 0 && !unclear, Ordering::Relaxed);
            if !unclear {
                ran.exits(0);
                cleaned += 1;
            }
            assert!(ecr.tag("app", &format!("gone-{round}")).is_some());
        }
    });
    assert!(cleaned > 0, "no clean-up came to its end");
    // A builder may have brought back a name that it had read before.
    let kept: Vec<String> = names(&workshop.layout()).into_iter().filter(|name| !name.starts_with("gone-")).collect();
    for builder in ["umoci", "skopeo", "buildah"] {
        assert!(kept.iter().any(|name| name.starts_with(builder)), "nothing of {builder}'s in {kept:?}");
    }
    for name in &kept {
        is_whole(&workshop, &workshop.source(name));
    }
}

#[test]
fn what_a_builder_adds_between_push_and_clean_up_is_whole_though_it_shares_layers() {
    if left_out(&[Tool::Umoci, Tool::Skopeo]) {
        return;
    }
    for tool in [Tool::Umoci, Tool::Skopeo] {
        let (workshop, ecr) = (Workshop::new(), ecr());
        workshop.two_images();
        let beside = workshop.path("beside");
        let (old, new) = (format!("{beside}:old"), format!("{beside}:new"));
        let sources = ["v1", "v2"].map(|name| format!("oci:{}", workshop.source(name)));
        workshop.skopeo_copy(&[], &sources[0], &format!("oci:{old}"));
        let before: BTreeSet<String> = blobs(Path::new(&beside)).into_keys().collect();
        let push = Push::of(&old).at(&ecr).to("app:old").args(["--cleanup"]);
        // Only layers go before a tag, and the tag is written once.
        let home = tempfile::tempdir().unwrap();
        let (to, late, from) = (new.clone(), workshop.path("late"), sources[1].clone());
        let image = old.clone();
        ecr.on_answer(move |entry| {
            if entry.method != "PUT" || entry.tag.is_none() {
                return;
            }
            if tool == Tool::Umoci {
                tool.run(home.path(), &["insert", "--image", &image, "--tag", "new", &late, "/late"]);
            } else {
                let to = format!("oci:{to}");
                tool.run(home.path(), &["--insecure-policy", "copy", "--quiet", &from, &to]);
            }
        });
        push.run().exits(0);
        assert_eq!(names(Path::new(&beside)), ["new".to_owned()].into(), "{tool:?}");
        let after: BTreeSet<String> = blobs(Path::new(&beside)).into_keys().collect();
        assert!(after.intersection(&before).count() >= 2, "{tool:?}: they share layers");
        assert!(!before.is_subset(&after), "{tool:?}: something went");
        is_whole(&workshop, &new);
    }
}
