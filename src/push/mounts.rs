//! Where a blob may be mounted from, and whether that is still worth a try. Sends nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::Destination;
use crate::aws::host::EcrRegistry;
use crate::image::Image;
use crate::known::Known;
use crate::oci::digest::Digest;
use crate::oci::manifest::Body;
use crate::oci::reference::{Host, Reference, Repository};

/// The annotation in which an image names the one that it was built on.
const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// So many refusals in a row, where the blob was known to be, and a registry is taken for one that mounts nothing.
const MOST_SURE: u32 = 3;

/// So many in a row where it was only hoped to be: most images have some layers that their base hasn't.
const MOST_HOPED: u32 = 8;

/// A repository that a blob may be mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its name.
    pub(super) from: String,
    /// Whether the user named it.
    pub(super) asked: bool,
    /// Whether an earlier push saw the blob there.
    pub(super) sure: bool,
}

/// What is known of the places where a blob may be, by the names of repositories in the target's registry.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Places<'a> {
    /// The target.
    pub(super) own: &'a str,
    /// Whether a mount from the target itself says that it has the blob.
    pub(super) own_tells: bool,
    /// What the user named.
    pub(super) asked: &'a [String],
    /// Where earlier pushes saw the blob, the latest first.
    pub(super) known: &'a [String],
    /// The image's base.
    pub(super) base: Option<&'a str>,
}

/// The repositories to try for a blob, the likeliest first.
///
/// All that the user named, and of what is tried unasked only the best: each refusal is a round trip before the blob's
/// first byte, which on ECR takes 100 to 200 ms (facts/ecr.md, Mounts), and the session that comes with it is used at once
/// only if nobody else is asked.
pub(super) fn candidates(places: &Places) -> Vec<Candidate> {
    if places.own_tells && places.known.iter().any(|name| name == places.own) {
        return Vec::new();
    }
    let is_known = |name: &str| places.known.iter().any(|known| known == name);
    let candidate = |from: &str, asked| Candidate { from: from.to_owned(), asked, sure: is_known(from) };
    let asked = places.asked.iter().filter(|name| *name != places.own);
    let (sure, hoped): (Vec<&String>, Vec<&String>) = asked.partition(|name| is_known(name));
    let unasked = match sure.first() {
        Some(_) => None,
        None => places.known.iter().map(String::as_str).find(|name| *name != places.own).or(places.base),
    };
    let mut found: Vec<Candidate> = sure.into_iter().map(|name| candidate(name, true)).collect();
    // What is known beats what was named: the user wants the blob mounted, from wherever it is.
    found.extend(unasked.filter(|name| is_known(name)).map(|name| candidate(name, false)));
    found.extend(hoped.into_iter().map(|name| candidate(name, true)));
    found.extend(unasked.filter(|name| !is_known(name)).map(|name| candidate(name, false)));
    let mut seen = HashSet::new();
    found.retain(|candidate| candidate.from != places.own && seen.insert(candidate.from.clone()));
    found
}

/// How often a registry has refused in a row. Blobs are in flight side by side, so that answers come after the last try was
/// decided on: more may be refused than are counted here, and a mount that comes off late begins anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Refusals {
    sure: u32,
    hoped: u32,
}

impl Refusals {
    fn is_worth(self, sure: bool) -> bool {
        self.sure < MOST_SURE && (sure || self.hoped < MOST_HOPED)
    }

    fn note(&mut self, sure: bool, mounted: bool) {
        match (mounted, sure) {
            (true, _) => *self = Self::default(),
            (false, true) => self.sure += 1,
            (false, false) => self.hoped += 1,
        }
    }
}

/// The layers of images that name their base, each with the repositories of these.
fn bases(image: &Image) -> HashMap<Digest, Vec<Repository>> {
    let mut bases: HashMap<Digest, Vec<Repository>> = HashMap::new();
    for node in image.nodes() {
        let Body::Image { layers, .. } = &node.manifest.body else { continue };
        let name = node.manifest.annotations.as_ref().and_then(|annotations| annotations[BASE_NAME].as_str());
        let Some(Ok(base)) = name.map(Reference::parse) else { continue };
        for layer in layers {
            bases.entry(layer.digest.clone()).or_default().push(base.repository.clone());
        }
    }
    bases
}

#[derive(Debug, Default)]
struct Book {
    refusals: HashMap<Host, Refusals>,
    /// Blobs that could be mounted from nowhere; the next attempt at them doesn't try again.
    settled: HashSet<(Repository, Digest)>,
    /// Where blobs were thought to be, and could not be mounted from.
    stale: Vec<(Repository, Digest)>,
    /// Repositories whose registry can't be asked whether they have a blob by a mount from themselves.
    mute: HashSet<Repository>,
    /// Sources from which this user may take nothing.
    closed: HashSet<Repository>,
}

/// What one run knows of mounts.
#[derive(Debug)]
pub(super) struct Mounts<'a> {
    asked: &'a [String],
    known: &'a Known,
    bases: HashMap<Digest, Vec<Repository>>,
    book: Mutex<Book>,
}

impl<'a> Mounts<'a> {
    /// For a run that pushes `image`; `asked` are the repositories that the user named.
    pub(super) fn new(image: &Image, asked: &'a [String], known: &'a Known) -> Self {
        Self { asked, known, bases: bases(image), book: Mutex::default() }
    }

