//! Archives of images as docker and all who imitate it write them, of every era, and layouts in a tar.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use local_ecr::LocalEcr;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Layout;
use super::layout::{INDEX, MANIFEST, digest, noise, sha256};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer that is large enough to be compressed on its way, in bytes of its one file.
pub(crate) const LARGE: usize = 2_300_000;

/// A tar in the making.
pub(crate) struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: impl AsRef<Path>, bytes: &[u8]) -> &mut Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, path, bytes).expect("memory is enough");
        self
    }

    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str) -> &mut Self {
        self.bare(tar::EntryType::Directory, path, "")
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.bare(tar::EntryType::Symlink, path, target)
    }

    fn bare(&mut self, kind: tar::EntryType, path: &str, target: &str) -> &mut Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        if target.is_empty() {
            self.0.append_data(&mut header, path, std::io::empty()).expect("memory is enough");
        } else {
            self.0.append_link(&mut header, path, target).expect("memory is enough");
        }
        self
    }

    /// The whole tar.
    pub(crate) fn end(self) -> Vec<u8> {
        self.0.into_inner().expect("memory is enough")
    }
}

/// A layout's files in a tar, sorted or the other way round.
pub(crate) fn of_layout(layout: &Layout, reversed: bool) -> Vec<u8> {
    let mut files = Vec::new();
    collect(layout.path(), Path::new(""), &mut files);
    files.sort();
    if reversed {
        files.reverse();
    }
    let mut archive = Archive::new();
    for file in files {
        archive.file(&file, &fs::read(layout.path().join(&file)).expect("it is there"));
    }
    archive.end()
}

fn collect(root: &Path, below: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(below)).expect("a folder").flatten() {
        let path = below.join(entry.file_name());
        if root.join(&path).is_dir() {
            collect(root, &path, files);
        } else {
            files.push(path);
        }
    }
}

/// A file in a folder of its own.
pub(crate) struct Stored {
    folder: TempDir,
    path: PathBuf,
}

impl Stored {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let folder = TempDir::with_prefix("ecr-push-it-").expect("a temporary folder");
        let path = folder.path().join("archive");
        fs::write(&path, bytes).expect("a new file");
        Self { folder, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that it is in, which a push must never change.
    pub(crate) fn parent(&self) -> &Path {
        self.folder.path()
    }

    /// The SOURCE that this stands before and that behind.
    pub(crate) fn written(&self, prefix: &str, choice: &str) -> String {
        format!("{prefix}{}{choice}", self.path.display())
    }
}

/// Packs with gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory is enough");
    encoder.finish().expect("memory is enough")
}

/// Packs with zstd.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).expect("memory is enough")
}

/// Unpacks what has this media type.
pub(crate) fn unpacked(media_type: &str, bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match media_type.rsplit_once(['+', '.']).map(|(_, packing)| packing) {
        Some("gzip") => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut content).map(drop),
        Some("zstd") => ::zstd::stream::copy_decode(bytes, &mut content),
        Some("tar") => {
            content.extend_from_slice(bytes);
            Ok(())
        }
        _ => panic!("{media_type} is no layer's media type"),
    }
    .unwrap_or_else(|error| panic!("what has the media type {media_type}: {error}"));
    content
}

/// The tar of a layer with one file of so many bytes, half of them noise.
pub(crate) fn layer(seed: u64, size: usize) -> Vec<u8> {
    let mut content = noise(seed, size / 2);
    content.resize(size, b'x');
    let mut tar = Archive::new();
    tar.file(format!("file-{seed}"), &content);
    tar.end()
}

/// An image as docker keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    pub(crate) names: Vec<String>,
    pub(crate) config: Vec<u8>,
    /// Its layers' tars, the base first.
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Saved {
    pub(crate) fn new(names: &[&str], layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
        // Spaced and ordered as no serializer of ours would.
        let config = format!(
            "{{\n   \"os\": \"linux\", \"architecture\":\"amd64\",\n \"config\" : {{\"Cmd\":[\"/{}\"]}},\n \"rootfs\": {}}}\n",
            names.first().unwrap_or(&"app"),
            json!({"type": "layers", "diff_ids": diff_ids})
        );
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), config: config.into_bytes(), layers }
    }

    /// One of a large layer, a small one, and the large one's like again.
    pub(crate) fn usual() -> Self {
        Self::new(&["registry.example/team/app:v1"], vec![layer(1, LARGE), layer(2, 30_000), layer(3, LARGE / 2 + 7)])
    }

    /// Its image ID.
    pub(crate) fn id(&self) -> String {
        sha256(&self.config)
    }
}

