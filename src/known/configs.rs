//! The record of configs, `configs.jsonl`: bytes by their digest, so that an engine needn't export an image to tell what is in it.
//!
//! Nothing is given that doesn't hash to the digest that was asked for. A config is public to whoever may pull the image: what
//! is kept is what was pushed.

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::file::{self, today};
use crate::oci::digest::Digest;

/// The most bytes of a config that is kept.
const MOST_OF_ONE: usize = 256 * 1024;

/// A config, as a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    id: String,
    /// JSON as it was, and so text.
    config: String,
    day: u64,
}

impl file::Line for Line {
    const FILE: &'static str = "configs.jsonl";
    const VERSION: u32 = 1;
    const MOST_LINES: usize = 1_000;
    const MOST_BYTES: usize = 4 * 1024 * 1024;
    type Key = String;

    fn key(&self) -> String {
        self.id.clone()
    }

    fn day(&self) -> u64 {
        self.day
    }
}

/// The bytes of this digest, if the file in `folder` has them.
#[must_use]
pub fn get(folder: &Path, id: &Digest) -> Option<Bytes> {
    let text = file::read::<Line>(folder);
    let found = file::parse(&text, today()).find(|line: &Line| line.id == id.as_str())?;
    let bytes = Bytes::from(found.config);
    (Digest::of(id.algorithm(), &bytes) == *id).then_some(bytes)
}

/// Adds a config to the file in `folder`, if it isn't too long. A failure is nobody's concern.
pub fn learn(folder: &Path, config: &[u8]) {
    let Ok(text) = std::str::from_utf8(config) else { return };
    if config.len() > MOST_OF_ONE {
        return;
    }
    let id = Digest::of(crate::oci::digest::Algorithm::Sha256, config).to_string();
    file::learn(folder, vec![Line { id, config: text.to_owned(), day: today() }]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    fn digest(bytes: &[u8]) -> Digest {
        Digest::of(Algorithm::Sha256, bytes)
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let configs: [&[u8]; 3] = [b"{ \"os\":\t\"linux\"}\n", "{\"author\":\"Ren\u{e9} \\u0000\"}".as_bytes(), b""];
        for config in configs {
            assert_eq!(get(folder.path(), &digest(config)), None);
            learn(folder.path(), config);
            assert_eq!(get(folder.path(), &digest(config)).as_deref(), Some(config));
        }
    }

    #[test]
    fn what_is_too_long_or_no_text_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (config, is_kept) in
            [(vec![b' '; MOST_OF_ONE], true), (vec![b' '; MOST_OF_ONE + 1], false), (vec![0xff], false)]
        {
            learn(folder.path(), &config);
            assert_eq!(get(folder.path(), &digest(&config)).is_some(), is_kept, "{}", config.len());
        }
    }

    #[test]
    fn what_was_changed_is_not_given() {
        let folder = tempfile::tempdir().unwrap();
        learn(folder.path(), b"{\"os\":\"linux\"}");
        let path = folder.path().join("configs.jsonl");
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("linux", "minix")).unwrap();
        assert_eq!(get(folder.path(), &digest(b"{\"os\":\"linux\"}")), None);
    }

    #[test]
    fn the_latest_are_kept_where_not_all_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let config = |number: usize| format!("{number:04}").repeat(MOST_OF_ONE / 4);
        for number in 0..18 {
            learn(folder.path(), config(number).as_bytes());
        }
        let kept: Vec<_> = (0..18).filter(|n| get(folder.path(), &digest(config(*n).as_bytes())).is_some()).collect();
        assert_eq!(kept, (3..18).collect::<Vec<_>>());
    }
}
