//! A layout as a model: what lies where, and what points to what. Whoever asks it never reads a file.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::layout::{INDEX, MANIFEST};

pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Which thing of a model.
pub(super) type Id = usize;

/// Something that has a digest.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub(super) digest: String,
    pub(super) media_type: &'static str,
    /// What descriptors say, in bytes.
    pub(super) size: usize,
    /// What is in its file; nothing for one with holes.
    pub(super) bytes: Vec<u8>,
    /// What it points to as a manifest.
    pub(super) edges: Vec<Edge>,
    /// What is mentioned anywhere in its JSON.
    pub(super) mentions: Vec<Id>,
    pub(super) place: Place,
}

impl Thing {
    /// Whether its media type is one whose descriptors everybody understands.
    pub(super) fn is_manifest(&self) -> bool {
        self.is_index() || [MANIFEST, DOCKER_MANIFEST].contains(&self.media_type)
    }

    /// Whether it is an image to whoever knows all media types, be it one that nobody takes any more.
    pub(super) fn is_known(&self) -> bool {
        self.is_manifest() || self.media_type == SCHEMA1
    }

    pub(super) fn is_index(&self) -> bool {
        [INDEX, DOCKER_LIST].contains(&self.media_type)
    }

    /// Where its file is in the layout, if it has one.
    pub(super) fn path(&self) -> PathBuf {
        let (algorithm, hex) = self.digest.split_once(':').unwrap();
        Path::new("blobs").join(algorithm).join(hex)
    }

    /// The name that the referrers tag schema gives to the list of what refers to it.
    pub(super) fn list_name(&self) -> String {
        let (algorithm, hex) = self.digest.split_once(':').unwrap();
        format!("{algorithm}-{}", &hex[..64])
    }

    pub(super) fn subject(&self) -> Option<Id> {
        self.edges.iter().find(|edge| edge.role == Role::Subject).map(|edge| edge.to)
    }

    /// A descriptor of it.
    pub(super) fn descriptor(&self, media_type: &str, inline: bool) -> Value {
        let mut value = json!({"mediaType": media_type, "digest": self.digest, "size": self.size});
        if inline {
            value["data"] = json!(STANDARD.encode(&self.bytes));
        }
        value
    }
}

/// That one thing points to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) to: Id,
    pub(super) role: Role,
    /// Whether the descriptor has the content itself.
    pub(super) inline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A config or a layer.
    Blob,
    /// A layer that must not be distributed.
    Withheld,
    /// A child of an index.
    Child,
    Subject,
}

/// How a thing lies in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    File,
    /// With so many bytes at its end, and a hole before them.
    Sparse(usize),
    /// One file with another thing.
    LinkOf(Id),
    /// One file with something outside of the layout.
    LinkOutside,
    /// With other bytes than its digest says.
    Corrupt,
    Nowhere,
}

/// An entry of `index.json`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) thing: Id,
    pub(super) name: Option<String>,
    pub(super) inline: bool,
    /// The whole of it.
    pub(super) value: Value,
}

/// A layout.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) things: Vec<Thing>,
    pub(super) entries: Vec<Entry>,
    /// `index.json`, with whatever else there is beside the entries.
    pub(super) index: Value,
    /// Files that are no part of a layout.
    pub(super) foreign: Vec<String>,
    /// Folders without anything in them.
    pub(super) folders: Vec<String>,
    /// Files that are as old as this in minutes; the others are new.
    pub(super) ages: Vec<(Id, u64)>,
}

impl Model {
    /// `index.json` with these of its entries.
    pub(super) fn index_of(&self, entries: &[usize]) -> Value {
        let mut index = self.index.clone();
        index["manifests"] = entries.iter().map(|at| self.entries[*at].value.clone()).collect();
        index
    }

    /// Writes it into a new folder; `outside` is an empty one for whatever it shares files with.
    pub(super) fn write(&self, root: &Path, outside: &Path) {
        for algorithm in ["sha256", "sha512"] {
            fs::create_dir_all(root.join("blobs").join(algorithm)).unwrap();
        }
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let all: Vec<usize> = (0..self.entries.len()).collect();
        fs::write(root.join("index.json"), self.index_of(&all).to_string()).unwrap();
        for (id, thing) in self.things.iter().enumerate() {
            let path = root.join(thing.path());
            match thing.place {
                Place::File => fs::write(&path, &thing.bytes).unwrap(),
                Place::Sparse(bytes) => {
                    let file = File::create_new(&path).unwrap();
                    file.set_len(thing.size as u64).unwrap();
                    file.write_all_at(&vec![1; bytes], (thing.size - bytes) as u64).unwrap();
                }
                Place::LinkOf(other) => fs::hard_link(root.join(self.things[other].path()), &path).unwrap(),
                Place::LinkOutside => {
                    fs::write(&path, &thing.bytes).unwrap();
                    fs::hard_link(&path, outside.join(id.to_string())).unwrap();
                }
                Place::Corrupt => fs::write(&path, "what a crash left of it").unwrap(),
                Place::Nowhere => {}
            }
        }
        for (id, minutes) in &self.ages {
            let then = SystemTime::now() - Duration::from_secs(minutes * 60);
            File::open(root.join(self.things[*id].path())).and_then(|file| file.set_modified(then)).unwrap();
        }
        for folder in &self.folders {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in &self.foreign {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "somebody's").unwrap();
        }
    }

    /// For whoever has to understand a failure: a line for each thing and entry.
    pub(super) fn describe(&self) -> String {
        let thing = |(id, thing): (usize, &Thing)| {
            let edge = |edge: &Edge| format!("{:?}→{}{}", edge.role, edge.to, if edge.inline { " inline" } else { "" });
            let edges: Vec<String> = thing.edges.iter().map(edge).collect();
            let kind = thing.media_type.rsplit_once("vnd.").map_or(thing.media_type, |(_, kind)| kind);
            let digest = &thing.digest[..15];
            format!("  {id}: {digest} {kind} {:?} {edges:?} mentions {:?}\n", thing.place, thing.mentions)
        };
        let entry = |(at, entry): (usize, &Entry)| {
            format!("  entry {at}: {} {:?}{}\n", entry.thing, entry.name, if entry.inline { " inline" } else { "" })
        };
        let things: String = self.things.iter().enumerate().map(thing).collect();
        let entries: String = self.entries.iter().enumerate().map(entry).collect();
        format!("{things}{entries}  files {:?}, folders {:?}", self.foreign, self.folders)
    }
}
