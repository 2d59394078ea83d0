//! What buildah, umoci and skopeo write, pushed and brought back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{LOGIN, Pulled, blobs, disk_usage, images, push, start};
use crate::support::layout::noise;
use crate::support::servers::{Tool, left_out};

/// Where something is built: folders to copy in, and a layout beside them.
pub(super) struct Workshop {
    folder: TempDir,
}

impl Workshop {
    pub(super) fn new() -> Self {
        let folder = TempDir::with_prefix("ecr-push-it-").expect("a temporary folder");
        for (name, seed, size) in [("base", 1, 300_000), ("app", 2, 70_000), ("late", 3, 5_000)] {
            let content = folder.path().join(name);
            fs::create_dir(&content).expect("a new folder");
            fs::write(content.join(format!("{name}.bin")), noise(seed, size)).expect("a new file");
        }
        Self { folder }
    }

    /// The path of something in it.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(super) fn layout(&self) -> PathBuf {
        self.folder.path().join("layout")
    }

    /// SOURCE for one of the layout's images.
    pub(super) fn source(&self, name: &str) -> String {
        format!("{}:{name}", self.layout().display())
    }

    pub(super) fn buildah(&self, args: &[&str]) -> String {
        let (root, run) = (self.path("storage"), self.path("run"));
        let own = ["--storage-driver", "vfs", "--root", &root, "--runroot", &run];
        Tool::Buildah.run(self.folder.path(), &[&own, args].concat())
    }

    /// An image of two layers for this architecture, in buildah's own storage.
    pub(super) fn build(&self, name: &str, architecture: &str) {
        let base = self.buildah(&["from", "scratch"]);
        self.buildah(&["copy", "--quiet", &base, &self.path("base"), "/base"]);
        self.buildah(&["commit", "--quiet", "--rm", &base, "base"]);
        let app = self.buildah(&["from", "--pull-never", "localhost/base"]);
        self.buildah(&["copy", "--quiet", &app, &self.path("app"), "/app"]);
        self.buildah(&["config", "--arch", architecture, "--entrypoint", r#"["/app/app.bin"]"#, &app]);
        self.buildah(&["commit", "--quiet", "--rm", &app, name]);
    }

    pub(super) fn umoci(&self, args: &[&str]) -> String {
        Tool::Umoci.run(self.folder.path(), args)
    }

    pub(super) fn skopeo_copy(&self, flags: &[&str], from: &str, to: &str) {
        let own = ["--insecure-policy", "copy", "--quiet"];
        Tool::Skopeo.run(self.folder.path(), &[&own, flags, &[from, to]].concat());
    }

    /// A layout of umoci's with two images, `v1` of two layers and `v2` of one more.
    pub(super) fn two_images(&self) {
        let layout = self.path("layout");
        let (v1, v2) = (format!("{layout}:v1"), format!("{layout}:v2"));
        self.umoci(&["init", "--layout", &layout]);
        self.umoci(&["new", "--image", &v1]);
        self.umoci(&["insert", "--image", &v1, &self.path("base"), "/base"]);
        self.umoci(&["insert", "--image", &v1, &self.path("app"), "/app"]);
        self.umoci(&["insert", "--image", &v1, "--tag", "v2", &self.path("late"), "/late"]);
        self.umoci(&["config", "--image", &v2, "--config.cmd", "/app/app.bin"]);
        // Every step left a manifest and a config behind.
        self.umoci(&["gc", "--layout", &layout]);
    }
}

#[test]
fn buildah() {
    if left_out(&[Tool::DockerRegistry, Tool::Buildah, Tool::Skopeo]) {
        return;
    }
    let (workshop, registry) = (Workshop::new(), start());
    workshop.build("app", "amd64");
    let layout = workshop.layout();
    workshop.buildah(&["push", "--quiet", "app", &format!("oci:{}:v1", layout.display())]);
    let (made, digest) = (blobs(&layout), images(&layout)[0].1.clone());
    assert_eq!(made.len(), 4, "a manifest, a config and two layers");
    assert!(disk_usage(&layout) > 370_000);

    let line = format!("{}/team/app@{digest}", registry.address());
    push(&layout, &registry, "team/app:v1").run().exits(0).prints(&[&line]);
    let pulled = Pulled::layout(&registry, "team/app:v1", LOGIN);
    assert_eq!((pulled.digest(), blobs(&pulled.path)), (digest.clone(), made.clone()));
    assert_eq!(blobs(&layout), made, "without --cleanup nothing is touched");

    let before = disk_usage(workshop.folder.path());
    let size = disk_usage(&layout);
    push(&layout, &registry, "team/app:v2").args(["--cleanup"]).run().exits(0).prints(&[&line]);
    assert!(!layout.exists(), "the whole folder goes");
    assert_eq!(disk_usage(workshop.folder.path()), before - size, "the disk space is free again");
    let pulled = Pulled::layout(&registry, "team/app:v2", LOGIN);
    assert_eq!((pulled.digest(), blobs(&pulled.path)), (digest, made));
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn buildah_for_two_platforms() {
    if left_out(&[Tool::DockerRegistry, Tool::Buildah, Tool::Skopeo]) {
        return;
    }
    let (workshop, registry) = (Workshop::new(), start());
    workshop.build("amd64", "amd64");
    workshop.build("arm64", "arm64");
    workshop.buildah(&["manifest", "create", "both", "localhost/amd64", "localhost/arm64"]);
    let to = format!("oci:{}:v1", workshop.layout().display());
    workshop.buildah(&["manifest", "push", "--quiet", "--all", "both", &to]);
    let (made, digest) = (blobs(&workshop.layout()), images(&workshop.layout())[0].1.clone());

    push(workshop.source("v1"), &registry, "app:v1").args(["--cleanup"]).run().exits(0);
    assert!(!workshop.layout().exists());
    let pulled = Pulled::layout(&registry, "app:v1", LOGIN);
    assert_eq!((pulled.digest(), blobs(&pulled.path)), (digest, made));
}

#[test]
fn umoci() {
    if left_out(&[Tool::DockerRegistry, Tool::Umoci, Tool::Skopeo]) {
        return;
    }
    let (workshop, registry) = (Workshop::new(), start());
    workshop.two_images();
    let (made, images) = (blobs(&workshop.layout()), images(&workshop.layout()));
    assert_eq!(images.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);

    // Two images and none chosen.
    push(workshop.layout(), &registry, "app").run().exits(2).prints(&[]).says([":v1", ":v2"]);
    assert_eq!(registry.requests(), []);

    let mut pulled = BTreeMap::new();
    for (name, digest) in &images {
        push(workshop.source(name), &registry, &format!("app:{name}")).run().exits(0);
        let one = Pulled::layout(&registry, &format!("app:{name}"), LOGIN);
        assert_eq!(&one.digest(), digest);
        pulled.extend(blobs(&one.path));
    }
    assert_eq!(pulled, made);
    assert_eq!(registry.tags("app"), ["v1", "v2"]);
}

#[test]
fn skopeo_with_zstd() {
    if left_out(&[Tool::DockerRegistry, Tool::Umoci, Tool::Skopeo]) {
        return;
    }
    let (workshop, registry) = (Workshop::new(), start());
    workshop.two_images();
    let zstd = workshop.path("zstd");
    let flags = ["--dest-compress", "--dest-compress-format=zstd"];
    workshop.skopeo_copy(&flags, &format!("oci:{}", workshop.source("v2")), &format!("oci:{zstd}:v2"));
    let (made, digest) = (blobs(Path::new(&zstd)), images(Path::new(&zstd))[0].1.clone());
    let compressed = made.values().filter(|bytes| bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])).count();
    assert_eq!(compressed, 3, "every layer is zstd");

    push(&zstd, &registry, "app:v2").run().exits(0);
    let pulled = Pulled::layout(&registry, "app:v2", LOGIN);
    assert_eq!((pulled.digest(), blobs(&pulled.path)), (digest, made));
}

