//! Archives that other people's builders and engines write of a whole Debian, pushed, and pulled back by others again: every
//! file is what it was.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use super::{LOGIN, Pulled, images, push, start};
use crate::support::debian::{self, Debian, Files, assert_same};
use crate::support::layout::digest;
use crate::support::servers::{DockerRegistry, Engine, Kind, Tool, left_out};

/// The files of the Debian that all of this is about.
static FILES: LazyLock<Files> = LazyLock::new(|| debian::of_folder(&Debian::get().expect("it is there").root));

/// The compression that a binary that isn't optimized is fast at.
const ZSTD: [&str; 1] = ["--compression=zstd"];

/// A folder for whatever a tool keeps.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::with_prefix("ecr-push-it-").expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn skopeo(&self, args: &[&str]) {
        Tool::Skopeo.run(self.0.path(), &[&["--insecure-policy", "copy", "--quiet"], args].concat());
    }

    fn umoci(&self, args: &[&str]) {
        Tool::Umoci.run(self.0.path(), args);
    }

    /// Runs podman or buildah, on storage of its own.
    fn stored(&self, tool: Tool, args: &[&str]) -> String {
        let (root, run) = (self.text("storage"), self.text("run"));
        let own = ["--storage-driver", "vfs", "--root", &root, "--runroot", &run];
        tool.run(self.0.path(), &[&own, args].concat())
    }
}

/// The files of what was pushed, as skopeo pulls it.
fn pulled(registry: &DockerRegistry, reference: &str) -> Files {
    let pulled = Pulled::layout(registry, reference, LOGIN);
    let blob = |digest: &str| pulled.path.join("blobs").join(digest.replace(':', "/"));
    let manifest: Value = serde_json::from_slice(&fs::read(blob(&pulled.digest())).expect("a manifest")).expect("JSON");
    let mut files = Files::new();
    for layer in manifest["layers"].as_array().expect("layers") {
        let file = File::open(blob(digest(layer))).expect("a layer");
        match layer["mediaType"].as_str().expect("a media type").rsplit(['+', '.']).next() {
            Some("gzip") => debian::add_tar(flate2::read::MultiGzDecoder::new(file), &mut files),
            Some("zstd") => debian::add_tar(zstd::Decoder::new(file).expect("zstd"), &mut files),
            _ => debian::add_tar(file, &mut files),
        }
    }
    files
}

/// Pushes an archive, and asserts that whoever pulls it has the same files.
#[track_caller]
fn arrives(archive: &Path, registry: &DockerRegistry, tag: &str, options: &[&str]) -> String {
    let reference = format!("debian:{tag}");
    let ran = push(archive, registry, &reference).args(options).run().exits(0);
    assert_same(&pulled(registry, &reference), &FILES, tag);
    assert_eq!(registry.open_sessions(), 0, "{tag}");
    let size = fs::metadata(archive).expect("it is there").len();
    assert!(size > 50_000_000, "{tag} has {size} bytes");
    ran.stdout.trim().rsplit('@').next().expect("a digest").to_owned()
}

fn debian(tools: &[Tool]) -> Option<Debian> {
    if left_out(&[tools, &[Tool::DockerRegistry, Tool::Skopeo]].concat()) { None } else { Debian::get() }
}

