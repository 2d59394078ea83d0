//! Images out of engines, in ways in which a real one fails only by chance, or keeps them only if it is new.

use local_ecr::{Fault, FaultKind, LocalEcr};
use serde_json::json;

use crate::support::archive::{Archive, Era, Saved, Stored, assert_pushed, layer, of_layout};
use crate::support::engine::Engine;
use crate::support::layout::{Layout, digest};
use crate::support::{Push, assert_arrived, builder, requests, start};

fn registry() -> LocalEcr {
    start(builder().repository("second").upload_cancel(true))
}

fn push(engine: &Engine, ecr: &LocalEcr) -> Push {
    Push::of("docker-daemon:app:v1").at(ecr).to("app:v1").env("DOCKER_HOST", engine.host())
}

#[track_caller]
fn nothing_is_there(ecr: &LocalEcr) {
    ecr.wait_for_quiet();
    assert!(ecr.tags("app").is_empty(), "a tag was written");
    assert_eq!(ecr.open_sessions(), 0, "{:?}", ecr.registry_requests());
}

#[test]
fn every_era_gives_the_same_image() {
    let image = Saved::usual();
    let mut roots = Vec::new();
    for era in [Era::Classic, Era::Podman, Era::Hybrid] {
        let (engine, ecr) = (Engine::of(&image, era.save(&[&image]), None), registry());
        let push = push(&engine, &ecr);
        push.run().exits(0);
        let root = ecr.tag("app", "v1").expect("the tag is written");
        assert_pushed(&ecr, "app", &root, &image, "+gzip");
        roots.push(root);
        assert_eq!((engine.exports(), ecr.open_sessions()), (1, 0), "{era:?}");
        // What layers became, and the config, are known now.
        push.run().exits(0);
        assert_eq!(engine.exports(), 1, "{era:?}: nothing is lacking");
        assert_eq!(requests(&ecr, "POST", "/blobs/uploads/").len(), 4, "{era:?}");
    }
    roots.dedup();
    assert_eq!(roots.len(), 1);
}

#[test]
fn what_is_known_and_lacking_is_exported_once() {
    let image = Saved::usual();
    for era in [Era::Classic, Era::Podman] {
        let (engine, ecr) = (Engine::of(&image, era.save(&[&image]), None), registry());
        let first = push(&engine, &ecr);
        first.run().exits(0);
        let elsewhere = registry();
        let cache = first.home().join(".cache");
        let again = push(&engine, &elsewhere).args([format!("--cache-dir={}/ecr-push", cache.display())]);
        again.run().exits(0);
        let root = elsewhere.tag("app", "v1").expect("the tag is written");
        assert_eq!(Some(&root), ecr.tag("app", "v1").as_ref());
        assert_pushed(&elsewhere, "app", &root, &image, "+gzip");
        assert_eq!(engine.exports(), 2, "{era:?}");
        assert_eq!(elsewhere.open_sessions(), 0);
    }
}

#[test]
fn a_config_is_exported_although_all_layers_are_known() {
    let image = Saved::usual();
    let (archive, ecr) = (Stored::new(&Era::Podman.save(&[&image])), registry());
    let first = Push::of(archive.path()).at(&ecr).to("app:v1");
    first.run().exits(0);
    let engine = Engine::of(&image, Era::Classic.save(&[&image]), None);
    let cache = first.home().join(".cache/ecr-push");
    push(&engine, &ecr).args([format!("--cache-dir={}", cache.display())]).run().exits(0);
    assert_eq!((engine.exports(), requests(&ecr, "PATCH", "").len()), (1, 2), "no layer is sent again");
    let cut = Engine::of(&image, Era::Classic.save(&[&image]), Some(700));
    std::fs::remove_file(cache.join("configs.jsonl")).expect("what the engine told is recorded");
    let ran = push(&cut, &ecr).args([format!("--cache-dir={}", cache.display())]).run();
    ran.exits(3).says(["doesn't export the image"]).says_one_error();
}

#[test]
fn a_layer_that_nobody_names_is_made_again_when_it_breaks_off() {
    let image = Saved::usual();
    for era in [Era::Classic, Era::Podman] {
        for fault in [FaultKind::CutAfter(100_000), FaultKind::status(500), FaultKind::Cut] {
            let (engine, ecr) = (Engine::of(&image, era.save(&[&image]), None), registry());
            ecr.inject(Fault::on("PATCH", "/blobs/uploads/").does(fault.clone()));
            push(&engine, &ecr).run().exits(0).says(["trying again"]);
            let root = ecr.tag("app", "v1").expect("the tag is written");
            assert_pushed(&ecr, "app", &root, &image, "+gzip");
            assert_eq!((engine.exports(), ecr.open_sessions()), (2, 0), "{era:?} {fault:?}");
        }
    }
}

