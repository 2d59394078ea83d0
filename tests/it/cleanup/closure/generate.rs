//! Makes random models: all that a layout can have, and much that none should.

use std::collections::{HashMap, HashSet};

use fastrand::Rng;
use serde_json::{Value, json};

use super::model::{DOCKER_LIST, DOCKER_MANIFEST, Edge, Entry, Id, Model, Place, REF_NAME, Role, SCHEMA1, Thing};
use crate::support::layout::{INDEX, MANIFEST, sha256, sha512};

const BLOB: &str = "application/octet-stream";
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.example.note",
];
const WITHHELD: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
const CONFIGS: [&str; 3] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.empty.v1+json",
];
/// What nobody here knows, and yet points to things.
const UNKNOWN: [&str; 3] =
    ["application/vnd.example.bundle.v1+json", "application/vnd.oci.artifact.manifest.v1+json", SCHEMA1];
const NAMES: [&str; 8] =
    ["v1", "v2", "latest", "registry.example/team/app:v1", "Ünïcode \"quoted\"", "a b", "sbom", "sha256-short"];

/// Files above this many bytes aren't hashed before they are sent.
const LARGE: usize = 70_000;

/// Deeper than this no image may be.
const DEEP: usize = 18;

/// A random layout; `size` is about how many manifests it has.
pub(super) fn layout(rng: &mut Rng, size: usize) -> Model {
    let (whole, tidy) = (rng.u32(..3) > 0, rng.bool());
    let mut maker =
        Maker { rng, whole, tidy, model: Model::default(), by_digest: HashMap::new(), manifests: Vec::new() };
    for _ in 0..maker.rng.usize(1..=2 + size) {
        maker.blob();
    }
    for _ in 0..maker.rng.usize(1..=1 + size) {
        maker.manifest();
    }
    if maker.one_in(60) {
        maker.chain();
    }
    maker.entries();
    maker.lists();
    maker.rng.shuffle(&mut maker.model.entries);
    maker.strangers();
    if tidy {
        maker.tidy();
    }
    maker.model
}

struct Maker<'a> {
    rng: &'a mut Rng,
    /// Whether nothing is to be wrong with its images.
    whole: bool,
    /// Whether every file in it is part of an image, so that in the end nothing is left.
    tidy: bool,
    model: Model,
    by_digest: HashMap<String, Id>,
    /// Things that may be children, subjects and entries.
    manifests: Vec<Id>,
}

