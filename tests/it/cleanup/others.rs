//! Folders that aren't wholly ours: mounted, read-only, somebody else's, immutable, of a file system with habits of its
//! own; and two who want the same at once.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;

use local_ecr::{Fault, FaultKind};
use tempfile::TempDir;

use super::meanwhile::{meanwhile, waiting};
use super::{clean, left};
use crate::support::command::signal;
use crate::support::{Layout, Push, Tree, ecr, has_root, has_tool, reference};

/// A push that runs where `script` has mounted something that nobody else sees; `$LAYOUT` is the layout's folder there.
fn mounted(push: Push, layout: &Path, script: &str) -> Push {
    let script = format!("{{ {script}; }} || exit 99; exec \"$0\" \"$@\"");
    push.env("LAYOUT", layout).under(&["unshare", "--map-root-user", "--mount", "sh", "-c", &script])
}

#[test]
fn a_read_only_layout_is_kept() {
    if !has_tool("unshare") {
        return;
    }
    let (layout, ecr) = (Layout::fixture("good/several-images"), ecr());
    let (before, root) = (Tree::of(layout.parent()), layout.named("v1"));
    let read_only = r#"mount --bind "$LAYOUT" "$LAYOUT" && mount -o remount,bind,ro "$LAYOUT""#;
    let ran = mounted(clean(&layout, ":v1", &ecr), layout.path(), read_only).run().exits(7);
    let path = layout.path().display().to_string();
    ran.prints(&[&reference(&ecr, "app", &root)]).says([&*path, "is kept", "Read-only file system"]).says_one_error();
    before.is_unchanged(layout.parent());
}

#[test]
fn a_layout_that_is_a_mount_point_is_emptied_and_stays() {
    if !has_tool("unshare") {
        return;
    }
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let bind = r#"mount --bind "$LAYOUT" "$LAYOUT""#;
    mounted(clean(&layout, "", &ecr), layout.path(), bind).run().exits(0);
    is_empty_and_valid(&layout);
}

#[test]
fn a_layout_whose_blobs_are_a_mount_point_is_emptied_and_stays() {
    if !has_tool("unshare") {
        return;
    }
    for place in ["blobs", "blobs/sha256"] {
        let (layout, ecr) = (Layout::fixture("good/index"), ecr());
        let bind = format!(r#"mount --bind "$LAYOUT/{place}" "$LAYOUT/{place}""#);
        mounted(clean(&layout, "", &ecr), layout.path(), &bind).run().exits(0);
        is_empty_and_valid(&layout);
    }
}

#[track_caller]
fn is_empty_and_valid(layout: &Layout) {
    assert_eq!(fs::read_dir(layout.parent()).unwrap().count(), 1, "nothing is left beside it");
    assert_eq!((layout.entries().len(), layout.blobs().len()), (0, 0));
    assert!(layout.path().join("oci-layout").is_file() && layout.path().join("blobs").is_dir());
    layout.list(&layout.image(&[layout.layer(10)]), Some("next"));
    let ecr = ecr();
    clean(layout, ":next", &ecr).run().exits(0);
}

#[test]
fn a_folder_that_cannot_be_moved_aside_goes_all_the_same() {
    if !has_tool("unshare") || !has_tool("python3") || !has_root("an overlay without the marks of a user's") {
        return;
    }
    // Folders of an overlay's lower layer can't be renamed there, as in every image that is a container's root.
    let overlay = r#"mount -t tmpfs none "$UPPER" && mkdir "$UPPER/upper" "$UPPER/work" &&
        mount -t overlay -o "redirect_dir=off,lowerdir=$PARENT,upperdir=$UPPER/upper,workdir=$UPPER/work" none "$PARENT""#;
    // Where it can be moved this shows nothing.
    let refuses = r#"! python3 -c "import os; os.rename('$LAYOUT', '$LAYOUT-moved')" 2>/dev/null"#;
    let after = r#""$0" "$@"; status=$?; ls -A "$PARENT" > "$OUT/left"; exit $status"#;
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let (upper, out, before) = (TempDir::new().unwrap(), TempDir::new().unwrap(), Tree::of(layout.parent()));
    let script = format!("{{ {overlay} && {refuses}; }} || exit 99; {after}");
    let push = clean(&layout, "", &ecr).env("LAYOUT", layout.path()).env("PARENT", layout.parent());
    let push = push.env("UPPER", upper.path()).env("OUT", out.path());
    push.under(&["unshare", "--mount", "sh", "-c", &script]).run().exits(0).says(["and the folder"]);
    assert_eq!(fs::read_to_string(out.path().join("left")).unwrap(), "");
    before.is_unchanged(layout.parent());
}

#[test]
fn files_of_somebody_else_are_named_and_kept() {
    if !has_root("giving files to somebody else") {
        return;
    }
    // As in /tmp: everybody may add to the folder, and remove what is his own.
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    for folder in ["", "blobs", "blobs/sha256"] {
        fs::set_permissions(layout.path().join(folder), PermissionsExt::from_mode(0o1777)).unwrap();
    }
    let before = (layout.index(), layout.blobs());
    let ran = clean(&layout, "", &ecr).unprivileged().run().exits(7);
    ran.prints(&[&reference(&ecr, "app", &layout.root())]).says(["is kept", "not permitted"]);
    assert_eq!((layout.index(), layout.blobs()), before);
    assert_eq!(fs::read_dir(layout.path()).unwrap().count(), 3, "nothing of ours is left");
}

/// A file that not even root can remove; until it is dropped.
struct Immutable<'a>(&'a Path);

