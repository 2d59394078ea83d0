//! Images of docker archives as the many tools write them.

use std::fs;

use super::*;
use crate::source::Form;
use crate::source::tar::testing::{Tar, link};

/// A config of layers with these contents, and its digest's hexadecimal part.
fn config(layers: &[&[u8]]) -> (String, String) {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(Algorithm::Sha256, layer).to_string()).collect();
    let text =
        serde_json::json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}).to_string();
    let hex = Digest::of(Algorithm::Sha256, text.as_bytes()).hex().to_owned();
    (text, hex)
}

fn entry(config: &str, names: &[&str], layers: &[&str]) -> serde_json::Value {
    serde_json::json!({"Config": config, "RepoTags": names, "Layers": layers})
}

fn open(tar: Tar, entries: &[serde_json::Value]) -> Result<DockerArchive, DockerError> {
    let list = serde_json::Value::from(entries).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    fs::write(&path, tar.file("manifest.json", list.as_bytes()).end()).unwrap();
    let archive = Archive::open(&path, None, folder.path()).unwrap();
    assert_eq!(archive.form(), Form::DockerArchive);
    DockerArchive::open(Arc::new(archive))
}

#[test]
fn layers_of_every_kind_are_found() {
    let (text, hex) = config(&[b"one", b"two", b"two", b"three", b"four"]);
    let name = format!("{hex}.json");
    let tar = Tar::new()
        .file(&name, text.as_bytes())
        .file("1/layer.tar", b"one")
        .file("2.tar", b"two")
        .raw(&link("2/layer.tar", "../2.tar"))
        .file("3.tar.gz", b"\x1f\x8b\x08gzipped")
        .file("blobs/sha256/4", b"\x28\xb5\x2f\xfdzstd");
    let layers = ["1/layer.tar", "./2.tar", "2/layer.tar", "3.tar.gz", "blobs/sha256/4"];
    let other = entry(&name, &["app:v1", "app:v2"], &layers);
    let archive = open(tar, &[entry(&name, &["app:v1"], &layers), other]).unwrap();
    let [image] = archive.images() else { panic!("{archive:?}") };
    assert_eq!((image.names.as_slice(), image.config_digest.hex()), (&["app:v1".into(), "app:v2".into()][..], &*hex));
    assert_eq!(image.platform.to_string(), "linux/amd64");
    let packing: Vec<_> = image.layers.iter().map(|layer| layer.packing).collect();
    assert_eq!(packing, [Packing::Nothing, Packing::Nothing, Packing::Nothing, Packing::Gzip, Packing::Zstd]);
    let lengths: Vec<_> = image.layers.iter().map(|layer| layer.part.length).collect();
    assert_eq!(lengths, [3, 3, 3, 10, 8]);
    assert_eq!(image.layers[1].part.offset, image.layers[2].part.offset);
}

#[test]
fn an_image_is_chosen_as_docker_would() {
    let (one, _) = config(&[]);
    let (two, hex) = config(&[b"x"]);
    let tar =
        Tar::new().file("one.json", one.as_bytes()).file("sha256:".to_owned() + &hex, two.as_bytes()).file("l", b"x");
    let second = entry(&format!("sha256:{hex}"), &["localhost/tool:latest", "app:dev"], &["l"]);
    let archive = open(tar, &[entry("one.json", &["app:latest", "h.example/app:v1"], &[]), second]).unwrap();
    let choose = |name: &str| archive.choose(&Choice::Name(name.to_owned())).map(|image| image.layers.len());
    for name in ["app", "app:latest", "docker.io/library/app", "h.example/app:v1"] {
        assert_eq!(choose(name).unwrap(), 0, "{name}");
    }
    for name in ["tool", "localhost/tool", "app:dev"] {
        assert_eq!(choose(name).unwrap(), 1, "{name}");
    }
    let refused = |choice: &Choice| archive.choose(choice).unwrap_err();
    assert!(matches!(choose("h.example/app"), Err(DockerError::NoSuchImage { .. })));
    assert!(matches!(refused(&Choice::Only), DockerError::NoneChosen { images, .. } if images.len() == 2));
    let digest = Digest::parse(&format!("sha256:{hex}")).unwrap();
    assert_eq!(archive.choose(&Choice::Digest(digest)).unwrap().layers.len(), 1);
    let other = Digest::of(Algorithm::Sha256, b"nobody");
    assert!(matches!(refused(&Choice::Digest(other)), DockerError::NoSuchImage { .. }));
}

#[test]
fn what_the_list_promises_must_be_there() {
    let (text, hex) = config(&[b"one"]);
    let name = format!("{hex}.json");
    let tar = || Tar::new().file(&name, text.as_bytes()).file("l", b"one").file("m", b"one");
    let check = |tar: Tar, entries: &[serde_json::Value], expected: fn(&DockerError) -> bool| {
        let error = open(tar, entries).unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert!(error.to_string().contains("at byte"), "{error}");
    };
    let one = |layers: &[&str]| [entry(&name, &[], layers)];
    check(tar(), &[], |error| matches!(error, DockerError::Empty { .. }));
    check(tar(), &one(&[]), |error| matches!(error, DockerError::LayersDiffer { layers: 0, diff_ids: 1, .. }));
    check(tar(), &one(&["l", "m"]), |error| matches!(error, DockerError::LayersDiffer { layers: 2, .. }));
    check(tar(), &one(&["n"]), |error| matches!(error, DockerError::Missing { number: 1, .. }));
    check(tar(), &one(&["../l"]), |error| matches!(error, DockerError::Tar(_)));
    check(tar(), &one(&["/l"]), |error| matches!(error, DockerError::Tar(_)));
    check(tar(), &[entry("c", &[], &["l"])], |error| matches!(error, DockerError::Missing { .. }));
    check(tar(), &[entry("l", &[], &["l"])], |error| matches!(error, DockerError::Malformed { .. }));
    check(tar(), &[serde_json::json!({"RepoTags": []})], |error| matches!(error, DockerError::Malformed { .. }));
    check(tar(), &[one(&["l"]), one(&["m"])].concat(), |error| matches!(error, DockerError::TwoOfOneConfig { .. }));
    let named = format!("{}.json", "0".repeat(64));
    let tar = Tar::new().file(&named, text.as_bytes()).file("l", b"one");
    check(tar, &[entry(&named, &[], &["l"])], |error| matches!(error, DockerError::ConfigDiffers { .. }));
    let tar = Tar::new().file(&name, text.as_bytes()).file("l", b"BZh91AY&");
    check(tar, &one(&["l"]), |error| matches!(error, DockerError::LayerPacked { packing: "bzip2", .. }));
}
