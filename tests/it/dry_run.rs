//! `--dry-run`: says what the push then does, and changes nothing.

use local_ecr::{Fault, FaultKind, LocalEcr};
use serde_json::{Value, json};

use crate::support::archive::{Era, Saved, Stored};
use crate::support::layout::{digest, fixture_names};
use crate::support::{Layout, Push, Ran, Tree, builder, ecr, start};

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).expect("a document")
}

/// Runs a push dry, sees that nothing changed anywhere, and gives the document.
fn dry(push: &impl Fn() -> Push, ecr: &LocalEcr, status: i32) -> Value {
    let (seen, asked) = (ecr.registry_requests().len(), ecr.api_requests().len());
    let ran = push().args(["--dry-run", "--output=json"]).run().exits(status);
    for entry in &ecr.registry_requests()[seen..] {
        assert!(["GET", "HEAD"].contains(&&*entry.method), "{entry:?}");
    }
    let reads = ["ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:DescribeRepositories"];
    for entry in &ecr.api_requests()[asked..] {
        assert!(entry.actions.iter().all(|action| reads.contains(action)), "{entry:?}");
    }
    let document = document(&ran);
    assert_eq!((&document["dryRun"], &document["exitStatus"]), (&json!(true), &json!(status)));
    document
}

/// The blobs of one fate: how many, and their bytes.
fn count(destination: &Value, status: &str) -> Value {
    let blobs = destination["blobs"].as_array().expect("blobs").iter().filter(|blob| blob["status"] == status);
    let sizes: Vec<u64> = blobs.map(|blob| blob["size"].as_u64().expect("a size")).collect();
    json!({"number": sizes.len(), "bytes": sizes.iter().sum::<u64>()})
}

/// Runs a push dry and then in earnest; what was foreseen is what happens.
fn comes_true(push: &impl Fn() -> Push, ecr: &LocalEcr, context: &str) {
    let foreseen = dry(push, ecr, 0);
    let pushed = document(&push().args(["--output=json"]).run().exits(0));
    for field in ["digest", "mediaType", "size", "source"] {
        assert_eq!(foreseen[field], pushed[field], "{context}: {field}");
    }
    let destinations = |document: &Value| document["destinations"].as_array().expect("destinations").clone();
    for (foreseen, pushed) in destinations(&foreseen).iter().zip(&destinations(&pushed)) {
        for field in ["reference", "repositoryCreated", "manifestsWritten"] {
            assert_eq!(foreseen[field], pushed[field], "{context}: {field}");
        }
        assert_eq!(count(foreseen, "wouldUpload"), pushed["blobs"]["uploaded"], "{context}");
        assert_eq!(count(foreseen, "wouldMount"), pushed["blobs"]["mounted"], "{context}");
        assert_eq!(count(foreseen, "alreadyThere"), pushed["blobs"]["alreadyThere"], "{context}");
        let tags = |destination: &Value| destination["tags"].as_array().expect("tags").clone();
        for (tag, written) in tags(foreseen).iter().zip(tags(pushed)) {
            let now = if tag["status"] == "alreadyThere" { "alreadyThere" } else { "written" };
            assert_eq!((&tag["tag"], now), (&written["tag"], written["status"].as_str().unwrap()), "{context}");
        }
    }
    let mut cleanup = foreseen["cleanup"].clone();
    if cleanup["status"] == "planned" {
        cleanup["status"] = json!("done");
    }
    assert_eq!(cleanup, pushed["cleanup"], "{context}");
}

#[test]
fn what_it_says_comes_true() {
    for fixture in fixture_names("good") {
        if fixture == "non-distributable-held" {
            continue;
        }
        let layout = Layout::fixture(&format!("good/{fixture}"));
        let choice = format!("@{}", layout.root());
        let ecr = start(builder().sha512(true).repository("other"));
        let push = || Push::of(layout.choosing(&choice)).at(&ecr).to("app:v1").to("app:v2").to("other:v1");
        comes_true(&push, &ecr, &format!("{fixture}, cold"));
        comes_true(&push, &ecr, &format!("{fixture}, warm"));
        let more = || push().args(["--tag=latest", "--cleanup"]);
        comes_true(&more, &ecr, &format!("{fixture}, one more tag, and clean-up"));
    }
}

