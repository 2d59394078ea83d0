//! Signals at random moments of a push with `--cleanup`, of images of several shapes: whatever is going on, no tag moves before
//! its time, nothing is left behind, and SOURCE is whole.
//!
//! `ECR_PUSH_TEST_SEED` repeats what a failure names.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::SystemTime;

use fastrand::Rng;
use local_ecr::LocalEcr;
use serde_json::json;
use tempfile::TempDir;

use crate::support::archive::Era;
use crate::support::archive::{LARGE, Saved, Stored, gzip, layer};
use crate::support::command::{End, signal};
use crate::support::layout::{Layout, MANIFEST, digest, sha256};
use crate::support::{Push, Tree, builder, has_tool, reference, start};

/// Moments for each signal.
const MOMENTS: usize = 100;

/// Pushes at once: as many as the machine that this has to be quick on has cores.
const WORKERS: usize = 2;

/// Of so many moments one is in clean-up, where no registry sees anything happen.
const IN_CLEAN_UP: usize = 4;

/// What a clean-up calls, and how often at most.
const CALLS: [(&str, u64); 4] = [("unlink", 8), ("rename", 2), ("rmdir", 3), ("fsync", 2)];

/// What is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// An image of several layers, one of them another image's of the same layout.
    Layers,
    /// One for two platforms, with what refers to it, under three tags.
    Index,
    /// One for two repositories.
    Two,
    /// What docker saved, packed: it is unpacked first, and compressed on the way.
    Saved,
}

const SHAPES: [Shape; 4] = [Shape::Layers, Shape::Index, Shape::Two, Shape::Saved];

/// Where the signal comes.
#[derive(Debug, Clone, Copy)]
enum At {
    /// At this moment as the registry sees it.
    Moment(u64),
    /// As a thread makes this call for the nth time.
    Call(&'static str, u64),
}

/// Where an image is, and what of it is there.
enum Place {
    Folder(Layout),
    File(Stored),
}

/// A push that is about to be stopped.
struct Run {
    shape: Shape,
    place: Place,
    ecr: LocalEcr,
    push: Push,
    repositories: &'static [&'static str],
    tags: &'static [&'static str],
    /// What the tags named before.
    old: String,
    /// The root that they are to name; what docker saved has none yet.
    new: Option<String>,
    temporary: TempDir,
    results: TempDir,
}

impl Run {
    fn new(shape: Shape) -> Self {
        let ecr = start(builder().repository("second").upload_cancel(true));
        let (place, choice) = match shape {
            Shape::Layers => {
                let layout = Layout::empty();
                let base = layout.layer(200_000);
                layout.list(&layout.image(&[base.clone(), layout.layer(70_000), layout.layer(1000)]), Some("v1"));
                layout.list(&layout.image(&[base, layout.layer(500)]), Some("other"));
                (Place::Folder(layout), ":v1")
            }
            Shape::Index => {
                let layout = Layout::empty();
                let shared = layout.layer(150_000);
                let images = [90_000, 300].map(|size| layout.image(&[shared.clone(), layout.layer(size)]));
                let index = layout.index_of(&images);
                layout.list(&index, None);
                let note = layout.referrer(&index, "a note");
                layout.list(&note, None);
                layout.list(&layout.referrer(&note, "on the note"), None);
                (Place::Folder(layout), "")
            }
            Shape::Two => (Place::Folder(Layout::of_layers(&[180_000, 80_000, 10])), ""),
            Shape::Saved => {
                let image = Saved::new(&["app:v1"], vec![layer(1, LARGE / 2), layer(2, 30_000)]);
                (Place::File(Stored::new(&gzip(&Era::Podman.save(&[&image])))), "")
            }
        };
        let (repositories, tags): (&[&str], &[&str]) = match shape {
            Shape::Layers | Shape::Saved => (&["app"], &["v1"]),
            Shape::Index => (&["app"], &["v1", "v2", "latest"]),
            Shape::Two => (&["app", "second"], &["v1"]),
        };
        let olds: Vec<_> = repositories.iter().map(|repository| old_image(&ecr, repository, tags)).collect();
        let (new, source) = match &place {
            Place::Folder(layout) => (Some(layout.root()), layout.choosing(choice)),
            Place::File(file) => (None, file.path().into()),
        };
        let (temporary, results) = (folder(), folder());
        let mut push = Push::of(source).at(&ecr).env("TMPDIR", temporary.path()).args(["--cleanup"]);
        for repository in repositories {
            push = push.to(&format!("{repository}:v1"));
        }
        for tag in &tags[1..] {
            push = push.args(["-t", tag]);
        }
        Self { shape, place, ecr, push, repositories, tags, old: olds[0].clone(), new, temporary, results }
    }

