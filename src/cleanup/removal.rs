//! What is to go from a layout: an image with what refers to it, and which entries of the index that means.

use std::collections::{HashMap, HashSet};

use super::CleanupError;
use super::reach::Reach;
use super::stamp::Stamp;
use crate::image::{Image, Node};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::manifest::Manifest;
use crate::source::folder::Folder;
use crate::source::layout::{Chosen, Layout};

/// Which of an image's entries go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// All of them.
    All,
    /// The one of this name, which somebody asked for.
    One(String),
    /// The one of this name, or without one, if it is still there.
    Entry(Option<String>),
}

/// An image that is to be removed from a layout.
#[derive(Debug, Clone)]
pub struct Removal {
    names: Names,
    root: Digest,
    /// What refers to it or to what is part of it, be it part of it too, each with all that it refers to: a list refers to what it
    /// is called after, and to what those on it refer to.
    referrers: HashMap<Digest, HashSet<Digest>>,
    /// Its manifests, configs and layers, as their files looked when SOURCE was read: one that was written anew since is
    /// somebody's who is about to name it. None where a file couldn't be looked at.
    reached: HashMap<Digest, Option<Stamp>>,
    /// Manifests of it that are there and can't be read, so that nobody knows what else is its.
    unreadable: Vec<Digest>,
    /// Layers that were not pushed, and that the layout holds.
    withheld: Vec<Digest>,
}

impl Removal {
    /// The removal of `image`, chosen as `chosen`, once it is pushed with all its referrers.
    #[must_use]
    pub fn of(layout: &Layout, image: &Image, chosen: &Chosen) -> Self {
        let names = chosen.name.clone().map_or(Names::All, Names::One);
        let withheld = image.withheld().iter().filter(|layer| layer.held).map(|layer| layer.digest.clone()).collect();
        Self { withheld, ..Self::new(layout, &image.root().manifest.digest, image.nodes(), names) }
    }

    /// The removal of the image that `descriptor` describes, whole or not, without a push. What refers to it and has a name of its
    /// own stays: nobody named that.
    #[must_use]
    pub fn outright(layout: &Layout, descriptor: &Descriptor, names: Names) -> Self {
        let found = layout.look(descriptor, true);
        let mut removal = Self::new(layout, &descriptor.digest, &found.nodes, names);
        removal.referrers.retain(|digest, _| !layout.names(digest));
        removal
    }

    fn new(layout: &Layout, root: &Digest, nodes: &[Node], names: Names) -> Self {
        let manifests: HashMap<&Digest, &Node> = nodes.iter().map(|node| (&node.manifest.digest, node)).collect();
        let subject = |node: &Node| {
            let Manifest { digest, subject: Some(subject), .. } = &node.manifest else { return None };
            let refers = digest != root && manifests.contains_key(&subject.digest);
            refers.then(|| (digest.clone(), HashSet::from([subject.digest.clone()])))
        };
        // A part of the image may refer to another, and have an entry of its own besides.
        let mut referrers: HashMap<_, _> = nodes.iter().filter_map(subject).collect();
        // The referrers tag schema's lists of what refers to these manifests. One that lists something else, too, is the only
        // thing that names it.
        let lists_ours = |entry: &Descriptor| {
            let ours =
                |child: &Descriptor| manifests.contains_key(&child.digest) || !layout.files().hold(&child.digest);
            layout.manifest_of(entry).is_some_and(|list| list.children().iter().all(ours))
        };
        let subjects: HashMap<String, &Digest> =
            manifests.keys().copied().chain([root]).map(|digest| (digest.referrers_tag(), digest)).collect();
        for entry in layout.lists() {
            if let Some(subject) = entry.ref_name().and_then(|name| subjects.get(name))
                && lists_ours(entry)
            {
                let list = layout.manifest_of(entry);
                let listed = list.iter().flat_map(Manifest::children).filter_map(|it| manifests.get(&it.digest));
                let theirs = listed.filter_map(|node| node.manifest.subject.as_ref());
                let own = list.as_ref().and_then(|list| list.subject.as_ref());
                let subjects = theirs.chain(own).map(|subject| &subject.digest).chain([*subject]);
                referrers.entry(entry.digest.clone()).or_default().extend(subjects.cloned());
            }
        }
        let blobs = nodes.iter().flat_map(|node| node.manifest.blobs()).map(|blob| &blob.digest);
        let parts = manifests.values().flat_map(|node| node.manifest.children()).map(|child| &child.digest);
        let all: HashSet<&Digest> =
            manifests.keys().copied().chain(blobs).chain(parts).chain(referrers.keys()).chain([root]).collect();
        let stamp = |digest: &Digest| match Stamp::at(&layout.folder()?.path(digest)) {
            Ok(stamp) => Some((digest.clone(), Some(stamp?))),
            Err(_) => Some((digest.clone(), None)),
        };
        let reached: HashMap<_, _> = all.into_iter().filter_map(stamp).collect();
        let children = nodes.iter().flat_map(|node| node.manifest.children()).map(|child| &child.digest);
        let unread = children.chain([root]).filter(|digest| !manifests.contains_key(digest));
        let unreadable = unread.filter(|digest| layout.files().hold(digest)).cloned().collect();
        Self { names, root: root.clone(), referrers, reached, unreadable, withheld: Vec::new() }
    }

