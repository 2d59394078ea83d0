//! The image that the demonstration pushes: what buildx writes for two platforms, large enough to look like something.

use crate::fixtures::good::{Attestation, attestation};
use crate::fixtures::json::{AMD64, ARM64, Descriptor, Index, Platform, Spacing};
use crate::fixtures::layout::{Layout, Packing};
use crate::fixtures::tar::File;
use crate::fixtures::tree::Tree;

const KIB: usize = 1024;

/// A manifest or a blob of the image, and what to call it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) what: String,
}

/// The image, not written yet.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) tree: Tree,
    /// The root first.
    pub(crate) parts: Vec<Part>,
}

impl Image {
    /// The digest of the index at its top.
    pub(crate) fn root(&self) -> &str {
        &self.parts[0].digest
    }

    /// The part of that digest.
    pub(crate) fn part(&self, digest: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.digest == digest)
    }
}

/// Builds it.
pub(crate) fn build() -> Image {
    let mut layout = Layout::new();
    layout.spacing = Spacing::Indented(2);
    let mut parts = Vec::new();
    let (mut images, mut attestations) = (Vec::new(), Vec::new());
    for platform in [AMD64, ARM64] {
        let (image, attested) = one(&mut layout, &mut parts, &platform);
        images.push(image);
        attestations.push(attested);
    }
    images.extend(attestations);
    let index = layout.index(&Index::new(images));
    layout.name(&index, "v1");
    parts.insert(0, part(&index, "index".to_owned()));
    Image { tree: layout.tree(), parts }
}

fn part(descriptor: &Descriptor, what: String) -> Part {
    Part { digest: descriptor.digest.clone(), size: descriptor.size, what }
}

/// The image of one platform with its attestation.
fn one(layout: &mut Layout, parts: &mut Vec<Part>, platform: &Platform) -> (Descriptor, Descriptor) {
    let name = format!("{}/{}", platform.os, platform.architecture);
    let base = [
        File::text("etc/os-release", "ID=demo\nPRETTY_NAME=\"The demonstration's base\"\n"),
        File::program("usr/lib/libdemo.so", &noise(&name, 144 * KIB)),
    ];
    let run = format!("#!/bin/sh\necho hello from {name}\n");
    let app = [File::program("app/run", run.as_bytes()), File::program("app/server", &noise("app", 48 * KIB))];
    let layers = [layout.layer(Packing::Gzip, &base), layout.layer(Packing::Gzip, &app)];
    let config = layout.config(platform, &layers);
    let image = layout.image(platform, &layers).on(platform.clone());
    parts.push(part(&image, format!("manifest of {name}")));
    parts.push(part(&config, format!("config of {name}")));
    for (number, layer) in (1..).zip(&layers) {
        parts.push(part(&layer.descriptor, format!("layer {number} of {name}")));
    }
    let Attestation { manifest, config, statement } = attestation(layout, &image);
    parts.push(part(&manifest, format!("attestation of {name}")));
    parts.push(part(&config, format!("attestation config, {name}")));
    parts.push(part(&statement, format!("attested statement, {name}")));
    (image, manifest)
}

/// Bytes that look like a program's: always the same, and nothing that could be compressed.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    // Knuth's MMIX generator; its high bits are the good ones.
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    let seed = seed.bytes().fold(0, |sum: u64, byte| sum << 8 ^ sum >> 56 ^ u64::from(byte));
    std::iter::successors(Some(seed), next).skip(1).map(|state| state.to_be_bytes()[0]).take(length).collect()
}
