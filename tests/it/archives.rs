//! OCI archives and docker archives, from files and standard input: what arrives is what was in them.

use std::fs::File;
use std::io::{self, Write};
use std::process::Stdio;
use std::thread;

use local_ecr::LocalEcr;
use serde_json::json;

use crate::support::archive::{
    self, Era, LARGE, Saved, Stored, assert_pushed, blob, gzip, hybrid, layer, manifest, of_layout, zstd,
};
use crate::support::layout::{fixture_names, noise, sha256};
use crate::support::{Layout, Push, Ran, Tree, assert_arrived, builder, ecr, reference, requests, start};

/// The digest that a push printed.
#[track_caller]
fn printed(ran: &Ran, ecr: &LocalEcr, repository: &str) -> String {
    let line = ran.stdout.lines().next().unwrap_or_default();
    let digest = line.rsplit('@').next().unwrap_or_default().to_owned();
    assert_eq!(ran.stdout, format!("{}\n", reference(ecr, repository, &digest)));
    digest
}

/// Pushes an archive to a registry of its own, and gives the digest.
#[track_caller]
fn pushed(bytes: &[u8], args: &[&str]) -> String {
    let (ecr, stored) = (ecr(), Stored::new(bytes));
    let ran = Push::of(stored.path()).at(&ecr).to("app:v1").args(args).run().exits(0);
    let digest = printed(&ran, &ecr, "app");
    assert_eq!(ecr.tag("app", "v1").as_ref(), Some(&digest));
    digest
}

/// Standard input that gets these bytes from a pipe.
fn piped(bytes: &[u8]) -> Stdio {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let bytes = bytes.to_vec();
    // Whoever ends before the pipe does is what a test is about, and not this thread.
    thread::spawn(move || writer.write_all(&bytes));
    reader.into()
}

#[test]
fn docker_archives_of_every_era() {
    let image = Saved::usual();
    for era in Era::ALL {
        let (ecr, stored) = (ecr(), Stored::new(&era.save(&[&image])));
        let before = Tree::of(stored.parent());
        let ran = Push::of(stored.path()).at(&ecr).to("app:v1").run().exits(0);
        let root = printed(&ran, &ecr, "app");
        let document = assert_pushed(&ecr, "app", &root, &image, "+gzip");
        assert_eq!(ecr.tag("app", "v1").as_ref(), Some(&root), "{era:?}");
        assert_eq!(ecr.open_sessions(), 0, "{era:?}");
        before.is_unchanged(stored.parent());
        let hybrid = era == Era::Hybrid;
        assert_eq!(document["annotations"]["org.opencontainers.image.revision"] == json!("abc"), hybrid, "{era:?}");
        assert_eq!(document["layers"][0]["annotations"]["org.example.base"] == json!("yes"), hybrid, "{era:?}");
        assert!(document["layers"][1].get("annotations").is_none(), "{era:?}");
        if era == Era::Jib {
            let first = blob(&ecr, "app", &document["layers"][0]);
            assert!(first == gzip(&image.layers[0]), "what is compressed already is sent as it is");
        }
    }
}

#[test]
fn an_archive_of_compressed_layers_keeps_dockers_own_manifest() {
    let image = Saved::usual();
    let (ecr, stored) = (ecr(), Stored::new(&hybrid(&[&image], true)));
    let ran = Push::of(stored.path()).at(&ecr).to("app:v1").run().exits(0);
    let root = printed(&ran, &ecr, "app");
    let document = assert_pushed(&ecr, "app", &root, &image, "+gzip");
    let inner = Stored::new(&hybrid(&[&image], true));
    let mut tar = tar::Archive::new(File::open(inner.path()).unwrap());
    let name = format!("blobs/sha256/{}", root.trim_start_matches("sha256:"));
    let held = tar.entries().unwrap().any(|entry| entry.unwrap().path().unwrap().to_string_lossy() == name);
    assert!(held, "{root} is no manifest of the archive's");
    assert_eq!(document["annotations"]["org.opencontainers.image.revision"], "abc");
}

