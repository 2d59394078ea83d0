//! What is in SOURCE: its images as a tree, with sizes, and all that a push would find wrong with them.
//!
//! A value, made by reading; changes nothing and asks no registry. Blobs are hashed, as a push would while it sends them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::cause::chain;
use crate::compress::Packing;
use crate::error::Error;
use crate::image::{Blob, Content, Node, Part};
use crate::oci::descriptor::{Descriptor, Kind, MediaType, Platform};
use crate::oci::digest::{Digest, Verifier};
use crate::oci::manifest::Body;
use crate::reach::Access;
use crate::source::archive::Archive;
use crate::source::docker::{DockerArchive, DockerImage, DockerLayer};
use crate::source::engine::{Engine, EngineImage, EngineSettings};
use crate::source::folder::FileError;
use crate::source::layout::{Layout, LayoutError};
use crate::source::lock;
use crate::source::walk::Defect;
use crate::source::{Choice, Form, Place, Source};

/// What is read of a blob at once, in bytes.
const PIECE: usize = 256 * 1024;

/// What is to be inspected, and how.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// SOURCE. With a choice, only the image that it chooses.
    pub source: Source,
    /// Blobs may be symbolic links that lead out of the layout.
    pub follow_symlinks: bool,
    /// The folder for what has to be unpacked.
    pub temporary: PathBuf,
    /// Where engines are.
    pub engine: EngineSettings,
    /// How an engine behind a port is reached.
    pub access: Access,
}

/// What SOURCE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// An OCI image layout folder.
    Layout,
    /// A tar of an OCI image layout.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
    /// A Docker or Podman engine.
    Engine,
}

/// All that is in SOURCE.
#[derive(Debug)]
pub struct Inventory {
    /// What SOURCE is.
    pub holder: Holder,
    /// Its images.
    pub images: Vec<Entry>,
    /// Bytes of all of them, each manifest and blob once.
    pub total: u64,
    /// How many of these bytes several images need.
    pub shared: u64,
    /// Why a push of one of them would find SOURCE broken.
    pub error: Option<Error>,
}

/// An image that can be chosen.
#[derive(Debug)]
pub struct Entry {
    /// Its names.
    pub names: Vec<String>,
    /// Its manifest, index or, where docker keeps it, config.
    pub root: Branch,
    /// Its bytes with all that refers to it, each manifest and blob once.
    pub size: u64,
    /// What is wrong with it.
    pub defects: Vec<String>,
}

/// What a manifest is in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An image for one platform.
    Image,
    /// A list of others.
    Index,
    /// What BuildKit says of an image beside it.
    Attestation,
    /// A signature, an SBOM, a chart: something that doesn't run.
    Artifact,
    /// A config and layers whose manifest is made when they are pushed.
    DockerImage,
    /// It can't be read.
    Unreadable,
}

/// A manifest, with all below it.
#[derive(Debug)]
pub struct Branch {
    /// What it is.
    pub what: What,
    /// Its digest; an image ID where there is no manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
    /// What it runs on.
    pub platform: Option<Platform>,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// Its config.
    pub config: Option<Piece>,
    /// Its layers, the base first.
    pub layers: Vec<Piece>,
    /// The manifests of an index.
    pub children: Vec<Branch>,
    /// What refers to it.
    pub referrers: Vec<Branch>,
}

/// A blob of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its digest; that of its content where docker keeps it.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its size in bytes; none where only an engine's export would tell.
    pub size: Option<u64>,
    /// What it is compressed with; `none` for what isn't.
    pub compression: &'static str,
    /// Whether it is in SOURCE, or left to whoever may distribute it.
    pub is_held: bool,
}

/// Looks at all that is in SOURCE, or at the image that it chooses.
///
/// # Errors
/// When there is nothing that can be looked at; what is wrong with single images is in the inventory.
pub async fn inspect(inspection: Inspection) -> Result<Inventory, Error> {
    if let Place::Engine { image } = &inspection.source.place {
        let (_, found) = Engine::find(&inspection.engine, &inspection.access, image).await?;
        return Ok(in_engine(found));
    }
    tokio::task::spawn_blocking(move || at_rest(&inspection)).await.map_err(Error::task)?
}

