//! The tree of manifests and blobs that a push carries. A value: it knows neither registry nor layout.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::oci::descriptor::{Descriptor, MediaType, Platform};
use crate::oci::digest::Digest;
use crate::oci::manifest::{Body, Manifest};

/// Bytes within a file that is open, such as a member of a tar.
#[derive(Debug, Clone)]
pub struct Part {
    /// The file. Reading is always by offset: it is shared.
    pub file: Arc<File>,
    /// What it is called, for people.
    pub path: PathBuf,
    /// Where the bytes begin in it.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
}

impl Part {
    /// Reads from its byte `at` on until the buffer is full or the part ends, and says how many bytes were read.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn fill(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let mut length = 0;
        while length < most {
            match self.file.read_at(&mut buffer[length..most], self.offset + at + length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    }
}

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory, and hashed already: small blobs, and those that a descriptor carries in its `data`.
    Held(Bytes),
    /// In a file, to be hashed while it is sent.
    File(PathBuf),
    /// In a part of a file, to be hashed while it is sent. As long as the blob's size says.
    Part(Part),
    /// Made on its way to the registry, out of a layer of SOURCE.
    Made(Arc<Raw>),
}

impl Content {
    /// All of its bytes; for what is small.
    ///
    /// # Errors
    /// When they can't be read, or aren't there to be read.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Held(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path).map(Bytes::from),
            Self::Part(part) => {
                let length = usize::try_from(part.length).map_err(|_| io::ErrorKind::FileTooLarge)?;
                let mut bytes = vec![0; length];
                let read = part.fill(&mut bytes, 0)?;
                bytes.truncate(read);
                Ok(bytes.into())
            }
            Self::Made(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A layer of SOURCE that isn't sent as it is, but compressed on its way.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The digest of its bytes in SOURCE; that of its content where nothing else is known.
    pub digest: Digest,
    /// The digest of its content, uncompressed, as its image's config says.
    pub diff_id: Digest,
    /// Its size in SOURCE in bytes; 0 where only an export will tell.
    pub size: u64,
    /// What it is in the first image that has it.
    pub role: Role,
    /// Where its bytes are; `None` where only an engine's export gives them.
    pub content: Option<Content>,
    /// Whether it is sent as it is, all the same: it passes by in an export, and is no file to be read.
    pub as_is: bool,
}

/// What a blob is in its image; for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The config.
    Config,
    /// A layer.
    Layer {
        /// Its number, from 1, the base first.
        number: usize,
        /// How many there are.
        of: usize,
    },
}

/// A blob to push.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: MediaType,
    /// What it is in the first image that has it.
    pub role: Role,
    /// Where its bytes are.
    pub content: Content,
}

/// A layer that its licence forbids to distribute: it is never uploaded.
#[derive(Debug, Clone)]
pub struct Withheld {
    /// Its digest.
    pub digest: Digest,
    /// Whether SOURCE holds it all the same.
    pub held: bool,
}

/// A manifest in its tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// The manifest.
    pub manifest: Manifest,
    /// The blobs that have to be there before it.
    pub blobs: Vec<Digest>,
    /// 0 for a manifest without children, else one more than its highest child.
    pub height: usize,
}

impl Node {
    /// The manifests that have to be there before it.
    pub fn children(&self) -> impl Iterator<Item = &Digest> {
        self.manifest.children().iter().map(|child| &child.digest)
    }
}

/// An image with everything that belongs to it.
#[derive(Debug, Clone)]
pub struct Image {
    nodes: Vec<Node>,
    by_digest: HashMap<Digest, usize>,
    root: Digest,
    referrers: Vec<Digest>,
    blobs: BTreeMap<Digest, Blob>,
    withheld: Vec<Withheld>,
}

impl Image {
    /// Puts an image together.
    ///
    /// `nodes` has children before parents and subjects before referrers; `root` and `referrers` are among them.
    #[must_use]
    pub fn new(
        nodes: Vec<Node>,
        root: Digest,
        referrers: Vec<Digest>,
        blobs: BTreeMap<Digest, Blob>,
        withheld: Vec<Withheld>,
    ) -> Self {
        let by_digest = nodes.iter().enumerate().map(|(at, node)| (node.manifest.digest.clone(), at)).collect();
        Self { nodes, by_digest, root, referrers, blobs, withheld }
    }

    /// Every manifest: children before parents, subjects before referrers.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The images below the root that can run, each with its platform if an index names one: the root itself, unless it is an
    /// index.
    #[must_use]
    pub fn runnable(&self) -> Vec<(&Digest, Option<&Platform>)> {
        let mut found = Vec::new();
        let mut waiting: Vec<(&Node, Option<&Platform>)> = vec![(self.root(), None)];
        while let Some((node, platform)) = waiting.pop() {
            let digest = &node.manifest.digest;
            if matches!(node.manifest.body, Body::Image { .. }) && !found.iter().any(|(known, _)| *known == digest) {
                found.push((digest, platform));
            }
            let children = node.manifest.children().iter().rev().filter(|child| !child.is_attestation());
            waiting.extend(children.filter_map(|child| Some((self.node(&child.digest)?, child.platform.as_ref()))));
        }
        found
    }

    /// The manifest of that digest.
    #[must_use]
    pub fn node(&self, digest: &Digest) -> Option<&Node> {
        self.by_digest.get(digest).map(|at| &self.nodes[*at])
    }

    /// The root manifest: the one that tags name.
    ///
    /// # Panics
    /// Never: [`Image::new`] is given the root among the nodes.
    #[must_use]
    #[expect(clippy::expect_used, reason = "an image without its root is a bug, not a bad input")]
    pub fn root(&self) -> &Node {
        self.node(&self.root).expect("the root is among the nodes")
    }

    /// Manifests in SOURCE that refer to this image: signatures, SBOMs, attestations; a subject before its referrers.
    #[must_use]
    pub fn referrers(&self) -> &[Digest] {
        &self.referrers
    }

    /// Every blob, once.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.values()
    }

    /// The blob of that digest.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<&Blob> {
        self.blobs.get(digest)
    }

    /// The blob that is made out of the layer which has this digest in SOURCE.
    #[must_use]
    pub fn made_of(&self, layer: &Digest) -> Option<&Blob> {
        self.blobs.values().find(|blob| matches!(&blob.content, Content::Made(raw) if raw.digest == *layer))
    }

    /// Layers that are never uploaded.
    #[must_use]
    pub fn withheld(&self) -> &[Withheld] {
        &self.withheld
    }

    /// Bytes of all blobs and manifests.
    #[must_use]
    pub fn size(&self) -> u64 {
        let manifests: usize = self.nodes.iter().map(|node| node.manifest.bytes.len()).sum();
        self.blobs.values().map(|blob| blob.size).sum::<u64>() + manifests as u64
    }
}

/// The role of the `at`-th of a manifest's blobs, the config being the first.
#[must_use]
pub fn role(at: usize, blobs: &[&Descriptor]) -> Role {
    if at == 0 { Role::Config } else { Role::Layer { number: at, of: blobs.len() - 1 } }
}