/// Who wrote a docker archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// Docker from 1.10 to 24: a folder for each layer, what comes again is a link.
    Classic,
    /// Podman: layers under their content's name, and links to them for older readers.
    Podman,
    /// Docker from 25 on: a layout with uncompressed layers, and `manifest.json` beside it.
    Hybrid,
    /// Jib, and kaniko and bazel alike: compressed layers.
    Jib,
}

impl Era {
    pub(crate) const ALL: [Self; 4] = [Self::Classic, Self::Podman, Self::Hybrid, Self::Jib];

    /// An archive of these images.
    pub(crate) fn save(self, images: &[&Saved]) -> Vec<u8> {
        match self {
            Self::Classic => classic(images),
            Self::Podman => podman(images),
            Self::Hybrid => hybrid(images, false),
            Self::Jib => jib(images),
        }
    }
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// `repositories`, which nobody needs since 2015 and many still write.
fn repositories(images: &[&Saved], folder: impl Fn(&Saved) -> String) -> Vec<u8> {
    let mut all = json!({});
    for image in images {
        for (repository, tag) in image.names.iter().filter_map(|name| name.rsplit_once(':')) {
            all[repository][tag] = json!(folder(image));
        }
    }
    all.to_string().into_bytes()
}

fn entry(image: &Saved, config: &str, layers: &[String]) -> Value {
    let names = if image.names.is_empty() { Value::Null } else { json!(image.names) };
    json!({"Config": config, "RepoTags": names, "Layers": layers})
}

fn classic(images: &[&Saved]) -> Vec<u8> {
    let mut archive = Archive::new();
    let (mut entries, mut held, mut written) = (Vec::new(), BTreeMap::<String, String>::new(), Vec::new());
    // A folder's name says where in which image its layer is, and nothing of the content.
    let folder = |image: &Saved, at: usize| {
        let chain: Vec<u8> = image.layers[..=at].iter().flat_map(|layer| sha256(layer).into_bytes()).collect();
        hex(&sha256(&chain)).to_owned()
    };
    for image in images {
        let mut layers = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let folder = folder(image, at);
            let path = format!("{folder}/layer.tar");
            layers.push(path.clone());
            if written.contains(&folder) {
                continue;
            }
            written.push(folder.clone());
            archive.folder(&format!("{folder}/")).file(format!("{folder}/VERSION"), b"1.0");
            archive.file(format!("{folder}/json"), format!(r#"{{"id":"{folder}","os":"linux"}}"#).as_bytes());
            match held.get(&sha256(layer)) {
                Some(other) => archive.link(&path, &format!("../{other}")),
                None => archive.file(&path, layer),
            };
            held.entry(sha256(layer)).or_insert(path);
        }
        let config = format!("{}.json", hex(&image.id()));
        archive.file(&config, &image.config);
        entries.push(entry(image, &config, &layers));
    }
    archive.file("manifest.json", Value::from(entries).to_string().as_bytes());
    archive.file("repositories", &repositories(images, |image| folder(image, image.layers.len() - 1)));
    archive.end()
}

fn podman(images: &[&Saved]) -> Vec<u8> {
    let mut archive = Archive::new();
    let (mut entries, mut written) = (Vec::new(), Vec::new());
    for image in images {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", hex(&sha256(layer)));
            if !written.contains(&name) {
                let folder = sha256(name.as_bytes());
                archive.file(&name, layer).link(&format!("{}/layer.tar", hex(&folder)), &format!("../{name}"));
                archive.file(format!("{}/VERSION", hex(&folder)), b"1.0");
                archive.file(format!("{}/json", hex(&folder)), b"{}");
                written.push(name.clone());
            }
            layers.push(name);
        }
        let config = format!("{}.json", hex(&image.id()));
        archive.file(&config, &image.config);
        entries.push(entry(image, &config, &layers));
    }
    archive.file("repositories", &repositories(images, |image| hex(&image.id()).to_owned()));
    archive.file("manifest.json", Value::from(entries).to_string().as_bytes());
    archive.end()
}

fn jib(images: &[&Saved]) -> Vec<u8> {
    let mut archive = Archive::new();
    let (mut entries, mut written) = (Vec::new(), Vec::new());
    for (at, image) in images.iter().enumerate() {
        let mut layers = Vec::new();
        for packed in image.layers.iter().map(|layer| gzip(layer)) {
            let name = format!("{}.tar.gz", hex(&sha256(&packed)));
            if !written.contains(&name) {
                archive.file(&name, &packed);
                written.push(name.clone());
            }
            layers.push(name);
        }
        let config = if at == 0 { "config.json".to_owned() } else { format!("config-{at}.json") };
        archive.file(&config, &image.config);
        entries.push(entry(image, &config, &layers));
    }
    archive.file("manifest.json", Value::from(entries).to_string().as_bytes());
    archive.end()
}

/// What Docker writes since version 25; with `packed`, of an image whose layers its containerd store has compressed.
pub(crate) fn hybrid(images: &[&Saved], packed: bool) -> Vec<u8> {
    let (mut blobs, mut entries, mut listed) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut put = |media_type: &str, bytes: Vec<u8>| {
        let descriptor = json!({"mediaType": media_type, "digest": sha256(&bytes), "size": bytes.len()});
        blobs.insert(format!("blobs/sha256/{}", hex(&sha256(&bytes))), bytes);
        descriptor
    };
    for image in images {
        let config = put(CONFIG, image.config.clone());
        let layers = image.layers.iter().enumerate().map(|(at, layer)| {
            let mut layer = if packed { put(&format!("{LAYER}+gzip"), gzip(layer)) } else { put(LAYER, layer.clone()) };
            if at == 0 {
                layer["annotations"] = json!({"org.example.base": "yes"});
            }
            layer
        });
        let layers: Vec<Value> = layers.collect();
        let paths = layers.iter().map(|layer| format!("blobs/sha256/{}", hex(digest(layer)))).collect::<Vec<_>>();
        entries.push(entry(image, &format!("blobs/sha256/{}", hex(&image.id())), &paths));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
            "annotations": {"org.opencontainers.image.revision": "abc"},
        });
        let manifest = put(MANIFEST, manifest.to_string().into_bytes());
        for name in &image.names {
            let mut descriptor = manifest.clone();
            let tag = name.rsplit(':').next().unwrap_or(name);
            descriptor["annotations"] =
                json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
            listed.push(descriptor);
        }
    }
    let mut archive = Archive::new();
    archive.folder("blobs/").folder("blobs/sha256/");
    for (path, bytes) in &blobs {
        archive.file(path, bytes);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    archive.file("index.json", index.to_string().as_bytes());
    archive.file("manifest.json", Value::from(entries).to_string().as_bytes());
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    archive.file("repositories", &repositories(images, |image| hex(&image.id()).to_owned()));
    archive.end()
}

