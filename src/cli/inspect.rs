//! `ecr-push inspect`, as a user sees it.

use std::io::Write;

use ecr_push::inspect::{self, Branch, Entry, Holder, Inventory, Piece, What};
use ecr_push::oci::descriptor::Kind;
use serde_json::{Value, json};

use super::args::Output;
use super::plain::line;
use super::render::{number, printable, size};
use super::settings::InspectSettings;
use super::{USAGE, fail};

/// The version of the JSON document; it changes only if a field had to.
const SCHEMA_VERSION: u32 = 1;

/// Looks, prints, and gives the exit status.
pub(super) async fn run(settings: InspectSettings) -> u8 {
    let InspectSettings { inspection, output, source, utf8, .. } = settings;
    let inventory = match inspect::inspect(inspection).await {
        Ok(inventory) => inventory,
        Err(error) => return fail(None, &error),
    };
    let status = inventory.error.as_ref().map_or(0, ecr_push::error::Error::status);
    let text = match output {
        Output::Text => printable(&text(&source, &inventory, utf8)),
        Output::Json => format!("{:#}\n", document(&source, &inventory, status)),
    };
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        line(&format!("error: standard output can't be written: {error}"));
        return status.max(USAGE);
    }
    inventory.error.as_ref().map_or(0, |error| fail(None, error))
}

fn holder(holder: Holder) -> &'static str {
    match holder {
        Holder::Layout => "OCI image layout",
        Holder::OciArchive => "OCI archive",
        Holder::DockerArchive => "docker archive",
        Holder::Engine => "engine",
    }
}

/// The tree that people read.
fn text(source: &str, inventory: &Inventory, utf8: bool) -> String {
    let Inventory { images, total, shared, .. } = inventory;
    let mut facts = vec![holder(inventory.holder).to_owned(), number(images.len(), "image"), size(*total)];
    if *shared > 0 {
        facts.push(format!("{} of these shared", size(*shared)));
    }
    let mut lines = vec![format!("{source}: {}", facts.join(", "))];
    for image in images {
        lines.push(String::new());
        lines.push(title(image));
        let tree = Lines { utf8, lines: &mut lines };
        tree.branch(&image.root, "", &image.defects);
    }
    lines.join("\n") + "\n"
}

fn title(image: &Entry) -> String {
    let names = match image.names.as_slice() {
        [] => "without a name".to_owned(),
        names => names.iter().map(|name| format!(":{name}")).collect::<Vec<_>>().join(" "),
    };
    let defects =
        if image.defects.is_empty() { String::new() } else { format!(", {}", number(image.defects.len(), "defect")) };
    format!("{names}  {}, {}{defects}", words(&image.root), size(image.size))
}

/// What a manifest is, in a few words.
fn words(branch: &Branch) -> String {
    let what = match branch.what {
        What::Image | What::DockerImage => "image",
        What::Index => "index",
        What::Attestation => "attestation",
        What::Artifact => "artifact",
        What::Unreadable => "NOT READABLE",
    };
    let more = branch.platform.as_ref().map(ToString::to_string).or_else(|| branch.artifact_type.clone());
    more.map_or_else(|| what.to_owned(), |more| format!("{what} {more}"))
}

/// What refers to a manifest.
fn referrer(branch: &Branch) -> String {
    let kind = branch.artifact_type.as_deref().unwrap_or(branch.media_type.as_str());
    format!("referrer {kind}")
}

/// Draws a tree.
struct Lines<'a> {
    utf8: bool,
    lines: &'a mut Vec<String>,
}

impl Lines<'_> {
    fn branch(mut self, branch: &Branch, indent: &str, defects: &[String]) {
        self.lines.push(format!("{}  {}", branch.digest, branch.media_type));
        self.below(branch, indent);
        for defect in defects {
            self.lines.push(format!("! {defect}"));
        }
    }

    /// All that hangs on a manifest.
    fn below(&mut self, branch: &Branch, indent: &str) {
        let layers = branch.layers.len();
        let config = branch.config.iter().map(|piece| ("config".to_owned(), piece));
        let layer = |(at, piece)| (format!("layer {}/{layers}", at + 1), piece);
        let pieces: Vec<_> = config.chain(branch.layers.iter().enumerate().map(layer)).collect();
        let children = branch.children.iter().map(|child| (words(child), child));
        let branches: Vec<_> = children.chain(branch.referrers.iter().map(|it| (referrer(it), it))).collect();
        let last = pieces.len() + branches.len();
        for (at, (role, piece)) in pieces.into_iter().enumerate() {
            let (fork, _) = self.forks(at + 1 == last);
            self.lines.push(format!("{indent}{fork}{role:12} {}", self::piece(piece)));
        }
        let drawn = last - branches.len();
        for (at, (words, branch)) in branches.into_iter().enumerate() {
            let (fork, stem) = self.forks(drawn + at + 1 == last);
            self.lines.push(format!("{indent}{fork}{words}  {}  {}", branch.digest, size(branch.size)));
            self.below(branch, &format!("{indent}{stem}"));
        }
    }

    fn forks(&self, is_last: bool) -> (&'static str, &'static str) {
        match (self.utf8, is_last) {
            (true, false) => ("├─ ", "│  "),
            (true, true) => ("└─ ", "   "),
            (false, false) => ("|- ", "|  "),
            (false, true) => ("`- ", "   "),
        }
    }
}

fn piece(piece: &Piece) -> String {
    let bytes = piece.size.map_or_else(|| "?".to_owned(), size);
    let held = match (piece.is_held, piece.media_type.kind()) {
        (true, _) => "",
        (false, Kind::NonDistributable) => "  not here: others distribute it",
        (false, _) => "  BROKEN",
    };
    format!("{}  {bytes:>10}  {}{held}", piece.digest.short(), piece.media_type)
}

fn document(source: &str, inventory: &Inventory, status: u8) -> Value {
    let holder = match inventory.holder {
        Holder::Layout => "ociLayout",
        Holder::OciArchive => "ociArchive",
        Holder::DockerArchive => "dockerArchive",
        Holder::Engine => "engine",
    };
    let image = |image: &Entry| {
        let mut value = branch(&image.root);
        value["names"] = json!(image.names);
        value["totalSize"] = json!(image.size);
        value["defects"] = json!(image.defects);
        value
    };
    json!({
        "schemaVersion": SCHEMA_VERSION,
        "source": source,
        "kind": holder,
        "exitStatus": status,
        "totalSize": inventory.total,
        "sharedSize": inventory.shared,
        "images": inventory.images.iter().map(image).collect::<Vec<_>>(),
    })
}

fn branch(found: &Branch) -> Value {
    let kind = match found.what {
        What::Image => "image",
        What::Index => "index",
        What::Attestation => "attestation",
        What::Artifact => "artifact",
        What::DockerImage => "dockerImage",
        What::Unreadable => "unreadable",
    };
    let blob = |piece: &Piece| {
        json!({
            "digest": piece.digest.as_str(),
            "mediaType": piece.media_type.as_str(),
            "size": piece.size,
            "compression": piece.compression,
            "held": piece.is_held,
        })
    };
    json!({
        "kind": kind,
        "digest": found.digest.as_str(),
        "mediaType": found.media_type.as_str(),
        "size": found.size,
        "platform": found.platform.as_ref().map(ToString::to_string),
        "artifactType": found.artifact_type,
        "config": found.config.as_ref().map(blob),
        "layers": found.layers.iter().map(blob).collect::<Vec<_>>(),
        "manifests": found.children.iter().map(branch).collect::<Vec<_>>(),
        "referrers": found.referrers.iter().map(branch).collect::<Vec<_>>(),
    })
}