    /// The repositories from which to try to mount `digest` into a destination's.
    pub(super) fn worth(&self, destination: &Destination, digest: &Digest) -> Vec<Candidate> {
        let target = &destination.target.repository;
        // Nobody has heard of mounts on ECR Public: there only what the user names is tried.
        let unasked = EcrRegistry::of(&target.host) != Some(EcrRegistry::Public);
        self.candidates(target, digest, !destination.is_ecr(), unasked)
    }

    /// The repositories from which to try to mount `digest` into `target`; `own_tells` as in [`Places`]. `unasked` is
    /// whether more than what the user named may be tried.
    fn candidates(&self, target: &Repository, digest: &Digest, own_tells: bool, unasked: bool) -> Vec<Candidate> {
        let book = self.book();
        if book.settled.contains(&(target.clone(), digest.clone())) {
            return Vec::new();
        }
        let known = if unasked { self.known.repositories(&target.host, digest) } else { &[] };
        let mut bases = self.bases.get(digest).into_iter().flatten().filter(|_| unasked);
        let base = bases.find(|base| base.host == target.host).map(|base| base.name.as_str());
        let places = Places { own: &target.name, own_tells, asked: self.asked, known, base };
        candidates(&places)
    }

    /// Whether a mount is still worth a try: others may have been refused since the candidates were chosen.
    pub(super) fn is_worth(&self, target: &Repository, candidate: &Candidate) -> bool {
        let book = self.book();
        let refusals = book.refusals.get(&target.host).copied().unwrap_or_default();
        refusals.is_worth(candidate.sure) && !book.closed.contains(&source(target, candidate))
    }

    /// Notes what a registry said to a mount.
    pub(super) fn note(&self, target: &Repository, digest: &Digest, candidate: &Candidate, mounted: bool) {
        let mut book = self.book();
        book.refusals.entry(target.host.clone()).or_default().note(candidate.sure, mounted);
        if candidate.sure && !mounted {
            book.stale.push((source(target, candidate), digest.clone()));
        }
    }

    /// Notes that a blob can be mounted from nowhere.
    pub(super) fn settle(&self, target: &Repository, digest: &Digest) {
        self.book().settled.insert((target.clone(), digest.clone()));
    }

    /// Whether a mount from the target itself may tell that it has a blob.
    pub(super) fn may_tell(&self, target: &Repository) -> bool {
        !self.book().mute.contains(target)
    }

    /// Notes that a mount from the target itself is no question that its registry answers.
    pub(super) fn is_mute(&self, target: &Repository) {
        self.book().mute.insert(target.clone());
    }

    /// Notes that this user may take nothing from a source, and says whether that is news.
    pub(super) fn close(&self, target: &Repository, candidate: &Candidate) -> bool {
        self.book().closed.insert(source(target, candidate))
    }

    /// Where blobs were thought to be, and could not be mounted from.
    pub(super) fn stale(self) -> Vec<(Repository, Digest)> {
        self.book.into_inner().unwrap_or_else(PoisonError::into_inner).stale
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn source(target: &Repository, candidate: &Candidate) -> Repository {
    Repository { host: target.host.clone(), name: candidate.from.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_place_comes_first() {
        let check = |asked: &[&str], known: &[&str], base: Option<&str>, own_tells: bool, expected: &str| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let (asked, known) = (owned(asked), owned(known));
            let places = Places { own: "app", own_tells, asked: &asked, known: &known, base };
            let show = |candidate: &Candidate| {
                let Candidate { from, asked, sure } = candidate;
                format!("{from}{}{}", if *asked { " asked" } else { "" }, if *sure { " sure" } else { "" })
            };
            let found: Vec<String> = candidates(&places).iter().map(show).collect();
            assert_eq!(found.join(", "), expected, "{places:?}");
        };
        check(&[], &[], None, false, "");
        check(&["a", "b"], &[], None, false, "a asked, b asked");
        check(&["a", "b", "a"], &["b", "c"], Some("d"), false, "b asked sure, a asked");
        check(&["a"], &["c", "d"], Some("b"), false, "c sure, a asked");
        check(&["a"], &[], Some("b"), false, "a asked, b");
        check(&["a"], &[], Some("a"), false, "a asked");
        check(&[], &["c", "d"], Some("b"), false, "c sure");
        check(&[], &["b"], Some("b"), false, "b sure");
        // The target is no place to mount from, and where it tells that it has the blob nobody else is asked.
        check(&["app"], &["app", "c"], Some("app"), false, "c sure");
        check(&["app"], &["app"], None, false, "");
        check(&["a"], &["c", "app"], Some("b"), true, "");
        check(&["a"], &["c"], None, true, "c sure, a asked");
    }

    #[test]
    fn who_refuses_is_asked_no_more() {
        let check = |answers: &[(bool, bool)], sure, hoped| {
            let mut refusals = Refusals::default();
            for (sure, mounted) in answers {
                refusals.note(*sure, *mounted);
            }
            assert_eq!((refusals.is_worth(true), refusals.is_worth(false)), (sure, hoped), "{answers:?}");
        };
        let (known, hoped, mounted) = ((true, false), (false, false), (false, true));
        check(&[], true, true);
        check(&[known; 2], true, true);
        check(&[known; 3], false, false);
        check(&[hoped; 7], true, true);
        check(&[hoped; 8], true, false);
        check(&[known, known, hoped, known], false, false);
        check(&[known, known, mounted, known, known], true, true);
        // A mount that comes off although three were refused before it was answered.
        check(&[known, known, known, mounted], true, true);
    }
}