impl<'a> Immutable<'a> {
    fn new(path: &'a Path) -> Option<Self> {
        let set = Command::new("chattr").arg("+i").arg(path).output().unwrap();
        set.status.success().then_some(Self(path))
    }
}

impl Drop for Immutable<'_> {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(self.0).output();
    }
}

#[test]
fn what_is_immutable_is_named_and_kept() {
    if !has_tool("chattr") || !has_root("an immutable file") {
        return;
    }
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let (root, path) = (layout.root(), layout.blob(&layout.root()));
    // Some file systems know nothing of that, and there is nothing to be seen on them.
    let Some(immutable) = Immutable::new(&path) else { return };
    let ran = clean(&layout, "", &ecr).run().exits(7).prints(&[&reference(&ecr, "app", &root)]);
    ran.says([&*path.display().to_string(), "could not be removed", "not permitted"]);
    assert_eq!((layout.entries().len(), Vec::from_iter(layout.blobs())), (0, vec![root]));
    drop(immutable);

    let index = layout.path().join("index.json");
    layout.list(&layout.image(&[layout.layer(10)]), Some("v2"));
    let (blobs, _immutable) = (layout.blobs(), Immutable::new(&index).unwrap());
    clean(&layout, ":v2", &ecr).run().exits(7).says(["is kept", "not permitted"]);
    assert_eq!((layout.names(), layout.blobs()), (vec!["v2".to_owned()], blobs));
}