#[test]
fn a_layer_that_comes_twice_is_sent_once() {
    let (twice, other) = (layer(1, LARGE), layer(2, 20_000));
    let image = Saved::new(&["app:v1"], vec![twice.clone(), other, twice]);
    for era in Era::ALL {
        let (ecr, stored) = (ecr(), Stored::new(&era.save(&[&image])));
        let root = printed(&Push::of(stored.path()).at(&ecr).to("app:v1").run().exits(0), &ecr, "app");
        let document = assert_pushed(&ecr, "app", &root, &image, "+gzip");
        assert_eq!(document["layers"][0]["digest"], document["layers"][2]["digest"], "{era:?}");
        assert_eq!(requests(&ecr, "POST", "/blobs/uploads/").len(), 3, "{era:?}: two layers and the config");
    }
}

#[test]
fn the_same_digest_from_wherever_the_archive_comes() {
    let image = Saved::usual();
    let bytes = Era::Classic.save(&[&image]);
    let (whole, gzipped, zstded) = (Stored::new(&bytes), Stored::new(&gzip(&bytes)), Stored::new(&zstd(&bytes)));
    let ecr = ecr();
    let mut digests = Vec::new();
    for source in [whole.path(), gzipped.path(), zstded.path()] {
        let ran = Push::of(source).at(&ecr).to("app:v1").run().exits(0);
        digests.push(printed(&ran, &ecr, "app"));
    }
    let inputs: [Stdio; 4] = [
        piped(&bytes),
        piped(&gzip(&bytes)),
        File::open(whole.path()).unwrap().into(),
        File::open(zstded.path()).unwrap().into(),
    ];
    for input in inputs {
        let ran = Push::of("-").at(&ecr).to("app:v1").run_with(input).exits(0);
        digests.push(printed(&ran, &ecr, "app"));
    }
    for source in ["-:registry.example/team/app:v1".to_owned(), format!("-@{}", image.id())] {
        let ran = Push::of(source).at(&ecr).to("app:v1").run_with(piped(&bytes)).exits(0);
        digests.push(printed(&ran, &ecr, "app"));
    }
    for era in [Era::Podman, Era::Classic] {
        digests.push(pushed(&era.save(&[&image]), &[]));
    }
    let first = digests[0].clone();
    assert_eq!(digests, vec![first; digests.len()]);
}

#[test]
fn the_same_digest_for_any_number_of_threads() {
    let image = Saved::usual();
    for options in [
        ["--compression=gzip", "--compression-level=1"],
        ["--compression=gzip", "--compression-level=6"],
        ["--compression=zstd", "--compression-level=3"],
    ] {
        let digests = ["1", "2", "8"].map(|threads| {
            let threads = format!("--compression-threads={threads}");
            pushed(&Era::Podman.save(&[&image]), &[options[0], options[1], &threads])
        });
        assert_eq!(digests, [digests[0].clone(), digests[0].clone(), digests[0].clone()], "{options:?}");
    }
}

#[test]
fn layers_are_packed_as_asked() {
    let image = Saved::usual();
    let check = |options: &[&str], packing: &str| {
        let (ecr, stored) = (ecr(), Stored::new(&Era::Podman.save(&[&image])));
        let ran = Push::of(stored.path()).at(&ecr).to("app:v1").args(options).run().exits(0);
        let document = assert_pushed(&ecr, "app", &printed(&ran, &ecr, "app"), &image, packing);
        document["layers"].as_array().unwrap().iter().filter_map(|layer| layer["size"].as_u64()).sum::<u64>()
    };
    let usual = check(&[], "+gzip");
    assert_eq!(check(&["--compression", "none"], ""), image.layers.iter().map(|layer| layer.len() as u64).sum::<u64>());
    assert!(check(&["--compression=zstd"], "+zstd") < 3 * (LARGE as u64));
    // Half of the content is noise, which nothing makes smaller.
    let (least, most) = (check(&["--compression-level=1"], "+gzip"), check(&["--compression-level=9"], "+gzip"));
    assert_eq!(least, usual);
    assert!(most < least, "level 9 gives {most} bytes, and level 1 {least}");
    check(&["--compression=zstd", "--compression-level=19"], "+zstd");
}