/// What is in a folder, a file or standard input.
fn at_rest(inspection: &Inspection) -> Result<Inventory, Error> {
    let choice = &inspection.source.choice;
    let archive = match &inspection.source.place {
        Place::Path { path, said } if *said == Some(Form::Layout) || said.is_none() && path.is_dir() => {
            let _lock = lock::shared(path, || false).map_err(|_| LayoutError::Locked { path: path.clone() })?;
            let layout = Layout::open(path, inspection.follow_symlinks)?;
            return Ok(in_layout(&layout, Holder::Layout, choice, path)?);
        }
        Place::Path { path, said } => Archive::open(path, *said, &inspection.temporary)?,
        Place::StandardInput | Place::Engine { .. } => Archive::standard_input(&inspection.temporary)?,
    };
    if archive.form() == Form::DockerArchive {
        let docker = DockerArchive::open(Arc::new(archive))?;
        let images = match choice {
            Choice::Only => docker.images(),
            Choice::Name(_) | Choice::Digest(_) => std::slice::from_ref(docker.choose(choice)?),
        };
        return Ok(inventory(Holder::DockerArchive, images.iter().map(saved).collect(), None));
    }
    let path = archive.path().to_owned();
    Ok(in_layout(&Layout::in_archive(&archive)?, Holder::OciArchive, choice, &path)?)
}

fn in_layout(layout: &Layout, holder: Holder, choice: &Choice, path: &Path) -> Result<Inventory, LayoutError> {
    let (mut entries, mut all, mut told) = (Vec::new(), Vec::new(), HashSet::new());
    let chosen = match choice {
        Choice::Only => None,
        Choice::Name(_) | Choice::Digest(_) => Some(layout.choose(choice)?.descriptor.digest),
    };
    for image in layout.images() {
        if chosen.as_ref().is_some_and(|chosen| *chosen != image.digest) {
            continue;
        }
        let descriptor = layout.choose(&Choice::Digest(image.digest))?.descriptor;
        let mut found = layout.look(&descriptor, true);
        found.blobs.retain(|_, blob| match corrupt(blob) {
            Some(defect) => {
                found.defects.push(defect);
                false
            }
            None => true,
        });
        let tree = Tree {
            nodes: found.nodes.iter().map(|node| (&node.manifest.digest, node)).collect(),
            blobs: &found.blobs,
            withheld: found.withheld.iter().map(|layer| (&layer.digest, layer.held)).collect(),
        };
        let root = tree.branch(&descriptor, 0);
        let defects = found.defects.iter().map(|defect| chain(defect)).collect();
        entries.push(Entry { names: image.names, size: 0, root, defects });
        // What several images have is wrong once.
        all.extend(found.defects.into_iter().filter(|defect| told.insert(chain(defect))));
    }
    if entries.is_empty() {
        // A layout may have something that refers to an image elsewhere as its only content.
        layout.choose(choice)?;
    }
    let error = (!all.is_empty()).then(|| LayoutError::Defects { path: path.to_owned(), defects: all }.into());
    Ok(inventory(holder, entries, error))
}

/// What is wrong with a blob that wasn't hashed when it was looked at.
fn corrupt(blob: &Blob) -> Option<Defect> {
    let part = match &blob.content {
        Content::File(path) => {
            File::open(path).map(|file| Part { file: Arc::new(file), path: path.clone(), offset: 0, length: u64::MAX })
        }
        Content::Part(part) => Ok(part.clone()),
        Content::Held(_) | Content::Made(_) => return None,
    };
    let verify = |part: Part| {
        let mut verifier = Verifier::new(&blob.digest, blob.size);
        let (mut buffer, mut at) = (vec![0; PIECE], 0);
        loop {
            match part.fill(&mut buffer, at)? {
                0 => break io::Result::Ok(verifier.finish()),
                length => {
                    verifier.update(&buffer[..length]);
                    at += length as u64;
                }
            }
        }
    };
    match part.and_then(verify) {
        Ok(Ok(())) => None,
        Ok(Err(mismatch)) => Some(FileError::Content(mismatch).into()),
        Err(source) => Some(FileError::Unreadable { digest: blob.digest.clone(), source }.into()),
    }
}

/// What was found of an image.
struct Tree<'a> {
    nodes: HashMap<&'a Digest, &'a Node>,
    blobs: &'a BTreeMap<Digest, Blob>,
    /// Layers that must not be distributed, and whether they are there all the same.
    withheld: HashMap<&'a Digest, bool>,
}

