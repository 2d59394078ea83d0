//! The real binary against registries, builders and clients that others wrote.
//!
//! Whatever local-ecr believes, these know better: what they take is a registry's protocol, and what they bring back is
//! what arrived.

mod archives;
mod bearer;
mod beside;
mod builders;
mod clients;
mod docker_config;
mod doctor;
mod engine;
mod moto;
mod mounts;
mod proxy;
mod reader;
mod referrers;
mod sdk;
mod shapes;
mod strangers;
mod tls;
mod warm;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::Push;
use crate::support::layout::{digest, sha256};
use crate::support::servers::{DockerRegistry, Guard, Login, Tool};

/// Who may use [`start`]'s registry.
const LOGIN: Login = Login::JENKINS;

/// A registry that wants a password, so that whoever pushes or pulls has to log in.
fn start() -> DockerRegistry {
    DockerRegistry::start(Guard::Basic(LOGIN))
}

/// A push of SOURCE to REPOSITORY:TAG there.
fn push(source: impl AsRef<OsStr>, registry: &DockerRegistry, reference: &str) -> Push {
    push_to(source, registry.address(), reference)
}

/// A push to HOST, for which [`LOGIN`] is known.
fn push_to(source: impl AsRef<OsStr>, host: &str, reference: &str) -> Push {
    let push = Push::of(source).to_reference(format!("{host}/{reference}"));
    let config = push.home().join("auth.json");
    write_auth(&config, host, LOGIN);
    push.env("REGISTRY_AUTH_FILE", config)
}

/// Everything in a layout's `blobs`, by digest.
fn blobs(layout: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(layout.join("blobs/sha256")).expect("a layout has blobs") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().expect("a blob has a name").to_string_lossy().into_owned();
        found.insert(format!("sha256:{name}"), fs::read(path).expect("a blob can be read"));
    }
    found
}

/// A layout's images: name and digest, in the order of `index.json`.
fn images(layout: &Path) -> Vec<(String, String)> {
    let index = fs::read(layout.join("index.json")).expect("a layout has an index");
    let index: Value = serde_json::from_slice(&index).expect("index.json is JSON");
    let entries = index["manifests"].as_array().expect("entries").iter();
    let name = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
    entries.map(|entry| (name(entry).unwrap_or_default(), digest(entry).to_owned())).collect()
}

/// What skopeo pulled: a layout with one image, or skopeo's own `dir`.
struct Pulled {
    _folder: TempDir,
    path: PathBuf,
}

impl Pulled {
    /// Pulls with all platforms into a layout.
    #[track_caller]
    fn layout(registry: &DockerRegistry, reference: &str, login: Login) -> Self {
        Self::to("oci", registry, reference, login)
    }

    /// Pulls with all platforms, whatever their media types, byte for byte.
    #[track_caller]
    fn dir(registry: &DockerRegistry, reference: &str, login: Login) -> Self {
        Self::to("dir", registry, reference, login)
    }

    #[track_caller]
    fn to(transport: &str, registry: &DockerRegistry, reference: &str, login: Login) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("pulled");
        let flags = ["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"];
        let credentials = format!("--src-creds={}:{}", login.username, login.password);
        let from = format!("docker://{}/{reference}", registry.address());
        let to = format!("{transport}:{}", path.display());
        Tool::Skopeo.run(folder.path(), &[&flags[..], &[&credentials, &from, &to]].concat());
        Self { _folder: folder, path }
    }

    /// The digest of the one image that was pulled.
    fn digest(&self) -> String {
        let index = self.path.join("index.json");
        if index.is_file() { images(&self.path).remove(0).1 } else { sha256(&self.file("manifest.json")) }
    }

    /// The contents of a `dir`'s files: manifests and blobs.
    fn files(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(&self.path).expect("it was pulled").flatten();
        // `version` is skopeo's own.
        let names =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name != "version");
        names.map(|name| self.file(&name)).collect()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.path.join(name)).unwrap_or_else(|error| panic!("{name} of what was pulled: {error}"))
    }
}

/// Bytes on disk below a folder, as `du` counts them; 0 if it isn't there.
fn disk_usage(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(folder) else { return 0 };
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| disk_usage(&entry.path()));
    metadata.blocks() * 512 + below.sum::<u64>()
}

/// Writes a config file of docker's with one login.
fn write_auth(path: &Path, server: &str, login: Login) {
    let config = serde_json::json!({"auths": {server: {"auth": login.encoded()}}});
    fs::write(path, config.to_string()).expect("a config file can be written");
}