    /// Layers that keep it.
    pub(super) fn withheld(&self) -> &[Digest] {
        &self.withheld
    }

    /// The files that go unless something else needs them.
    pub(super) fn reached(&self) -> &HashMap<Digest, Option<Stamp>> {
        &self.reached
    }

    /// Manifests of it that nobody can read.
    #[must_use]
    pub fn unreadable(&self) -> &[Digest] {
        &self.unreadable
    }

    fn takes(&self, entry: &Descriptor) -> bool {
        entry.digest == self.root
            && match &self.names {
                Names::All => true,
                Names::One(name) => entry.ref_name() == Some(name),
                Names::Entry(name) => entry.ref_name() == name.as_deref(),
            }
    }
}

/// What becomes of an index.
pub(super) struct Decision {
    /// For each entry, whether it goes.
    pub(super) going: Vec<bool>,
    /// For each entry, whether it is an image's that is to be removed, and not of what refers to that.
    pub(super) taken: Vec<bool>,
    /// Everything that the others reach.
    pub(super) needed: HashSet<Digest>,
}

/// Decides what goes from an index of these entries.
///
/// # Errors
/// When a name that was asked for stands for another image by now, and when nobody can tell what the entries that stay reach.
pub(super) fn decide(folder: &Folder, entries: &[Descriptor], removals: &[Removal]) -> Result<Decision, CleanupError> {
    for removal in removals {
        if let Names::One(name) = &removal.names
            && !entries.iter().any(|entry| removal.takes(entry))
            && let Some(moved) = entries.iter().find(|entry| entry.ref_name() == Some(name))
        {
            let (path, name, now) = (folder.root().to_owned(), name.clone(), moved.digest.clone());
            return Err(CleanupError::NameMoved { path, name, now });
        }
    }
    let mut subjects: HashMap<&Digest, HashSet<&Digest>> = HashMap::new();
    for (referrer, theirs) in removals.iter().flat_map(|removal| &removal.referrers) {
        subjects.entry(referrer).or_default().extend(theirs);
    }
    let mut by_root: HashMap<&Digest, Vec<&Removal>> = HashMap::new();
    for removal in removals {
        by_root.entry(&removal.root).or_default().push(removal);
    }
    let is_named =
        |entry: &Descriptor| by_root.get(&entry.digest).is_some_and(|all| all.iter().any(|it| it.takes(entry)));
    let taken: Vec<bool> = entries.iter().map(is_named).collect();
    let mut going: Vec<bool> =
        entries.iter().zip(&taken).map(|(entry, taken)| *taken || subjects.contains_key(&entry.digest)).collect();
    let mut reach = Reach::of(folder);
    for (entry, _) in entries.iter().zip(&going).filter(|(_, going)| !**going) {
        reach.add(entry)?;
    }
    // What refers to something that stays, under another name or as a part of another image, stays with it.
    let is_kept = |entry: &Descriptor, reach: &Reach| {
        subjects.get(&entry.digest).is_some_and(|subjects| subjects.iter().any(|subject| reach.has(subject)))
    };
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        for (at, entry) in entries.iter().enumerate() {
            if going[at] && !taken[at] && is_kept(entry, &reach) {
                (going[at], is_settled) = (false, false);
                reach.add(entry)?;
            }
        }
    }
    Ok(Decision { going, taken, needed: reach.all() })
}
