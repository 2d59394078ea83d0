//! `--cleanup`: what was pushed goes, what wasn't stays, and nothing goes unless everything arrived.

mod archive;
mod closure;
mod faults;
mod freed;
mod kill;
mod meanwhile;
mod others;
mod outright;
mod traced;
mod whole;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use local_ecr::{Fault, FaultKind, LocalEcr};
use serde_json::{Value, json};

use crate::support::command::is_root;
use crate::support::layout::digest;
use crate::support::{Layout, Push, Tree, assert_arrived, builder, ecr, reference, start};

/// A push with `--cleanup` of what `choice` chooses.
fn clean(layout: &Layout, choice: &str, ecr: &LocalEcr) -> Push {
    Push::of(layout.choosing(choice)).at(ecr).to("app:v1").args(["--cleanup"])
}

/// What is left in the folder above the layout.
fn left(layout: &Layout) -> Vec<String> {
    Tree::of(layout.parent()).paths().iter().map(|path| path.display().to_string()).collect()
}

#[test]
fn the_only_image_goes_with_its_folder() {
    for fixture in ["one-manifest", "nested-index", "two-names", "referrers", "referrers-tag", "sha512", "inline-data"]
    {
        let layout = Layout::fixture(&format!("good/{fixture}"));
        let ecr = start(builder().sha512(true));
        let root = layout.root();
        fs::write(layout.parent().join("beside"), "somebody's").unwrap();
        let ran = clean(&layout, "", &ecr).run().exits(0).prints(&[&reference(&ecr, "app", &root)]);
        ran.says(["clean-up: ", "and the folder", "freed"]);
        assert_eq!(left(&layout), ["beside"], "{fixture}");
    }
}

#[test]
fn an_image_that_was_there_already_goes_too() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    let seen = ecr.registry_requests().len();
    clean(&layout, "", &ecr).run().exits(0);
    assert_eq!(ecr.registry_requests().len(), seen + 1, "a tag of ECR proves that all is there");
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn a_name_goes_alone_while_another_holds_the_image() {
    let (layout, ecr) = (Layout::fixture("good/two-names"), ecr());
    let blobs = layout.blobs();
    clean(&layout, ":v1", &ecr).run().exits(0);
    assert_eq!((layout.names(), layout.blobs()), (vec!["latest".to_owned()], blobs));
    clean(&layout, ":latest", &ecr).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn a_digest_takes_all_names() {
    let (layout, ecr) = (Layout::fixture("good/two-names"), ecr());
    clean(&layout, &format!("@{}", layout.root()), &ecr).run().exits(0);
    assert_eq!(left(&layout), Vec::<String>::new());
}

#[test]
fn blobs_that_another_image_needs_stay() {
    let (layout, ecr) = (Layout::fixture("good/shared-layers"), ecr());
    let two = layout.named("two");
    let needed = layout.reach(&two);
    clean(&layout, ":one", &ecr).run().exits(0);
    assert_eq!(layout.names(), ["two"]);
    assert_eq!(layout.blobs(), needed.manifests.union(&needed.blobs).cloned().collect());
    // It is whole enough to be pushed to a registry that has nothing.
    let fresh = start(builder());
    clean(&layout, ":two", &fresh).run().exits(0);
    assert!(!layout.path().exists());
    assert_eq!(fresh.tag("app", "v1"), Some(two));
}

#[test]
fn referrers_stay_while_another_name_of_their_subject_does() {
    let (layout, ecr) = (Layout::empty(), ecr());
    let image = layout.image(&[layout.layer(100)]);
    let note = layout.referrer(&image, "a note");
    layout.list(&image, Some("a"));
    layout.list(&image, Some("b"));
    layout.list(&note, None);
    let blobs = layout.blobs();
    clean(&layout, ":a", &ecr).run().exits(0);
    assert_eq!(layout.blobs(), blobs);
    assert_eq!(layout.entries().len(), 2);
    clean(&layout, ":b", &ecr).run().exits(0);
    assert!(!layout.path().exists());
}

#[test]
fn a_file_that_is_not_part_of_a_layout_keeps_the_folder() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let note = layout.path().join("note.txt");
    fs::write(&note, "somebody's").unwrap();
    clean(&layout, "", &ecr).run().exits(0);
    assert_eq!(fs::read_to_string(&note).unwrap(), "somebody's");
    assert_eq!((layout.blobs().len(), layout.entries().len()), (0, 0));
    assert!(layout.path().join("oci-layout").is_file(), "it is a layout still");
}

