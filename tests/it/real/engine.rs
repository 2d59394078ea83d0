//! Images of a Docker and a Podman engine: found, pushed, and untagged.

use serde_json::Value;

use crate::support::layout::sha256;
use crate::support::servers::{Engine, Kind, Saved};
use crate::support::{Push, Ran, ecr};

/// As the engine spells a name without a host that was loaded.
fn spelled(engine: &Engine, name: &str) -> String {
    match engine.kind() {
        Kind::Docker => name.to_owned(),
        Kind::Podman => format!("localhost/{name}"),
    }
}

/// What is left: for each image its names.
fn names(engine: &Engine) -> Vec<Vec<String>> {
    engine.images().into_iter().map(|(_, names)| names).collect()
}

fn push(engine: &Engine, image: &str, ecr: &local_ecr::LocalEcr) -> Push {
    Push::of(format!("docker-daemon:{image}")).at(ecr).env("DOCKER_HOST", engine.host())
}

fn cleanup(ran: &Ran) -> Value {
    serde_json::from_str::<Value>(&ran.stdout).expect("a document")["cleanup"].clone()
}

#[test]
fn an_image_is_found_under_every_name() {
    for kind in Kind::all() {
        let (engine, ecr) = (Engine::start(kind), ecr());
        let id = engine.load(&Saved::new(1, &[200_000, 3_000], &["app:v1"]));
        engine.load(&Saved::new(2, &[10], &["other:latest"]));
        engine.tag("app:v1", "registry.example:5000/team/app", "v1");
        let hex = id.trim_start_matches("sha256:");
        let mut digests = Vec::new();
        for name in ["app:v1", "registry.example:5000/team/app:v1", &id, hex, &hex[..12]] {
            let ran = push(&engine, name, &ecr).to("app:v1").run().exits(0);
            digests.push(ran.stdout);
        }
        digests.dedup();
        assert_eq!(digests.len(), 1, "{kind:?}: one image is one digest: {digests:?}");
        let manifest = ecr.manifest("app", digests[0].trim().rsplit('@').next().unwrap()).expect("it was pushed");
        let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest");
        assert_eq!(manifest["config"]["digest"], id.as_str(), "{kind:?}: the config stays as it is");
        let before = names(&engine);

        let ran = push(&engine, "app:v9", &ecr).to("app:v1").run().exits(3);
        assert!(ran.stderr.contains("does not have it"), "{kind:?}: {}", ran.stderr);
        let similar = format!("names like it that are there: {}", spelled(&engine, "app:v1"));
        assert!(ran.stderr.contains(&similar), "{kind:?}: {}", ran.stderr);
        assert_eq!(names(&engine), before, "{kind:?}: nothing is touched");
    }
}