impl Maker<'_> {
    fn one_in(&mut self, times: u32) -> bool {
        self.rng.u32(..times) == 0
    }

    fn any(&mut self) -> Id {
        self.rng.usize(..self.model.things.len())
    }

    /// Takes a thing in, unless it is there already.
    fn add(&mut self, thing: Thing) -> Id {
        if let Some(known) = self.by_digest.get(&thing.digest) {
            return *known;
        }
        let id = self.model.things.len();
        self.by_digest.insert(thing.digest.clone(), id);
        if !matches!(thing.place, Place::Nowhere) && self.one_in(3) {
            let minutes = self.rng.u64(1..100_000);
            self.model.ages.push((id, minutes));
        }
        self.model.things.push(thing);
        id
    }

    fn digest_of(&mut self, bytes: &[u8]) -> String {
        if self.one_in(8) { sha512(bytes) } else { sha256(bytes) }
    }

    fn place(&mut self) -> Place {
        match self.rng.u32(..40) {
            0 if !self.whole => Place::Nowhere,
            1..4 => Place::LinkOutside,
            _ => Place::File,
        }
    }

    /// The same bytes under the digest of the other algorithm, in one file.
    fn twin(&mut self, id: Id) -> Option<Id> {
        let thing = &self.model.things[id];
        if !matches!(thing.place, Place::File | Place::LinkOutside) {
            return None;
        }
        let digest = if thing.digest.starts_with("sha256") { sha512(&thing.bytes) } else { sha256(&thing.bytes) };
        if self.by_digest.contains_key(&digest) {
            return None;
        }
        let twin = Thing { digest, place: Place::LinkOf(id), ..thing.clone() };
        Some(self.add(twin))
    }

    fn blob(&mut self) {
        if self.one_in(6) {
            // Nobody hashes it, so that any digest will do.
            let bytes = self.rng.u64(..).to_le_bytes();
            let (digest, size) = (self.digest_of(&bytes), self.rng.usize(LARGE..3 * LARGE));
            let place = Place::Sparse(self.rng.usize(..9000));
            let thing = Thing {
                digest,
                media_type: BLOB,
                size,
                bytes: Vec::new(),
                edges: Vec::new(),
                mentions: Vec::new(),
                place,
            };
            self.add(thing);
            return;
        }
        let mut mentions = Vec::new();
        let bytes = match self.rng.u32(..5) {
            0 => Vec::new(),
            1 if !self.model.things.is_empty() => {
                mentions = vec![self.any(), self.any()];
                let ids: Vec<&str> = mentions.iter().map(|id| self.model.things[*id].digest.as_str()).collect();
                json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}).to_string().into_bytes()
            }
            _ => {
                let longest = if self.one_in(8) { 9000 } else { 100 };
                let mut bytes = vec![0; self.rng.usize(8..longest)];
                self.rng.fill(&mut bytes);
                bytes
            }
        };
        let (digest, place) = (self.digest_of(&bytes), self.place());
        let id =
            self.add(Thing { digest, media_type: BLOB, size: bytes.len(), bytes, edges: Vec::new(), mentions, place });
        if self.one_in(8) {
            self.twin(id);
        }
    }

    /// A descriptor of `to` in that role, with the edge that it is.
    fn point(&mut self, to: Id, role: Role) -> (Edge, Value) {
        let thing = &self.model.things[to];
        // Where the file isn't there mostly the descriptor has it.
        let often = if thing.place == Place::Nowhere { 2 } else { 12 };
        let can = thing.size == thing.bytes.len() && thing.place != Place::Corrupt;
        let known = role == Role::Blob || thing.is_manifest();
        let media_type = match role {
            Role::Blob => LAYERS[self.rng.usize(..LAYERS.len())],
            Role::Withheld => WITHHELD[self.rng.usize(..WITHHELD.len())],
            Role::Child | Role::Subject => thing.media_type,
        };
        let inline = can && known && role != Role::Withheld && self.one_in(often);
        (Edge { to, role, inline }, self.model.things[to].descriptor(media_type, inline))
    }

    fn manifest(&mut self) {
        let id = match self.rng.u32(..10) {
            0..5 => self.image(),
            5..8 => self.index(),
            _ => self.unknown(),
        };
        self.manifests.push(id);
        if self.one_in(12)
            && let Some(twin) = self.twin(id)
        {
            self.manifests.push(twin);
        }
    }

    fn image(&mut self) -> Id {
        let media_type = if self.one_in(3) { DOCKER_MANIFEST } else { MANIFEST };
        let config = self.any();
        let (edge, mut descriptor) = self.point(config, Role::Blob);
        descriptor["mediaType"] = json!(CONFIGS[self.rng.usize(..CONFIGS.len())]);
        let (mut edges, mut layers) = (vec![edge], Vec::new());
        for _ in 0..self.rng.usize(..4) {
            let role = if self.one_in(25) { Role::Withheld } else { Role::Blob };
            let layer = self.any();
            let (edge, descriptor) = self.point(layer, role);
            edges.push(edge);
            layers.push(descriptor);
        }
        self.finish(media_type, json!({"schemaVersion": 2, "config": descriptor, "layers": layers}), edges)
    }

    fn index(&mut self) -> Id {
        let media_type = if self.one_in(3) { DOCKER_LIST } else { INDEX };
        let (mut edges, mut children) = (Vec::new(), Vec::new());
        for _ in 0..self.rng.usize(..4) {
            let Some(child) = self.one_of_the_manifests() else { break };
            let thing = &self.model.things[child];
            if self.whole && (!thing.is_manifest() || thing.place == Place::Nowhere) {
                continue;
            }
            let (edge, mut descriptor) = self.point(child, Role::Child);
            descriptor["platform"] = json!({"os": "linux", "architecture": "arm64"});
            edges.push(edge);
            children.push(descriptor);
        }
        self.finish(media_type, json!({"schemaVersion": 2, "manifests": children}), edges)
    }

    /// A manifest that there is, or one that was never there.
    fn one_of_the_manifests(&mut self) -> Option<Id> {
        if self.one_in(25) {
            let digest = sha256(&self.rng.u64(..).to_le_bytes());
            let (edges, mentions) = (Vec::new(), Vec::new());
            let thing = Thing {
                digest,
                media_type: MANIFEST,
                // No bytes of that length: nobody can have them inline.
                size: 500,
                bytes: Vec::new(),
                edges,
                mentions,
                place: Place::Nowhere,
            };
            return Some(self.add(thing));
        }
        let among = self.manifests.len();
        if among == 0 { None } else { Some(self.manifests[self.rng.usize(..among)]) }
    }

    /// Gives a manifest its subject, its annotations and a place.
    fn finish(&mut self, media_type: &'static str, mut value: Value, mut edges: Vec<Edge>) -> Id {
        let refers = super::LISTS_OF_OTHERS || value.get("list").is_none();
        if refers
            && self.one_in(3)
            && let Some(subject) = self.one_of_the_manifests()
            && self.model.things[subject].is_manifest()
        {
            let (edge, descriptor) = self.point(subject, Role::Subject);
            edges.push(edge);
            value["subject"] = descriptor;
            value["artifactType"] = json!("application/vnd.example.note");
        }
        if self.rng.bool() {
            value["mediaType"] = json!(media_type);
        }
        let mut mentions: Vec<Id> = edges.iter().map(|edge| edge.to).collect();
        if self.one_in(5) {
            let other = self.any();
            value["annotations"] = json!({"com.example.base": self.model.things[other].digest});
            mentions.push(other);
        }
        let bytes = value.to_string().into_bytes();
        let (digest, mut place) = (self.digest_of(&bytes), self.place());
        if !self.whole && self.one_in(30) {
            place = Place::Corrupt;
        }
        self.add(Thing { digest, media_type, size: bytes.len(), bytes, edges, mentions, place })
    }

    fn unknown(&mut self) -> Id {
        let media_type = UNKNOWN[self.rng.usize(..UNKNOWN.len())];
        let mentions: Vec<Id> = (0..self.rng.usize(..4)).map(|_| self.any()).collect();
        let digests: Vec<&str> = mentions.iter().map(|id| self.model.things[*id].digest.as_str()).collect();
        let value = json!({"parts": [{"of": digests}], "salt": self.rng.u32(..)});
        let text = if self.rng.bool() { value.to_string() } else { serde_json::to_string_pretty(&value).unwrap() };
        let bytes = text.into_bytes();
        let digest = self.digest_of(&bytes);
        let size = bytes.len();
        self.add(Thing { digest, media_type, size, bytes, edges: Vec::new(), mentions, place: Place::File })
    }

    /// An index in an index in an index.
    fn chain(&mut self) {
        let depth = self.rng.usize(2..DEEP);
        let Some(mut below) = self.one_of_the_manifests() else { return };
        for _ in 0..depth {
            let (edge, descriptor) = self.point(below, Role::Child);
            let value = json!({"schemaVersion": 2, "manifests": [descriptor], "depth": self.rng.u32(..)});
            below = self.finish(INDEX, value, vec![edge]);
        }
        self.manifests.push(below);
    }

    fn entries(&mut self) {
        let manifests = self.manifests.clone();
        for thing in manifests {
            // Whatever is in no index is an orphan, if nothing reaches it.
            let least = usize::from(self.tidy);
            for _ in 0..[least, 1, 1, 1, 2, 3][self.rng.usize(..6)] {
                let name = if self.one_in(3) {
                    None
                } else if self.one_in(8) {
                    Some(NAMES[self.rng.usize(..NAMES.len())].to_owned())
                } else {
                    Some(format!("{}-{}", NAMES[self.rng.usize(..NAMES.len())], self.model.entries.len()))
                };
                self.enter(thing, name);
            }
        }
    }

    fn enter(&mut self, thing: Id, name: Option<String>) {
        let (edge, mut value) = self.point(thing, Role::Child);
        if let Some(name) = &name {
            value["annotations"][REF_NAME] = json!(name);
        }
        if self.one_in(5) {
            value["annotations"]["com.example.note"] = json!("ä");
        }
        if self.one_in(5) {
            value["com.example.field"] = json!([1, 2.5, null, {"b": 1, "a": 2}]);
        }
        if self.one_in(12) {
            value["platform"] = json!({"os": "linux", "architecture": "amd64", "os.version": "1"});
        }
        self.model.entries.push(Entry { thing, name, inline: edge.inline, value });
    }

    /// Lists of referrers as they stand where there is no API for them.
    fn lists(&mut self) {
        let manifests = self.manifests.clone();
        for subject in manifests {
            if !self.model.things[subject].is_manifest() || !self.one_in(5) {
                continue;
            }
            let refers = |id: &Id| self.model.things[*id].subject() == Some(subject);
            let mut referrers: Vec<Id> = self.manifests.iter().copied().filter(refers).collect();
            if super::LISTS_OF_OTHERS && self.one_in(8) {
                referrers.extend(self.one_of_the_manifests());
            }
            let (edges, children) = referrers.into_iter().map(|child| self.point(child, Role::Child)).unzip();
            let children: Vec<Value> = children;
            let name = self.model.things[subject].list_name();
            let list = self.finish(INDEX, json!({"schemaVersion": 2, "list": name, "manifests": children}), edges);
            self.enter(list, Some(name));
        }
    }

    /// Leaves out what nothing points to.
    fn tidy(&mut self) {
        let model = &mut self.model;
        let mut pointed: HashSet<Id> = model.entries.iter().map(|entry| entry.thing).collect();
        pointed.extend(model.things.iter().flat_map(|thing| thing.edges.iter().map(|edge| edge.to)));
        let linked = model.things.iter().filter_map(|thing| match thing.place {
            Place::LinkOf(other) => Some(other),
            _ => None,
        });
        pointed.extend(linked.collect::<Vec<_>>());
        let alone = |id: &Id| !pointed.contains(id);
        for id in (0..model.things.len()).filter(alone) {
            model.things[id].place = Place::Nowhere;
        }
        model.ages.retain(|(id, _)| !alone(id));
        (model.foreign, model.folders) = (Vec::new(), Vec::new());
    }

    /// What is no part of a layout, or no part that anybody needs.
    fn strangers(&mut self) {
        self.model.index = json!({"schemaVersion": 2});
        if self.rng.bool() {
            self.model.index["mediaType"] = json!(INDEX);
        }
        self.model.index["manifests"] = json!([]);
        if self.one_in(4) {
            self.model.index["com.example.field"] = json!({"kept": [1, 2.5, "ä"], "a": {"z": 1, "b": null}});
        }
        let hex = &sha256(&[1])[7..];
        let files = [
            "note.txt",
            "blobs/note.txt",
            "blobs/sha256/note",
            "blobs/sha256/0123456789abcdef",
            "blobs/md5/0123",
            "blobs/sha512/.partial",
            "ingest/1234/data",
            &format!("blobs/sha256/{}", hex.to_uppercase()),
            &format!("blobs/sha256/{hex}.tmp"),
            &format!("blobs/sha512/{hex}"),
        ];
        let folders = ["ingest", "blobs/blake3", "mine", "blobs/sha256/folder"];
        if self.one_in(6) {
            for _ in 0..self.rng.usize(1..3) {
                self.model.foreign.push(files[self.rng.usize(..files.len())].to_owned());
            }
        }
        for folder in folders {
            if self.one_in(12) {
                self.model.folders.push(folder.to_owned());
            }
        }
    }
}
