//! The record of compressed layers, `layers.jsonl`: what came of which tar, by the recipe that it was compressed with.
//!
//! With it a layer that a registry has needs neither to be compressed nor read. It is a guess like any other: a layer under
//! the digest that it names must be found in the registry, or be made again, and what is made then is what counts.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{self, today};
use crate::oci::digest::Digest;

/// A compressed layer, as a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    diff_id: String,
    recipe: String,
    digest: String,
    size: u64,
    day: u64,
}

impl file::Line for Line {
    const FILE: &'static str = "layers.jsonl";
    const VERSION: u32 = 1;
    const MOST_LINES: usize = 5_000;
    const MOST_BYTES: usize = 2 * 1024 * 1024;
    type Key = (String, String);

    fn key(&self) -> Self::Key {
        (self.diff_id.clone(), self.recipe.clone())
    }

    fn day(&self) -> u64 {
        self.day
    }
}

/// A layer that was compressed in this run, or found in the registry as the record names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the tar.
    pub diff_id: Digest,
    /// What it was compressed with: `Compression::recipe`.
    pub recipe: String,
    /// The digest of the compressed layer.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// Which layers were compressed to what.
#[derive(Debug, Clone, Default)]
pub struct Layers(HashMap<(String, String), (Digest, u64)>);

impl Layers {
    /// What the file in `folder` says; nothing if it can't be read.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        Self::parse(&file::read::<Line>(folder), today())
    }

    fn parse(text: &str, today: u64) -> Self {
        let known = file::parse(text, today).filter_map(|line: Line| {
            let made = (Digest::parse(&line.digest).ok()?, line.size);
            Some(((line.diff_id, line.recipe), made))
        });
        Self(known.collect())
    }

    /// The digest and size that the tar of this digest had when it was last compressed so.
    #[must_use]
    pub fn known(&self, diff_id: &Digest, recipe: &str) -> Option<(Digest, u64)> {
        self.0.get(&(diff_id.as_str().to_owned(), recipe.to_owned())).cloned()
    }
}

/// Adds layers to the file in `folder`, or renews them. A failure is nobody's concern.
pub fn learn(folder: &Path, layers: &[Layer]) {
    let day = today();
    let lines = layers.iter().map(|layer| Line {
        diff_id: layer.diff_id.to_string(),
        recipe: layer.recipe.clone(),
        digest: layer.digest.to_string(),
        size: layer.size,
        day,
    });
    file::learn(folder, lines.collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn layer(tar: &str, recipe: &str, compressed: &str) -> Layer {
        let size = compressed.len() as u64;
        Layer { diff_id: digest(tar), recipe: recipe.to_owned(), digest: digest(compressed), size }
    }

    #[test]
    fn what_is_learned_is_known_by_tar_and_recipe() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Layers::read(folder.path()).known(&digest("a"), "gzip"), None);
        learn(folder.path(), &[layer("a", "gzip", "a.gz"), layer("a", "zstd", "a.zstd"), layer("b", "gzip", "b")]);
        let known = |tar: &str, recipe: &str| Layers::read(folder.path()).known(&digest(tar), recipe);
        assert_eq!(known("a", "gzip"), Some((digest("a.gz"), 4)));
        assert_eq!(known("a", "zstd"), Some((digest("a.zstd"), 6)));
        assert_eq!(known("a", "gzip-2"), None);
        learn(folder.path(), &[layer("a", "gzip", "other")]);
        assert_eq!(known("a", "gzip"), Some((digest("other"), 5)));
        assert_eq!(known("b", "gzip"), Some((digest("b"), 1)));
    }

    #[test]
    fn what_names_no_digest_is_not_known() {
        let line = |digest: &str| {
            format!(
                "{{\"version\":1}}\n{{\"diff_id\":\"{}\",\"recipe\":\"r\",\"digest\":\"{digest}\",\"size\":1,\"day\":9}}\n",
                self::digest("a")
            )
        };
        let known = |text: &str| Layers::parse(text, 9).known(&digest("a"), "r").is_some();
        assert!(known(&line(digest("b").as_str())));
        assert!(!known(&line("sha256:../../etc")));
    }
}