#[test]
fn what_it_says_comes_true_on_other_registries() {
    for fixture in ["index", "nested-index", "one-manifest", "shared-layers"] {
        let layout = Layout::fixture(&format!("good/{fixture}"));
        let ecr = ecr();
        let host = ecr.registry_url().replace("http://", "");
        let (password, choice) = (ecr.issue_password(), format!("@{}", layout.root()));
        let push = || {
            let push = Push::of(layout.choosing(&choice)).to_reference(format!("{host}/app:v1"));
            push.logged_in(&host, "AWS", &password)
        };
        comes_true(&push, &ecr, &format!("{fixture}, cold"));
        comes_true(&push, &ecr, &format!("{fixture}, warm"));
        comes_true(&|| push().args(["--cleanup"]), &ecr, &format!("{fixture}, with clean-up"));
    }
}

#[test]
fn what_is_there_in_part_is_told_from_what_is_not() {
    let (layout, ecr) = (Layout::fixture("good/shared-layers"), ecr());
    let push = |name: &'static str| {
        let (layout, ecr) = (&layout, &ecr);
        move || Push::of(layout.choosing(name)).at(ecr).to("app:v1")
    };
    comes_true(&push(":one"), &ecr, "one");
    let foreseen = dry(&push(":two"), &ecr, 0);
    let (there, one) = (&foreseen["destinations"][0], layout.named("one"));
    assert_eq!(there["tags"], json!([{"tag": "v1", "status": "wouldMove", "names": one}]));
    assert_eq!(
        (&count(there, "alreadyThere")["number"], &count(there, "wouldUpload")["number"]),
        (&json!(1), &json!(2))
    );
    comes_true(&push(":two"), &ecr, "two");
}

#[test]
fn a_repository_that_would_be_made_is_not() {
    let (layout, ecr) = (Layout::fixture("good/index"), start(builder().allow("ecr:CreateRepository")));
    let push = || Push::of(layout.path()).at(&ecr).to("new:v1").args(["--create-repository"]);
    let foreseen = dry(&push, &ecr, 0);
    assert_eq!(foreseen["destinations"][0]["repositoryCreated"], true);
    let without = || Push::of(layout.path()).at(&ecr).to("new:v1").to("app:v1");
    let foreseen = dry(&without, &ecr, 5);
    assert_eq!(foreseen["destinations"][0]["error"]["exitStatus"], 5);
    assert_eq!(
        (&foreseen["destinations"][1]["error"], &foreseen["cleanup"]["status"]),
        (&Value::Null, &json!("notAsked"))
    );
    comes_true(&push, &ecr, "made");
}

#[test]
fn layers_that_have_to_be_compressed_are_and_stay_here() {
    let (ecr, stored) = (ecr(), Stored::new(&Era::ALL[0].save(&[&Saved::usual()])));
    let home = Push::of(stored.path());
    let cache = home.home().join("record");
    let push = || {
        let push = Push::of(stored.path()).at(&ecr).to("app:v1");
        push.args(["--cleanup", &format!("--cache-dir={}", cache.display())])
    };
    let before = Tree::of(stored.parent());
    dry(&push, &ecr, 0);
    before.is_unchanged(stored.parent());
    comes_true(&push, &ecr, "a docker archive");
}

#[test]
fn what_may_be_mounted_is_said() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(builder().repository("base")));
    Push::of(layout.path()).at(&ecr).to("base:v1").run().exits(0);
    let push = || Push::of(layout.path()).at(&ecr).to("app:v1").args(["--mount-from=base"]);
    let foreseen = dry(&push, &ecr, 0);
    let blobs = foreseen["destinations"][0]["blobs"].as_array().unwrap().clone();
    assert!(blobs.iter().all(|blob| blob["status"] == "wouldMount" && blob["from"] == "base"), "{blobs:?}");
    let ran = push().args(["--dry-run"]).run().exits(0);
    assert!(ran.stdout.contains("from base, if it can be") && ran.stdout.contains("0 blobs to send"), "{}", ran.stdout);
}

#[test]
fn what_a_push_would_fail_with_is_said() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let before = Tree::of(layout.parent());
    let dry = |layout: &Layout| Push::of(layout.path()).at(&ecr).to("app:v1").args(["--dry-run", "--cleanup"]);
    dry(&layout).args(["--prune-orphans=1d", "-q"]).run().exits(0);
    before.is_unchanged(layout.parent());
    dry(&Layout::fixture("bad/missing-blob")).run().exits(3).prints(&[]);
    dry(&Layout::fixture("good/non-distributable-held")).run().exits(7).says(["clean-up", "is kept"]);
    ecr.inject(Fault::on("HEAD", "/manifests/").times(u64::MAX).does(FaultKind::status(403)));
    let ran = dry(&layout).run().exits(4);
    assert!(ran.stdout.contains("would fail"), "{}", ran.stdout);
    assert_eq!(digest(&layout.entries()[0]), layout.root());
}