/// A manifest as a repository has it, which is read back from its digest.
#[track_caller]
pub(crate) fn manifest(ecr: &LocalEcr, repository: &str, digest: &str) -> Value {
    let bytes = ecr.manifest(repository, digest).unwrap_or_else(|| panic!("{repository} has no manifest {digest}"));
    assert_eq!(sha256(&bytes), digest);
    serde_json::from_slice(&bytes).expect("a manifest is JSON")
}

/// A blob as a repository has it, which is of the size and digest that this descriptor says.
#[track_caller]
pub(crate) fn blob(ecr: &LocalEcr, repository: &str, descriptor: &Value) -> Vec<u8> {
    let path = ecr.blob_path(repository, digest(descriptor));
    let path = path.unwrap_or_else(|| panic!("{repository} has no blob {descriptor}"));
    let bytes = fs::read(path).expect("local-ecr keeps it");
    assert_eq!(
        json!({"size": bytes.len(), "digest": sha256(&bytes)}),
        json!({"size": descriptor["size"], "digest": descriptor["digest"]})
    );
    bytes
}

/// Asserts that a repository has this image as an OCI image whose layers are packed like this (`+gzip`, `+zstd` or nothing):
/// its config byte for byte, its layers with the same content. Gives the manifest.
#[track_caller]
pub(crate) fn assert_pushed(ecr: &LocalEcr, repository: &str, root: &str, image: &Saved, packing: &str) -> Value {
    let document = manifest(ecr, repository, root);
    assert_eq!(document["schemaVersion"], 2);
    assert_eq!(document["mediaType"], MANIFEST);
    assert_eq!(document["config"]["mediaType"], CONFIG);
    assert!(blob(ecr, repository, &document["config"]) == image.config, "the config has changed");
    let layers = document["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), image.layers.len());
    for (descriptor, layer) in layers.iter().zip(&image.layers) {
        let media_type = descriptor["mediaType"].as_str().expect("a media type");
        assert_eq!(media_type, format!("{LAYER}{packing}"));
        assert!(unpacked(media_type, &blob(ecr, repository, descriptor)) == *layer, "{descriptor} has another content");
    }
    document
}
