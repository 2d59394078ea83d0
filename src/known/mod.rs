//! The local record of what this user's pushes put where: digest → repositories, by registry.
//!
//! It saves work and is never needed. Whatever is wrong with it, a push goes on as if it weren't there, and nothing but a
//! destination that was read back is ever written into it. It holds no secrets.
//!
//! The folder holds a file for each matter. This one is `blobs.jsonl`: a line for each blob of a registry, the latest first.
//! [`layers`], [`configs`] and [`members`] have theirs.

pub mod configs;
mod file;
pub mod layers;
pub mod members;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::file::today;
use crate::oci::digest::Digest;
use crate::oci::reference::{Host, Repository};

/// The most blobs that it holds.
const MOST_BLOBS: usize = 10_000;

/// The most bytes that it has.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// The most repositories that are remembered for a blob: one is enough to mount from, and it may go away.
const MOST_REPOSITORIES: usize = 4;

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

impl file::Line for Line {
    const FILE: &'static str = "blobs.jsonl";
    const VERSION: u32 = 1;
    const MOST_LINES: usize = MOST_BLOBS;
    const MOST_BYTES: usize = MOST_BYTES;
    type Key = (String, String);

    fn key(&self) -> Self::Key {
        (self.registry.clone(), self.digest.clone())
    }

    fn day(&self) -> u64 {
        self.day
    }
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
        let places = file::parse(text, today).map(|line: Line| {
            let Line { registry, digest, repositories, day } = line;
            ((registry, digest), Places { repositories, day })
        });
        Self { places: places.collect() }
    }

    /// The file's text: within its bounds, the latest first.
    fn text(&self) -> String {
        let mut sorted: Vec<_> = self.places.iter().collect();
        sorted.sort_by(|(a, of_a), (b, of_b)| of_b.day.cmp(&of_a.day).then_with(|| a.cmp(b)));
        file::text(sorted.into_iter().map(|((registry, digest), places)| {
            let Places { repositories, day } = places.clone();
            Line { registry: registry.clone(), digest: digest.clone(), repositories, day }
        }))
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
        Self::parse(&file::read::<Line>(folder), today())
    }
}

/// Adds what a run has learned to the file in `folder`, beside what others wrote meanwhile. A failure is nobody's concern.
pub fn learn(folder: &Path, lessons: &Lessons) {
    let mut known = Known::read(folder);
    // Of two who write at once one may lose what it learned, and will learn it again.
    if known.learn(lessons, today()) {
        file::write::<Line>(folder, &known.text());
    }
}

#[cfg(test)]
mod tests {
    use super::file::MOST_DAYS;
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
