//! Layouts of every shape: the good ones arrive byte for byte, the bad ones are refused before anything is sent.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use local_ecr::{Fault, FaultKind, LocalEcr};
use serde_json::{Value, json};

use crate::support::layout::{INDEX, digest, fixture_names, sha256};
use crate::support::{Layout, Push, Tree, assert_arrived, builder, ecr, reference, requests, start};

/// Makes a test of each line, and a list of the fixtures that have one.
macro_rules! fixtures {
    ($list:ident, $check:ident: $($test:ident($fixture:literal, $expected:expr);)*) => {
        const $list: &[&str] = &[$($fixture),*];
        $(#[test] fn $test() { $check($fixture, &$expected); })*
    };
}

// For each layout the suffixes of SOURCE that choose its images.
fixtures! { GOOD, good:
    one_manifest_is_pushed("one-manifest", [""]);
    an_index_of_two_platforms_is_pushed("index", [""]);
    an_index_of_two_variants_is_pushed("variants", [""]);
    an_index_in_an_index_is_pushed("nested-index", [""]);
    one_of_several_images_is_chosen_by_its_name("several-images", [":v1", ":registry.example/team/app:v2"]);
    two_names_of_one_digest_are_one_image("two-names", ["", ":v1", ":latest"]);
    images_of_the_same_name_are_chosen_by_digest("one-name-twice", ["@0", "@1"]);
    attestations_go_with_their_index("attestations", [""]);
    an_artifact_is_pushed("artifact", [""]);
    an_image_with_referrers_is_pushed("referrers", [""]);
    an_image_with_a_referrers_index_is_pushed("referrers-tag", [""]);
    inline_data_stands_in_for_a_blob("inline-data", [""]);
    docker_schema_2_is_pushed("docker-schema2", [""]);
    a_docker_manifest_list_is_pushed("docker-list", [""]);
    sha512_digests_are_pushed("sha512", [""]);
    non_distributable_layers_are_left_out("non-distributable", [""]);
    non_distributable_layers_are_left_out_even_if_they_are_there("non-distributable-held", [""]);
    a_zstd_layer_is_pushed("zstd-layer", [""]);
    an_uncompressed_layer_is_pushed("uncompressed-layer", [""]);
    images_that_share_layers_are_chosen_by_name("shared-layers", [":one", ":two"]);
    a_manifest_without_media_type_is_pushed("no-media-type", [""]);
}

/// Pushes each image that a suffix chooses; `@0` stands for the digest of the first entry.
#[track_caller]
fn good(fixture: &str, choices: &[&str]) {
    let layout = Layout::fixture(&format!("good/{fixture}"));
    for choice in choices {
        let (suffix, root) = match choice.split_at_checked(1) {
            None => (String::new(), layout.root()),
            Some(("@", number)) => {
                let number: usize = number.parse().unwrap();
                let root = digest(&layout.entries()[number]).to_owned();
                (format!("@{root}"), root)
            }
            Some((_, name)) => ((*choice).to_owned(), layout.named(name)),
        };
        let before = Tree::of(layout.parent());
        let ecr = start(builder().sha512(true));
        let ran = Push::of(layout.choosing(&suffix)).at(&ecr).to("app:v1").run().exits(0);
        ran.prints(&[&reference(&ecr, "app", &root)]);
        assert_arrived(&ecr, "app", &layout, &root);
        assert_eq!(ecr.tag("app", "v1").as_deref(), Some(tagged(&layout, &root).as_str()));
        let withheld = layout.reach(&root).withheld;
        let asked = |digest: &String| ecr.registry_requests().iter().any(|entry| entry.digest.as_ref() == Some(digest));
        assert!(!withheld.iter().any(asked), "a layer that must not be distributed was asked for");
        assert_eq!(withheld.is_empty(), !fixture.starts_with("non-distributable"));
        before.is_unchanged(layout.parent());
    }
}

/// What a tag names: ECR knows manifests that came under a tag by their sha256.
fn tagged(layout: &Layout, root: &str) -> String {
    sha256(&fs::read(layout.blob(root)).unwrap())
}

// For each layout the words that must be in the message; `{layer}` and `{manifest}` stand for the digests.
fixtures! { BAD, bad:
    a_missing_blob_is_named("missing-blob", ["{layer}", "missing"]);
    a_wrong_size_is_named("wrong-size", ["{layer}", "bytes where its descriptor says"]);
    wrong_bytes_in_a_layer_are_found("wrong-bytes", ["{layer}", "corrupt"]);
    wrong_bytes_in_a_config_are_found("wrong-bytes-config", ["{config}", "corrupt"]);
    wrong_bytes_in_a_manifest_are_found("wrong-bytes-manifest", ["{manifest}", "corrupt"]);
    a_truncated_manifest_is_no_json("truncated-manifest", ["{manifest}", "malformed", "EOF"]);
    a_truncated_index_is_no_json("truncated-index", ["{path}/index.json", "malformed"]);
    a_cycle_cannot_have_right_digests("cycle", ["{manifest}", "corrupt"]);
    indexes_in_indexes_without_end_are_refused("nested-too-deep", ["nested more than 16 deep"]);
    a_digest_that_leads_out_of_the_folder_is_none("digest-traversal", ["{manifest}", "sha256:../../../../etc/passwd"]);
    a_symbolic_link_out_of_the_folder_is_refused("symlink-outside", ["{layer}", "symbolic link", "--follow-symlinks"]);
    an_unknown_digest_algorithm_is_named("unknown-algorithm", ["{manifest}", "crc32:", "unknown algorithm"]);
    a_folder_without_oci_layout_is_no_layout("no-oci-layout", ["{path}", "no oci-layout"]);
    a_folder_without_index_json_is_no_layout("no-index", ["{path}", "no index.json"]);
    a_newer_version_is_named("newer-version", ["\"2.0.0\"", "1.0.0"]);
    a_folder_is_no_blob("blob-is-a-folder", ["{layer}", "a folder"]);
    schema_1_cannot_be_pushed("schema1", ["{manifest}", "schemaVersion is 1"]);
    a_manifest_that_is_two_images_is_refused("ambiguous-manifest", ["{manifest}", "two different images"]);
    a_negative_size_is_none("negative-size", ["{manifest}", "-1"]);
    a_key_that_comes_twice_is_refused("duplicate-key", ["{manifest}", "duplicate field `config`"]);
    a_manifest_without_config_is_none("no-config", ["{manifest}", "no `config`"]);
    a_media_type_that_differs_is_named("media-type-differs", ["{manifest}", "calls itself", INDEX]);
    inline_data_that_differs_is_found("inline-data-wrong", ["{layer}", "inline data"]);
    two_defects_are_both_named("two-defects", ["2 defects", "{layer}", "missing", "{last layer}", "bytes where"]);
    a_layout_with_nothing_in_it_has_no_image("nothing-in-it", ["{path}", "no image"]);
}

#[track_caller]
fn bad(fixture: &str, words: &[&str]) {
    let layout = Layout::fixture(&format!("bad/{fixture}"));
    refused(&layout, "", 3, &expand(&layout, words));
}

/// Puts paths and digests in the place of their names.
fn expand(layout: &Layout, words: &[&str]) -> Vec<String> {
    let read = |path: &Path| fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let index = read(&layout.path().join("index.json")).unwrap_or_default();
    let text = |value: &Value| value["digest"].as_str().unwrap_or("(unknown)").to_owned();
    let root = text(&index["manifests"][0]);
    let manifest = if root.contains(':') { read(&layout.blob(&root)).unwrap_or_default() } else { Value::Null };
    let last = manifest["layers"].as_array().and_then(|layers| layers.last()).cloned().unwrap_or_default();
    let expand = |word: &&str| {
        word.replace("{path}", &layout.path().to_string_lossy())
            .replace("{manifest}", &root)
            .replace("{config}", &text(&manifest["config"]))
            .replace("{layer}", &text(&manifest["layers"][0]))
            .replace("{last layer}", &text(&last))
    };
    words.iter().map(expand).collect()
}

/// Asserts that a push of the layout ends with one message that has these words, that nothing was sent, and that
/// nothing was changed.
#[track_caller]
fn refused(layout: &Layout, choice: &str, status: i32, words: &[String]) {
    let ecr = ecr();
    refused_by(&Push::of(layout.choosing(choice)).at(&ecr).to("app:v1"), layout, status, words);
    nothing_was_asked(&ecr);
}

#[track_caller]
fn refused_by(push: &Push, layout: &Layout, status: i32, words: &[String]) {
    let before = Tree::of(layout.parent());
    let ran = push.run().exits(status).prints(&[]).says_one_error();
    ran.says(words.iter().map(String::as_str));
    before.is_unchanged(layout.parent());
}

#[track_caller]
fn nothing_was_asked(ecr: &LocalEcr) {
    assert_eq!(ecr.registry_requests(), []);
}

#[test]
fn every_layout_of_testdata_has_a_test() {
    let sorted = |list: &[&str]| {
        let mut list: Vec<String> = list.iter().map(|name| (*name).to_owned()).collect();
        list.sort();
        list
    };
    assert_eq!(sorted(GOOD), fixture_names("good"));
    assert_eq!(sorted(BAD), fixture_names("bad"));
}

#[test]
fn a_registry_without_sha512_refuses_and_gets_no_tag() {
    let layout = Layout::fixture("good/sha512");
    let ecr = start(builder().sha512(false));
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(5).prints(&[]);
    ran.says(["sha512:", "next: the registry doesn't take digests of this algorithm"]);
    assert!(ecr.tags("app").is_empty());
}

#[test]
fn an_image_is_chosen_by_its_digest() {
    let layout = Layout::fixture("good/several-images");
    let (ecr, root) = (ecr(), layout.named("registry.example/team/app:v2"));
    let push = Push::of(layout.choosing(&format!("@{root}"))).at(&ecr).to("app:v1");
    push.run().exits(0).prints(&[&reference(&ecr, "app", &root)]);
    assert_arrived(&ecr, "app", &layout, &root);
}

#[test]
fn the_prefix_oci_says_outright_what_a_source_is() {
    let layout = Layout::fixture("good/several-images");
    let (ecr, root) = (ecr(), layout.named("v1"));
    let source = format!("oci:{}:v1", layout.path().display());
    Push::of(source).at(&ecr).to("app:v1").run().exits(0).prints(&[&reference(&ecr, "app", &root)]);
}

#[test]
fn a_choice_that_is_missing_or_not_there_gets_a_list() {
    let layout = Layout::fixture("good/several-images");
    let listed = || {
        let (first, second) = (layout.named("v1"), layout.named("registry.example/team/app:v2"));
        vec![format!("@{first}  :v1\n"), format!("@{second}  :registry.example/team/app:v2\n")]
    };
    let check = |choice: &str, words: &str| {
        let words = [words.to_owned(), "next: choose one".to_owned()];
        refused(&layout, choice, 2, &[listed(), words.to_vec()].concat());
    };
    check("", "holds 2 images, and none was chosen");
    check(":v3", "holds no image :v3");
    check(&format!("@{}", sha256(b"")), "holds no image @sha256:e3b0c442");
}

#[test]
fn a_name_of_two_images_is_no_choice() {
    let layout = Layout::fixture("good/one-name-twice");
    let digests = layout.entries().iter().map(|entry| digest(entry).to_owned()).collect::<Vec<_>>();
    refused(&layout, ":v1", 2, &[digests, vec!["\"v1\"".to_owned()]].concat());
}

#[test]
fn referrers_follow_their_subject_and_can_be_listed() {
    for fixture in ["good/referrers", "good/referrers-tag"] {
        let layout = Layout::fixture(fixture);
        let ecr = start(builder().referrers_own_right(false));
        Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
        let referrers = referrers(&layout);
        assert_eq!(referrers.len(), 3, "{fixture}");
        for (referrer, subject) in &referrers {
            assert_arrived(&ecr, "app", &layout, referrer);
            assert!(listed(&ecr, subject).contains(referrer), "{fixture}: {referrer} is not listed");
        }
        assert_eq!(ecr.tags("app"), ["v1"], "{fixture}");
    }
}

#[test]
fn without_a_referrers_api_a_tag_lists_them() {
    for fixture in ["good/referrers", "good/referrers-tag"] {
        let layout = Layout::fixture(fixture);
        let ecr = start(builder().referrers_api(false));
        Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
        for (referrer, subject) in referrers(&layout) {
            let tag = ecr.tag("app", &subject.replace(':', "-")).expect("a tag by the referrers tag schema");
            let list: Value = serde_json::from_slice(&ecr.manifest("app", &tag).unwrap()).unwrap();
            let entries = list["manifests"].as_array().unwrap();
            let entry = entries.iter().find(|entry| digest(entry) == referrer);
            let entry = entry.unwrap_or_else(|| panic!("{fixture}: {referrer} is not listed"));
            assert!(entry["artifactType"].is_string() && entry["annotations"].is_object(), "{fixture}: {entry}");
        }
    }
}

#[test]
fn a_registry_that_links_referrers_itself_is_not_asked_for_its_list() {
    let layout = Layout::fixture("good/referrers");
    let ecr = start(builder().oci_subject_header(true));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(requests(&ecr, "GET", "/referrers/"), []);
}

#[test]
fn a_list_of_referrers_that_may_not_be_read_fails_nothing() {
    let layout = Layout::fixture("good/referrers");
    let denied = Fault::on("GET", "/referrers/").times(u64::MAX).does(FaultKind::status(403));
    let ecr = start(builder().fault(denied));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(ecr.here().manifests("app").len(), 4);
    assert_eq!(ecr.tags("app"), ["v1"]);
}

#[test]
fn no_referrers_leaves_them_out() {
    for fixture in ["good/referrers", "good/referrers-tag"] {
        let layout = Layout::fixture(fixture);
        let (ecr, root) = (ecr(), layout.root());
        Push::of(layout.path()).at(&ecr).to("app:v1").args(["--no-referrers"]).run().exits(0);
        assert_eq!(ecr.here().manifests("app"), std::slice::from_ref(&root), "{fixture}");
        assert_eq!(ecr.here().blobs("app"), Vec::from_iter(layout.reach(&root).blobs), "{fixture}");
    }
}

/// Each manifest of the layout with a subject, and its subject.
fn referrers(layout: &Layout) -> Vec<(String, String)> {
    let blobs = layout.blobs().into_iter();
    let read = |digest: String| Some((serde_json::from_slice(&fs::read(layout.blob(&digest)).ok()?).ok()?, digest));
    let subject =
        |(document, referrer): (Value, String)| Some((referrer, document["subject"]["digest"].as_str()?.to_owned()));
    blobs.filter_map(read).filter_map(subject).collect()
}

/// What local-ecr's referrers API lists for a manifest.
fn listed(ecr: &LocalEcr, subject: &str) -> Vec<String> {
    use std::io::{Read, Write};
    let address = ecr.registry_url().replace("http://", "");
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let password = ecr.issue_password();
    let token = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("AWS:{password}"));
    let request = format!(
        "GET /v2/app/referrers/{subject} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let body = reply.split_once("\r\n\r\n").unwrap().1;
    let list: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"));
    list["manifests"].as_array().unwrap().iter().map(|entry| digest(entry).to_owned()).collect()
}

#[test]
fn a_fifo_is_no_blob() {
    let layout = Layout::fixture("good/one-manifest");
    let layer = replace_layer(&layout, |path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    });
    refused(&layout, "", 3, &[layer, "a FIFO".to_owned()]);
}

