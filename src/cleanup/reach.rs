//! What the images that stay in a layout need. Keeps too much rather than too little.

use std::collections::HashSet;
use std::fs;

use serde_json::Value;

use super::CleanupError;
use crate::oci::descriptor::{Descriptor, Kind};
use crate::oci::digest::Digest;
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
        self.found.extend(mentioned(self.folder, unknown));
        Ok(())
    }

    /// Whether something reaches it.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.found.contains(digest)
    }

    /// All of it.
    pub(super) fn all(self) -> HashSet<Digest> {
        self.found
    }
}

/// Whatever looks like a digest in what these hold, and in what that holds, and so on: types that nobody here knows may
/// point to manifests and blobs all the same.
fn mentioned(folder: &Folder, mut waiting: Vec<Digest>) -> HashSet<Digest> {
    let mut found = HashSet::new();
    while let Some(digest) = waiting.pop() {
        let path = folder.path(&digest);
        let small = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_SIZE);
        if !found.insert(digest) || !small {
            continue;
        }
        if let Some(value) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) {
            gather(&value, &mut waiting);
        }
    }
    found
}

fn gather(value: &Value, found: &mut Vec<Digest>) {
    match value {
        Value::String(text) => found.extend(Digest::parse(text)),
        Value::Array(values) => values.iter().for_each(|value| gather(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| gather(value, found)),
        _ => {}
    }
}
