//! Layouts: copies of those in `testdata/layouts`, and ones that are made here because they are too large to be kept.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use tempfile::TempDir;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout in a temporary folder of its own, that a push may do to whatever it wants.
#[derive(Debug)]
pub(crate) struct Layout {
    parent: TempDir,
    path: PathBuf,
    /// How many layers were made, so that no two are alike.
    made: AtomicU64,
}

impl Layout {
    fn new() -> Self {
        let parent = TempDir::with_prefix("ecr-push-it-").expect("a temporary folder");
        // Another user must be able to come by.
        fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
        let path = parent.path().join("layout");
        Self { parent, path, made: AtomicU64::new(0) }
    }

    /// A copy of one of `testdata/layouts`, such as `good/index`.
    pub(crate) fn fixture(name: &str) -> Self {
        let layout = Self::new();
        let from = fixtures().join(name);
        copy(&from, &layout.path);
        // What `symlink-outside` leads to.
        let outside = from.with_file_name("outside");
        if outside.is_file() {
            fs::copy(outside, layout.parent().join("outside")).expect("a copy");
        }
        layout
    }

    /// A copy of this layout, in a folder of its own.
    pub(crate) fn copied(&self) -> Self {
        let layout = Self::new();
        self.copy_to(&layout.path);
        layout
    }

    /// Makes a copy of this layout where nothing is.
    pub(crate) fn copy_to(&self, path: &Path) {
        copy(&self.path, path);
    }

    /// A layout without any image.
    pub(crate) fn empty() -> Self {
        let layout = Self::new();
        fs::create_dir_all(layout.path.join("blobs/sha256")).expect("a new folder");
        fs::write(layout.path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a new file");
        layout.write_index(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));
        layout
    }

    /// A layout with one image of layers of these sizes, and no name.
    pub(crate) fn of_layers(sizes: &[usize]) -> Self {
        let layout = Self::empty();
        let layers: Vec<Value> = sizes.iter().map(|size| layout.layer(*size)).collect();
        layout.list(&layout.image(&layers), None);
        layout
    }

    /// A layout with one image whose one layer has so many mebibytes, no two of them alike; and that layer's digest.
    pub(crate) fn of_mebibytes(count: u64) -> (Self, String) {
        let layout = Self::empty();
        let (mut hasher, mut mebibyte) = (Sha256::new(), noise(count, 1 << 20));
        let path = layout.path.join("layer");
        let mut file = fs::File::create(&path).expect("a new file");
        for number in 0..count {
            mebibyte[..8].copy_from_slice(&number.to_le_bytes());
            hasher.update(&mebibyte);
            file.write_all(&mebibyte).expect("the layout is ours");
        }
        let digest = format!("sha256:{}", hex(&hasher.finalize()));
        fs::rename(path, layout.blob(&digest)).expect("the layout is ours");
        let layer = json!({"mediaType": LAYER, "digest": digest, "size": count << 20});
        layout.list(&layout.image(&[layer]), None);
        (layout, digest)
    }

    /// A layout with one image whose one layer has so many bytes, all of them holes in the file. Its digest is nobody's.
    pub(crate) fn of_holes(size: u64) -> Self {
        let layout = Self::empty();
        let digest = format!("sha256:{}", "0".repeat(64));
        fs::File::create(layout.blob(&digest)).and_then(|file| file.set_len(size)).expect("the layout is ours");
        layout.list(&layout.image(&[json!({"mediaType": LAYER, "digest": digest, "size": size})]), None);
        layout
    }

    /// The layout's folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder above it, which a push must never change.
    pub(crate) fn parent(&self) -> &Path {
        self.parent.path()
    }

    /// The SOURCE that chooses with this suffix, such as `:v1`.
    pub(crate) fn choosing(&self, suffix: &str) -> OsString {
        let mut source = self.path.clone().into_os_string();
        source.push(suffix);
        source
    }

