//! Whether what is left of a layout is a layout, and everything named in it whole: reckoned here, and tried with the
//! programs that people read layouts with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::traced::Traced;
use crate::support::layout::{INDEX, digest, sha256, sha512};
use crate::support::servers::Tool;
use crate::support::{Layout, Push, assert_arrived, builder, start};

/// A folder as it is now: what each file below it has, by its path.
pub(super) type State = BTreeMap<String, String>;

/// What the folder above a layout has in it. The number of the process that cleaned it is taken out of names.
pub(super) fn state(layout: &Layout, process: u32) -> State {
    let mut state = State::new();
    walk(layout.parent(), "", &mut state);
    let own = |path: String| path.replace(&format!(".ecr-push-{process}"), ".ecr-push-PID");
    state.into_iter().map(|(path, content)| (own(path), content)).collect()
}

fn walk(folder: &Path, inside: &str, state: &mut State) {
    for entry in fs::read_dir(folder).expect("a folder that is read") {
        let entry = entry.expect("an entry");
        let path = format!("{inside}{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a kind").is_dir() {
            state.insert(format!("{path}/"), String::new());
            walk(&entry.path(), &format!("{path}/"), state);
        } else {
            let bytes = fs::read(entry.path()).expect("a file that is read");
            let content = if is_own(&path) { plain(&bytes) } else { sha256(&bytes) };
            state.insert(path, content);
        }
    }
}

/// Whether a clean-up made a file for itself.
fn is_own(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
}

