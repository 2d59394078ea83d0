//! The local record of what this user's pushes put where: digest → repositories, by registry.
//!
//! It saves work and is never needed. Whatever is wrong with it, a push goes on as if it weren't there, and nothing but a
//! destination that was read back is ever written into it. It holds no secrets.
//!
//! The folder may hold more, a file for each matter; this one is `blobs.jsonl`: a line with the version, then one for each
//! blob of a registry, the latest first.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::oci::digest::Digest;
use crate::oci::reference::{Host, Repository};

/// The file's name in its folder.
const FILE: &str = "blobs.jsonl";

/// What the names of files begin with that are being written.
const ASIDE: &str = ".blobs.jsonl.";

/// The version of the file's form. Another one is as good as no file.
const VERSION: u32 = 1;

/// The most blobs that it holds.
const MOST_BLOBS: usize = 10_000;

/// The most bytes that it has.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// The most repositories that are remembered for a blob: one is enough to mount from, and it may go away.
const MOST_REPOSITORIES: usize = 4;

/// What nobody has seen for so many days is forgotten: repositories expire images, and a mount that is refused is a wasted
/// round trip.
const MOST_DAYS: u64 = 45;

const DAY: Duration = Duration::from_hours(24);

/// What is written aside and left behind longer than this was left behind by a crash.
const ABANDONED: Duration = Duration::from_hours(1);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u32,
}

/// A blob of a registry, as a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    registry: String,
    digest: String,
    /// The latest first.
    repositories: Vec<String>,
    /// The day on which it was last seen, since 1970.
    day: u64,
}

/// Where a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    repositories: Vec<String>,
    day: u64,
}

/// What is known of where blobs are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    places: HashMap<(String, String), Places>,
}

/// What a run has learned.
#[derive(Debug, Clone, Default)]
pub struct Lessons {
    /// Repositories, each with blobs that it has.
    pub there: Vec<(Repository, Vec<Digest>)>,
    /// Repositories from which blobs could not be mounted.
    pub stale: Vec<(Repository, Digest)>,
}

/// The number of today.
fn today() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs()
}

impl Known {
    /// The repositories of `registry` that had the blob when they were last seen, the latest first.
    #[must_use]
    pub fn repositories(&self, registry: &Host, digest: &Digest) -> &[String] {
        let found = self.places.get(&(registry.as_str().to_owned(), digest.as_str().to_owned()));
        found.map_or(&[], |places| &places.repositories)
    }

    /// Forgets all blobs but these: a push needs its own, and memory for better things.
    pub fn keep(&mut self, digests: &HashSet<&str>) {
        self.places.retain(|(_, digest), _| digests.contains(digest.as_str()));
        self.places.shrink_to_fit();
    }

    /// Reads a file's text; what makes no sense is not known. `today` is the number of a day.
    fn parse(text: &str, today: u64) -> Self {
        let mut lines = text.lines();
        let head = lines.next().and_then(|line| serde_json::from_str::<Head>(line).ok());
        if head != Some(Head { version: VERSION }) {
            return Self::default();
        }
        let fresh = |line: &Line| line.day.saturating_add(MOST_DAYS) >= today && line.day <= today + 1;
        let parsed = lines.filter_map(|line| serde_json::from_str::<Line>(line).ok()).filter(fresh);
        let places = parsed.take(MOST_BLOBS).map(|line| {
            let Line { registry, digest, repositories, day } = line;
            ((registry, digest), Places { repositories, day })
        });
        Self { places: places.collect() }
    }

    /// The file's text: within its bounds, the latest first.
    fn text(&self) -> String {
        let mut sorted: Vec<_> = self.places.iter().collect();
        sorted.sort_by(|(a, of_a), (b, of_b)| of_b.day.cmp(&of_a.day).then_with(|| a.cmp(b)));
        let mut text = serde_json::to_string(&Head { version: VERSION }).unwrap_or_default() + "\n";
        for ((registry, digest), places) in sorted.into_iter().take(MOST_BLOBS) {
            let Places { repositories, day } = places.clone();
            let line = Line { registry: registry.clone(), digest: digest.clone(), repositories, day };
            let line = serde_json::to_string(&line).unwrap_or_default();
            if text.len() + line.len() + 1 > MOST_BYTES {
                break;
            }
            text += &line;
            text.push('\n');
        }
        text
    }

