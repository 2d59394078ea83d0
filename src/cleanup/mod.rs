//! Takes the local image away, once it is known to be somewhere else.

pub mod archive;
mod aside;
pub(crate) mod blobs;
pub mod engine;
mod index;
pub(crate) mod journal;
pub mod layout;
pub mod oldest;
mod reach;
pub mod removal;
pub(crate) mod skeleton;
pub mod stamp;

use std::path::PathBuf;

use thiserror::Error;

use crate::oci::digest::Digest;
use crate::source::engine::EngineError;
use crate::source::layout::{LayoutError, Listed, list};
use crate::source::walk::Defect;

/// What a clean-up removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Names that left the index, or the engine, as it spells them.
    pub names: Vec<String>,
    /// Images of a layout that were removed, or lost names; each with those.
    pub images: Vec<Listed>,
    /// Files that were removed below `blobs`.
    pub blobs: usize,
    /// Those of them that nothing had named before.
    pub orphans: usize,
    /// Bytes that came back on disk.
    pub freed: u64,
    /// Whether the folder itself is gone.
    pub folder: bool,
    /// Why the folder of a layout without images stays, if it does.
    pub kept: Option<Kept>,
    /// Of an engine: whether it deleted the image itself, once its last name was gone.
    pub image: Option<bool>,
    /// Of an archive: whether its file is gone; standard input has none.
    pub file: Option<bool>,
}

/// Why a layout's folder stays, though no image is in it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Something is mounted on it, or in it.
    MountPoint,
    /// It holds something that isn't part of a layout, or that nothing names; relative to it.
    Holds(PathBuf),
}

