//! Several destinations in one call.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use local_ecr::{Entry, Fault, FaultKind, LocalEcr};
use tempfile::TempDir;

use super::brief;
use crate::support::{Layout, Push, asked, assert_arrived, builder, ecr, has_tool, reference, requests, start};

/// A second registry, with another name.
fn other() -> LocalEcr {
    start(LocalEcr::builder().account("210987654321").region("eu-west-1").repository("app"))
}

fn is_tag(entry: &Entry) -> bool {
    entry.method == "PUT" && entry.tag.is_some()
}

fn is_content(entry: &Entry) -> bool {
    entry.method == "PUT" && entry.tag.is_none()
}

#[test]
fn two_repositories_of_one_registry_both_get_the_image() {
    let (layout, ecr) = (Layout::fixture("good/index"), start(builder().repository("team/app")));
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").to("team/app:v2").args(["-t", "both"]).run().exits(0);
    let root = layout.root();
    ran.prints(&[&reference(&ecr, "app", &root), &reference(&ecr, "team/app", &root)]);
    assert_eq!(ecr.tags("app"), ["both", "v1"]);
    assert_eq!(ecr.tags("team/app"), ["both", "v2"]);
    for repository in ["app", "team/app"] {
        assert_arrived(&ecr, repository, &layout, &root);
    }
    let requests = ecr.registry_requests();
    let first_tag = requests.iter().find(|entry| is_tag(entry)).unwrap().sequence;
    let last = requests.iter().filter(|entry| is_content(entry)).map(|entry| entry.sequence).max().unwrap();
    assert!(last < first_tag, "a tag came before a blob or a child");
    assert_eq!(asked(&ecr, "ecr:GetAuthorizationToken"), 1, "one token for one registry");
}

#[test]
fn two_tags_of_one_repository_are_one_destination() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").to("app:v2").to("app:v1").run().exits(0);
    ran.prints(&[&reference(&ecr, "app", &layout.root())]);
    assert_eq!(ecr.tags("app"), ["v1", "v2"]);
    assert_eq!(requests(&ecr, "PUT", "/manifests/").len(), 2);
}

#[test]
fn no_tag_is_written_before_every_registry_has_everything() {
    let layout = Layout::fixture("good/nested-index");
    let (one, two) = (ecr(), other());
    // The second registry takes a second longer for its first blob.
    let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
    let busy = FaultKind::Status { status: 503, headers, body: String::new() };
    two.inject(Fault::on("POST", "/blobs/uploads/").does(busy));
    let answered: Arc<Mutex<Vec<(String, Entry)>>> = Arc::default();
    for ecr in [&one, &two] {
        let (answered, host) = (Arc::clone(&answered), ecr.host());
        ecr.on_answer(move |entry| answered.lock().unwrap().push((host.clone(), entry.clone())));
    }
    let ran = Push::of(layout.path()).at(&one).to("app:v1").at(&two).to("app:v1").run().exits(0);
    let root = layout.root();
    ran.prints(&[&reference(&one, "app", &root), &reference(&two, "app", &root)]);
    for ecr in [&one, &two] {
        assert_arrived(ecr, "app", &layout, &root);
        assert_eq!(asked(ecr, "ecr:GetAuthorizationToken"), 1, "each registry has its own token");
    }
    let answered = answered.lock().unwrap();
    let first_tag = answered.iter().position(|(_, entry)| is_tag(entry)).unwrap();
    let last = answered.iter().rposition(|(_, entry)| is_content(entry)).unwrap();
    assert!(
        last < first_tag,
        "{:?}",
        answered[first_tag..=last].iter().map(|(h, e)| format!("{h} {e}")).collect::<Vec<_>>()
    );
}

#[test]
fn a_destination_that_fails_gets_no_tag_and_the_other_finishes() {
    let layout = Layout::fixture("good/index");
    let ecr = ecr();
    let ran = Push::of(layout.path()).at(&ecr).to("missing:v1").to("app:v1").run().exits(5);
    let ran = ran.prints(&[&reference(&ecr, "app", &layout.root())]);
    ran.says_one_error().says(["missing", "NAME_UNKNOWN", "create-repository"]);
    assert_eq!(ecr.tags("app"), ["v1"]);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn the_status_is_that_of_the_first_failing_destination() {
    let layout = Layout::fixture("good/index");
    let check = |denied_first: bool, status: i32| {
        let denied = start(builder().deny("ecr:PutImage"));
        let (missing, fine) = (other(), start(LocalEcr::builder().region("us-east-1").repository("app")));
        let push = Push::of(layout.path()).at(&fine).to("app:v1");
        let push = if denied_first {
            push.at(&denied).to("app:v1").at(&missing).to("missing:v1")
        } else {
            push.at(&missing).to("missing:v1").at(&denied).to("app:v1")
        };
        let ran = push.run().exits(status).prints(&[&reference(&fine, "app", &layout.root())]);
        ran.says(["ecr:PutImage", "NAME_UNKNOWN"]);
        assert_eq!(fine.tags("app"), ["v1"]);
        assert!(denied.tags("app").is_empty());
    };
    check(true, 4);
    check(false, 5);
}

#[test]
fn what_one_registry_has_is_sent_to_the_other_alone() {
    let layout = Layout::fixture("good/index");
    let (one, two) = (ecr(), other());
    Push::of(layout.path()).at(&one).to("app:v1").run().exits(0);
    let seen = one.registry_requests().len();
    Push::of(layout.path()).at(&one).to("app:v1").at(&two).to("app:v1").run().exits(0);
    assert_eq!(brief(&super::since(&one, seen)), ["HEAD v1"]);
    assert_arrived(&two, "app", &layout, &layout.root());
}

#[test]
fn a_blob_is_read_once_for_all_repositories_of_a_registry() {
    if !has_tool("strace") {
        return;
    }
    let layout = Layout::of_layers(&[1_500_000]);
    let layer = layout
        .reach(&layout.root())
        .blobs
        .into_iter()
        .find(|digest| fs::metadata(layout.blob(digest)).unwrap().len() == 1_500_000);
    let layer = layout.blob(&layer.unwrap());
    let (one, two) = (start(builder().repository("second")), other());
    let check = |push: Push, times: u64| {
        let traces = TempDir::new().unwrap();
        let output = traces.path().join("trace");
        let output = output.to_str().unwrap();
        push.under(&["strace", "-ff", "-y", "-e", "trace=read,pread64,mmap,sendfile,splice", "-o", output])
            .run()
            .exits(0);
        assert_eq!(bytes_read(traces.path(), &layer), times * 1_500_000);
    };
    check(Push::of(layout.path()).at(&one).to("app:v1").to("second:v1"), 1);
    let third = start(builder());
    check(Push::of(layout.path()).at(&third).to("app:v1").at(&two).to("app:v1"), 2);
}

/// How many bytes of `file` were read, as strace's files say, one for each thread.
fn bytes_read(traces: &Path, file: &Path) -> u64 {
    let named = format!("<{}>", file.display());
    let mut total = 0;
    for trace in fs::read_dir(traces).unwrap() {
        let text = String::from_utf8_lossy(&fs::read(trace.unwrap().path()).unwrap()).into_owned();
        for line in text.lines().filter(|line| line.contains(&named)) {
            let result = line.rsplit_once(" = ").map(|(_, result)| result.split(' ').next().unwrap_or_default());
            total += result.and_then(|result| result.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"));
        }
    }
    total
}