impl Tree<'_> {
    fn branch(&self, descriptor: &Descriptor, depth: usize) -> Branch {
        let digest = &descriptor.digest;
        let mut branch = Branch {
            what: What::Unreadable,
            digest: digest.clone(),
            media_type: descriptor.media_type.clone(),
            size: descriptor.size,
            platform: descriptor.platform.clone().filter(is_known),
            artifact_type: None,
            config: None,
            layers: Vec::new(),
            children: Vec::new(),
            referrers: Vec::new(),
        };
        let Some(node) = self.nodes.get(digest) else { return branch };
        match &node.manifest.body {
            Body::Index { manifests } => {
                branch.what = What::Index;
                branch.children = manifests.iter().map(|child| self.branch(child, depth + 1)).collect();
            }
            Body::Image { config, layers } => {
                branch.platform = branch.platform.take().or_else(|| self.platform(config));
                branch.what = match (descriptor.is_attestation(), &branch.platform) {
                    (true, _) => What::Attestation,
                    (false, Some(_)) => What::Image,
                    (false, None) => What::Artifact,
                };
                branch.config = Some(self.piece(config));
                branch.layers = layers.iter().map(|layer| self.piece(layer)).collect();
            }
        }
        if branch.what == What::Artifact {
            branch.artifact_type.clone_from(&node.manifest.artifact_type);
        }
        branch.referrers = self.referrers(digest, depth);
        branch
    }

    fn referrers(&self, subject: &Digest, depth: usize) -> Vec<Branch> {
        let refers = |node: &&&Node| node.manifest.subject.as_ref().is_some_and(|of| of.digest == *subject);
        let mut found: Vec<&Node> = self.nodes.values().filter(refers).copied().collect();
        found.sort_by(|one, other| one.manifest.digest.cmp(&other.manifest.digest));
        let branch = |node: &Node| {
            let manifest = &node.manifest;
            let descriptor = Descriptor {
                media_type: manifest.media_type.clone(),
                digest: manifest.digest.clone(),
                size: manifest.bytes.len() as u64,
                data: None,
                annotations: None,
                platform: None,
            };
            let mut branch = self.branch(&descriptor, depth + 1);
            branch.artifact_type.clone_from(&manifest.artifact_type);
            if branch.what != What::Index {
                branch.what = What::Artifact;
                branch.platform = None;
            }
            branch
        };
        found.into_iter().map(branch).collect()
    }

    fn piece(&self, descriptor: &Descriptor) -> Piece {
        let held = self.withheld.get(&descriptor.digest).copied();
        Piece {
            digest: descriptor.digest.clone(),
            media_type: descriptor.media_type.clone(),
            size: Some(descriptor.size),
            compression: compression(&descriptor.media_type),
            is_held: held.unwrap_or_else(|| self.blobs.contains_key(&descriptor.digest)),
        }
    }

    /// What an image runs on, as its config says.
    fn platform(&self, config: &Descriptor) -> Option<Platform> {
        #[derive(Deserialize)]
        struct Config {
            os: String,
            architecture: String,
            variant: Option<String>,
        }
        let bytes = self.blobs.get(&config.digest)?.content.read().ok()?;
        let Config { os, architecture, variant } = serde_json::from_slice(&bytes).ok()?;
        let variant = variant.filter(|variant| !variant.is_empty());
        Some(Platform { os, architecture, variant }).filter(is_known)
    }
}

/// BuildKit gives what doesn't run a platform that isn't one.
fn is_known(platform: &Platform) -> bool {
    platform.os != "unknown"
}

/// What a layer's media type says of its compression; of other blobs it says nothing.
fn compression(media_type: &MediaType) -> &'static str {
    match media_type.as_str().rsplit(['+', '.']).next() {
        Some("zstd") => "zstd",
        Some("gzip") => "gzip",
        _ => "none",
    }
}

/// The media type of a config that docker keeps.
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// That of a layer.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// An image of a docker archive.
fn saved(image: &DockerImage) -> Entry {
    let layer = |layer: &DockerLayer| {
        let (compression, media_type) = match layer.packing {
            Packing::Nothing => ("none", DOCKER_LAYER.to_owned()),
            packing => (packing.name(), format!("{DOCKER_LAYER}.{}", packing.name())),
        };
        Piece {
            digest: layer.diff_id.clone(),
            media_type: MediaType::from(media_type.as_str()),
            size: Some(layer.part.length),
            compression,
            is_held: true,
        }
    };
    let layers = image.layers.iter().map(layer).collect();
    let root = docker_image(&image.config_digest, image.config.len() as u64, &image.platform, layers);
    Entry { names: image.names.clone(), root, size: 0, defects: Vec::new() }
}