/// Something that couldn't be removed.
#[derive(Debug)]
pub struct Left {
    /// What.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

fn lines(left: &[Left]) -> String {
    left.iter().map(|left| format!("\n  {}: {}", left.path.display(), left.source)).collect()
}

/// Why a clean-up didn't finish.
#[derive(Debug, Error)]
pub enum CleanupError {
    /// The layout can't be read any more.
    #[error("the layout can't be read any more")]
    Layout(#[from] LayoutError),
    /// SOURCE holds layers that were not pushed.
    #[error("{path} is kept: it holds non-distributable layers that were not pushed: {}", digests(layers))]
    Withheld {
        /// The layout.
        path: PathBuf,
        /// The layers.
        layers: Vec<Digest>,
    },
    /// The name stands for another image by now.
    #[error("{path} is kept: the name {name:?} has been given to {now} meanwhile")]
    NameMoved {
        /// The layout.
        path: PathBuf,
        /// The name.
        name: String,
        /// What it names now.
        now: Digest,
    },
    /// What remains can't be understood, so that nobody knows what it needs.
    #[error("{path} is kept: what remains in it can't be read, so that its blobs can't be told from others")]
    Unclear {
        /// The layout.
        path: PathBuf,
        /// The defect.
        #[source]
        defect: Box<Defect>,
    },
    /// Another ecr-push cleans the same layout, and doesn't come to its end.
    #[error("{path} is kept: another process has locked it")]
    Locked {
        /// The layout.
        path: PathBuf,
    },
    /// Somebody writes to the index all the time.
    #[error("{path} is kept: somebody else keeps writing to its index.json")]
    Busy {
        /// The layout.
        path: PathBuf,
    },
    /// The index can't be written, or the lock can't be had.
    #[error("{path} is kept: {what}")]
    Kept {
        /// The layout.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// An engine can't be asked, or fails.
    #[error("{}{image} is kept", gone(cleaned))]
    Engine {
        /// The image, or the first name of it that is kept.
        image: String,
        /// What was removed before.
        cleaned: Cleaned,
        /// Why.
        source: Box<EngineError>,
    },
    /// An engine's name stands for another image by now.
    #[error("{}{name} is kept: it has been given to {now} meanwhile", gone(cleaned))]
    NameGiven {
        /// The name.
        name: String,
        /// The ID that it stands for now.
        now: String,
        /// What was removed before.
        cleaned: Cleaned,
    },
    /// An image of an engine has no name that the run named.
    #[error("{id} is kept: no name of it was given{}", others(names))]
    Unnamed {
        /// Its ID.
        id: String,
        /// The names that it has.
        names: Vec<String>,
    },
    /// An archive that is no regular file.
    #[error("{path} is kept: it is {kind} and not a regular file")]
    NoFile {
        /// The archive.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// An archive is another file by now, or has other bytes.
    #[error("{path} is kept: it was changed or replaced meanwhile")]
    Changed {
        /// The archive.
        path: PathBuf,
    },
    /// An archive holds more than was pushed.
    #[error("{path} is kept: it holds more than this image:\n{}", list(others))]
    HoldsMore {
        /// The archive.
        path: PathBuf,
        /// What else there is.
        others: Vec<Listed>,
    },
    /// A signal came before it was over. The next clean-up finishes it.
    #[error("clean-up of {path} was interrupted{}", progress(cleaned, *left))]
    Interrupted {
        /// The layout, or the archive.
        path: PathBuf,
        /// What was removed before.
        cleaned: Cleaned,
        /// Blobs that are still to be removed.
        left: usize,
    },
    /// A signal came while names were being removed from an engine.
    #[error("clean-up was interrupted: {}", names_now(cleaned, doubtful.as_deref(), left))]
    EngineInterrupted {
        /// What was removed before.
        cleaned: Cleaned,
        /// The name whose removal the engine hadn't answered.
        doubtful: Option<String>,
        /// Names that weren't touched.
        left: Vec<String>,
    },
    /// The image's name is gone, and then something went wrong.
    #[error("{}{left} files are still to be removed from {path}", gone(cleaned))]
    Unfinished {
        /// The layout.
        path: PathBuf,
        /// What was removed.
        cleaned: Cleaned,
        /// Files that weren't.
        left: usize,
        /// What went wrong.
        source: Box<CleanupError>,
    },
    /// The image's name is gone, and files are left.
    #[error("{}these could not be removed:{}", gone(cleaned), lines(left))]
    Left {
        /// What was removed.
        cleaned: Cleaned,
        /// What was not.
        left: Vec<Left>,
    },
}

impl CleanupError {
    /// Whether it is no more than that somebody asked for an end.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::EngineInterrupted { .. })
    }

    /// What was removed all the same.
    #[must_use]
    pub fn cleaned(&self) -> Option<&Cleaned> {
        match self {
            Self::Engine { cleaned, .. }
            | Self::NameGiven { cleaned, .. }
            | Self::Interrupted { cleaned, .. }
            | Self::EngineInterrupted { cleaned, .. }
            | Self::Unfinished { cleaned, .. }
            | Self::Left { cleaned, .. } => Some(cleaned),
            Self::Layout(_)
            | Self::Withheld { .. }
            | Self::NameMoved { .. }
            | Self::Unclear { .. }
            | Self::Locked { .. }
            | Self::Busy { .. }
            | Self::Kept { .. }
            | Self::Unnamed { .. }
            | Self::NoFile { .. }
            | Self::Changed { .. }
            | Self::HoldsMore { .. } => None,
        }
    }
}

fn gone(cleaned: &Cleaned) -> String {
    match cleaned.names.as_slice() {
        [] => String::new(),
        names => format!("{} {} gone, and ", names.join(", "), be(names.len())),
    }
}

/// How far a clean-up of files came.
fn progress(cleaned: &Cleaned, left: usize) -> String {
    if *cleaned == Cleaned::default() && left == 0 {
        return " before anything was removed".to_owned();
    }
    let name = match cleaned.names.as_slice() {
        [] if cleaned.images.is_empty() => "nothing that was named is gone".to_owned(),
        [] => "the image is gone from its index".to_owned(),
        [name] => format!("{name} is gone"),
        names => format!("{} are gone", names.join(", ")),
    };
    let blobs = if cleaned.blobs == 1 { "blob is" } else { "blobs are" };
    format!(": {name}, {} {blobs} removed, and {left} still to be", cleaned.blobs)
}

fn be(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// What became of an engine's names when their removal was interrupted.
fn names_now(cleaned: &Cleaned, doubtful: Option<&str>, left: &[String]) -> String {
    let mut words = Vec::new();
    if !cleaned.names.is_empty() {
        words.push(format!("{} {} gone", cleaned.names.join(", "), be(cleaned.names.len())));
    }
    words.extend(doubtful.map(|name| format!("{name} may or may not be gone")));
    if !left.is_empty() {
        words.push(format!("{} {} kept", left.join(", "), be(left.len())));
    }
    words.join("; ")
}

fn others(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; it is called {}", names.join(", ")) }
}

fn digests(digests: &[Digest]) -> String {
    digests.iter().map(Digest::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_says_what_went() {
        let cleaned = |names: &[&str], blobs| Cleaned {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            blobs,
            ..Cleaned::default()
        };
        let check = |names: &[&str], blobs, left, expected: &str| {
            let error = CleanupError::Interrupted { path: "/l".into(), cleaned: cleaned(names, blobs), left };
            assert_eq!(error.to_string(), format!("clean-up of /l was interrupted{expected}"));
        };
        check(&[], 0, 0, " before anything was removed");
        check(&[], 1, 2, ": nothing that was named is gone, 1 blob is removed, and 2 still to be");
        check(&["a"], 0, 1, ": a is gone, 0 blobs are removed, and 1 still to be");
        check(&["a", "b"], 3, 0, ": a, b are gone, 3 blobs are removed, and 0 still to be");
        let check = |names: &[&str], doubtful: Option<&str>, left: &[&str], expected: &str| {
            let left = left.iter().map(|name| (*name).to_owned()).collect();
            let doubtful = doubtful.map(str::to_owned);
            let error = CleanupError::EngineInterrupted { cleaned: cleaned(names, 0), doubtful, left };
            assert_eq!(error.to_string(), format!("clean-up was interrupted: {expected}"));
        };
        check(&[], None, &["a"], "a is kept");
        check(&["a"], Some("b"), &["c", "d"], "a is gone; b may or may not be gone; c, d are kept");
    }
}