#[test]
fn a_file_that_shows_up_where_something_open_was_removed_keeps_the_folder() {
    // NFS gives what is removed and still open another name, and takes that away when it is closed.
    for place in ["blobs/sha256", "blobs", ""] {
        let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
        let name = ".nfs000000000134f2c500000012";
        let path = layout.path().join(place).join(name);
        let shows_up = path.clone();
        meanwhile(&ecr, move || fs::write(shows_up, "what somebody reads").unwrap());
        clean(&layout, "", &ecr).run().exits(0).says_nothing_of(["and the folder"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "what somebody reads");
        assert_eq!(layout.entries().len(), 0, "it is a layout still");
        assert_eq!(fs::read_dir(layout.parent()).unwrap().count(), 1, "nothing is left beside it");
    }
}

/// Two runs with the same SOURCE, to a registry each; both have read it and pushed the image before one of them removes it.
fn two_at_once(layout: &Layout, choice: &str, root: &str) {
    let both = Arc::new(Barrier::new(2));
    let runs = [(), ()].map(|()| {
        let (ecr, both) = (ecr(), Arc::clone(&both));
        meanwhile(&ecr, move || {
            both.wait();
        });
        let run = clean(layout, choice, &ecr).start();
        (thread::spawn(move || run.wait()), ecr)
    });
    for (run, ecr) in runs {
        run.join().unwrap().exits(0).prints(&[&reference(&ecr, "app", root)]);
    }
}

#[test]
fn two_who_clean_the_same_image_at_once_both_come_to_an_end() {
    for round in 0..6 {
        let layout = Layout::fixture("good/several-images");
        let root = layout.named("v1");
        let choice = if round % 2 == 0 { ":v1".to_owned() } else { format!("@{root}") };
        two_at_once(&layout, &choice, &root);
        assert_eq!(layout.names(), ["registry.example/team/app:v2"]);
        let rest = layout.reach(&layout.named("registry.example/team/app:v2"));
        assert_eq!(layout.blobs(), rest.manifests.union(&rest.blobs).cloned().collect());
    }
}

#[test]
fn two_who_clean_the_last_image_at_once_both_come_to_an_end() {
    for _ in 0..6 {
        let layout = Layout::fixture("good/one-manifest");
        let root = layout.root();
        two_at_once(&layout, "", &root);
        assert_eq!(left(&layout), Vec::<String>::new());
    }
}

#[test]
fn whoever_comes_after_a_clean_up_says_that_nothing_is_there() {
    let (layout, ecr) = (Layout::fixture("good/several-images"), ecr());
    clean(&layout, ":v1", &ecr).run().exits(0);
    let before = Tree::of(layout.parent());
    clean(&layout, ":v1", &ecr).run().exits(2).prints(&[]).says([":v1", "registry.example/team/app:v2"]);
    before.is_unchanged(layout.parent());
}

/// Comes back once somebody has a lock on the folder that this one of ours would have to wait for.
fn is_locked(layout: &Layout, lock: fn(&File) -> Result<(), TryLockError>) {
    let folder = File::open(layout.path()).unwrap();
    while lock(&folder).is_ok() {
        folder.unlock().unwrap();
        thread::yield_now();
    }
}

/// Kills `holder`, for which a clean-up of the layout waits, and whoever traces it; that then comes to its end.
fn is_waited_for_until_killed(layout: &Layout, mut holder: Child, tracer: Option<u32>) {
    let ecr = ecr();
    let push = clean(layout, "", &ecr);
    let (mut child, mut stderr) = waiting(&push);
    assert!(layout.path().join("index.json").is_file());
    signal(holder.id(), "KILL");
    if let Some(tracer) = tracer {
        signal(tracer, "KILL");
    }
    holder.wait().unwrap();
    stderr.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(left(layout), Vec::<String>::new());
}

#[test]
fn the_lock_of_a_push_ends_with_its_process() {
    let (layout, stuck) = (Layout::fixture("good/one-manifest"), ecr());
    // Whoever is killed cancels nothing.
    stuck.allow_open_sessions();
    stuck.inject(Fault::on("POST", "/uploads/").does(FaultKind::Stall));
    let holder = Push::of(layout.path()).at(&stuck).to("app:v1");
    let holder = holder.command().stderr(Stdio::null()).spawn().unwrap();
    is_locked(&layout, File::try_lock);
    is_waited_for_until_killed(&layout, holder, None);
}

#[test]
fn the_lock_of_a_clean_up_ends_with_its_process() {
    if !has_tool("strace") {
        return;
    }
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    // It stays before its first sync, with a new index beside the old one. The process that is started is ours, and strace
    // is its grandchild.
    let slow = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:delay_enter=600000000"];
    let holder = clean(&layout, "", &ecr).args(["--no-cache"]).under(&slow);
    let holder = holder.command().stderr(Stdio::null()).spawn().unwrap();
    is_locked(&layout, File::try_lock_shared);
    // Without its tracer's leave even a process that was killed stays.
    let status = fs::read_to_string(format!("/proc/{}/status", holder.id())).unwrap();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap().trim().parse().unwrap();
    is_waited_for_until_killed(&layout, holder, Some(tracer));
}