#[test]
fn compressed_layers_stay_as_they_are_whatever_the_compression() {
    let image = Saved::usual();
    for compression in ["none", "zstd", "gzip"] {
        let (ecr, stored) = (ecr(), Stored::new(&Era::Jib.save(&[&image])));
        let args = [format!("--compression={compression}")];
        let ran = Push::of(stored.path()).at(&ecr).to("app:v1").args(args).run().exits(0);
        let document = assert_pushed(&ecr, "app", &printed(&ran, &ecr, "app"), &image, "+gzip");
        assert!(blob(&ecr, "app", &document["layers"][0]) == gzip(&image.layers[0]), "{compression}");
    }
}

#[test]
fn oci_archives_are_their_folders() {
    for name in fixture_names("good") {
        let layout = Layout::fixture(&format!("good/{name}"));
        let roots: Vec<String> =
            layout.entries().iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
        for (at, root) in roots.iter().enumerate() {
            let ecr = start(builder().sha512(true));
            let reversed = at % 2 == 0;
            let bytes = of_layout(&layout, reversed);
            let stored = Stored::new(&if reversed { bytes.clone() } else { gzip(&bytes) });
            let push = Push::of(stored.written("", &format!("@{root}"))).at(&ecr).to("app:v1");
            push.run().exits(0).prints(&[&reference(&ecr, "app", root)]);
            assert_arrived(&ecr, "app", &layout, root);
        }
    }
}

#[test]
fn an_oci_archive_is_never_changed() {
    for options in [&["--compression=zstd"][..], &["--compression=none"], &[]] {
        let (ecr, layout) = (ecr(), Layout::of_layers(&[LARGE, 1000]));
        let stored = Stored::new(&of_layout(&layout, false));
        let push = Push::of("-").at(&ecr).to("app:v1").args(options);
        push.run_with(File::open(stored.path()).unwrap()).exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
        assert_arrived(&ecr, "app", &layout, &layout.root());
    }
}

#[test]
fn prefixes_say_what_a_file_is() {
    let image = Saved::usual();
    let (plain, both) = (Stored::new(&Era::Classic.save(&[&image])), Stored::new(&hybrid(&[&image], false)));
    let layout = Layout::fixture("good/one-manifest");
    let oci = Stored::new(&of_layout(&layout, false));
    let ecr = ecr();
    let run = |source: String| Push::of(source).at(&ecr).to("app:v1").run();
    let made = printed(&run(plain.written("docker-archive:", "")).exits(0), &ecr, "app");
    assert_pushed(&ecr, "app", &made, &image, "+gzip");
    run(oci.written("oci-archive:", ":v1")).exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    // Said outright, the layout in Docker's archive counts as one, uncompressed layers and all.
    let inner = printed(&run(both.written("oci-archive:", "")).exits(0), &ecr, "app");
    assert_pushed(&ecr, "app", &inner, &image, "");
    let outer = printed(&run(both.written("docker-archive:", "")).exits(0), &ecr, "app");
    assert_pushed(&ecr, "app", &outer, &image, "+gzip");
    let before = ecr.registry_requests().len();
    run(plain.written("oci-archive:", "")).exits(3).prints(&[]).says(["oci-layout"]).says_one_error();
    run(oci.written("docker-archive:", "")).exits(3).prints(&[]).says(["manifest.json"]).says_one_error();
    assert_eq!(ecr.registry_requests().len(), before);
}