    fn file(&self) -> PathBuf {
        self.results.path().join("digest")
    }

    /// The command, and another one that makes it get the signal.
    fn command(self, at: At, signal: &str) -> Self {
        let file = self.file();
        let told = ["--digest-file".as_ref(), file.as_os_str()];
        let push = match at {
            At::Moment(_) => self.push.args(told),
            At::Call(call, number) => {
                let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal={signal}:when={number}"));
                let strace = ["strace", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
                let push = self.push.under(&strace);
                // Each thread counts its own calls, and a signal has to be the only one: then nobody else makes such calls.
                if signal == "KILL" { push.args(told) } else { push.args(["--no-cache"]) }
            }
        };
        Self { push, ..self }
    }

    fn source(&self) -> (&Path, &Path) {
        match &self.place {
            Place::Folder(layout) => (layout.path(), layout.parent()),
            Place::File(file) => (file.path(), file.parent()),
        }
    }

    /// The tags that name something, each with whether it is new.
    fn moved(&self) -> Vec<bool> {
        let mut moved = Vec::new();
        for repository in self.repositories {
            for tag in self.tags {
                let named = self.ecr.tag(repository, tag).expect("it named something before");
                let is_new = named != self.old;
                let expected = self.new.as_ref().filter(|_| is_new).unwrap_or(&named);
                assert_eq!(&named, expected, "{repository}:{tag} names what nobody pushed");
                moved.push(is_new);
            }
        }
        moved
    }

    /// Asserts what must hold of the registry however it ended; gives whether all tags were moved.
    fn registry_is_sound(&self, expected: bool) -> bool {
        self.ecr.wait_for_quiet();
        let moved = self.moved();
        // Whether what they name is complete the check says, and whether a session is open.
        if let Err(found) = self.ecr.check() {
            panic!("{}", found.iter().map(|violation| format!("{violation}\n")).collect::<String>());
        }
        let requests = self.ecr.registry_requests();
        let tags = requests.iter().filter(|entry| entry.method == "PUT" && entry.tag.is_some());
        if let Some(first) = tags.map(|entry| entry.sequence).min() {
            let late = requests.iter().find(|entry| {
                entry.sequence > first && entry.method != "DELETE" && entry.path.contains("/blobs/uploads/")
            });
            assert_eq!(late, None, "a tag was written before every destination had every blob");
        }
        let all = moved.iter().all(|is_new| *is_new);
        assert!(all || !expected, "not all tags were moved: {moved:?}");
        all
    }

    /// Asserts that SOURCE is whole for all that it still names.
    fn source_is_sound(&self) {
        match &self.place {
            Place::Folder(layout) if layout.path().exists() => {
                for entry in layout.entries() {
                    let reach = layout.reach(digest(&entry));
                    for blob in reach.blobs.iter().chain(&reach.manifests) {
                        let bytes = fs::read(layout.blob(blob)).unwrap_or_else(|error| panic!("{blob}: {error}"));
                        assert_eq!(&sha256(&bytes), blob);
                    }
                }
            }
            Place::Folder(_) | Place::File(_) => {}
        }
    }

    /// Asserts that nothing of ours lies anywhere but what is meant to stay; `cut_short` is whether a clean-up may have been, so that
    /// the next one has to know of it.
    fn nothing_is_left(&self, cut_short: bool) {
        let (source, parent) = self.source();
        let mut beside = names(parent);
        beside.remove(source.file_name().unwrap().to_str().unwrap());
        assert_eq!(beside, BTreeSet::new(), "beside SOURCE");
        assert_eq!(names(self.temporary.path()), BTreeSet::new(), "in TMPDIR");
        let mut results = names(self.results.path());
        results.remove("digest");
        assert_eq!(results, BTreeSet::new(), "beside the digest file");
        let records = names(&self.push.home().join(".cache/ecr-push"));
        assert!(records.iter().all(|name| !name.starts_with('.')), "in the cache: {records:?}");
        if let Place::Folder(layout) = &self.place
            && layout.path().exists()
        {
            let mut inside = names(layout.path());
            if cut_short {
                inside.remove(".ecr-push.removing");
            }
            let known = ["blobs", "index.json", "oci-layout"].map(str::to_owned);
            assert_eq!(inside, BTreeSet::from(known), "in the layout");
        }
    }

    /// Whether tags are named that were written, or may have been; asserts that those are that were.
    fn is_told(&self, stderr: &str) -> bool {
        let told = stderr.split("these tags ").nth(1).unwrap_or_default();
        for repository in self.repositories {
            for tag in self.tags {
                let is_new = self.ecr.tag(repository, tag) != Some(self.old.clone());
                let name = format!("{}/{repository}:{tag}", self.ecr.host());
                assert!(!is_new || told.contains(&name), "{name} isn't named: {stderr}");
            }
        }
        !told.is_empty()
    }

    /// What a digest file has.
    fn lines(&self) -> Vec<String> {
        let named = self.ecr.tag("app", "v1").unwrap();
        self.repositories.iter().map(|repository| reference(&self.ecr, repository, &named)).collect()
    }
}

fn folder() -> TempDir {
    TempDir::with_prefix("ecr-push-it-").unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Another image under these tags; its digest.
fn old_image(ecr: &LocalEcr, repository: &str, tags: &[&str]) -> String {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let describe = |media_type: &str, bytes: &[u8]| {
        let digest = ecr.seed_blob(repository, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", config),
        "layers": [describe("application/vnd.oci.image.layer.v1.tar", b"old")],
    });
    let manifest = manifest.to_string();
    for tag in tags {
        ecr.seed_manifest(repository, MANIFEST, manifest.as_bytes(), Some(tag));
    }
    sha256(manifest.as_bytes())
}

/// How many moments a push of each shape has when nothing stops it.
fn moments() -> [u64; 4] {
    SHAPES.map(|shape| {
        let run = Run::new(shape);
        let before = run.ecr.moments();
        run.push.run().exits(0);
        assert!(run.registry_is_sound(true));
        run.ecr.moments() - before
    })
}

/// Stops a push there; gives whether the signal came in time.
fn stop(shape: Shape, at: At, name: &'static str, status: i32) -> bool {
    let run = Run::new(shape).command(at, name);
    let (source, parent) = run.source();
    let (source, parent) = (source.to_owned(), parent.to_owned());
    let before = Tree::of(&parent);
    let process = Arc::new(OnceLock::new());
    if let At::Moment(wanted) = at {
        let (process, start) = (Arc::clone(&process), run.ecr.moments());
        run.ecr.on_moment(move |number| {
            if number == start + wanted {
                signal(*process.wait(), name);
            }
        });
    }
    let running = run.push.start();
    process.set(running.id()).unwrap();
    let (end, stdout, stderr) = running.wait_for_any_end();
    let untouched = Tree::of(&parent) == before;
    let printed: Vec<_> = stdout.lines().map(str::to_owned).collect();
    let told = format!("{end:?}\n{stdout}{stderr}");
    match end {
        End::Status(0) => {
            assert!(run.registry_is_sound(true), "{told}");
            assert_eq!(printed, run.lines(), "{told}");
            if run.shape == Shape::Layers {
                run.source_is_sound();
            } else {
                assert!(!source.exists(), "{told}");
            }
            run.nothing_is_left(false);
            false
        }
        End::Status(ended) if name != "KILL" => {
            assert_eq!(ended, status, "{told}");
            assert!(stderr.contains("interrupted"), "{told}");
            run.registry_is_sound(!printed.is_empty());
            if printed.is_empty() {
                assert!(untouched, "SOURCE was changed: {told}");
                assert!(!run.file().exists(), "{told}");
                assert_eq!(stderr.contains("no tag was written"), !run.is_told(&stderr), "{told}");
            } else {
                assert_eq!(printed, run.lines(), "{told}");
                if let At::Moment(_) = at {
                    assert_eq!(fs::read_to_string(run.file()).unwrap(), stdout, "{told}");
                }
                run.source_is_sound();
            }
            let late = stderr.contains("could not be cancelled in time");
            assert!(late || run.ecr.open_sessions() == 0, "{told}");
            run.nothing_is_left(true);
            true
        }
        // Killed.
        End::Signal(9) if name == "KILL" => {
            run.ecr.allow_open_sessions();
            let all = run.registry_is_sound(!untouched);
            assert!(untouched || all, "SOURCE was changed before every tag was written: {told}");
            run.source_is_sound();
            again(run);
            true
        }
        _ => panic!("it was not to end like this: {told}"),
    }
}

/// Runs what was killed again, as far as SOURCE has it: it succeeds, and whatever the killed one left goes.
fn again(run: Run) {
    let (source, _) = run.source();
    let is_there = match &run.place {
        Place::Folder(layout) if layout.path().exists() => {
            layout.entries().iter().any(|entry| Some(digest(entry)) == run.new.as_deref())
        }
        Place::Folder(_) => false,
        Place::File(file) => file.path().exists(),
    };
    let source = source.to_owned();
    let mut push = run.push.clone().under(&[]);
    if is_there {
        push.run().exits(0);
        assert!(run.moved().iter().all(|is_new| *is_new));
    }
    let run = Run { push: push.clone(), ..run };
    if let Place::Folder(layout) = &run.place {
        if run.shape == Shape::Layers {
            // Another image of the layout, whose clean-up comes upon what was left.
            push = push.of_source(layout.choosing(":other"));
            push.run().exits(0);
        } else {
            // Nothing is named any more, and maybe nothing is there.
            let ran = Push::of("clean").to_reference(layout.path().display().to_string()).run();
            assert!([0, 3].contains(&ran.status), "{ran:?}");
        }
    }
    run.nothing_is_left(false);
    assert!(!source.exists(), "{:?}", Tree::of(&source).paths());
}

/// Stops [`MOMENTS`] pushes with this signal.
fn sweep(name: &'static str, status: i32) {
    if !has_tool("strace") {
        return;
    }
    let given = std::env::var("ECR_PUSH_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed = given.unwrap_or_else(|| u64::from(now.subsec_nanos()) ^ now.as_secs());
    let mut rng = Rng::with_seed(seed);
    let moments = moments();
    let all = (0..MOMENTS).map(|number| {
        let shape = rng.usize(..SHAPES.len());
        let at = if number % IN_CLEAN_UP == 0 {
            let (call, most) = CALLS[rng.usize(..CALLS.len())];
            At::Call(call, rng.u64(1..=most))
        } else {
            At::Moment(rng.u64(1..=moments[shape]))
        };
        (SHAPES[shape], at)
    });
    let waiting = Mutex::new(all.collect::<Vec<_>>());
    let (failed, in_time) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some((shape, at)) = next else { break };
                    match catch_unwind(AssertUnwindSafe(|| stop(shape, at, name, status))) {
                        Ok(stopped) => _ = in_time.fetch_add(usize::from(stopped), Ordering::Relaxed),
                        Err(_) => failed.lock().unwrap().push((shape, at)),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "ECR_PUSH_TEST_SEED={seed}: {} moments of {name}: {failed:#?}", failed.len());
    let in_time = in_time.into_inner();
    assert!(in_time > MOMENTS / 2, "ECR_PUSH_TEST_SEED={seed}: only {in_time} came before the end");
}

#[test]
fn sigint_at_any_moment_leaves_everything_whole() {
    sweep("INT", 130);
}

#[test]
fn sigterm_at_any_moment_leaves_everything_whole() {
    sweep("TERM", 143);
}

#[test]
fn sigkill_at_any_moment_leaves_nothing_that_a_later_run_does_not_deal_with() {
    sweep("KILL", 137);
}
