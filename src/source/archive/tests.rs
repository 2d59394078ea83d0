//! Which kind of archive a file is, and what a layout in it reads like.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;

use super::*;
use crate::image::{Content, Image};
use crate::oci::digest::{Algorithm, Digest};
use crate::source::Choice;
use crate::source::docker::DockerArchive;
use crate::source::layout::{Layout, LayoutError};
use crate::source::tar::testing::{Tar, file, link};

const LAYOUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/layouts/good");

fn opened(bytes: &[u8], said: Option<Form>) -> Result<Archive, ArchiveError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    fs::write(&path, bytes).unwrap();
    Archive::open(&path, said, folder.path())
}

/// All members of a layout, the last first where that is asked for.
fn tar_of(layout: &Path, backwards: bool) -> Vec<u8> {
    fn gather(folder: &Path, below: &str, members: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
            let name = format!("{below}{}", name.to_string_lossy());
            if path.is_dir() {
                gather(&path, &format!("{name}/"), members);
            } else {
                members.push((name, fs::read(path).unwrap()));
            }
        }
    }
    let mut members = Vec::new();
    gather(layout, "", &mut members);
    members.sort();
    if backwards {
        members.reverse();
    }
    members.iter().fold(Tar::new(), |tar, (name, bytes)| tar.raw(&file(name, bytes))).end()
}

fn shape(image: &Image) -> Vec<(String, u64)> {
    let manifests = image.nodes().iter().map(|node| (node.manifest.digest.to_string(), node.height as u64));
    let blobs = image.blobs().map(|blob| {
        assert!(!matches!(&blob.content, Content::File(_)) || blob.size > 0);
        (blob.digest.to_string(), blob.size)
    });
    manifests.chain(blobs).chain(image.referrers().iter().map(|digest| (digest.to_string(), 0))).collect()
}

#[test]
fn a_layout_reads_the_same_from_a_folder_and_from_an_archive() {
    let mut seen = 0;
    for entry in fs::read_dir(LAYOUTS).unwrap() {
        let path = entry.unwrap().path();
        let folder = Layout::open(&path, false).unwrap();
        for backwards in [false, true] {
            let archive = opened(&tar_of(&path, backwards), None).unwrap();
            assert_eq!((archive.form(), archive.is_spooled()), (Form::OciArchive, false));
            let layout = Layout::in_archive(&archive).unwrap();
            assert_eq!(layout.images(), folder.images(), "{path:?}");
            for image in layout.images() {
                let choice = Choice::Digest(image.digest);
                let read = |layout: &Layout| shape(&layout.read(&layout.choose(&choice).unwrap(), &[], true).unwrap());
                assert_eq!(read(&layout), read(&folder), "{path:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 40, "{seen}");
}

#[test]
fn a_large_blob_is_a_part_of_the_file() {
    let layer = vec![7; 100_000];
    let digest = |bytes: &[u8]| Digest::of(Algorithm::Sha256, bytes);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"). to_string(), "size": 2},
        "layers": [{"mediaType": "x.tar", "digest": digest(&layer).to_string(), "size": layer.len()}],
    });
    let manifest = manifest.to_string();
    let descriptor = |size: usize| {
        serde_json::json!({"manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(manifest.as_bytes()).to_string(), "size": size,
        }]})
        .to_string()
    };
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes).hex());
    let tar = |layer_member: &[u8]| {
        Tar::new()
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", descriptor(manifest.len()).as_bytes())
            .file(blob(manifest.as_bytes()), manifest.as_bytes())
            .file(blob(b"{}"), b"{}")
            .raw(layer_member)
            .end()
    };
    let read = |tar: &[u8]| {
        let layout = Layout::in_archive(&opened(tar, None).unwrap()).unwrap();
        layout.read(&layout.choose(&Choice::Only).unwrap(), &[], true)
    };
    let image = read(&tar(&file(&blob(&layer), &layer))).unwrap();
    let Content::Part(part) = &image.blob(&digest(&layer)).unwrap().content else { panic!("{image:?}") };
    let mut bytes = vec![0; layer.len()];
    assert_eq!(part.fill(&mut bytes, 0).unwrap(), layer.len());
    assert_eq!(bytes, layer);
    let check = |member: &[u8], words: &str| {
        let error = read(&tar(member)).unwrap_err();
        let LayoutError::Defects { defects, .. } = &error else { panic!("{error:?}") };
        assert_eq!(defects.len(), 1);
        assert!(error.to_string().contains(words), "{error}");
    };
    check(&file("else", &layer), "is missing");
    check(&file(&blob(&layer), &layer[1..]), "99999 bytes where its descriptor says 100000");
    check(&link(&blob(&layer), "nowhere"), "which isn't in the archive");
}

