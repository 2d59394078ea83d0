//! The record of members, `members.jsonl`: which layer a member of an engine's export was.
//!
//! Engines without a content store name the layers of an export after something of their own, and say which layer
//! each was only at the end. This is a guess, made before a member is read: whoever follows it must see to it that the
//! export's config names that layer in that place.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{self, today};
use crate::oci::digest::Digest;

/// The longest name that is kept, in bytes: an ID of 64 digits, and what stands beside it.
const LONGEST_NAME: usize = 160;

/// A member, as a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    member: String,
    diff_id: String,
    day: u64,
}

impl file::Line for Line {
    const FILE: &'static str = "members.jsonl";
    const VERSION: u32 = 1;
    const MOST_LINES: usize = 5_000;
    const MOST_BYTES: usize = 1024 * 1024;
    type Key = String;

    fn key(&self) -> String {
        self.member.clone()
    }

    fn day(&self) -> u64 {
        self.day
    }
}

/// Which layers members were.
#[derive(Debug, Clone, Default)]
pub struct Members(HashMap<String, Digest>);

impl Members {
    /// What the file in `folder` says; nothing if it can't be read.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let text = file::read::<Line>(folder);
        let known = file::parse(&text, today())
            .filter_map(|line: Line| Some((line.member, Digest::parse(&line.diff_id).ok()?)));
        Self(known.collect())
    }

    /// The digest of the tar that a member of this name was.
    #[must_use]
    pub fn diff_id(&self, member: &str) -> Option<&Digest> {
        self.0.get(member)
    }
}

/// Adds members, each with the digest of the tar that it was, to the file in `folder`. A failure is nobody's concern.
pub fn learn(folder: &Path, members: &[(String, Digest)]) {
    let day = today();
    let short = members.iter().filter(|(member, _)| member.len() <= LONGEST_NAME);
    let lines = short.map(|(member, diff_id)| Line { member: member.clone(), diff_id: diff_id.to_string(), day });
    file::learn(folder, lines.collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    #[test]
    fn a_member_is_what_it_was_last() {
        let folder = tempfile::tempdir().unwrap();
        let digest = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
        let long = "x".repeat(LONGEST_NAME + 1);
        assert_eq!(Members::read(folder.path()).diff_id("a/layer.tar"), None);
        learn(folder.path(), &[("a/layer.tar".to_owned(), digest("a")), (long.clone(), digest("b"))]);
        learn(folder.path(), &[("b/layer.tar".to_owned(), digest("b"))]);
        let known = Members::read(folder.path());
        assert_eq!(known.diff_id("a/layer.tar"), Some(&digest("a")));
        assert_eq!(known.diff_id("b/layer.tar"), Some(&digest("b")));
        assert_eq!(known.diff_id(&long), None);
        learn(folder.path(), &[("a/layer.tar".to_owned(), digest("c"))]);
        assert_eq!(Members::read(folder.path()).diff_id("a/layer.tar"), Some(&digest("c")));
    }
}