#[test]
fn skopeo_with_two_images_in_one_folder() {
    if left_out(&[Tool::DockerRegistry, Tool::Umoci, Tool::Skopeo]) {
        return;
    }
    let (workshop, registry) = (Workshop::new(), start());
    workshop.two_images();
    let shared = workshop.path("shared");
    let (old, new) = (format!("{shared}:old"), format!("{shared}:registry.example/team/app:new"));
    workshop.skopeo_copy(&[], &format!("oci:{}", workshop.source("v1")), &format!("oci:{old}"));
    workshop.skopeo_copy(&[], &format!("oci:{}", workshop.source("v2")), &format!("oci:{new}"));
    let made = blobs(Path::new(&shared));

    push(&new, &registry, "app:new").args(["--cleanup"]).run().exits(0);
    assert_eq!(images(Path::new(&shared)).len(), 1, "the other image stays");
    // v2 has a manifest, a config and one layer that v1 hasn't.
    assert_eq!(blobs(Path::new(&shared)).len(), made.len() - 3);
    let out = workshop.path("out");
    workshop.skopeo_copy(&[], &format!("oci:{old}"), &format!("oci:{out}:old"));
    assert_eq!(blobs(Path::new(&out)), blobs(Path::new(&shared)));

    push(&old, &registry, "app:old").args(["--cleanup"]).run().exits(0);
    assert!(!Path::new(&shared).exists());
    let pulled = ["app:old", "app:new"].map(|reference| blobs(&Pulled::layout(&registry, reference, LOGIN).path));
    assert_eq!(pulled.into_iter().flatten().collect::<BTreeMap<_, _>>(), made);
}
