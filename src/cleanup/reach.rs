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

/// Everything that `entries` reach: manifests, configs, layers, and the subjects of signatures that stay.
///
/// A manifest that isn't there reaches nothing.
///
/// # Errors
/// When a manifest is there and can't be understood: nobody knows then what it needs.
pub(super) fn needed(folder: &Folder, entries: &[Descriptor]) -> Result<HashSet<Digest>, CleanupError> {
    let unclear = |defect| CleanupError::Unclear { path: folder.root().to_owned(), defect: Box::new(defect) };
    let files = Files::Folder(folder.clone());
    let mut needed = HashSet::new();
    let mut walked = HashSet::new();
    let mut unknown = Vec::new();
    let mut waiting: Vec<Descriptor> = entries.to_vec();
    while let Some(descriptor) = waiting.pop() {
        let digest = &descriptor.digest;
        needed.insert(digest.clone());
        if !matches!(descriptor.media_type.kind(), Kind::Image | Kind::Index) {
            unknown.push(digest.clone());
            continue;
        }
        if !walked.insert(digest.clone()) {
            continue;
        }
        if descriptor.size > MAX_SIZE {
            return Err(unclear(Defect::TooLarge { digest: digest.clone(), size: descriptor.size }));
        }
        let bytes = match bytes(&files, &descriptor) {
            Ok(bytes) => bytes,
            Err(Defect::File(FileError::Missing { .. })) => continue,
            Err(defect) => return Err(unclear(defect)),
        };
        let manifest = Manifest::parse(&descriptor.media_type, digest, bytes)
            .map_err(|source| unclear(Defect::Manifest { digest: digest.clone(), source }))?;
        needed.extend(manifest.blobs().map(|blob| blob.digest.clone()));
        waiting.extend(manifest.children().iter().cloned());
        waiting.extend(manifest.subject);
    }
    needed.extend(mentioned(folder, unknown));
    Ok(needed)
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