    /// Takes in what a run has learned, and says whether anything is new.
    fn learn(&mut self, lessons: &Lessons, today: u64) -> bool {
        let mut is_new = false;
        for (repository, digest) in &lessons.stale {
            let key = (repository.host.as_str().to_owned(), digest.as_str().to_owned());
            if let Some(places) = self.places.get_mut(&key) {
                let before = places.repositories.len();
                places.repositories.retain(|name| *name != repository.name);
                is_new |= places.repositories.len() < before;
            }
        }
        let there = lessons.there.iter().flat_map(|(repository, digests)| digests.iter().map(move |d| (repository, d)));
        for (repository, digest) in there {
            let key = (repository.host.as_str().to_owned(), digest.as_str().to_owned());
            let places = self.places.entry(key).or_insert_with(|| Places { repositories: Vec::new(), day: 0 });
            let known = places.repositories.contains(&repository.name);
            // Order and day matter little: a push that finds everything as it was writes nothing.
            if known && places.day == today {
                continue;
            }
            places.repositories.retain(|name| *name != repository.name);
            places.repositories.insert(0, repository.name.clone());
            places.repositories.truncate(MOST_REPOSITORIES);
            places.day = today;
            is_new = true;
        }
        self.places.retain(|_, places| !places.repositories.is_empty());
        is_new
    }

    /// What the file in `folder` says; nothing if it can't be read.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        match text(&folder.join(FILE)) {
            Ok(text) => Self::parse(&text, today()),
            Err(error) => {
                tracing::debug!("{}: {error}", folder.join(FILE).display());
                Self::default()
            }
        }
    }
}

/// Adds what a run has learned to the file in `folder`, beside what others wrote meanwhile. A failure is nobody's concern.
pub fn learn(folder: &Path, lessons: &Lessons) {
    if let Err(error) = write(folder, lessons) {
        tracing::debug!("{}: {error}", folder.join(FILE).display());
    }
}

