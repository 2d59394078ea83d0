//! Random layouts, cleaned image after image: exactly what the rest needs remains. What that is, is reckoned over a model
//! of the layout that knows its edges itself, and never over what the crate reads.

mod generate;
mod model;
mod reckoning;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ecr_push::cleanup::layout::Task;
use ecr_push::cleanup::removal::Removal;
use ecr_push::cleanup::{Cleaned, CleanupError, layout};
use ecr_push::image::Image;
use ecr_push::oci::digest::Digest;
use ecr_push::source::Choice as Asked;
use ecr_push::source::layout::{Chosen, Layout};
use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;

use self::model::{Id, Model};
use self::reckoning::{Choice, Outcome, State};

/// How many layouts are tried, and the seed of the first one.
const CASES: (&str, u64) = ("ECR_PUSH_TEST_CASES", 10_000);
const SEED: (&str, u64) = ("ECR_PUSH_TEST_SEED", 0);
/// How large a layout may be; for a failure that was found at that size.
const SIZE: &str = "ECR_PUSH_TEST_SIZE";

/// The largest that is tried without being told to.
const LARGEST: usize = 6;

/// How often an image of one layout is cleaned.
const STEPS: usize = 12;

/// Whether lists of referrers may list what refers to something else, or refer to something themselves.
const LISTS_OF_OTHERS: bool = false;

/// Which orphans go as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prune {
    Nothing,
    Old,
    All,
}

const HOUR: Duration = Duration::from_hours(1);

/// What was tried.
#[derive(Debug, Default)]
struct Tried {
    layouts: AtomicU64,
    cleaned: AtomicU64,
    blobs: AtomicU64,
    kept: AtomicU64,
    refused: AtomicU64,
    folders: AtomicU64,
}

/// The clean-up itself; what it was said to come to beforehand has to be what it comes to.
fn clean(layout: &Layout, image: &Image, chosen: &Chosen, prune: Prune) -> Result<Cleaned, CleanupError> {
    let orphans = match prune {
        Prune::Nothing => None,
        Prune::Old => Some(SystemTime::now() - HOUR),
        // Everything was written before then.
        Prune::All => Some(SystemTime::now() + HOUR),
    };
    let task = Task { removals: vec![Removal::of(layout, image, chosen)], orphans, keeps_folder: false };
    let folder = layout.folder().unwrap();
    let planned = layout::plan(folder, &task);
    // A test beside this one in the process may be about to start a program, which has our files until it runs.
    let alone = layout::alone(folder, || true, || false).expect("nobody else is at it").expect("it is there");
    let cleaned = layout::clean(folder, &task, &alone, || true);
    if let Ok(cleaned) = &cleaned {
        assert_eq!(planned.as_ref().ok(), Some(cleaned), "what a dry run says");
    }
    cleaned
}

fn number((variable, otherwise): (&str, u64)) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{variable}: {value}")))
}

/// A folder that costs no disk, where there is one.
fn memory() -> TempDir {
    let prefix = "ecr-push-closure-";
    let shared = tempfile::Builder::new().prefix(prefix).tempdir_in("/dev/shm");
    shared.or_else(|_| TempDir::with_prefix(prefix)).unwrap()
}

