//! An image as far as it is known before its layers are compressed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::compress::{Compression, Made};
use crate::image::{Content, Image, Raw};
use crate::oci::descriptor::MediaType;
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::ManifestError;
use crate::push::streams::Heard;
use crate::repack::assemble::{Layer, assemble};
use crate::repack::{self, RepackError, Repacked};

/// What is read of SOURCE.
#[derive(Debug, Clone)]
pub(super) enum Draft {
    /// An image of manifests that somebody made already.
    Image(Image),
    /// What docker keeps: a config and layers. Its manifest is made here.
    Docker(Docker),
}

/// A config and layers.
#[derive(Debug, Clone)]
pub(super) struct Docker {
    /// The config's bytes; `None` as long as only an engine's export can give them.
    pub(super) config: Option<Bytes>,
    /// The layers, the base first.
    pub(super) layers: Vec<DockerLayer>,
    /// The manifest's annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Bytes of all layers in SOURCE, as far as is known.
    pub(super) size: u64,
    /// The engine's name for it, which mostly is the config's digest.
    pub(super) id: Option<Digest>,
    /// Whether an engine has it.
    pub(super) exported: bool,
}

/// A layer of what docker keeps.
#[derive(Debug, Clone)]
pub(super) enum DockerLayer {
    /// It is compressed, and sent as it is.
    Ready(Layer),
    /// It isn't.
    Raw(Arc<Raw>, BTreeMap<String, String>),
}

pub(super) use crate::repack::Layers;

impl Draft {
    /// The layers that have to be made, once each; with `all` those, too, that are compressed already.
    pub(super) fn raws(&self, all: bool) -> Result<Vec<Arc<Raw>>, RepackError> {
        let mut raws = match self {
            Self::Image(image) if all => repack::layers(image)?,
            Self::Image(_) => Vec::new(),
            Self::Docker(docker) => docker.layers.iter().filter_map(DockerLayer::raw).collect(),
        };
        let mut seen = HashSet::new();
        raws.retain(|raw| seen.insert(raw.digest.clone()));
        Ok(raws)
    }

    /// Takes in the config, where only an export could give it.
    pub(super) fn hear(&mut self, heard: &Heard) -> Result<(), RepackError> {
        if let Self::Docker(docker) = self
            && docker.config.is_none()
        {
            docker.config = Some(docker.find_config(heard)?);
        }
        Ok(())
    }

    /// The config, where an engine had to be asked for it.
    pub(super) fn heard_config(&self) -> Option<Bytes> {
        match self {
            Self::Image(_) => None,
            Self::Docker(docker) => docker.config.clone().filter(|_| docker.exported),
        }
    }

    /// How many blobs it will have.
    pub(super) fn blobs(&self) -> usize {
        match self {
            Self::Image(image) => image.blobs().count(),
            Self::Docker(docker) => docker.layers.len() + 1,
        }
    }

    /// The digest of the manifest that somebody made already.
    pub(super) fn root(&self) -> Option<&Digest> {
        match self {
            Self::Image(image) => Some(&image.root().manifest.digest),
            Self::Docker(_) => None,
        }
    }

    /// The image with these layers, which must be all that have to be made; `None` while one is lacking, or the config.
    pub(super) fn image(&self, made: &Layers) -> Option<Result<Image, ManifestError>> {
        match self {
            Self::Image(image) if made.is_empty() => Some(Ok(image.clone())),
            Self::Image(image) => Some(repack::rewrite(image, made)),
            Self::Docker(docker) => {
                let layers: Option<Vec<Layer>> = docker.layers.iter().map(|layer| layer.made(made)).collect();
                Some(assemble(docker.config.as_ref()?, layers?, &docker.annotations))
            }
        }
    }
}

impl Docker {
    /// The document of an export that has just these layers.
    fn find_config(&self, heard: &Heard) -> Result<Bytes, RepackError> {
        let wanted: Vec<&Digest> = self.layers.iter().filter_map(DockerLayer::diff_id).collect();
        let is_it = |bytes: &&Bytes| {
            repack::diff_ids_of(bytes).is_some_and(|diff_ids| diff_ids.iter().collect::<Vec<_>>() == wanted)
        };
        let named = |bytes: &&Bytes| self.id.as_ref() == Some(&Digest::of(Algorithm::Sha256, bytes));
        let documents = || heard.documents.values().filter(is_it);
        documents().find(named).or_else(|| documents().next()).cloned().ok_or(RepackError::NoConfig)
    }
}

impl DockerLayer {
    fn diff_id(&self) -> Option<&Digest> {
        match self {
            Self::Ready(_) => None,
            Self::Raw(raw, _) => Some(&raw.diff_id),
        }
    }

    fn raw(&self) -> Option<Arc<Raw>> {
        match self {
            Self::Ready(_) => None,
            Self::Raw(raw, _) => Some(raw.clone()),
        }
    }

    fn made(&self, made: &Layers) -> Option<Layer> {
        Some(match self {
            Self::Ready(layer) => layer.clone(),
            Self::Raw(raw, annotations) => {
                let Repacked { digest, size, media_type, content } = made.get(&raw.digest)?.clone();
                Layer { digest, size, media_type, annotations: annotations.clone(), content }
            }
        })
    }
}

/// A layer that was made, or will be again when a registry lacks it.
pub(super) fn repacked(raw: &Arc<Raw>, compression: &Compression, digest: Digest, size: u64) -> Repacked {
    let media_type = MediaType::from(compression.layer_media_type());
    Repacked { digest, size, media_type, content: Content::Made(raw.clone()) }
}

/// The same with its bytes, for what is small.
pub(super) fn held(compression: &Compression, made: &Made, bytes: Bytes) -> Repacked {
    let media_type = MediaType::from(compression.layer_media_type());
    Repacked { digest: made.digest.clone(), size: made.size, media_type, content: Content::Held(bytes) }
}