    /// Where a blob lies.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').expect("a digest");
        self.path.join("blobs").join(algorithm).join(hex)
    }

    /// The digests of all blobs that are there.
    pub(crate) fn blobs(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for algorithm in ["sha256", "sha512"] {
            let folder = fs::read_dir(self.path.join("blobs").join(algorithm));
            let names = folder.into_iter().flatten().flatten().map(|entry| entry.file_name());
            found.extend(names.map(|name| format!("{algorithm}:{}", name.to_string_lossy())));
        }
        found
    }

    /// `index.json`.
    pub(crate) fn index(&self) -> Value {
        let bytes = fs::read(self.path.join("index.json")).expect("an index.json");
        serde_json::from_slice(&bytes).expect("index.json is JSON")
    }

    /// Replaces `index.json`.
    pub(crate) fn write_index(&self, index: &Value) {
        fs::write(self.path.join("index.json"), index.to_string()).expect("the layout is ours");
    }

    /// The entries of `index.json`.
    pub(crate) fn entries(&self) -> Vec<Value> {
        self.index()["manifests"].as_array().expect("entries").clone()
    }

    /// The names in `index.json`, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = self.entries();
        let names = entries.iter().filter_map(|entry| entry["annotations"][REF_NAME].as_str().map(str::to_owned));
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The digest of the entry with this name.
    #[track_caller]
    pub(crate) fn named(&self, name: &str) -> String {
        let entries = self.entries();
        let entry = entries.iter().find(|entry| entry["annotations"][REF_NAME] == name);
        digest(entry.unwrap_or_else(|| panic!("no {name} in {entries:?}"))).to_owned()
    }

    /// The digest of the first entry.
    pub(crate) fn root(&self) -> String {
        digest(&self.entries()[0]).to_owned()
    }

    /// Writes a blob; gives its descriptor.
    pub(crate) fn add(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.blob(&digest), bytes).expect("the layout is ours");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Writes a layer of so many bytes that no other layer has.
    pub(crate) fn layer(&self, size: usize) -> Value {
        let seed = self.made.fetch_add(1, Ordering::Relaxed);
        self.add(LAYER, &noise(seed, size))
    }

    /// Writes a config and a manifest for these layers.
    pub(crate) fn image(&self, layers: &[Value]) -> Value {
        let diffs: Vec<_> = layers.iter().map(digest).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs},
            "config": {}, "history": [],
        });
        let config = self.add(CONFIG, config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.add(MANIFEST, manifest.to_string().as_bytes())
    }

    /// The same image, built on another one that it names.
    pub(crate) fn based_on(&self, image: &Value, base: &str) -> Value {
        let mut manifest: Value =
            serde_json::from_slice(&fs::read(self.blob(digest(image))).expect("it is there")).expect("JSON");
        manifest["annotations"] = json!({"org.opencontainers.image.base.name": base});
        self.add(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Writes an index over these.
    pub(crate) fn index_of(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.add(INDEX, index.to_string().as_bytes())
    }

    /// Writes an artifact that refers to `subject` and has one small layer of this text.
    pub(crate) fn referrer(&self, subject: &Value, text: &str) -> Value {
        let config = self.add("application/vnd.oci.empty.v1+json", b"{}");
        let layer = self.add("text/plain", text.as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.note",
            "config": config, "layers": [layer], "subject": subject,
        });
        self.add(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Adds an entry to `index.json`.
    pub(crate) fn list(&self, descriptor: &Value, name: Option<&str>) {
        let (mut index, mut entry) = (self.index(), descriptor.clone());
        if let Some(name) = name {
            entry["annotations"][REF_NAME] = json!(name);
        }
        index["manifests"].as_array_mut().expect("entries").push(entry);
        self.write_index(&index);
    }

    /// Everything below a manifest that SOURCE has.
    pub(crate) fn reach(&self, root: &str) -> Reach {
        let mut reach = Reach::default();
        self.walk(root, &mut reach);
        reach
    }

    fn walk(&self, manifest: &str, reach: &mut Reach) {
        if !reach.manifests.insert(manifest.to_owned()) {
            return;
        }
        let bytes = fs::read(self.blob(manifest)).expect("the manifest is there");
        let document: Value = serde_json::from_slice(&bytes).expect("the manifest is JSON");
        let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
        for child in list("manifests") {
            self.walk(digest(&child), reach);
        }
        for blob in list("layers").into_iter().chain(document.get("config").cloned()) {
            let media_type = blob["mediaType"].as_str().expect("a media type");
            let withheld = media_type.contains("nondistributable") || media_type.contains("foreign");
            let set = if withheld { &mut reach.withheld } else { &mut reach.blobs };
            set.insert(digest(&blob).to_owned());
        }
    }
}

/// What a manifest points to, directly or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Manifests, the root among them.
    pub(crate) manifests: BTreeSet<String>,
    /// Configs and layers.
    pub(crate) blobs: BTreeSet<String>,
    /// Layers that are never uploaded.
    pub(crate) withheld: BTreeSet<String>,
}

/// A descriptor's digest.
pub(crate) fn digest(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().expect("a descriptor has a digest")
}

/// Where the layouts of `testdata` are.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/layouts")
}

/// The names of the layouts in `testdata/layouts/good` or `…/bad`, sorted.
pub(crate) fn fixture_names(kind: &str) -> Vec<String> {
    let folder = fs::read_dir(fixtures().join(kind)).expect("testdata is there");
    let layouts = folder.map(|entry| entry.expect("it can be read").path()).filter(|path| path.is_dir());
    let names = layouts.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// A digest as it stands in descriptors.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The other kind of digest.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that don't repeat, always the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Copies a folder, symbolic links as links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("it can be read");
        let (kind, from, to) = (entry.file_type().expect("a kind"), entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&from, &to);
        } else if kind.is_symlink() {
            symlink(fs::read_link(from).expect("a link"), to).expect("a new link");
        } else {
            fs::copy(from, to).expect("a copy");
        }
    }
}
