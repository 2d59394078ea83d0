//! The fault sweep: a clean push is recorded, then each of its requests fails in every way.
//!
//! A push that can recover does, one that can't ends as documented; neither leaves a session, and no tag is on anything
//! that isn't whole: local-ecr itself looks at that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use local_ecr::{Answer, Entry, Fault, FaultKind, LocalEcr};

use super::status;
use crate::support::layout::digest;
use crate::support::{Layout, Push, Tree, assert_arrived, builder, ecr, reference, requests, start};

/// Runs at the same time: most of the time they wait before they try again.
const WORKERS: usize = 8;

/// An index of two platforms that share a layer of several pieces, and one referrer.
fn image() -> Layout {
    let layout = Layout::empty();
    let shared = layout.layer(600_000);
    let index = layout.index_of(&[1, 2].map(|size| layout.image(&[shared.clone(), layout.layer(size)])));
    layout.list(&index, None);
    layout.list(&layout.referrer(&index, "a note"), None);
    layout
}

fn push(layout: &Layout, ecr: &LocalEcr) -> Push {
    Push::of(layout.path()).at(ecr).to("app:v1").args(["--retries", "3"])
}

/// How many requests a clean push takes, and how many of them upload a blob.
fn record(layout: &Layout) -> (u64, u64) {
    let ecr = ecr();
    push(layout, &ecr).run().exits(0);
    let requests = ecr.registry_requests();
    let uploads = requests.iter().filter(|entry| entry.method == "PUT" && entry.path.contains("/blobs/uploads/"));
    assert!(requests.len() > 20, "the image is too simple to show anything: {} requests", requests.len());
    (requests.len() as u64, uploads.count() as u64)
}