#[test]
fn blobs_that_nothing_reached_before_stay() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let orphan = layout.layer(100);
    clean(&layout, "", &ecr).run().exits(0);
    assert_eq!(Vec::from_iter(layout.blobs()), [digest(&orphan)]);
}

#[test]
fn a_destination_that_fails_keeps_everything() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let before = Tree::of(layout.parent());
    let ran = clean(&layout, "", &ecr).to("missing:v1").run().exits(5);
    ran.prints(&[&reference(&ecr, "app", &layout.root())]).says(["clean-up: SOURCE is kept"]);
    before.is_unchanged(layout.parent());
}

#[test]
fn layers_that_may_not_be_distributed_keep_the_image() {
    let (layout, ecr) = (Layout::fixture("good/non-distributable-held"), ecr());
    let before = Tree::of(layout.parent());
    let ran = clean(&layout, "", &ecr).run().exits(7).prints(&[&reference(&ecr, "app", &layout.root())]);
    let withheld = layout.reach(&layout.root()).withheld;
    ran.says(withheld.iter().map(String::as_str)).says(["clean-up", "is kept"]);
    before.is_unchanged(layout.parent());
}

#[test]
fn layers_that_may_not_be_distributed_and_are_not_there_keep_nothing() {
    let (layout, ecr) = (Layout::fixture("good/non-distributable"), ecr());
    clean(&layout, "", &ecr).run().exits(0);
    assert!(!layout.path().exists());
}

#[test]
fn a_folder_that_may_not_be_written_to_is_named() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    // Somebody else owns it where the tests run as root; for everybody else it has to be closed.
    if !is_root() {
        fs::set_permissions(layout.path(), PermissionsExt::from_mode(0o555)).unwrap();
    }
    let before = Tree::of(layout.parent());
    let ran = clean(&layout, "", &ecr).unprivileged().run().exits(7);
    let path = layout.path().display().to_string();
    ran.prints(&[&reference(&ecr, "app", &layout.root())]).says([path.as_str(), "is kept", "Permission denied"]);
    before.is_unchanged(layout.parent());
    fs::set_permissions(layout.path(), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn blobs_that_may_not_be_removed_are_named_and_leave_a_valid_layout() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let reach = layout.reach(&layout.root());
    let open = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    open(layout.path(), 0o777);
    let folder = layout.path().join("blobs/sha256");
    open(&folder, 0o555);
    let ran = clean(&layout, "", &ecr).unprivileged().run().exits(7);
    let named: Vec<_> = reach.blobs.union(&reach.manifests).map(|d| layout.blob(d).display().to_string()).collect();
    ran.says(named.iter().map(String::as_str)).says(["could not be removed", "Permission denied"]);
    open(&folder, 0o755);
    assert_eq!((layout.entries().len(), layout.blobs().len()), (0, 4));
}

#[test]
fn links_out_of_the_folder_go_and_their_targets_stay() {
    let (layout, ecr) = (Layout::fixture("bad/symlink-outside"), ecr());
    let outside = fs::read(layout.parent().join("outside")).unwrap();
    clean(&layout, "", &ecr).args(["--follow-symlinks"]).run().exits(0);
    assert_eq!(left(&layout), ["outside"]);
    assert_eq!(fs::read(layout.parent().join("outside")).unwrap(), outside);
}

#[test]
fn blobs_in_a_folder_that_is_a_link_out_of_the_layout_stay() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let store = layout.parent().join("store");
    fs::rename(layout.path().join("blobs/sha256"), &store).unwrap();
    symlink(&store, layout.path().join("blobs/sha256")).unwrap();
    let before = Tree::of(&store);
    clean(&layout, "", &ecr).args(["--follow-symlinks"]).run().exits(7).says(["lies outside of the layout"]);
    before.is_unchanged(&store);
}

#[test]
fn a_folder_that_is_named_through_a_link_goes_and_the_link_stays() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let link = layout.parent().join("link");
    symlink("layout", &link).unwrap();
    Push::of(&link).at(&ecr).to("app:v1").args(["--cleanup"]).run().exits(0);
    assert!(!layout.path().exists());
    assert_eq!(left(&layout), ["link"]);
}