#[test]
fn one_image_of_several_is_chosen() {
    let (base, one) = (layer(1, LARGE), layer(2, 20_000));
    let first = Saved::new(&["registry.example/team/app:v1", "app:newest"], vec![base.clone(), one]);
    let second = Saved::new(&["app:v2"], vec![base.clone(), layer(3, LARGE / 2)]);
    let unnamed = Saved::new(&[], vec![base, layer(4, 500)]);
    for era in Era::ALL {
        let stored = Stored::new(&era.save(&[&first, &second, &unnamed]));
        let ecr = ecr();
        let run = |choice: &str| Push::of(stored.written("", choice)).at(&ecr).to("app:v1").run();
        for choice in ["", ":v9", ":other", ":app", &format!("@{}", sha256(b"nobody"))] {
            let ran = run(choice).exits(2).prints(&[]).says_one_error();
            ran.says([":registry.example/team/app:v1", ":app:newest", ":app:v2", unnamed.id().as_str()]);
        }
        assert!(ecr.registry_requests().iter().all(|entry| !["POST", "PUT"].contains(&entry.method.as_str())));
        let choices = [
            (":registry.example/team/app:v1", &first),
            (":app:newest", &first),
            (":app:v2", &second),
            (&*format!("@{}", first.id()), &first),
            (&*format!("@{}", unnamed.id()), &unnamed),
        ];
        for (choice, image) in choices {
            let root = printed(&run(choice).exits(0), &ecr, "app");
            assert_pushed(&ecr, "app", &root, image, "+gzip");
        }
    }
}

#[test]
fn one_image_of_an_oci_archive_is_chosen() {
    let layout = Layout::fixture("good/several-images");
    let (stored, ecr) = (Stored::new(&of_layout(&layout, true)), ecr());
    let run = |choice: &str| Push::of(stored.written("", choice)).at(&ecr).to("app:v1").run();
    let names = layout.names();
    let list: Vec<String> = names.iter().map(|name| format!(":{name}")).collect();
    for choice in ["", ":nobody"] {
        run(choice).exits(2).prints(&[]).says(list.iter().map(String::as_str)).says_one_error();
    }
    assert!(requests(&ecr, "POST", "").is_empty());
    for name in &names {
        let root = layout.named(name);
        run(&format!(":{name}")).exits(0).prints(&[&reference(&ecr, "app", &root)]);
        assert_arrived(&ecr, "app", &layout, &root);
    }
}

#[test]
fn a_layer_that_is_not_what_its_config_says_never_arrives() {
    for (at, what) in [(0, "large"), (1, "small")] {
        let mut image = Saved::usual();
        let said = sha256(&image.layers[at]);
        *image.layers[at].last_mut().unwrap() = 1;
        let found = sha256(&image.layers[at]);
        let (ecr, stored) =
            (start(builder().repository("second").upload_cancel(true)), Stored::new(&Era::Classic.save(&[&image])));
        let before = Tree::of(stored.parent());
        let push = Push::of(stored.path()).at(&ecr).to("app:v1").to("second:v1").args(["--cleanup"]);
        let ran = push.run().exits(3).prints(&[]);
        ran.says([said.as_str(), found.as_str()]);
        for repository in ["app", "second"] {
            assert!(ecr.tags(repository).is_empty() && ecr.here().manifests(repository).is_empty(), "{what}");
            assert!(ecr.here().blobs(repository).iter().all(|digest| *digest != found), "{what}");
        }
        assert_eq!(ecr.open_sessions(), 0, "{what}");
        before.is_unchanged(stored.parent());
    }
}

#[test]
fn two_destinations_get_each_layer_from_one_compression() {
    let image = Saved::usual();
    let (ecr, stored) = (start(builder().repository("second")), Stored::new(&Era::Podman.save(&[&image])));
    let ran = Push::of(stored.path()).at(&ecr).to("app:v1").to("second:v2").run().exits(0);
    let root = ran.stdout.lines().next().unwrap().rsplit('@').next().unwrap().to_owned();
    ran.prints(&[&reference(&ecr, "app", &root), &reference(&ecr, "second", &root)]);
    for (repository, tag) in [("app", "v1"), ("second", "v2")] {
        assert_pushed(&ecr, repository, &root, &image, "+gzip");
        assert_eq!(ecr.tags(repository), [tag]);
        assert_eq!(requests(&ecr, "PATCH", &format!("/v2/{repository}/")).len(), 2, "the large layers, once each");
    }
    assert!(requests(&ecr, "PATCH", "").iter().all(|entry| entry.content_range.is_none()));
    assert!(requests(&ecr, "PUT", "/uploads/").iter().filter(|entry| entry.bytes == 0).count() == 4);
}

