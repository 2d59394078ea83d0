//! The manifests of a layout that lies in an archive beside docker's `manifest.json`.
//!
//! Reads what can be read: whoever pushes the layout finds the defects.

use std::collections::HashSet;
use std::sync::Arc;

use crate::oci::descriptor::{Descriptor, Kind};
use crate::oci::manifest::{Body, MAX_SIZE, Manifest};
use crate::source::files::Files;
use crate::source::layout;
use crate::source::tar::TarIndex;
use crate::source::walk::bytes;

/// All manifests together that are looked at, in bytes: memory stays flat.
const MAX_TOTAL: u64 = 4 * MAX_SIZE;

/// The images in an archive's layout, attestations left out; none if there is no layout.
pub(in crate::source) fn images(index: &Arc<TarIndex>) -> Vec<Manifest> {
    let images = manifests(index).into_iter().filter(|(descriptor, _)| !descriptor.is_attestation());
    images.map(|(_, manifest)| manifest).collect()
}

/// The manifests of images and artifacts in an archive's layout, each with what points to it.
pub(in crate::source) fn manifests(index: &Arc<TarIndex>) -> Vec<(Descriptor, Manifest)> {
    let files = Files::Archive(index.clone());
    let read = index.content("index.json", MAX_SIZE).ok().flatten();
    let entries = read.and_then(|read| layout::parse_index(index.path(), &read).ok()).unwrap_or_default();
    let (mut waiting, mut seen, mut left, mut images) = (entries, HashSet::new(), MAX_TOTAL, Vec::new());
    while let Some(descriptor) = waiting.pop() {
        if !seen.insert(descriptor.digest.clone()) {
            continue;
        }
        let Some(manifest) = manifest(&files, &descriptor, &mut left) else { continue };
        match &manifest.body {
            Body::Index { manifests } => waiting.extend(manifests.iter().cloned()),
            Body::Image { .. } => images.push((descriptor, manifest)),
        }
    }
    images
}

fn manifest(files: &Files, descriptor: &Descriptor, left: &mut u64) -> Option<Manifest> {
    if !matches!(descriptor.media_type.kind(), Kind::Image | Kind::Index) {
        return None;
    }
    *left = left.checked_sub(descriptor.size).filter(|_| descriptor.size <= MAX_SIZE)?;
    Manifest::parse(&descriptor.media_type, &descriptor.digest, bytes(files, descriptor).ok()?).ok()
}
