//! A layout read back: what has to be in a registry afterwards.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixtures::layout::blob_path;

/// A manifest as it lies there.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// The one image of a layout.
#[derive(Debug)]
pub(crate) struct Image {
    /// Children before what points to them; the root last.
    pub(crate) manifests: Vec<Manifest>,
    /// Digests and sizes, each once.
    pub(crate) blobs: Vec<(String, u64)>,
}

impl Image {
    /// Reads a layout that this workspace has made.
    pub(crate) fn read(layout: &Path) -> Result<Self, Box<dyn Error>> {
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
        let mut image = Self { manifests: Vec::new(), blobs: Vec::new() };
        let roots = index["manifests"].as_array().filter(|roots| roots.len() == 1);
        image.add(layout, &roots.ok_or("a layout of one image is expected")?[0])?;
        Ok(image)
    }

    fn add(&mut self, layout: &Path, descriptor: &Value) -> Result<(), Box<dyn Error>> {
        let text = |field: &str| descriptor[field].as_str().unwrap_or_default().to_owned();
        let (digest, media_type) = (text("digest"), text("mediaType"));
        let bytes = fs::read(file(layout, &digest))?;
        let manifest: Value = serde_json::from_slice(&bytes)?;
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            self.add(layout, child)?;
        }
        let config = manifest.get("config");
        for blob in manifest["layers"].as_array().into_iter().flatten().chain(config) {
            let (Some(digest), Some(size)) = (blob["digest"].as_str(), blob["size"].as_u64()) else { continue };
            if self.blobs.iter().all(|(known, _)| known != digest) {
                self.blobs.push((digest.to_owned(), size));
            }
        }
        self.manifests.push(Manifest { digest, media_type, bytes });
        Ok(())
    }

    /// The digest of the manifest at its top.
    pub(crate) fn root(&self) -> &str {
        self.manifests.last().map_or("", |root| &root.digest)
    }
}

/// The file of a blob.
pub(crate) fn file(layout: &Path, digest: &str) -> PathBuf {
    layout.join(blob_path(digest))
}