#[test]
fn content_tells_what_an_archive_is() {
    let layout = |manifest: &str, media_type: &str| {
        let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
        let index = serde_json::json!({"manifests": [
            {"mediaType": media_type, "digest": digest.to_string(), "size": manifest.len()}
        ]});
        Tar::new()
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", index.to_string().as_bytes())
            .file(format!("blobs/sha256/{}", digest.hex()), manifest.as_bytes())
    };
    let image = |layer: &str| {
        let descriptor = |media_type: &str| serde_json::json!({"mediaType": media_type, "digest": Digest::of(Algorithm::Sha256, b"").to_string(), "size": 0});
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [descriptor(layer)]});
        layout(&manifest.to_string(), "application/vnd.oci.image.manifest.v1+json")
    };
    let (plain, packed) = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip");
    let check = |tar: Tar, said: Option<Form>, expected: Form| {
        assert_eq!(opened(&tar.end(), said).unwrap().form(), expected, "{said:?}");
    };
    let (oci, docker) = (Form::OciArchive, Form::DockerArchive);
    check(image(plain), None, oci);
    check(image(plain).file("manifest.json", b"[]"), None, docker);
    check(image(packed).file("manifest.json", b"[]"), None, oci);
    check(image(packed).file("manifest.json", b"[]"), Some(docker), docker);
    check(image(plain).file("manifest.json", b"[]"), Some(oci), oci);
    check(layout("{}", "nobody's").file("manifest.json", b"[]"), None, docker);
    check(Tar::new().file("manifest.json", b"[]"), None, docker);
    let not = |tar: Tar, said: Form| opened(&tar.end(), Some(said)).unwrap_err();
    let error = not(image(plain), docker);
    assert!(matches!(error, ArchiveError::NotSaid { missing: "manifest.json", .. }), "{error}");
    let error = not(Tar::new().file("manifest.json", b"[]").file("oci-layout", b""), oci);
    assert!(matches!(error, ArchiveError::NotSaid { missing: "index.json", .. }), "{error}");
}

#[test]
fn what_is_no_image_says_what_it_is() {
    let check = |bytes: &[u8], expected: fn(&ArchiveError) -> bool| {
        let error = opened(bytes, None).unwrap_err();
        assert!(expected(&error), "{error:?}");
    };
    let tar = |names: &[&str]| names.iter().fold(Tar::new(), |tar, name| tar.file(name, b"x")).end();
    check(b"", |error| matches!(error, ArchiveError::Empty { .. }));
    check(b"FROM debian\n", |error| matches!(error, ArchiveError::Foreign { what: Foreign::Dockerfile, .. }));
    check(&[0; 1024], |error| matches!(error, ArchiveError::Tar(_)));
    check(&tar(&["a"])[..300], |error| matches!(error, ArchiveError::Tar(_)));
    check(&tar(&["repositories", "aa/json"]), |error| matches!(error, ArchiveError::Old { .. }));
    check(&tar(&["etc/hostname", ".dockerenv"]), |error| matches!(error, ArchiveError::Filesystem { .. }));
    let root = Tar::new().file("etc", b"").file("usr", b"").raw(&link("bin", "/usr/bin")).end();
    check(&root, |error| matches!(error, ArchiveError::Filesystem { .. }));
    check(
        &tar(&["out/oci-layout", "out/index.json"]),
        |error| matches!(error, ArchiveError::Nested { folder, .. } if folder == "out"),
    );
    check(&tar(&["README"]), |error| matches!(error, ArchiveError::NoImage { .. }));
    let hostile = Tar::new().file("manifest.json", b"[]").raw(&link("a", "../../etc/shadow")).end();
    check(&hostile, |error| matches!(error, ArchiveError::Tar(TarError { offset: 1024, .. })));
}

#[test]
fn what_is_packed_is_kept_beside() {
    let tar = tar_of(&Path::new(LAYOUTS).join("index"), false);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).unwrap();
    for packed in [encoder.finish().unwrap(), zstd::encode_all(&*tar, 1).unwrap()] {
        let archive = opened(&packed, None).unwrap();
        assert!(archive.is_spooled() && archive.stamp().is_some());
        assert_eq!(archive.stamp().unwrap().size, packed.len() as u64);
        assert_eq!(Layout::in_archive(&archive).unwrap().images().len(), 1);
    }
    let error = opened(&zstd::encode_all(&tar[..2000], 1).unwrap(), None).unwrap_err();
    assert!(matches!(error, ArchiveError::Tar(_)), "{error:?}");
}

#[test]
fn what_is_no_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let check = |path: &Path, expected: &str| match Archive::open(path, None, folder.path()).unwrap_err() {
        ArchiveError::NotAFile { kind, .. } => assert_eq!(kind, expected),
        other => panic!("{other:?}"),
    };
    check(folder.path(), "a folder");
    check(&socket, "a socket");
    let error = Archive::open(Path::new("/dev/null"), None, folder.path()).unwrap_err();
    assert!(matches!(error, ArchiveError::Empty { .. }), "{error:?}");
}

#[test]
fn annotations_of_the_manifest_beside_a_docker_image_are_kept() {
    let layer = b"layer";
    let digest = |bytes: &[u8]| Digest::of(Algorithm::Sha256, bytes).to_string();
    let blob = |bytes: &[u8]| format!("blobs/{}", digest(bytes).replace(':', "/"));
    let config = serde_json::json!({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": [digest(layer)]}});
    let config = config.to_string();
    let descriptor = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len(), "annotations": {"k": "v"}});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "annotations": {"org.example": "kept"},
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    let manifest = manifest.to_string();
    let entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let list =
        serde_json::json!([{"Config": blob(config.as_bytes()), "RepoTags": ["app:v1"], "Layers": [blob(layer)]}]);
    let tar = Tar::new()
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", serde_json::json!({"manifests": [entry]}).to_string().as_bytes())
        .file(blob(manifest.as_bytes()), manifest.as_bytes())
        .file(blob(config.as_bytes()), config.as_bytes())
        .file(blob(layer), layer)
        .file("manifest.json", list.to_string().as_bytes());
    let archive = Arc::new(opened(&tar.end(), None).unwrap());
    let docker = DockerArchive::open(archive).unwrap();
    let image = docker.choose(&Choice::Only).unwrap();
    assert_eq!(image.annotations.get("org.example").map(String::as_str), Some("kept"));
    assert_eq!(image.layers[0].annotations.get("k").map(String::as_str), Some("v"));
    assert_eq!(image.platform.to_string(), "linux/arm64");
}