/// What such a file has, without what differs from run to run: inodes, sizes and times.
fn plain(bytes: &[u8]) -> String {
    fn without_numbers(value: &mut Value) {
        match value {
            Value::Number(_) => *value = Value::Null,
            Value::Array(values) => values.iter_mut().for_each(without_numbers),
            Value::Object(fields) => fields.values_mut().for_each(without_numbers),
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_slice(bytes) else { return sha256(bytes) };
    without_numbers(&mut value);
    value.to_string()
}

/// Asserts that a layout is valid and that everything that its index names is there, to the last byte; gives the entries.
#[track_caller]
pub(super) fn is_whole(layout: &Layout) -> Vec<Value> {
    let marker: Value =
        serde_json::from_slice(&fs::read(layout.path().join("oci-layout")).expect("an oci-layout")).expect("JSON");
    assert_eq!(marker["imageLayoutVersion"], "1.0.0");
    let (entries, blobs) = (layout.entries(), layout.blobs());
    for entry in &entries {
        let lacking: Vec<_> = reached(layout, digest(entry)).into_iter().filter(|one| !blobs.contains(one)).collect();
        assert!(lacking.is_empty(), "{entry} lacks {lacking:?}");
        // A signature whose subject is gone would refer to nothing.
        for manifest in &layout.reach(digest(entry)).manifests {
            let manifest: Value = serde_json::from_slice(&fs::read(layout.blob(manifest)).unwrap()).unwrap();
            let subject = manifest.get("subject").map(digest);
            assert!(subject.is_none_or(|subject| blobs.contains(subject)), "{entry} lacks its subject {subject:?}");
        }
    }
    for blob in &blobs {
        let bytes = fs::read(layout.blob(blob)).expect("a blob that is read");
        let found = if blob.starts_with("sha512") { sha512(&bytes) } else { sha256(&bytes) };
        assert_eq!(&found, blob, "what is there under this name");
    }
    entries
}

/// Layouts that real programs read whole. Each state of a layout is shown to them once, whatever blobs lie about in it that
/// nothing in it names.
#[derive(Debug, Default)]
pub(super) struct Readers {
    seen: BTreeSet<State>,
}

impl Readers {
    /// How many states they were shown.
    pub(super) fn states(&self) -> usize {
        self.seen.len()
    }

    /// Asserts that ecr-push pushes every image of a layout to a registry that has nothing, and that skopeo and umoci read
    /// those that they can choose, which is by name.
    #[track_caller]
    pub(super) fn read(&mut self, layout: &Layout, mut state: State) {
        let named: BTreeSet<String> =
            layout.entries().iter().flat_map(|entry| reached(layout, digest(entry))).collect();
        state.retain(|path, _| match path.strip_prefix("layout/blobs/") {
            Some(blob) => blob.ends_with('/') || named.contains(&blob.replace('/', ":")),
            None => true,
        });
        if !self.seen.insert(state) {
            return;
        }
        let ecr = start(builder());
        let home = layout.parent().parent().expect("temporary folders lie in one");
        let home = tempfile::tempdir_in(home).expect("a folder for what is copied");
        let mut pushed = BTreeSet::new();
        for (number, entry) in layout.entries().iter().enumerate() {
            let root = digest(entry);
            if entry.get("annotations").is_some() || pushed.insert(root.to_owned()) {
                let source = layout.choosing(&format!("@{root}"));
                Push::of(source).at(&ecr).to(&format!("app:n{number}")).run().exits(0);
                assert_arrived(&ecr, "app", layout, root);
            }
            let Some(name) = entry["annotations"]["org.opencontainers.image.ref.name"].as_str() else { continue };
            let chosen = format!("{}:{name}", layout.path().display());
            let (from, to) = (format!("oci:{chosen}"), format!("dir:{}/{number}", home.path().display()));
            // It takes no index out of an index.
            if !is_nested(layout, root) {
                Tool::Skopeo.run(home.path(), &["--insecure-policy", "copy", "--quiet", "--all", &from, &to]);
            }
            if entry["mediaType"] != INDEX {
                let told = Tool::Umoci.run(home.path(), &["stat", "--json", "--image", &chosen]);
                let told: Value = serde_json::from_str(&told).expect("JSON");
                assert!(told.get("history").is_some(), "{told}");
            }
        }
    }
}

/// Everything below a manifest, and itself.
fn reached(layout: &Layout, root: &str) -> BTreeSet<String> {
    let reach = layout.reach(root);
    reach.manifests.union(&reach.blobs).cloned().collect()
}

/// Whether a manifest is an index that has an index in it.
fn is_nested(layout: &Layout, root: &str) -> bool {
    let manifest: Value = serde_json::from_slice(&fs::read(layout.blob(root)).expect("it is there")).expect("JSON");
    manifest["manifests"].as_array().is_some_and(|children| children.iter().any(|child| child["mediaType"] == INDEX))
}

/// The layout of a run, if it is still there under its name.
pub(super) fn layout_of(ran: &Traced) -> Option<&Layout> {
    ran.layout.path().is_dir().then_some(&ran.layout)
}

/// Asserts that a clean-up that didn't come to its end left a valid layout: with the image, whole, or without its name; and
/// nothing beside it that wasn't there, but for files of its own.
#[track_caller]
pub(super) fn is_between(before: &State, now: &State, end: &State, ran: &Traced) {
    for path in end.keys() {
        assert!(now.contains_key(path), "{path} is gone, which was not to be removed: {now:#?}");
    }
    let Some(layout) = layout_of(ran) else {
        // Nothing is named any more, and what is left isn't to be taken for a layout.
        assert!(!end.contains_key("layout/"), "the folder was not to be removed: {now:#?}");
        let aside = now.keys().all(|path| path.starts_with(".layout.ecr-push-PID/"));
        assert!(aside, "beside the layout there is something: {now:#?}");
        return;
    };
    let others: Vec<_> = now.keys().filter(|path| !before.contains_key(*path) && !is_own(path)).collect();
    assert!(others.is_empty(), "{others:?} were not there before");
    let entries = is_whole(layout);
    let index = now.get("layout/index.json");
    if index == before.get("layout/index.json") {
        let lacking: Vec<_> = before.keys().filter(|path| !now.contains_key(*path)).collect();
        assert!(lacking.is_empty(), "{lacking:?} are gone while the image is named: {entries:?}");
    } else if end.contains_key("layout/index.json") {
        assert_eq!(index, end.get("layout/index.json"), "an index that is neither the old nor the new one");
    } else {
        assert_eq!(entries, Vec::<Value>::new());
    }
}
