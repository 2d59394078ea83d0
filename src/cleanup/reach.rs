//! What the images that stay in a layout need. Keeps too much rather than too little.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use super::CleanupError;
use super::blobs::is_absent;
use crate::oci::descriptor::{Descriptor, Kind};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{MAX_SIZE, Manifest};
use crate::source::files::Files;
use crate::source::folder::{FileError, Folder};
use crate::source::walk::{Defect, bytes};

/// Everything that entries of an index reach: manifests, configs, layers, and the subjects of signatures.
pub(super) struct Reach<'a> {
    folder: &'a Folder,
    files: Files,
    found: HashSet<Digest>,
    walked: HashSet<Digest>,
}

impl<'a> Reach<'a> {
    /// Of no entry yet.
    pub(super) fn of(folder: &'a Folder) -> Self {
        Self { folder, files: Files::Folder(folder.clone()), found: HashSet::new(), walked: HashSet::new() }
    }

    /// Everything that these reach.
    ///
    /// # Errors
    /// As [`Reach::add`].
    pub(super) fn of_all(folder: &'a Folder, entries: &[Descriptor]) -> Result<HashSet<Digest>, CleanupError> {
        let mut reach = Self::of(folder);
        entries.iter().try_for_each(|entry| reach.add(entry))?;
        Ok(reach.all())
    }

    /// Takes in what an entry reaches. A manifest that isn't there reaches nothing.
    ///
    /// # Errors
    /// When a manifest is there and can't be understood: nobody knows then what it needs.
    pub(super) fn add(&mut self, entry: &Descriptor) -> Result<(), CleanupError> {
        let path = || self.folder.root().to_owned();
        let unclear = |defect| CleanupError::Unclear { path: path(), defect: Box::new(defect) };
        let mut unknown = Vec::new();
        let mut waiting = vec![entry.clone()];
        while let Some(descriptor) = waiting.pop() {
            let digest = &descriptor.digest;
            self.found.insert(digest.clone());
            if !matches!(descriptor.media_type.kind(), Kind::Image | Kind::Index) {
                unknown.push(digest.clone());
                continue;
            }
            if self.walked.contains(digest) {
                continue;
            }
            if descriptor.size > MAX_SIZE {
                return Err(unclear(Defect::TooLarge { digest: digest.clone(), size: descriptor.size }));
            }
            let bytes = match bytes(&self.files, &descriptor) {
                Ok(bytes) => bytes,
                Err(Defect::File(FileError::Missing { .. })) => continue,
                Err(defect) => return Err(unclear(defect)),
            };
            // Only now: another descriptor of the same manifest may carry it in its `data`.
            self.walked.insert(digest.clone());
            let manifest = Manifest::parse(&descriptor.media_type, digest, bytes)
                .map_err(|source| unclear(Defect::Manifest { digest: digest.clone(), source }))?;
            self.found.extend(manifest.blobs().map(|blob| blob.digest.clone()));
            waiting.extend(manifest.children().iter().cloned());
            waiting.extend(manifest.subject);
        }
        self.found.extend(mentioned(self.folder, unknown)?);
        Ok(())
    }

    /// Whether something reaches it.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.found.contains(digest)
    }

    /// All of it, with what symbolic links within the layout lead to.
    pub(super) fn all(mut self) -> HashSet<Digest> {
        let blobs = self.folder.root().join("blobs");
        let behind = |digest: &Digest| {
            let path = self.folder.path(digest);
            if !fs::symlink_metadata(&path).ok()?.is_symlink() {
                return None;
            }
            let target = fs::canonicalize(path).ok()?;
            let mut names = target.strip_prefix(fs::canonicalize(&blobs).ok()?).ok()?.iter();
            let (algorithm, hex) = (names.next()?.to_str()?, names.next()?.to_str()?);
            Digest::parse(&format!("{algorithm}:{hex}")).ok()
        };
        let targets: Vec<Digest> = self.found.iter().filter_map(behind).collect();
        self.found.extend(targets);
        self.found
    }
}

/// Whatever looks like a digest in what these hold, and in what that holds, and so on: types that nobody here knows may
/// point to manifests and blobs all the same.
///
/// # Errors
/// When something is there and can't be read.
fn mentioned(folder: &Folder, mut waiting: Vec<Digest>) -> Result<HashSet<Digest>, CleanupError> {
    let mut found = HashSet::new();
    while let Some(digest) = waiting.pop() {
        if !found.insert(digest.clone()) {
            continue;
        }
        let bytes = document(&folder.path(&digest)).map_err(|source| CleanupError::Unclear {
            path: folder.root().to_owned(),
            defect: Box::new(Defect::File(FileError::Unreadable { digest, source })),
        })?;
        waiting.extend(digests(&bytes));
    }
    Ok(found)
}

/// The bytes of what may be a document; none of what isn't there, or is larger than any registry takes one.
fn document(path: &Path) -> io::Result<Vec<u8>> {
    let absent = |error: io::Error| if is_absent(&error) { Ok(Vec::new()) } else { Err(error) };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_SIZE => fs::read(path).or_else(absent),
        Ok(_) => Ok(Vec::new()),
        Err(error) => absent(error),
    }
}

/// All digests in a text, be it a document that somebody can parse or not.
fn digests(bytes: &[u8]) -> Vec<Digest> {
    let mut found = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b':') {
        for algorithm in Algorithm::ALL {
            let Some(start) = at.checked_sub(algorithm.name().len()) else { continue };
            let hex = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let text = std::str::from_utf8(&bytes[start..=at + hex]);
            found.extend(
                text.ok().filter(|text| text.starts_with(algorithm.name())).and_then(|t| Digest::parse(t).ok()),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_any_text() {
        let (a, b) = (format!("sha256:{}", "0a".repeat(32)), format!("sha512:{}", "f1".repeat(64)));
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = digests(text.as_bytes()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        };
        check(&format!("{{\"x\": [\"{a}\", {{\"y\":\"{b}\"}}]"), &[&a, &b]);
        check(&a, &[&a]);
        check(&format!("{a}0"), &[]);
        check(&a[..70], &[]);
        check(":sha256::\u{e4}:", &[]);
        check("", &[]);
    }
}