#[test]
fn exactly_what_the_rest_needs_remains() {
    let (cases, first) = (number(CASES), number(SEED));
    let size = std::env::var(SIZE).ok().map(|size| size.parse().unwrap());
    let (next, tried, failed) = (AtomicU64::new(first), Tried::default(), Mutex::new(None));
    let since = Instant::now();
    let work = || {
        let folder = memory();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + cases || failed.lock().unwrap().is_some() {
                return;
            }
            let size = size.unwrap_or_else(|| Rng::with_seed(!seed).usize(1..=LARGEST));
            if let Err(why) = attempt(seed, size, folder.path(), &tried) {
                failed.lock().unwrap().get_or_insert((seed, size, why));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    println!("{tried:?} in {:.1} s", since.elapsed().as_secs_f64());
    if let Some(found) = failed.into_inner().unwrap() {
        let (seed, size, why) = smallest(found);
        panic!("{}={seed} {SIZE}={size} {}=1:\n{why}", SEED.0, CASES.0);
    }
    assert!(cases < 100 || tried.cleaned.into_inner() > cases, "too few of the layouts had something to clean");
}

/// The smallest failure near this one.
fn smallest((seed, size, why): (u64, usize, String)) -> (u64, usize, String) {
    let folder = memory();
    for smaller in 1..size {
        for seed in seed..seed + 2000 {
            if let Err(why) = attempt(seed, smaller, folder.path(), &Tried::default()) {
                return (seed, smaller, why);
            }
        }
    }
    (seed, size, why)
}

/// One layout, from its making to its end.
fn attempt(seed: u64, size: usize, folder: &Path, tried: &Tried) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let model = generate::layout(&mut rng, size);
    let run = panic::catch_unwind(AssertUnwindSafe(|| case(&mut rng, &model, folder, tried)));
    for name in ["layout", "outside"] {
        let _ = fs::remove_dir_all(folder.join(name));
    }
    tried.layouts.fetch_add(1, Ordering::Relaxed);
    run.unwrap_or_else(|_| Err("it panics".to_owned())).map_err(|why| format!("{why}\n{}", model.describe()))
}

fn case(rng: &mut Rng, model: &Model, folder: &Path, tried: &Tried) -> Result<(), String> {
    let (root, outside) = (folder.join("layout"), folder.join("outside"));
    fs::create_dir_all(&outside).unwrap();
    model.write(&root, &outside);
    let (mut state, mut before) = (State::new(model), Snapshot::of(&root));
    for _ in 0..STEPS {
        let Some(choice) = choose(rng, &state) else { return Ok(()) };
        let prune = *rng.choice(&[Prune::Nothing, Prune::Nothing, Prune::Old, Prune::All]).unwrap();
        let step = step(&state, (&choice, prune), &root, &mut before, tried);
        let step = step.map_err(|why| format!("{choice:?}, orphans {prune:?}: {why}"))?;
        let Some((entries, things)) = step else { return Ok(()) };
        state.entries.retain(|at| !entries.contains(at));
        state.there.retain(|id| !things.contains(id));
        if !root.exists() {
            return same("what is left beside it", &names(folder), &vec!["outside".to_owned()]);
        }
    }
    Ok(())
}

/// A random image of those that are left; seldom one that can't be pushed.
fn choose(rng: &mut Rng, state: &State) -> Option<Choice> {
    let sound: Vec<usize> = state.entries.iter().copied().filter(|at| !state.carried(*at).flaw).collect();
    let among = if sound.is_empty() || rng.u32(..12) == 0 { &state.entries } else { &sound };
    let at = *rng.choice(among)?;
    let entry = &state.model.entries[at];
    Some(match &entry.name {
        _ if state.images().len() == 1 && rng.bool() => Choice::Only,
        Some(name) if rng.u32(..3) > 0 => Choice::Name(name.clone()),
        _ => Choice::Digest(entry.thing),
    })
}

/// What went, if anything could.
type Gone = Option<(BTreeSet<usize>, BTreeSet<Id>)>;

/// Cleans one image.
fn step(
    state: &State,
    (choice, prune): (&Choice, Prune),
    root: &Path,
    before: &mut Snapshot,
    tried: &Tried,
) -> Result<Gone, String> {
    let layout = Layout::open(root, false).map_err(|error| format!("it can't be opened: {error:?}"))?;
    let asked = match choice {
        Choice::Only => Asked::Only,
        Choice::Name(name) => Asked::Name(name.clone()),
        Choice::Digest(id) => Asked::Digest(Digest::parse(&state.model.things[*id].digest).unwrap()),
    };
    let meant = meant(state, choice);
    let (chosen, entry) = match (layout.choose(&asked), meant) {
        (Ok(chosen), Some(entry)) => (chosen, entry),
        (Err(_), None) => return Ok(None),
        (chosen, meant) => return Err(format!("{meant:?} is meant, and chosen is {chosen:?}")),
    };
    let id = state.model.entries[entry].thing;
    same("the image that was chosen", &chosen.descriptor.digest.as_str(), &state.model.things[id].digest.as_str())?;
    let carried = state.carried(entry);
    let image = match layout.read(&chosen, &[], true) {
        Ok(image) => image,
        Err(_) if carried.flaw => {
            tried.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        Err(error) => return Err(format!("nothing is wrong with it, and it can't be read: {error:?}")),
    };
    let digests = |ids: &BTreeSet<Id>| ids.iter().map(|id| state.model.things[*id].digest.clone()).collect();
    let (manifests, blobs): (BTreeSet<String>, BTreeSet<String>) =
        (digests(&carried.manifests), digests(&carried.blobs));
    same(
        "manifests",
        &image.nodes().iter().map(|node| node.manifest.digest.as_str().to_owned()).collect(),
        &manifests,
    )?;
    same("blobs", &image.blobs().map(|blob| blob.digest.as_str().to_owned()).collect(), &blobs)?;

    let expected = state.cleaned(choice, id, &carried, prune == Prune::All);
    let cleaned = clean(&layout, &image, &chosen, prune);
    let kept = match (&expected, cleaned) {
        (Outcome::Withheld, Err(CleanupError::Withheld { .. }))
        | (Outcome::Unclear, Err(CleanupError::Unclear { .. })) => true,
        (Outcome::Done { entries, things, orphans }, Ok(cleaned)) => {
            same("orphans removed", &cleaned.orphans, &orphans.len())?;
            *before = check(state, root, before, (entries, &(things | orphans)), &cleaned)?;
            tried.cleaned.fetch_add(1, Ordering::Relaxed);
            tried.blobs.fetch_add(things.len() as u64, Ordering::Relaxed);
            tried.folders.fetch_add(u64::from(cleaned.folder), Ordering::Relaxed);
            false
        }
        (_, cleaned) => return Err(format!("it came to {cleaned:?} and not to {expected:?}")),
    };
    if kept {
        tried.kept.fetch_add(1, Ordering::Relaxed);
        same("what is there of a layout that is kept", &Snapshot::of(root), before)?;
    }
    let Outcome::Done { entries, things, orphans } = expected else { return Ok(None) };
    Ok(Some((entries, &things | &orphans)))
}

/// The first entry of the image that is meant; none if that isn't clear.
fn meant(state: &State, choice: &Choice) -> Option<usize> {
    let entry = |at: &usize| &state.model.entries[*at];
    let is_named = |at: &usize, name: &String| entry(at).name.as_ref() == Some(name);
    let ids: BTreeSet<Id> = match choice {
        Choice::Only => state.images(),
        Choice::Digest(id) => [*id].into(),
        Choice::Name(name) => state.entries.iter().filter(|at| is_named(at, name)).map(|at| entry(at).thing).collect(),
    };
    let id = if ids.len() == 1 { ids.first() } else { None }?;
    let among =
        |at: &usize| entry(at).thing == *id && if let Choice::Name(name) = choice { is_named(at, name) } else { true };
    state.entries.iter().copied().find(among)
}

/// Compares what is left and what is said with what went; gives what is there now.
fn check(
    state: &State,
    root: &Path,
    before: &Snapshot,
    (entries, things): (&BTreeSet<usize>, &BTreeSet<Id>),
    cleaned: &Cleaned,
) -> Result<Snapshot, String> {
    let model = state.model;
    let remaining: Vec<usize> = state.entries.iter().copied().filter(|at| !entries.contains(at)).collect();
    let mut names: Vec<String> = Vec::new();
    for at in state.entries.iter().filter(|at| entries.contains(at)) {
        names.extend(model.entries[*at].name.clone().filter(|name| !names.contains(name)));
    }
    let mut gone: BTreeSet<PathBuf> = things.iter().map(|id| model.things[*id].path()).collect();
    same("blobs removed", &cleaned.blobs, &gone.len())?;
    same("names removed", &cleaned.names, &names)?;
    let folder = remaining.is_empty() && before.is_skeleton_without(&gone);
    same("whether the folder goes", &cleaned.folder, &folder)?;
    if folder {
        gone = before.0.keys().cloned().collect();
    }
    same("bytes freed", &cleaned.freed, &before.freed_by(&gone))?;
    if folder {
        same("what is there of a folder that goes", &root.exists(), &false)?;
        return Ok(Snapshot::default());
    }
    let index = fs::read(root.join("index.json")).map_err(|error| error.to_string())?;
    let index: Value = serde_json::from_slice(&index).map_err(|error| error.to_string())?;
    same("index.json", &index.to_string(), &model.index_of(&remaining).to_string())?;
    let found = Snapshot::of(root);
    let (mut left, mut expected) = (found.clone(), before.clone());
    expected.0.retain(|path, _| !gone.contains(path));
    // It is another file now; and the other name of a file is one link fewer.
    for snapshot in [&mut left, &mut expected] {
        snapshot.0.remove(Path::new("index.json"));
        for seen in snapshot.0.values_mut() {
            (seen.links, seen.blocks) = (0, if seen.folder { 0 } else { seen.blocks });
        }
    }
    same("what is left", &left, &expected)?;
    Ok(found)
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}\nexpected: {expected:?}")) }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Everything below a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Snapshot(BTreeMap<PathBuf, Seen>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    folder: bool,
    inode: u64,
    size: u64,
    blocks: u64,
    links: u64,
    modified: (i64, i64),
}

impl Snapshot {
    fn of(root: &Path) -> Self {
        let mut found = Self::default();
        if let Ok(metadata) = fs::symlink_metadata(root) {
            found.take(PathBuf::new(), &metadata);
            found.gather(root, Path::new(""));
        }
        found
    }

    fn gather(&mut self, root: &Path, inside: &Path) {
        for entry in fs::read_dir(root.join(inside)).into_iter().flatten() {
            let entry = entry.unwrap();
            let (path, metadata) = (inside.join(entry.file_name()), entry.metadata().unwrap());
            self.take(path.clone(), &metadata);
            if metadata.is_dir() {
                self.gather(root, &path);
            }
        }
    }

    fn take(&mut self, path: PathBuf, metadata: &Metadata) {
        let (inode, blocks, folder) = (metadata.ino(), metadata.blocks(), metadata.is_dir());
        let seen = if folder {
            // What is in it may change, and that changes the rest.
            Seen { folder, inode, size: 0, blocks, links: 1, modified: Default::default() }
        } else {
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            Seen { folder, inode, size: metadata.size(), blocks, links: metadata.nlink(), modified }
        };
        self.0.insert(path, seen);
    }

    /// The bytes on disk that nobody holds any more when these paths are gone.
    fn freed_by(&self, gone: &BTreeSet<PathBuf>) -> u64 {
        let mut links: BTreeMap<u64, u64> = BTreeMap::new();
        let files = || gone.iter().map(|path| &self.0[path]);
        files().for_each(|seen| *links.entry(seen.inode).or_default() += 1);
        let last: BTreeMap<u64, u64> = files()
            .filter(|seen| links[&seen.inode] == seen.links)
            .map(|seen| (seen.inode, seen.blocks * 512))
            .collect();
        last.values().sum()
    }

    /// Whether without these nothing is left but what makes a folder a layout.
    fn is_skeleton_without(&self, gone: &BTreeSet<PathBuf>) -> bool {
        let known = ["", "oci-layout", "index.json", "blobs", "blobs/sha256", "blobs/sha512", "ingest"].map(Path::new);
        self.0.keys().all(|path| gone.contains(path) || known.contains(&path.as_path()))
    }
}