#[test]
fn layers_arrive_as_they_are() {
    for kind in Kind::all() {
        let (engine, ecr) = (Engine::start(kind), ecr());
        let saved = Saved::new(3, &[2_000_000, 1], &["app:v1"]);
        engine.load(&saved);
        let ran = push(&engine, "app:v1", &ecr).to("app:v1").args(["--compression", "none"]).run().exits(0);
        let digest = ran.stdout.trim().rsplit('@').next().unwrap().to_owned();
        let manifest = ecr.manifest("app", &digest).expect("it was pushed");
        let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest");
        let pushed: Vec<_> =
            manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str()).collect();
        let expected: Vec<String> = saved.layers.iter().map(|layer| sha256(layer)).collect();
        assert_eq!(pushed, expected.iter().map(|digest| Some(digest.as_str())).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    for kind in Kind::all() {
        let (engine, ecr) = (Engine::start(kind), ecr());
        engine.load(&Saved::new(1, &[5_000], &["app:v1"]));
        engine.load(&Saved::new(2, &[10], &["other:latest"]));
        let destination = format!("{}/app", ecr.host());
        engine.tag("app:v1", &destination, "v1");
        let ran = push(&engine, "app:v1", &ecr).to("app:v1").args(["--cleanup", "--output=json"]).run().exits(0);
        let gone = [format!("{destination}:v1"), spelled(&engine, "app:v1")];
        let expected = serde_json::json!({"status": "done", "namesRemoved": gone, "imageRemoved": true});
        assert_eq!(cleanup(&ran), expected, "{kind:?}");
        assert_eq!(names(&engine), [[spelled(&engine, "other:latest")]], "{kind:?}");
    }
}

#[test]
fn names_that_were_not_named_stay() {
    for kind in Kind::all() {
        let (engine, ecr) = (Engine::start(kind), ecr());
        engine.load(&Saved::new(1, &[5_000], &["app:v1", "app:v2"]));
        // The destination's name is another image's here: the push says nothing of that one.
        engine.load(&Saved::new(2, &[10], &["other:latest"]));
        let destination = format!("{}/app", ecr.host());
        engine.tag("other:latest", &destination, "v1");
        let ran = push(&engine, "app:v1", &ecr).to("app:v1").args(["--cleanup"]).run().exits(0);
        assert!(ran.stderr.contains("the image stays, for it has more names"), "{kind:?}: {}", ran.stderr);
        let mut left = names(&engine);
        left.sort();
        let mut expected =
            vec![vec![spelled(&engine, "app:v2")], vec![format!("{destination}:v1"), spelled(&engine, "other:latest")]];
        for names in &mut expected {
            names.sort();
        }
        expected.sort();
        assert_eq!(left, expected, "{kind:?}");
    }
}

#[test]
fn an_image_that_a_container_uses_is_kept() {
    for kind in Kind::all() {
        let (engine, ecr) = (Engine::start(kind), ecr());
        engine.load(&Saved::new(1, &[5_000], &["app:v1"]));
        engine.create("holder", "app:v1");
        let ran = push(&engine, "app:v1", &ecr).to("app:v1").args(["--cleanup"]).run().exits(7);
        assert!(!ran.stdout.is_empty(), "{kind:?}: it was pushed");
        let said = format!("{} is kept", spelled(&engine, "app:v1"));
        for said in [said.as_str(), "the container holder uses", "next: the image was pushed; remove the container"] {
            assert!(ran.stderr.contains(said), "{kind:?}: {said:?} in\n{}", ran.stderr);
        }
        assert_eq!(names(&engine), [[spelled(&engine, "app:v1")]], "{kind:?}");
    }
}

#[test]
fn an_id_loses_only_names_that_were_named() {
    for kind in Kind::all() {
        let (engine, ecr) = (Engine::start(kind), ecr());
        let id = engine.load(&Saved::new(1, &[5_000], &["app:v1"]));
        let ran = push(&engine, &id, &ecr).to("app:v1").args(["--cleanup"]).run().exits(7);
        let said = format!("{id} is kept: no name of it was given; it is called {}", spelled(&engine, "app:v1"));
        assert!(ran.stderr.contains(&said), "{kind:?}: {}", ran.stderr);
        let destination = format!("{}/app", ecr.host());
        engine.tag("app:v1", &destination, "v1");
        push(&engine, &id, &ecr).to("app:v1").args(["--cleanup"]).run().exits(0);
        assert_eq!(names(&engine), [[spelled(&engine, "app:v1")]], "{kind:?}");
    }
}

#[test]
fn a_socket_of_somebody_else_is_said_to_be_one() {
    for kind in Kind::all() {
        let (engine, ecr) = (Engine::start(kind), ecr());
        engine.load(&Saved::new(1, &[10], &["app:v1"]));
        let ran = push(&engine, "app:v1", &ecr).to("app:v1").unprivileged().run().exits(3);
        assert!(ran.stderr.contains("permission denied"), "{kind:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("usermod -aG docker"), "{kind:?}: {}", ran.stderr);
    }
}