#[test]
fn a_blob_that_may_not_be_read_is_named() {
    let layout = Layout::fixture("good/one-manifest");
    let layer = a_layer(&layout);
    fs::set_permissions(layout.blob(&layer), PermissionsExt::from_mode(0o000)).unwrap();
    let ecr = ecr();
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").unprivileged();
    refused_by(&push, &layout, 3, &[layer, "Permission denied".to_owned()]);
    nothing_was_asked(&ecr);
}

#[test]
fn a_folder_that_may_not_be_read_is_named() {
    let layout = Layout::fixture("good/one-manifest");
    for (folder, words) in [("blobs/sha256", layout.root()), ("", layout.path().display().to_string())] {
        let path = layout.path().join(folder);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        let ecr = ecr();
        let push = Push::of(layout.path()).at(&ecr).to("app:v1").unprivileged();
        refused_by(&push, &layout, 3, &[words, "Permission denied".to_owned()]);
        nothing_was_asked(&ecr);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn an_index_of_5_mib_is_no_manifest() {
    let layout = Layout::empty();
    let image = layout.image(&[layout.layer(10)]);
    let padding = json!({"padding": "x".repeat(5 << 20)});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image], "annotations": padding});
    let index = layout.add(INDEX, index.to_string().as_bytes());
    layout.list(&index, None);
    refused(&layout, "", 3, &[digest(&index).to_owned(), "at most 4194304".to_owned()]);
}

