//! What a clean-up of a model has to come to. Knows the model alone: neither files nor the crate.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Edge, Id, Model, Role};

/// A layout as it is after some clean-ups.
#[derive(Debug)]
pub(super) struct State<'a> {
    pub(super) model: &'a Model,
    /// The things that have a file.
    pub(super) there: BTreeSet<Id>,
    /// The entries that are left, in order.
    pub(super) entries: Vec<usize>,
}

/// What is cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Only,
    Name(String),
    Digest(Id),
}

/// What a push of an image carries.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) manifests: BTreeSet<Id>,
    pub(super) blobs: BTreeSet<Id>,
    /// What refers to a part of it, be it part of it too, and lists of that; each with what it refers to.
    pub(super) referrers: BTreeMap<Id, Id>,
    /// Layers that no push carries, and that are there.
    pub(super) held: BTreeSet<Id>,
    /// Whether something is wrong with it, at least seen from one side.
    pub(super) flaw: bool,
}

/// What has to become of a layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing changes, for layers are held that weren't pushed.
    Withheld,
    /// Nothing changes, for nobody knows what something needs that stays.
    Unclear,
    Done {
        /// Entries that go.
        entries: BTreeSet<usize>,
        /// Things of the image whose files go.
        things: BTreeSet<Id>,
        /// Things that nothing needed before either, and whose files go.
        orphans: BTreeSet<Id>,
    },
}

/// No descriptor of an image may be deeper below its root.
const DEEPEST: usize = 16;

