//! Docker archives that are not what their list promises.

use serde_json::{Value, json};

use super::Archive;
use crate::support::layout::{noise, sha256};
use crate::support::{Tar, ecr};

/// An image in an archive: its config, its layer, and the list.
struct Saved {
    config: String,
    layer: Vec<u8>,
    list: Value,
}

impl Saved {
    fn new() -> Self {
        let layer = noise(3, 5000);
        let config =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [sha256(&layer)]}}).to_string();
        let list = json!([{"Config": Self::name(&config), "RepoTags": ["app:v1"], "Layers": ["layer.tar"]}]);
        Self { config, layer, list }
    }

    fn name(config: &str) -> String {
        format!("{}.json", &sha256(config.as_bytes())[7..])
    }

    /// Without the list.
    fn members(&self) -> Tar {
        Tar::new().file(&Self::name(&self.config), self.config.as_bytes()).file("layer.tar", &self.layer)
    }

    /// Asserts on what is said of the whole.
    #[track_caller]
    fn is_refused(&self, words: &[&str]) {
        listed(self.members(), self.list.to_string().as_bytes(), words);
    }
}

/// Asserts on what is said of these members and this list; the message has the list's place.
#[track_caller]
fn listed(members: Tar, list: &[u8], words: &[&str]) {
    let at = format!("at byte {}", members.position());
    Archive::new(members.file("manifest.json", list).end()).is_refused(&[words, &[at.as_str()]].concat());
}

#[track_caller]
fn entry(key: &str, value: Value, words: &[&str]) {
    let mut saved = Saved::new();
    saved.list[0][key] = value;
    saved.is_refused(words);
}

#[test]
fn a_list_that_does_not_fit_is_refused() {
    entry("Layers", Value::Null, &["image 1", "has 0 layers, and its config 1"]);
    entry("Layers", json!(["layer.tar", "layer.tar"]), &["has 2 layers, and its config 1"]);
    entry("Layers", json!(["other.tar"]), &["needs \"other.tar\"", "isn't in it"]);
    entry("Layers", json!(["../layer.tar"]), &["\"../layer.tar\"", "leads out"]);
    entry("Layers", json!(["/layer.tar"]), &["\"/layer.tar\"", "absolute"]);
    entry("Layers", json!("layer.tar"), &["malformed", "invalid type"]);
    entry("Config", json!("other.json"), &["needs \"other.json\"", "isn't in it"]);
    entry("Config", Value::Null, &["malformed"]);
    entry("config", json!("layer.tar"), &["malformed", "\"config\""]);
}

#[test]
fn a_list_that_is_none_is_refused() {
    let check = |list: &[u8], words: &[&str]| listed(Saved::new().members(), list, words);
    check(b"[]", &["is empty"]);
    check(b"{}", &["malformed"]);
    check(b"", &["malformed", "EOF"]);
    check(b"[{\"Config\":\"a\",\"Config\":\"b\"}]", &["duplicate field `Config`"]);
    check(&vec![b' '; 5 << 20], &["5242880 bytes"]);
    check("[".repeat(100_000).as_bytes(), &["malformed"]);
}

#[test]
fn a_config_that_is_another_is_refused() {
    let saved = Saved::new();
    let name = format!("{}.json", "0".repeat(64));
    let list = json!([{"Config": name, "Layers": ["layer.tar"]}]).to_string();
    let members = Tar::new().file("layer.tar", &saved.layer);
    let at = format!("at byte {}", members.position());
    let tar = members.file(&name, saved.config.as_bytes()).file("manifest.json", list.as_bytes());
    Archive::new(tar.end()).is_refused(&["sha256:000000", "hashes to", &at]);
}

#[test]
fn a_config_that_is_none_is_refused() {
    let check = |config: &[u8], words: &[&str]| {
        let list = json!([{"Config": "config.json", "Layers": ["layer.tar"]}]).to_string();
        let tar = Tar::new().file("config.json", config).file("layer.tar", b"x").file("manifest.json", list.as_bytes());
        Archive::new(tar.end()).is_refused(&[words, &["at byte 0"]].concat());
    };
    check(b"{}", &["config.json", "malformed", "rootfs"]);
    check(b"\x7fELF", &["config.json", "malformed"]);
    check(br#"{"rootfs":{"diff_ids":["sha256:../../etc/passwd"]}}"#, &["malformed", "no digest"]);
    check(&vec![b' '; 5 << 20], &["5242880 bytes"]);
}

#[test]
fn a_layer_that_nobody_unpacks_is_refused() {
    let mut saved = Saved::new();
    saved.layer = b"BZh91AY&SY".to_vec();
    let at = Tar::new().file("x", saved.config.as_bytes()).position();
    let tar = saved.members().file("manifest.json", saved.list.to_string().as_bytes());
    Archive::new(tar.end()).is_refused(&["\"layer.tar\"", "packed with bzip2", &format!("at byte {at}")]);
}

#[test]
fn a_layer_that_is_another_is_never_committed() {
    let mut saved = Saved::new();
    let diff_id = sha256(&saved.layer);
    saved.layer[0] ^= 1;
    let tar = saved.members().file("manifest.json", saved.list.to_string().as_bytes());
    let (archive, ecr) = (Archive::new(tar.end()), ecr());
    archive.push(&ecr).run().exits(3).prints(&[]).says_one_error().says([&*diff_id]);
    assert!(ecr.here().blobs("app").is_empty() && ecr.tags("app").is_empty());
    archive.is_unchanged();
}

#[test]
fn one_config_with_two_sets_of_layers_is_refused() {
    let saved = Saved::new();
    let mut list = saved.list.clone();
    let mut second = list[0].clone();
    second["Layers"] = json!(["second.tar"]);
    list.as_array_mut().unwrap().push(second);
    let members = saved.members().file("second.tar", &saved.layer);
    listed(members, list.to_string().as_bytes(), &["twice, with different layers"]);
}
