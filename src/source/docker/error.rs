//! Why a docker archive can't be pushed from.

use std::path::PathBuf;

use thiserror::Error;

use crate::cause::Cause;
use crate::oci::digest::Digest;
use crate::source::layout::{Listed, list};
use crate::source::tar::TarError;

/// Why a docker archive can't be pushed from. An `offset` is that of a member's header in the file.
#[derive(Debug, Error)]
pub enum DockerError {
    /// A member can't be read, or is a link to nowhere.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It has no list of images.
    #[error("{} is no docker archive: it has no `manifest.json`", path.display())]
    NoManifest {
        /// The file.
        path: PathBuf,
    },
    /// Its list of images is empty.
    #[error("{} holds no image: its manifest.json, at byte {offset}, is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Where the list is.
        offset: u64,
    },
    /// `manifest.json` or a config isn't what it should be.
    #[error("{}: {member}, at byte {offset}, is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the member is.
        offset: u64,
        /// The member.
        member: String,
        /// Where in it, and why.
        source: Cause,
    },
    /// A config or a layer isn't there.
    #[error("{}: image {number} of its manifest.json, at byte {offset}, needs {member:?}, which isn't in it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where the list is.
        offset: u64,
        /// The image's number, from 1.
        number: usize,
        /// What isn't there.
        member: String,
    },
    /// A config is not the one that its name says.
    #[error("{} is corrupt: the config {named}, at byte {offset}, hashes to {found}", path.display())]
    ConfigDiffers {
        /// The file.
        path: PathBuf,
        /// Where the config is.
        offset: u64,
        /// What its name says.
        named: Digest,
        /// What it is.
        found: Digest,
    },
    /// An image has more or fewer layers than its config says.
    #[error(
        "{}: image {number} of its manifest.json, at byte {offset}, has {layers} layers, and its config {diff_ids}",
        path.display()
    )]
    LayersDiffer {
        /// The file.
        path: PathBuf,
        /// Where the list is.
        offset: u64,
        /// The image's number, from 1.
        number: usize,
        /// How many layers are listed.
        layers: usize,
        /// How many the config has.
        diff_ids: usize,
    },
    /// Two images with one config have different layers.
    #[error("{}: its manifest.json, at byte {offset}, has {digest} twice, with different layers", path.display())]
    TwoOfOneConfig {
        /// The file.
        path: PathBuf,
        /// Where the list is.
        offset: u64,
        /// The config.
        digest: Digest,
    },
    /// A layer is packed in a way that no registry's clients unpack.
    #[error("{}: the layer {member:?}, at byte {offset}, is packed with {packing}", path.display())]
    LayerPacked {
        /// The file.
        path: PathBuf,
        /// Where the layer is.
        offset: u64,
        /// The layer.
        member: String,
        /// How it is packed.
        packing: &'static str,
    },
    /// There are several images.
    #[error("{} holds {} images, and none was chosen:\n{}", path.display(), images.len(), list(images))]
    NoneChosen {
        /// The file.
        path: PathBuf,
        /// What there is.
        images: Vec<Listed>,
    },
    /// What was chosen isn't there.
    #[error("{} holds no image {wanted}; it holds:\n{}", path.display(), list(images))]
    NoSuchImage {
        /// The file.
        path: PathBuf,
        /// What was asked for, as typed.
        wanted: String,
        /// What there is.
        images: Vec<Listed>,
    },
    /// The name stands for several images.
    #[error("{} gives the name {name:?} to several images:\n{}", path.display(), list(images))]
    AmbiguousName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The images of that name.
        images: Vec<Listed>,
    },
}