/// Tries each fault on a push of its own, several side by side, and names those that the push didn't stand.
fn sweep(layout: &Layout, faults: &[Fault], stands: impl Fn(&Layout, &Fault) + Sync) {
    let before = Tree::of(layout.parent());
    let waiting = Mutex::new(faults.iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().next();
                    let Some(fault) = next else { break };
                    if catch_unwind(AssertUnwindSafe(|| stands(layout, fault))).is_err() {
                        failed.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} faults: {failed:#?}", failed.len(), faults.len());
    before.is_unchanged(layout.parent());
}

/// A push that the fault doesn't keep from its end.
fn recovers(layout: &Layout, fault: &Fault) {
    arrives(layout, &start(builder().fault(fault.clone())));
}

fn arrives(layout: &Layout, ecr: &LocalEcr) {
    push(layout, ecr).run().exits(0).prints(&[&reference(ecr, "app", &layout.root())]);
    for entry in layout.entries() {
        assert_arrived(ecr, "app", layout, digest(&entry));
    }
    assert_eq!(ecr.tag("app", "v1"), Some(layout.root()));
}

/// A push that ends at the fault, and says why.
fn ends(layout: &Layout, fault: &Fault) {
    let ecr = start(builder().fault(fault.clone()));
    let ran = push(layout, &ecr).run().prints(&[]).says_one_error();
    assert!([4, 5].contains(&ran.status), "exit status {}:\n{}", ran.status, ran.stderr);
    let refused = |entry: &&Entry| matches!(entry.answer, Answer::Status(400 | 403));
    let refused = ecr.registry_requests().iter().find(refused).map(|entry| entry.sequence);
    let tagged = requests(&ecr, "PUT", "/manifests/v1")
        .iter()
        .find(|entry| entry.answer == Answer::Status(201))
        .map(|e| e.sequence);
    assert!(tagged.is_none_or(|tagged| Some(tagged) < refused), "a tag was written after the refusal:\n{}", ran.stderr);
    assert_eq!(ecr.tags("app").is_empty(), tagged.is_none());
}

/// This kind of fault at each request of a clean push.
fn at_each(layout: &Layout, kind: &FaultKind) -> Vec<Fault> {
    (1..=record(layout).0).map(|number| Fault::at(number).does(kind.clone())).collect()
}

#[track_caller]
fn recovers_everywhere(kind: &FaultKind) {
    let layout = image();
    sweep(&layout, &at_each(&layout, kind), recovers);
}

#[test]
fn a_500_anywhere_is_recovered_from() {
    recovers_everywhere(&FaultKind::status(500));
}

/// These differ in how long to wait and in nothing else: a sweep of each would show little more than one of all.
#[test]
fn a_503_a_429_and_a_408_by_turns_anywhere_are_recovered_from() {
    let layout = image();
    let kinds = [status(503, &[("Retry-After", "0")]), FaultKind::status(429), FaultKind::status(408)];
    sweep(&layout, &by_turns(&layout, &kinds, 1), recovers);
}

#[test]
fn a_token_that_has_expired_anywhere_is_renewed() {
    let layout = image();
    let message = "Your authorization token has expired. Reauthenticate and try again.";
    let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#);
    let denied = FaultKind::Status { status: 403, headers: Vec::new(), body };
    let challenge = status(401, &[("Www-Authenticate", "Basic realm=\"https://localhost/\"")]);
    sweep(&layout, &[at_each(&layout, &denied), at_each(&layout, &challenge)].concat(), recovers);
}

#[test]
fn a_cut_anywhere_is_recovered_from() {
    recovers_everywhere(&FaultKind::Cut);
}

#[test]
fn a_lost_reply_anywhere_is_recovered_from() {
    recovers_everywhere(&FaultKind::CutReply);
}

#[test]
fn a_truncated_reply_anywhere_is_recovered_from() {
    recovers_everywhere(&FaultKind::TruncatedReply);
}

#[test]
fn an_upload_that_is_cut_anywhere_is_begun_again() {
    let layout = image();
    let uploads = record(&layout).1;
    let upload = |number| Fault::on("PUT", "/blobs/uploads/").nth(number);
    let at = |number| [1, 599_999].map(|bytes| upload(number).does(FaultKind::CutAfter(bytes)));
    sweep(&layout, &(1..=uploads).flat_map(at).collect::<Vec<_>>(), recovers);
}

#[test]
fn two_faults_in_a_row_are_recovered_from() {
    let layout = image();
    let kinds = [FaultKind::status(500), FaultKind::CutReply];
    sweep(&layout, &by_turns(&layout, &kinds, 2), recovers);
}

/// This kind of fault at each API request of a clean push: for the token, and for the layers.
fn at_each_of_the_api(kind: &FaultKind) -> [Fault; 2] {
    ["GetAuthorizationToken", "BatchCheckLayerAvailability"].map(|name| Fault::operation(name).does(kind.clone()))
}

#[test]
fn an_api_that_fails_anywhere_is_recovered_from() {
    let layout = image();
    let kinds = [
        FaultKind::api_error(500, "ServerException", "try later"),
        FaultKind::api_error(400, "ThrottlingException", "Rate exceeded"),
        FaultKind::Cut,
        FaultKind::CutReply,
        FaultKind::TruncatedReply,
    ];
    sweep(&layout, &kinds.iter().flat_map(at_each_of_the_api).collect::<Vec<_>>(), recovers);
}

#[test]
fn an_api_that_never_tells_of_layers_is_done_without() {
    let layout = image();
    let kinds = [
        FaultKind::api_error(500, "ServerException", "try later"),
        FaultKind::api_error(400, "UnknownOperationException", ""),
        FaultKind::status(404),
        FaultKind::Cut,
    ];
    let always = |kind: &FaultKind| Fault::operation("BatchCheckLayerAvailability").times(u64::MAX).does(kind.clone());
    sweep(&layout, &kinds.each_ref().map(always), recovers);
}

#[test]
fn a_blob_that_is_looked_up_in_vain_is_looked_up_again() {
    let layout = image();
    let kinds = [FaultKind::status(500), FaultKind::status(429), FaultKind::Cut, FaultKind::CutReply];
    let look = |number| Fault::on("HEAD", "/blobs/").nth(number);
    let blobs = record(&layout).1;
    let faults = (1..=blobs).zip(kinds.iter().cycle()).map(|(number, kind)| look(number).does(kind.clone()));
    sweep(&layout, &faults.collect::<Vec<_>>(), |layout, fault| {
        let blocked = Fault::operation("BatchCheckLayerAvailability").times(u64::MAX).does(FaultKind::status(404));
        let ecr = start(builder().fault(blocked).fault(fault.clone()));
        arrives(layout, &ecr);
        assert_eq!(requests(&ecr, "HEAD", "/blobs/").len() as u64, blobs + 1);
    });
}

#[test]
fn a_denial_of_the_api_ends_the_push() {
    let layout = image();
    let denial = FaultKind::api_error(400, "AccessDeniedException", "Access denied");
    sweep(&layout, &at_each_of_the_api(&denial), |layout, fault| {
        let ecr = start(builder().fault(fault.clone()));
        push(layout, &ecr).run().exits(4).prints(&[]).says_one_error();
        assert_eq!(requests(&ecr, "POST", "/blobs/uploads/"), []);
        assert!(ecr.tags("app").is_empty());
    });
}

/// One of these kinds at each request of a clean push, and at the requests right behind it, `times` in all.
fn by_turns(layout: &Layout, kinds: &[FaultKind], times: u64) -> Vec<Fault> {
    let kinds = kinds.iter().cycle();
    (1..=record(layout).0).zip(kinds).map(|(number, kind)| Fault::at(number).times(times).does(kind.clone())).collect()
}

/// This kind of fault at each request of a clean push that writes or asks for content. Why a HEAD was refused a GET
/// tells, and what a GET doesn't confirm is tried again: that is the business of the tests on credentials.
fn at_each_but_heads(layout: &Layout, kind: &FaultKind, methods: &[&str]) -> Vec<Fault> {
    let ecr = ecr();
    push(layout, &ecr).run().exits(0);
    let mut faults = Vec::new();
    for method in methods {
        let count = requests(&ecr, method, "/v2/").len() as u64;
        faults.extend((1..=count).map(|number| Fault::on(method, "").nth(number).does(kind.clone())));
    }
    assert!(faults.len() > 15, "{} requests", faults.len());
    faults
}

#[test]
fn a_403_anywhere_ends_the_push() {
    let layout = image();
    // Which right ECR wants for the list of referrers isn't known, so that it isn't missed.
    sweep(&layout, &at_each_but_heads(&layout, &FaultKind::status(403), &["POST", "PUT"]), ends);
}

#[test]
fn a_400_anywhere_ends_the_push() {
    let layout = image();
    sweep(&layout, &at_each_but_heads(&layout, &FaultKind::status(400), &["GET", "POST", "PUT"]), ends);
}
