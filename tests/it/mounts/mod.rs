//! Blobs that are in the registry already are mounted or left where they are, and not sent.

mod elsewhere;
mod own;
mod record;

use std::collections::BTreeSet;

use local_ecr::{Builder, Entry, LocalEcr};
use serde_json::Value;

use crate::support::layout::digest;
use crate::support::{Layout, Push, builder, requests};

/// A local-ecr with repositories `base` and `app` that mounts from one to the other.
fn mounting() -> Builder {
    without_mounting().blob_mounting(true).allow("ecr:GetDownloadUrlForLayer")
}

/// The same without the account's setting and without the right, of which nothing is said.
fn without_mounting() -> Builder {
    builder().repository("base").mount_denied(false)
}

/// A layout with an image `base` of so many layers, and an image `app` of these and one of its own.
fn one_on_the_other(layers: usize) -> (Layout, Vec<Value>, Value) {
    let layout = Layout::empty();
    let base: Vec<Value> = (0..layers).map(|number| layout.layer(10_000 + number)).collect();
    layout.list(&layout.image(&base), Some("base"));
    let own = layout.layer(300);
    let app = layout.image(&[&base[..], std::slice::from_ref(&own)].concat());
    layout.list(&app, Some("app"));
    (layout, base, own)
}

/// Pushes one of the layout's images to the repository and the tag of its name.
fn push(layout: &Layout, ecr: &LocalEcr, name: &str) -> Push {
    Push::of(layout.choosing(&format!(":{name}"))).at(ecr).to(&format!("{name}:v1"))
}

/// The blobs that were sent to a repository.
fn sent(ecr: &LocalEcr, repository: &str) -> BTreeSet<String> {
    let puts = requests(ecr, "PUT", &format!("/v2/{repository}/blobs/uploads/"));
    puts.into_iter().filter_map(|entry| entry.digest).collect()
}

/// The requests to mount something from a repository.
fn tried(ecr: &LocalEcr, from: &str) -> Vec<Entry> {
    requests(ecr, "POST", &format!("from={from}"))
}

/// The digests of these.
fn digests<'a>(descriptors: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    descriptors.into_iter().map(|descriptor| digest(descriptor).to_owned()).collect()
}

/// The config of one of a layout's images.
fn config(layout: &Layout, name: &str) -> String {
    let manifest = std::fs::read(layout.blob(&layout.named(name))).expect("the layout has it");
    let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest is JSON");
    digest(&manifest["config"]).to_owned()
}