impl<'a> State<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        let there = (0..model.things.len()).filter(|id| model.things[*id].place != super::model::Place::Nowhere);
        Self { model, there: there.collect(), entries: (0..model.entries.len()).collect() }
    }

    /// Whether the manifest can be read through a descriptor.
    fn readable(&self, id: Id, inline: bool) -> bool {
        let thing = &self.model.things[id];
        let file = self.there.contains(&id);
        thing.is_manifest() && (file && !self.corrupt(id) || !file && inline)
    }

    fn corrupt(&self, id: Id) -> bool {
        self.there.contains(&id) && self.model.things[id].place == super::model::Place::Corrupt
    }

    fn edges(&self, id: Id) -> &'a [Edge] {
        &self.model.things[id].edges
    }

    fn children(&self, id: Id) -> impl Iterator<Item = &'a Edge> {
        self.edges(id).iter().filter(|edge| edge.role == Role::Child)
    }

    /// Whether an entry is a list of referrers by its name.
    fn is_list(&self, at: usize) -> bool {
        let entry = &self.model.entries[at];
        let by_name = |name: &String| {
            name.split_once('-').is_some_and(|(algorithm, hex)| {
                ["sha256", "sha512"].contains(&algorithm)
                    && hex.len() == 64
                    && hex.bytes().all(|b| b.is_ascii_hexdigit())
            })
        };
        self.model.things[entry.thing].is_index() && entry.name.as_ref().is_some_and(by_name)
    }

    /// The images that somebody who doesn't choose may mean.
    pub(super) fn images(&self) -> BTreeSet<Id> {
        let listed: BTreeSet<Id> = self.entries.iter().map(|at| self.model.entries[*at].thing).collect();
        let known = self.subjects();
        let refers = |id: &Id| known.get(id).is_some_and(|subject| listed.contains(subject));
        let image = |at: &&usize| !self.is_list(**at) && self.model.things[self.model.entries[**at].thing].is_known();
        let images = self.entries.iter().filter(image).map(|at| self.model.entries[*at].thing);
        images.filter(|id| !refers(id)).collect()
    }

    /// What refers to what, as far as `index.json` and the lists in it tell.
    fn subjects(&self) -> BTreeMap<Id, Id> {
        let mut known = BTreeMap::new();
        let mut see = |id: Id, inline: bool| {
            if self.readable(id, inline)
                && let Some(subject) = self.model.things[id].subject()
            {
                known.insert(id, subject);
            }
        };
        for at in &self.entries {
            let entry = &self.model.entries[*at];
            see(entry.thing, entry.inline);
            if self.is_list(*at) && self.readable(entry.thing, entry.inline) {
                self.children(entry.thing).for_each(|child| see(child.to, child.inline));
            }
        }
        known
    }

    /// What is pushed when the image of this entry is, with all that refers to it.
    pub(super) fn carried(&self, entry: usize) -> Carried {
        let entry = &self.model.entries[entry];
        let mut carried = Carried::default();
        self.carry(entry.thing, entry.inline, 0, &mut carried);
        let entries = self.entries.iter().map(|at| &self.model.entries[*at]);
        let mut candidates: Vec<(Id, bool)> = entries.map(|entry| (entry.thing, entry.inline)).collect();
        for at in self.entries.iter().filter(|at| self.is_list(**at)) {
            let list = &self.model.entries[*at];
            if self.readable(list.thing, list.inline) {
                candidates.extend(self.children(list.thing).map(|child| (child.to, child.inline)));
            }
        }
        let subjects = self.subjects();
        let next = |carried: &Carried| {
            let refers = |id: &Id| subjects.get(id).is_some_and(|subject| carried.manifests.contains(subject));
            candidates.iter().copied().find(|(id, _)| !carried.manifests.contains(id) && refers(id))
        };
        while let Some((id, inline)) = next(&carried) {
            self.carry(id, inline, 0, &mut carried);
        }
        let subject = |id: &Id| self.model.things[*id].subject().filter(|subject| carried.manifests.contains(subject));
        let others = carried.manifests.iter().filter(|id| **id != entry.thing);
        carried.referrers = others.filter_map(|id| Some((*id, subject(id)?))).collect();
        self.lists(&mut carried);
        carried
    }

    /// Adds the lists of what refers to the image. One that lists something else, too, is the only thing that names it.
    fn lists(&self, carried: &mut Carried) {
        let of: BTreeMap<String, Id> =
            carried.manifests.iter().map(|id| (self.model.things[*id].list_name(), *id)).collect();
        let ours = |child: &Edge| carried.manifests.contains(&child.to) || !self.there.contains(&child.to);
        for at in self.entries.iter().filter(|at| self.is_list(**at)) {
            let list = &self.model.entries[*at];
            let whole = self.readable(list.thing, list.inline) && self.children(list.thing).all(ours);
            if let Some(subject) = list.name.as_ref().and_then(|name| of.get(name)).filter(|_| whole) {
                carried.referrers.insert(list.thing, *subject);
            }
        }
    }

    fn carry(&self, id: Id, inline: bool, depth: usize, carried: &mut Carried) {
        carried.flaw |= !self.readable(id, inline) || depth > DEEPEST;
        if !carried.manifests.insert(id) {
            return;
        }
        for edge in self.edges(id) {
            match edge.role {
                Role::Child => self.carry(edge.to, edge.inline, depth + 1, carried),
                Role::Blob => {
                    let there = self.there.contains(&edge.to);
                    carried.flaw |= self.corrupt(edge.to) || !there && !edge.inline;
                    carried.blobs.insert(edge.to);
                }
                Role::Withheld => carried.held.extend(self.there.get(&edge.to)),
                Role::Subject => {}
            }
        }
    }

    /// What these entries need; nothing if there is something among that which can't be understood.
    fn needed(&self, entries: impl IntoIterator<Item = usize>) -> Option<BTreeSet<Id>> {
        let (mut needed, mut walked, mut mentioned) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let entry = |at: usize| (self.model.entries[at].thing, self.model.entries[at].inline);
        let mut waiting: Vec<(Id, bool)> = entries.into_iter().map(entry).collect();
        let mut unknown = Vec::new();
        while let Some((id, inline)) = waiting.pop() {
            needed.insert(id);
            if !self.model.things[id].is_manifest() {
                unknown.push(id);
            } else if self.corrupt(id) {
                return None;
            } else if self.readable(id, inline) && walked.insert(id) {
                for edge in self.edges(id) {
                    match edge.role {
                        Role::Child | Role::Subject => waiting.push((edge.to, edge.inline)),
                        Role::Blob | Role::Withheld => drop(needed.insert(edge.to)),
                    }
                }
            }
        }
        // Nobody knows what those mean, so all that they mention may be meant, and all that this mentions.
        while let Some(id) = unknown.pop() {
            if mentioned.insert(id) && self.there.contains(&id) && !self.corrupt(id) {
                unknown.extend(&self.model.things[id].mentions);
            }
        }
        needed.extend(mentioned);
        Some(needed)
    }

    /// What has to become of it when this is cleaned, of which `carried` was pushed; with `prune` orphans go as well.
    pub(super) fn cleaned(&self, choice: &Choice, root: Id, carried: &Carried, prune: bool) -> Outcome {
        if !carried.held.is_empty() {
            return Outcome::Withheld;
        }
        let named = |at: usize, name: &str| self.model.entries[at].name.as_deref() == Some(name);
        let ours = |at: usize| {
            let asked = if let Choice::Name(name) = choice { named(at, name) } else { true };
            self.model.entries[at].thing == root && asked
        };
        // What says something of an image goes with it: the entries, each with what it says that of.
        let says = |at: usize| carried.referrers.get(&self.model.entries[at].thing).copied();
        let mut going: BTreeSet<usize> = self.entries.iter().copied().filter(|at| ours(*at)).collect();
        let rest = self.entries.iter().copied().filter(|at| !going.contains(at));
        let mut with: BTreeMap<usize, Id> = rest.filter_map(|at| Some((at, says(at)?))).collect();
        let remaining = |with: &BTreeMap<usize, Id>| {
            let rest = self.entries.iter().copied().filter(|at| !going.contains(at) && !with.contains_key(at));
            self.needed(rest.collect::<Vec<_>>())
        };
        let Some(mut needed) = remaining(&with) else { return Outcome::Unclear };
        // As long as something stays, so does what refers to it, under whatever name it stays.
        loop {
            let before = with.len();
            with.retain(|_, subject| !needed.contains(subject));
            if with.len() == before {
                break;
            }
            let Some(more) = remaining(&with) else { return Outcome::Unclear };
            needed = more;
        }
        let pushed = carried.manifests.iter().chain(&carried.blobs).chain(carried.referrers.keys());
        let mut things: BTreeSet<Id> = pushed.copied().collect();
        going.extend(with.keys());
        things.retain(|id| !needed.contains(id) && self.there.contains(id));
        let orphans = self.there.iter().copied().filter(|id| prune && !needed.contains(id) && !things.contains(id));
        Outcome::Done { entries: going, orphans: orphans.collect(), things }
    }
}