#[test]
fn fields_of_index_json_that_nobody_knows_survive() {
    let (layout, ecr) = (Layout::fixture("good/several-images"), ecr());
    let mut index = layout.index();
    index["com.example.field"] = json!({"kept": [1, 2.5, "ä"]});
    index["manifests"][1]["com.example.field"] = json!(true);
    layout.write_index(&index);
    fs::set_permissions(layout.path().join("index.json"), PermissionsExt::from_mode(0o640)).unwrap();
    let mut expected = index.clone();
    expected["manifests"].as_array_mut().unwrap().remove(0);
    clean(&layout, ":v1", &ecr).run().exits(0);
    assert_eq!(layout.index(), expected);
    let mode = fs::metadata(layout.path().join("index.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let names: Vec<_> = fs::read_dir(layout.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn an_empty_folder_that_a_builder_left_goes_too() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    fs::create_dir(layout.path().join("ingest")).unwrap();
    fs::create_dir(layout.path().join("blobs/sha512")).unwrap();
    clean(&layout, "", &ecr).run().exits(0);
    assert!(!layout.path().exists());
}

#[test]
fn referrers_that_would_be_left_out_forbid_it() {
    let (layout, ecr) = (Layout::fixture("good/referrers"), ecr());
    let before = Tree::of(layout.parent());
    let ran = clean(&layout, "", &ecr).args(["--no-referrers"]).run().exits(2).prints(&[]);
    ran.says(["--cleanup", "--no-referrers", "3 manifests refer to the image"]);
    assert_eq!(ecr.registry_requests(), []);
    before.is_unchanged(layout.parent());

    let without = Layout::fixture("good/one-manifest");
    clean(&without, "", &ecr).args(["--no-referrers"]).run().exits(0);
    assert!(!without.path().exists(), "nothing was left out");
}

/// A push to local-ecr as to a registry that isn't ECR.
fn to_other(layout: &Layout, ecr: &LocalEcr) -> Push {
    let host = ecr.registry_url().replace("http://", "");
    let push = Push::of(layout.path()).to_reference(format!("{host}/app:v1"));
    push.logged_in(&host, "AWS", &ecr.issue_password())
}

#[test]
fn on_other_registries_every_blob_is_looked_up() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let root = layout.root();
    to_other(&layout, &ecr).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &root);
    let seen = ecr.registry_requests().len();
    to_other(&layout, &ecr).run().exits(0);
    assert_eq!(ecr.registry_requests().len(), seen + 1);

    let reach = layout.reach(&root);
    to_other(&layout, &ecr).args(["--cleanup"]).run().exits(0);
    let asked = ecr.registry_requests().split_off(seen + 1);
    // The tag names the root.
    for digest in reach.blobs.iter().chain(reach.manifests.iter().filter(|digest| **digest != root)) {
        assert!(asked.iter().any(|entry| entry.digest.as_ref() == Some(digest)), "{digest} was not looked up");
    }
    assert_eq!(ecr.api_requests(), [], "ECR's API is for ECR's hosts");
    assert!(!layout.path().exists());
}

#[test]
fn a_blob_that_another_registry_has_lost_is_sent_again_before_clean_up() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    to_other(&layout, &ecr).run().exits(0);
    let seen = ecr.registry_requests().len();
    let lost = layout.reach(&layout.root()).blobs.into_iter().next().unwrap();
    ecr.inject(Fault::on("HEAD", &lost).does(FaultKind::status(404)));
    to_other(&layout, &ecr).args(["--cleanup"]).run().exits(0);
    let again = ecr.registry_requests().split_off(seen);
    let sent: Vec<_> =
        again.into_iter().filter(|entry| entry.method == "PUT").filter_map(|entry| entry.digest).collect();
    assert_eq!(sent, [lost]);
}

#[test]
fn a_list_of_referrers_that_an_earlier_push_did_not_come_to_write_is_written_before_clean_up() {
    let layout = Layout::fixture("good/referrers");
    let ecr = start(builder().referrers_api(false));
    let root = layout.root();
    let list = root.replace(':', "-");
    ecr.inject(Fault::on("PUT", format!("/manifests/{list}")).does(FaultKind::status(403)));
    to_other(&layout, &ecr).run().exits(4);
    assert_eq!(ecr.tags("app"), ["v1"]);
    let referrers = layout.entries().len() - 1;
    to_other(&layout, &ecr).args(["--cleanup"]).run().exits(0);
    let written = ecr.tag("app", &list).expect("the image has a list");
    let index: Value = serde_json::from_slice(&ecr.manifest("app", &written).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), referrers - 1, "one refers to the SBOM: {index}");
    assert!(!layout.path().exists());
}