#[test]
fn podmans_archives() {
    let Some(debian) = debian(&[Tool::Podman]) else { return };
    let (place, registry) = (Place::new(), start());
    place.stored(Tool::Podman, &["import", "--quiet", &debian.tar.display().to_string(), "localhost/debian:v1"]);
    for format in ["docker-archive", "oci-archive"] {
        let save = ["save", "--quiet", "--format", format, "--output", &place.text(format), "localhost/debian:v1"];
        place.stored(Tool::Podman, &save);
    }
    let docker = arrives(&place.path("docker-archive"), &registry, "docker", &ZSTD);
    arrives(&place.path("oci-archive"), &registry, "oci", &[]);
    // Podman itself takes both, and shows the files as a container has them.
    let url = format!("{}/debian:docker", registry.address());
    let credentials = format!("--creds={}:{}", LOGIN.username, LOGIN.password);
    place.stored(Tool::Podman, &["rmi", "--all", "--force"]);
    let policy = place.path(".config/containers");
    fs::create_dir_all(&policy).expect("a new folder");
    fs::write(policy.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("a file");
    let id = place.stored(Tool::Podman, &["pull", "--quiet", "--tls-verify=false", &credentials, &url]);
    let mounted = place.stored(Tool::Podman, &["image", "mount", &id]);
    assert_same(&debian::of_folder(Path::new(&mounted)), &FILES, "what podman mounts");
    place.stored(Tool::Podman, &["image", "unmount", &id]);
    // What skopeo makes of podman's is another archive of the same image.
    let from = format!("docker-archive:{}", place.text("docker-archive"));
    place.skopeo(&[&from, &format!("docker-archive:{}:debian:v1", place.text("skopeo"))]);
    assert_eq!(arrives(&place.path("skopeo"), &registry, "skopeo", &ZSTD), docker);
}

#[test]
fn buildahs_archives() {
    let Some(debian) = debian(&[Tool::Buildah]) else { return };
    let (place, registry) = (Place::new(), start());
    let container = place.stored(Tool::Buildah, &["from", "scratch"]);
    place.stored(Tool::Buildah, &["add", "--quiet", &container, &debian.tar.display().to_string(), "/"]);
    place.stored(Tool::Buildah, &["commit", "--quiet", "--rm", &container, "debian"]);
    let to = |kind: &str, name: &str| format!("{kind}:{}{name}", place.text(kind));
    place.stored(Tool::Buildah, &["push", "--quiet", "debian", &to("oci-archive", "")]);
    place.stored(Tool::Buildah, &["push", "--quiet", "debian", &to("docker-archive", ":debian:v1")]);
    arrives(&place.path("oci-archive"), &registry, "oci", &[]);
    arrives(&place.path("docker-archive"), &registry, "docker", &["--compression=gzip"]);
}

#[test]
fn umocis_layout_in_a_tar() {
    let Some(debian) = debian(&[Tool::Umoci]) else { return };
    let (place, registry) = (Place::new(), start());
    let (layout, image) = (place.text("layout"), format!("{}:v1", place.text("layout")));
    place.umoci(&["init", "--layout", &layout]);
    place.umoci(&["new", "--image", &image]);
    place.umoci(&["raw", "add-layer", "--image", &image, &debian.tar.display().to_string()]);
    place.umoci(&["gc", "--layout", &layout]);
    let archive = place.path("archive");
    let tarred = Command::new("tar").arg("-cf").arg(&archive).args(["-C", &layout, "."]).status().expect("tar runs");
    assert!(tarred.success());
    let root = images(Path::new(&layout))[0].1.clone();
    assert_eq!(arrives(&archive, &registry, "v1", &[]), root);
    // And back onto a disk.
    let from = format!("docker://{}/debian:v1", registry.address());
    let credentials = format!("--src-creds={}:{}", LOGIN.username, LOGIN.password);
    let to = format!("oci:{}:v1", place.text("back"));
    place.skopeo(&["--src-tls-verify=false", &credentials, &from, &to]);
    let bundle = place.text("bundle");
    place.umoci(&["unpack", "--image", &format!("{}:v1", place.text("back")), &bundle]);
    assert_same(&debian::of_folder(&Path::new(&bundle).join("rootfs")), &FILES, "what umoci unpacks");
}

/// An engine's image, as it saves it and from itself.
fn engine_of(kind: Kind) {
    let Some(debian) = debian(&[]).filter(|_| Kind::all().contains(&kind)) else { return };
    let (place, registry, engine) = (Place::new(), start(), Engine::start(kind));
    engine.import(&debian.tar, "debian:v1");
    let saved = place.path("saved");
    engine.save("debian:v1", &saved);
    let from_file = arrives(&saved, &registry, "saved", &ZSTD);
    let ran = push("docker-daemon:debian:v1", &registry, "debian:engine").env("DOCKER_HOST", engine.host());
    let ran = ran.args(ZSTD).run().exits(0);
    assert_eq!(ran.stdout, format!("{}/debian@{from_file}\n", registry.address()), "{kind:?}");
    assert_same(&pulled(&registry, "debian:engine"), &FILES, "what the engine has");
}

#[test]
fn dockers_archive_and_engine() {
    engine_of(Kind::Docker);
}

#[test]
fn podmans_engine() {
    engine_of(Kind::Podman);
}