fn write(folder: &Path, lessons: &Lessons) -> io::Result<()> {
    let mut known = Known::read(folder);
    if !known.learn(lessons, today()) {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    sweep(folder);
    // Written aside and renamed: whoever reads meanwhile finds the old file or the new one. Of two who write at once one
    // may lose what it learned, and will learn it again. Containers that share the folder may share their process's number,
    // too.
    let aside = folder.join(format!("{ASIDE}{}-{:016x}", std::process::id(), fastrand::u64(..)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let written = file.write_all(known.text().as_bytes()).and_then(|()| fs::rename(&aside, folder.join(FILE)));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Removes what a crash left behind.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if entry.file_name().to_string_lossy().starts_with(ASIDE) && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file's text, if it is a regular file of a size that it may have: opening a FIFO would wait for its writer.
fn text(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MOST_BYTES as u64).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::oci::reference::Reference;

    const TODAY: u64 = 20_000;

    fn digest(number: usize) -> Digest {
        Digest::of(Algorithm::Sha256, &number.to_le_bytes())
    }

    fn repository(name: &str) -> Repository {
        Reference::parse(name).unwrap().repository
    }

    fn there(name: &str, numbers: impl IntoIterator<Item = usize>) -> Lessons {
        let digests = numbers.into_iter().map(digest).collect();
        Lessons { there: vec![(repository(name), digests)], stale: Vec::new() }
    }

    fn stale(name: &str, number: usize) -> Lessons {
        Lessons { there: Vec::new(), stale: vec![(repository(name), digest(number))] }
    }

    fn at(known: &Known, host: &str, number: usize) -> String {
        known.repositories(&Host::parse(host).unwrap(), &digest(number)).join(" ")
    }

    #[test]
    fn what_is_learned_is_known_the_next_time() {
        let mut known = Known::default();
        assert!(known.learn(&there("h.example/a", [1, 2]), TODAY));
        assert!(!known.learn(&there("h.example/a", [1, 2]), TODAY));
        assert!(known.learn(&there("h.example/b", [2]), TODAY));
        assert!(known.learn(&there("h.example:80/c", [1]), TODAY));
        let again = Known::parse(&known.text(), TODAY);
        assert_eq!(again, known);
        assert_eq!([at(&again, "h.example", 1), at(&again, "h.example", 2)], ["a", "b a"]);
        assert_eq!([at(&again, "h.example:80", 1), at(&again, "h.example:80", 2)], ["c", ""]);
    }

    #[test]
    fn a_push_keeps_what_it_needs() {
        let mut known = Known::default();
        known.learn(&there("h.example/a", [1, 2, 3]), TODAY);
        let needed = digest(2);
        known.keep(&HashSet::from([needed.as_str()]));
        assert_eq!([1, 2, 3].map(|number| at(&known, "h.example", number)), ["", "a", ""]);
    }

    #[test]
    fn what_is_refused_is_forgotten() {
        let mut known = Known::default();
        known.learn(&there("h.example/a", [1]), TODAY);
        known.learn(&there("h.example/b", [1]), TODAY);
        assert!(known.learn(&stale("h.example/b", 1), TODAY));
        assert!(!known.learn(&stale("h.example/b", 1), TODAY));
        assert_eq!(at(&known, "h.example", 1), "a");
        assert!(known.learn(&stale("h.example/a", 1), TODAY));
        assert_eq!(known, Known::default());
    }

    #[test]
    fn a_blob_is_known_in_the_latest_places_only() {
        let mut known = Known::default();
        for name in ["a", "b", "c", "d", "e", "f"] {
            known.learn(&there(&format!("h.example/{name}"), [1]), TODAY);
        }
        assert_eq!(at(&known, "h.example", 1), "f e d c");
    }

    #[test]
    fn it_stays_small() {
        let mut known = Known::default();
        known.learn(&there("h.example/old", 0..100), TODAY - 1);
        known.learn(&there("h.example/new", 100..100 + MOST_BLOBS - 10), TODAY);
        let kept = Known::parse(&known.text(), TODAY);
        assert_eq!(kept.places.len(), MOST_BLOBS);
        assert_eq!(at(&kept, "h.example", 100), "new");
        let old = (0..100).filter(|number| at(&kept, "h.example", *number) == "old").count();
        assert_eq!(old, 10, "the oldest go");

        let long = format!("h.example/{}", "x".repeat(250));
        known.learn(&there(&long, 0..MOST_BLOBS), TODAY);
        let text = known.text();
        assert!(text.len() <= MOST_BYTES && text.len() > MOST_BYTES - 500, "{}", text.len());
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut known = Known::default();
        known.learn(&there("h.example/a", [1]), TODAY);
        let on = |day| at(&Known::parse(&known.text(), day), "h.example", 1);
        assert_eq!([on(TODAY + MOST_DAYS), on(TODAY + MOST_DAYS + 1)], ["a", ""]);
        // A clock that was set back.
        assert_eq!([on(TODAY - 1), on(TODAY - 2)], ["a", ""]);
        known.learn(&there("h.example/a", [1]), TODAY + 1);
        assert_eq!(at(&Known::parse(&known.text(), TODAY + MOST_DAYS + 1), "h.example", 1), "a");
    }

    #[test]
    fn nonsense_is_not_known() {
        let mut known = Known::default();
        known.learn(&there("h.example/a", [1]), TODAY);
        let good = known.text();
        let (head, line) = good.split_once('\n').unwrap();
        let check = |text: &str, expected: &str| assert_eq!(at(&Known::parse(text, TODAY), "h.example", 1), expected);
        check(&good, "a");
        check("", "");
        check("\0\0\0\0", "");
        check(line, "");
        check(&format!("{{\"version\":2}}\n{line}"), "");
        check(&format!("{head}\n[]\n{line}"), "a");
        check(&good[..good.len() - 10], "");
    }
}
