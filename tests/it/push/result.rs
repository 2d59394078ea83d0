//! What a push hands to whoever called it: `--digest-file` and `--output json`.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Layout, Push, ecr, reference};

#[test]
fn the_digest_file_has_the_lines_of_standard_output() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let file = layout.parent().join("digest");
    fs::write(&file, "of an earlier build, and longer than what takes its place".repeat(9)).unwrap();
    for output in ["text", "json"] {
        let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--output", output]);
        push.args(["--digest-file".as_ref(), file.as_os_str()]).run().exits(0);
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", reference(&ecr, "app", &layout.root())));
        let names: Vec<_> = fs::read_dir(layout.parent()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "beside the layout and the file: {names:?}");
    }
}

#[test]
fn a_push_that_fails_writes_no_digest_file() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let file = layout.parent().join("digest");
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").to("missing:v1");
    push.args(["--digest-file".as_ref(), file.as_os_str()]).run().exits(5);
    assert!(!file.exists());
}

#[test]
fn a_digest_file_in_a_folder_that_is_not_there_is_refused_before_anything_is_sent() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--digest-file", "/nowhere/digest"]);
    push.run().exits(2).prints(&[]).says(["--digest-file", "/nowhere/digest"]);
    assert_eq!(ecr.journal(), []);
}

fn push_json(push: &Push, status: i32) -> Value {
    let ran = push.run().exits(status);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

#[test]
fn json_names_what_was_written_and_what_was_there() {
    let (layout, ecr) = (Layout::fixture("good/referrers"), ecr());
    let push = |tags: &[&str]| {
        let push = Push::of(layout.path()).at(&ecr).to("app").args(["--output", "json"]);
        tags.iter().fold(push, |push, tag| push.args(["-t", tag]))
    };
    let document = push_json(&push(&["v1"]), 0);
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["source"], json!(layout.path()));
    assert_eq!(document["digest"], json!(layout.root()));
    assert_eq!(document["exitStatus"], 0);
    assert_eq!(document["cleanup"], json!({"status": "notAsked"}));
    let destination = &document["destinations"][0];
    assert_eq!(destination["host"], json!(ecr.host()));
    assert_eq!(destination["repository"], "app");
    assert_eq!(destination["reference"], json!(reference(&ecr, "app", &layout.root())));
    assert_eq!(destination["status"], "verified");
    assert_eq!(destination["error"], Value::Null);
    assert_eq!(destination["tags"], json!([{"tag": "v1", "status": "written"}]));
    assert_eq!(destination["referrers"].as_array().unwrap().len(), 3);
    assert!(destination["referrers"].as_array().unwrap().iter().all(|referrer| referrer["status"] == "written"));
    assert_eq!(destination["blobs"]["uploaded"]["number"], json!(ecr.here().blobs("app").len()));
    assert_eq!(destination["blobs"]["alreadyThere"], json!({"number": 0, "bytes": 0}));
    assert_eq!(destination["manifestsWritten"], 4);

    let document = push_json(&push(&["v1", "v2"]), 0);
    let destination = &document["destinations"][0];
    let tags = json!([{"tag": "v1", "status": "alreadyThere"}, {"tag": "v2", "status": "written"}]);
    assert_eq!(destination["tags"], tags);
    assert!(destination["referrers"].as_array().unwrap().iter().all(|referrer| referrer["status"] == "alreadyThere"));
    assert_eq!(destination["blobs"]["uploaded"], json!({"number": 0, "bytes": 0}));
    assert_eq!(destination["manifestsWritten"], 1);
}

#[test]
fn json_names_what_failed_and_why() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let push = Push::of(layout.path()).at(&ecr).to("missing:v1").to("app:v1").args(["--output=json", "--cleanup"]);
    let document = push_json(&push, 5);
    assert_eq!(document["exitStatus"], 5);
    assert_eq!(document["cleanup"], json!({"status": "notDone"}));
    let [failed, fine] = [&document["destinations"][0], &document["destinations"][1]];
    assert_eq!((&failed["status"], &fine["status"]), (&json!("failed"), &json!("verified")));
    assert_eq!(failed["tags"], json!([{"tag": "v1", "status": "notWritten"}]));
    assert_eq!(failed["error"]["exitStatus"], 5);
    assert!(failed["error"]["message"].as_str().unwrap().contains("missing"), "{failed}");
    assert!(failed["error"]["hint"].as_str().unwrap().contains("create-repository"), "{failed}");
}

#[test]
fn json_tells_of_the_clean_up() {
    let (layout, ecr) = (Layout::fixture("good/two-names"), ecr());
    let blobs = layout.blobs().len();
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--output=json", "--cleanup"]);
    let cleanup = &push_json(&push, 0)["cleanup"];
    assert_eq!(cleanup["status"], "done");
    assert_eq!(cleanup["namesRemoved"], json!(["v1", "latest"]));
    assert_eq!(cleanup["blobsRemoved"], json!(blobs));
    assert_eq!(cleanup["folderRemoved"], true);
    assert!(cleanup["bytesFreed"].as_u64().unwrap() > 0);
}