#[test]
fn what_always_fails_is_said() {
    let image = Saved::usual();
    for era in [Era::Classic, Era::Podman] {
        for (method, kind, status) in [
            ("POST", FaultKind::status(500), 6),
            ("PATCH", FaultKind::status(500), 6),
            ("PATCH", FaultKind::CutAfter(50_000), 6),
            ("PUT", FaultKind::status(429), 6),
        ] {
            let (engine, ecr) = (Engine::of(&image, era.save(&[&image]), None), registry());
            ecr.inject(Fault::on(method, "/blobs/uploads/").times(u64::MAX).does(kind.clone()));
            let ran = push(&engine, &ecr).args(["--retries=1"]).run();
            ran.exits(status).prints(&[]).says(["could not be uploaded"]).says_one_error();
            nothing_is_there(&ecr);
        }
    }
}

#[test]
fn a_right_that_is_missing_is_said() {
    let image = Saved::usual();
    for era in [Era::Classic, Era::Podman] {
        for action in ["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"] {
            let engine = Engine::of(&image, era.save(&[&image]), None);
            let ecr = start(builder().repository("second").upload_cancel(true).deny(action));
            push(&engine, &ecr).run().exits(4).prints(&[]).says([action]).says_one_error();
            nothing_is_there(&ecr);
        }
    }
}

#[test]
fn one_destination_fails_and_the_other_gets_all() {
    let image = Saved::usual();
    for era in [Era::Classic, Era::Podman] {
        let (engine, ecr) = (Engine::of(&image, era.save(&[&image]), None), registry());
        ecr.inject(Fault::on("PATCH", "/second/blobs/uploads/").times(u64::MAX).does(FaultKind::status(400)));
        let ran = push(&engine, &ecr).to("second:v1").run().exits(5);
        assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
        let root = ecr.tag("app", "v1").expect("the tag is written");
        assert_pushed(&ecr, "app", &root, &image, "+gzip");
        assert!(ecr.tags("second").is_empty());
        ecr.wait_for_quiet();
        assert_eq!(ecr.open_sessions(), 0);
    }
}

#[test]
fn an_export_that_breaks_off_is_no_image() {
    let image = Saved::usual();
    for era in [Era::Classic, Era::Podman] {
        let export = era.save(&[&image]);
        for cut in [0, 700, export.len() / 3, export.len() - 20_000] {
            let (engine, ecr) = (Engine::of(&image, export.clone(), Some(cut)), registry());
            push(&engine, &ecr).run().exits(3).prints(&[]).says_one_error();
            nothing_is_there(&ecr);
        }
    }
}

#[test]
fn an_export_of_something_else_is_no_image() {
    let (image, other) = (Saved::usual(), Saved::new(&["other"], vec![layer(9, 2_000_000)]));
    let mut without_config = Archive::new();
    for layer in &image.layers {
        let name = crate::support::layout::sha256(layer);
        without_config.file(format!("{}.tar", &name["sha256:".len()..]), layer);
    }
    for (export, words) in [
        (Era::Classic.save(&[&other]), "doesn't hold layer"),
        (Era::Podman.save(&[&other]), "doesn't hold layer"),
        (without_config.end(), "no config"),
        (b"this is no tar, and longer than a block of one would have to be".repeat(20), ""),
    ] {
        let (engine, ecr) = (Engine::of(&image, export, None), registry());
        push(&engine, &ecr).run().exits(3).prints(&[]).says([words]).says_one_error();
        nothing_is_there(&ecr);
    }
}

/// Docker's containerd store: what it has is an OCI layout, compressed and with a manifest that others know.
#[test]
fn an_image_that_is_kept_as_it_came_goes_byte_for_byte() {
    let layout = Layout::empty();
    let layers = [layout.layer(1_500_000), layout.layer(900_000), layout.layer(2_000)];
    let image = layout.image(&layers);
    layout.list(&image, Some("v1"));
    let root = digest(&image);
    let inspected = json!({
        "Id": root, "RepoTags": ["app:v1"], "RepoDigests": [format!("app@{root}")], "Os": "linux",
        "Architecture": "amd64", "Size": 1, "Descriptor": image, "RootFS": {"Type": "layers", "Layers": []},
    });
    for reversed in [false, true] {
        let (engine, ecr) = (Engine::start(&inspected, of_layout(&layout, reversed), None), registry());
        let push = push(&engine, &ecr);
        push.run().exits(0);
        assert_eq!(ecr.tag("app", "v1").as_deref(), Some(root));
        assert_arrived(&ecr, "app", &layout, root);
        assert_eq!((engine.exports(), ecr.open_sessions()), (2, 0));
        push.run().exits(0);
        assert_eq!(engine.exports(), 3, "nothing is lacking");
        let patches: Vec<_> = requests(&ecr, "PATCH", "").into_iter().map(|entry| entry.bytes).collect();
        assert_eq!(patches.len(), 2, "{patches:?}");
    }
}