/// An image of an engine, which tells what it has without exporting it: not how large single layers are.
fn in_engine(image: EngineImage) -> Inventory {
    let layer = |diff_id: &Digest| Piece {
        digest: diff_id.clone(),
        media_type: MediaType::from(DOCKER_LAYER),
        size: None,
        compression: "none",
        is_held: true,
    };
    let layers: Vec<Piece> = image.diff_ids.iter().map(layer).collect();
    let Ok(id) = Digest::parse(&image.id) else {
        return Inventory { holder: Holder::Engine, images: Vec::new(), total: 0, shared: 0, error: None };
    };
    let root = docker_image(&id, 0, &image.platform, layers);
    let entry = Entry { names: image.names, root, size: image.size, defects: Vec::new() };
    Inventory { holder: Holder::Engine, images: vec![entry], total: image.size, shared: 0, error: None }
}

fn docker_image(id: &Digest, size: u64, platform: &Platform, layers: Vec<Piece>) -> Branch {
    Branch {
        what: What::DockerImage,
        digest: id.clone(),
        media_type: MediaType::from(DOCKER_CONFIG),
        size,
        platform: Some(platform.clone()),
        artifact_type: None,
        config: None,
        layers,
        children: Vec::new(),
        referrers: Vec::new(),
    }
}

/// Reckons what belongs to whom.
fn inventory(holder: Holder, mut images: Vec<Entry>, error: Option<Error>) -> Inventory {
    let mut needed: HashMap<Digest, (u64, usize)> = HashMap::new();
    for image in &mut images {
        let mut sizes = HashMap::new();
        image.root.sizes(&mut sizes);
        image.size = sizes.values().sum();
        for (digest, size) in sizes {
            needed.entry(digest).or_insert((size, 0)).1 += 1;
        }
    }
    let total = needed.values().map(|(size, _)| size).sum();
    let shared = needed.values().filter(|(_, images)| *images > 1).map(|(size, _)| size).sum();
    Inventory { holder, images, total, shared, error }
}

impl Branch {
    /// The sizes of all that is there, by digest.
    fn sizes(&self, sizes: &mut HashMap<Digest, u64>) {
        if self.what != What::Unreadable {
            sizes.insert(self.digest.clone(), self.size);
        }
        for piece in self.config.iter().chain(&self.layers).filter(|piece| piece.is_held) {
            sizes.insert(piece.digest.clone(), piece.size.unwrap_or(0));
        }
        for branch in self.children.iter().chain(&self.referrers) {
            branch.sizes(sizes);
        }
    }

    /// Whether it is a list of other manifests.
    #[must_use]
    pub fn is_index(&self) -> bool {
        self.what == What::Index || self.media_type.kind() == Kind::Index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(crate::oci::digest::Algorithm::Sha256, text.as_bytes())
    }

    fn entry(id: &str, layers: &[(&str, u64)]) -> Entry {
        let piece = |(name, size): &(&str, u64)| Piece {
            digest: digest(name),
            media_type: MediaType::from(DOCKER_LAYER),
            size: Some(*size),
            compression: "none",
            is_held: *size != 7,
        };
        let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None };
        let root = docker_image(&digest(id), 1, &platform, layers.iter().map(piece).collect());
        Entry { names: Vec::new(), root, size: 0, defects: Vec::new() }
    }

    #[test]
    fn what_is_there_counts_once() {
        let check = |images: Vec<Entry>, sizes: &[u64], total: u64, shared: u64| {
            let found = inventory(Holder::DockerArchive, images, None);
            assert_eq!(found.images.iter().map(|image| image.size).collect::<Vec<_>>(), sizes);
            assert_eq!((found.total, found.shared), (total, shared));
        };
        check(vec![], &[], 0, 0);
        check(vec![entry("a", &[("x", 10), ("x", 10), ("y", 5)])], &[16], 16, 0);
        check(vec![entry("a", &[("x", 10)]), entry("b", &[("x", 10), ("y", 5)])], &[11, 16], 17, 10);
        // What must not be distributed and isn't there takes no room.
        check(vec![entry("a", &[("x", 7)])], &[1], 1, 0);
    }

    #[test]
    fn media_types_tell_the_compression() {
        let check = |text: &str, expected: &str| assert_eq!(compression(&MediaType::from(text)), expected, "{text}");
        check("application/vnd.oci.image.layer.v1.tar+gzip", "gzip");
        check("application/vnd.oci.image.layer.v1.tar+zstd", "zstd");
        check("application/vnd.oci.image.layer.v1.tar", "none");
        check("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip");
        check("application/vnd.oci.image.config.v1+json", "none");
    }
}