#[test]
fn a_digest_that_was_asked_for_is_compared_before_anything_is_written() {
    let image = Saved::usual();
    let bytes = Era::Classic.save(&[&image]);
    let (ecr, stored) = (ecr(), Stored::new(&bytes));
    let other = sha256(b"something else");
    for destination in [format!("app:v1@{other}"), format!("app@{other}")] {
        let ran = Push::of(stored.path()).at(&ecr).to(&destination).run().exits(2).prints(&[]).says_one_error();
        ran.says([other.as_str()]);
    }
    let written = ["POST", "PUT", "PATCH"].iter().flat_map(|method| requests(&ecr, method, "")).count();
    assert_eq!(written, 0, "{:?}", ecr.registry_requests());
    let right = pushed(&bytes, &[]);
    let ran = Push::of(stored.path()).at(&ecr).to(&format!("app:v1@{right}")).run().exits(0);
    assert_eq!(printed(&ran, &ecr, "app"), right);
    assert_pushed(&ecr, "app", &right, &image, "+gzip");
}

#[test]
fn a_second_push_stores_nothing() {
    let image = Saved::usual();
    let (ecr, stored) = (ecr(), Stored::new(&Era::Hybrid.save(&[&image])));
    let push = Push::of(stored.path()).at(&ecr).to("app:v1");
    let first = printed(&push.run().exits(0), &ecr, "app");
    let stored_blobs = ecr.here().blobs("app");
    let manifests = requests(&ecr, "PUT", "/manifests/").len();
    let second = printed(&push.run().exits(0), &ecr, "app");
    assert_eq!((first, stored_blobs), (second, ecr.here().blobs("app")));
    assert_eq!(requests(&ecr, "PUT", "/manifests/").len(), manifests, "the tag is there");
    assert_eq!(ecr.open_sessions(), 0);
}

#[test]
fn an_image_without_layers_has_none() {
    let image = Saved::new(&["app:v1"], Vec::new());
    for era in Era::ALL.into_iter().filter(|era| *era != Era::Classic) {
        let (ecr, stored) = (ecr(), Stored::new(&era.save(&[&image])));
        let root = printed(&Push::of(stored.path()).at(&ecr).to("app:v1").run().exits(0), &ecr, "app");
        assert_pushed(&ecr, "app", &root, &image, "+gzip");
    }
}

#[test]
fn an_empty_layer_and_one_of_exactly_some_blocks() {
    let of_size = |seed: u64, size: usize| {
        let mut tar = layer(seed, LARGE);
        // What is behind a tar's end belongs to the layer as well.
        tar.resize(size, 0);
        tar
    };
    let mut empty = archive::Archive::new().end();
    empty.resize(1024, 0);
    let blocks = 11 * 256 * 1024;
    let layers =
        vec![empty, of_size(1, blocks), of_size(2, blocks + 1), of_size(3, blocks - 1), noise(9, 1024 * 1024 + 1)];
    let image = Saved::new(&["app:v1"], layers);
    for options in [&[][..], &["--compression=zstd"]] {
        let (ecr, stored) = (ecr(), Stored::new(&Era::Podman.save(&[&image])));
        let ran = Push::of(stored.path()).at(&ecr).to("app:v1").args(options).run().exits(0);
        let root = printed(&ran, &ecr, "app");
        let packing = if options.is_empty() { "+gzip" } else { "+zstd" };
        assert_pushed(&ecr, "app", &root, &image, packing);
        assert_eq!(manifest(&ecr, "app", &root)["layers"].as_array().unwrap().len(), 5);
    }
}
