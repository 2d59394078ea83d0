//! `ecr-push inspect` of what no golden case holds: archives, engines, and blobs that are hashed where they lie.

use std::fs;

use serde_json::{Value, json};

use crate::support::layout::sha256;
use crate::support::servers::{Engine, Kind, Saved};
use crate::support::{Layout, Push, Ran};

fn inspect(source: impl Into<String>) -> Push {
    Push::of("inspect").to_reference(source).args(["--output=json"])
}

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).expect("a document")
}

fn digests(image: &Value) -> Vec<&str> {
    image["layers"].as_array().expect("layers").iter().map(|layer| layer["digest"].as_str().unwrap()).collect()
}

#[test]
fn a_docker_archive() {
    let saved = Saved::new(5, &[100_000, 20], &["app:v1", "app:v2"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("saved");
    fs::write(&file, &saved.tar).expect("a new file");
    let found = document(&inspect(file.display().to_string()).run().exits(0));
    assert_eq!((&found["schemaVersion"], &found["kind"]), (&json!(1), &json!("dockerArchive")));
    let image = &found["images"][0];
    assert_eq!((&image["digest"], &image["platform"]), (&json!(saved.id), &json!("linux/amd64")));
    assert_eq!(image["names"], json!(["app:v1", "app:v2"]));
    let layers: Vec<String> = saved.layers.iter().map(|layer| sha256(layer)).collect();
    assert_eq!(digests(image), layers);
    assert_eq!(image["layers"][0]["size"], saved.layers[0].len());
    assert_eq!(image["layers"][0]["compression"], "none");
    inspect(format!("{}:nobody", file.display())).run().exits(2);
}

#[test]
fn an_engine() {
    for kind in Kind::all() {
        let engine = Engine::start(kind);
        let saved = Saved::new(6, &[5_000], &["app:v1"]);
        engine.load(&saved);
        let ran = inspect("docker-daemon:app:v1").env("DOCKER_HOST", engine.host()).run().exits(0);
        let found = document(&ran);
        assert_eq!((&found["kind"], &found["images"][0]["digest"]), (&json!("engine"), &json!(saved.id)), "{kind:?}");
        assert_eq!(digests(&found["images"][0]), [sha256(&saved.layers[0])], "{kind:?}");
    }
}

#[test]
fn a_large_blob_is_hashed() {
    let layout = Layout::of_layers(&[500_000]);
    let source = layout.path().display().to_string();
    let found = document(&inspect(&source).run().exits(0));
    let layer = &found["images"][0]["layers"][0];
    assert_eq!((&layer["size"], &layer["held"]), (&json!(500_000), &json!(true)));
    let digest = layer["digest"].as_str().unwrap();
    let mut bytes = fs::read(layout.blob(digest)).expect("the layout has it");
    bytes[300_000] ^= 1;
    fs::write(layout.blob(digest), bytes).expect("the layout is ours");
    let ran = inspect(&source).run().exits(3);
    let found = document(&ran);
    assert_eq!(found["images"][0]["layers"][0]["held"], false);
    let defect = found["images"][0]["defects"][0].as_str().expect("a defect").to_owned();
    assert!(defect.contains(digest) && defect.contains("is corrupt"), "{defect}");
    assert!(ran.stderr.contains(&defect), "{}", ran.stderr);
}