#[test]
fn an_index_json_of_5_mib_is_refused() {
    let layout = Layout::fixture("good/one-manifest");
    let mut index = layout.index();
    index["annotations"] = json!({"padding": "x".repeat(5 << 20)});
    layout.write_index(&index);
    let path = layout.path().join("index.json");
    refused(&layout, "", 3, &[path.display().to_string(), "at most 4194304".to_owned()]);
}

#[test]
fn what_is_no_layout_folder_is_named() {
    let layout = Layout::fixture("good/one-manifest");
    let check = |name: &str, words: &[&str]| {
        let path = layout.parent().join(name);
        let words = words.iter().map(|word| (*word).to_owned());
        let words: Vec<String> = words.chain([path.display().to_string()]).collect();
        let ecr = ecr();
        refused_by(&Push::of(&path).at(&ecr).to("app:v1"), &layout, 3, &words);
        nothing_was_asked(&ecr);
    };
    fs::create_dir(layout.parent().join("empty")).unwrap();
    fs::write(layout.parent().join("file"), "text").unwrap();
    check("empty", &["is not an OCI image layout"]);
    check("file", &["not a tar"]);
    check("missing", &["there is nothing at"]);
}

#[test]
fn a_symbolic_link_within_the_folder_is_a_blob() {
    let layout = Layout::fixture("good/one-manifest");
    replace_layer(&layout, |path| {
        let target = layout.path().join("store");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("layer"), fs::read(path.with_extension("was")).unwrap()).unwrap();
        symlink("../../store/layer", path).unwrap();
    });
    let ecr = ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn follow_symlinks_allows_links_out_of_the_folder() {
    let layout = Layout::fixture("bad/symlink-outside");
    let ecr = ecr();
    let before = Tree::of(layout.parent());
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["--follow-symlinks"]).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    before.is_unchanged(layout.parent());
}

#[test]
fn a_folder_of_blobs_that_is_a_link_out_of_the_layout_is_refused() {
    let layout = Layout::fixture("good/one-manifest");
    fs::rename(layout.path().join("blobs/sha256"), layout.parent().join("store")).unwrap();
    symlink("../../store", layout.path().join("blobs/sha256")).unwrap();
    refused(&layout, "", 3, &[layout.root(), "symbolic link that leads out".to_owned()]);
}

/// The digest of a layer of the layout's first image.
fn a_layer(layout: &Layout) -> String {
    let manifest: Value = serde_json::from_slice(&fs::read(layout.blob(&layout.root())).unwrap()).unwrap();
    digest(&manifest["layers"][0]).to_owned()
}

/// Puts something else where a layer lies; the layer itself is beside it, with the extension `was`.
fn replace_layer(layout: &Layout, put: impl FnOnce(&Path)) -> String {
    let layer = a_layer(layout);
    let path = layout.blob(&layer);
    fs::rename(&path, path.with_extension("was")).unwrap();
    put(&path);
    layer
}
