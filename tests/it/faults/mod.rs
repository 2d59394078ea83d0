//! Registries, networks and files that fail: a push recovers or says why not, and leaves nothing behind.

mod files;
mod sweep;

use std::time::Duration;

use local_ecr::{Answer, Fault, FaultKind, LocalEcr, Side};

use crate::support::{Layout, Push, Tree, assert_arrived, builder, ecr, reference, requests, start};

/// A layout with a layer of several pieces, and a push of it.
fn push(ecr: &LocalEcr) -> (Layout, Push) {
    let layout = Layout::of_layers(&[900_000, 1000]);
    let push = Push::of(layout.path()).at(ecr).to("app:v1");
    (layout, push)
}

fn status(status: u16, headers: &[(&str, &str)]) -> FaultKind {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    FaultKind::Status { status, headers, body: String::new() }
}

#[test]
fn a_registry_that_stays_unavailable_ends_the_push_after_its_retries() {
    for (kind, words) in [(FaultKind::status(503), "503"), (FaultKind::Cut, "closed"), (FaultKind::status(429), "429")]
    {
        let ecr = start(builder().fault(Fault::on("HEAD", "/manifests/v1").times(u64::MAX).does(kind)));
        let (layout, push) = push(&ecr);
        let before = Tree::of(layout.parent());
        let ran = push.args(["--retries", "1"]).run().exits(6).prints(&[]).says_one_error();
        ran.says([words, "trying again"]);
        assert_eq!(requests(&ecr, "HEAD", "/manifests/v1").len(), 2, "{words}");
        before.is_unchanged(layout.parent());
    }
}

#[test]
fn an_upload_that_never_works_ends_the_push_after_its_retries() {
    let refusing = Fault::on("PUT", "/blobs/uploads/").times(u64::MAX).does(FaultKind::status(500));
    let ecr = start(builder().fault(refusing));
    let (_layout, push) = push(&ecr);
    let ran = push.args(["--retries=1", "--jobs=1"]).run().exits(6).prints(&[]);
    ran.says(["500", "could not be uploaded", "--retries"]);
    assert_eq!(requests(&ecr, "PUT", "/blobs/uploads/").len(), 2);
    assert!(ecr.tags("app").is_empty());
}

#[test]
fn without_retries_the_first_failure_is_the_last() {
    let ecr = start(builder().fault(Fault::at(1).does(FaultKind::status(503))));
    let (_layout, push) = push(&ecr);
    push.args(["--retries", "0"]).run().exits(6).says_nothing_of(["trying again"]);
}

#[test]
fn a_registry_that_asks_for_patience_gets_it() {
    let busy = Fault::on("POST", "/blobs/uploads/").does(status(503, &[("Retry-After", "2")]));
    let ecr = start(builder().fault(busy));
    let (layout, push) = push(&ecr);
    push.args(["--jobs=1"]).run().exits(0).says(["trying again in 2.0 s"]);
    let posts = requests(&ecr, "POST", "/blobs/uploads/");
    assert!(posts[0].at + Duration::from_secs(2) <= posts[1].at);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn a_registry_that_asks_for_an_hour_is_unavailable() {
    let busy = Fault::on("HEAD", "/manifests/").does(status(503, &[("Retry-After", "3600")]));
    let ecr = start(builder().fault(busy));
    let (_layout, push) = push(&ecr);
    push.run().exits(6).prints(&[]).says(["503"]);
}

#[test]
fn an_upload_that_stalls_is_begun_again() {
    for kind in [FaultKind::Stall, FaultKind::StallAfter(300_000)] {
        let ecr = start(builder().fault(Fault::on("PUT", "/blobs/uploads/").does(kind)));
        let (layout, push) = push(&ecr);
        push.args(["--timeout=1", "--jobs=1"]).run().exits(0).says(["no byte moved for 1 s"]);
        assert_arrived(&ecr, "app", &layout, &layout.root());
    }
}

#[test]
fn a_question_without_an_answer_is_asked_again() {
    for method in ["HEAD", "POST"] {
        let ecr = start(builder().fault(Fault::on(method, "/v2/app/").does(FaultKind::Stall)));
        let (layout, push) = push(&ecr);
        push.args(["--timeout", "1"]).run().exits(0).says(["no answer in time"]);
        assert_arrived(&ecr, "app", &layout, &layout.root());
    }
}

#[test]
fn a_redirect_to_somebody_else_in_the_clear_is_not_followed() {
    for (method, path) in
        [("HEAD", "/manifests/v1"), ("HEAD", "/blobs/"), ("POST", "/blobs/uploads/"), ("PUT", "/manifests/v1")]
    {
        let ecr = ecr();
        let elsewhere = format!("{}/v2/app/manifests/v1", ecr.elsewhere_url());
        ecr.inject(Fault::on(method, path).does(FaultKind::Redirect(elsewhere)));
        // Blobs are looked up where the API doesn't tell of them.
        ecr.inject(Fault::operation("BatchCheckLayerAvailability").does(FaultKind::status(404)));
        let (_layout, push) = push(&ecr);
        let ran = push.run().prints(&[]).says_one_error();
        assert!([5, 6].contains(&ran.status), "{method} {path}: exit status {}", ran.status);
        assert!(!ecr.journal().iter().any(|entry| entry.side == Side::Elsewhere), "{method} {path}");
        assert!(ecr.tags("app").is_empty(), "{method} {path}");
    }
}

#[test]
fn an_upload_is_not_sent_to_somebody_else_in_the_clear() {
    let ecr = ecr();
    let elsewhere = Some(format!("{}/upload", ecr.elsewhere_url()));
    let header = FaultKind::Header { name: "Location".to_owned(), value: elsewhere };
    ecr.inject(Fault::on("POST", "/blobs/uploads/").times(u64::MAX).does(header));
    // The server thinks that it told the client of the session; the client can't know which one it was.
    ecr.allow_open_sessions();
    let (_layout, push) = push(&ecr);
    push.run().exits(6).prints(&[]).says(["Location that is not https"]);
    assert!(!ecr.journal().iter().any(|entry| entry.side == Side::Elsewhere));
}

#[test]
fn a_session_without_a_location_is_an_error() {
    let header = FaultKind::Header { name: "Location".to_owned(), value: None };
    let ecr = start(builder().fault(Fault::on("POST", "/blobs/uploads/").times(u64::MAX).does(header)));
    let (_layout, push) = push(&ecr);
    push.run().exits(6).prints(&[]).says(["POST ", "/v2/app/blobs/uploads/", "without a usable Location"]);
}

#[test]
fn a_registry_that_stores_something_else_is_an_error() {
    let other = crate::support::layout::sha256(b"something else");
    for path in ["/blobs/uploads/", "/manifests/v1"] {
        let header = FaultKind::Header { name: "Docker-Content-Digest".to_owned(), value: Some(other.clone()) };
        let ecr = start(builder().fault(Fault::on("PUT", path).times(u64::MAX).does(header)));
        let (_layout, push) = push(&ecr);
        let ran = push.run().prints(&[]);
        assert_ne!(ran.status, 0, "{path}");
        ran.says(["the registry stored it as", &other]);
    }
}

#[test]
fn a_rate_limit_slows_a_push_down_and_does_not_end_it() {
    let ecr = start(builder().rate("ecr:InitiateLayerUpload", 2, 20.0).rate("ecr:PutImage", 1, 10.0));
    let layout = Layout::fixture("good/nested-index");
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    let refused = ecr.registry_requests().iter().any(|entry| entry.answer == Answer::Status(429));
    assert!(refused, "the quota was never reached");
}

#[test]
fn sessions_that_a_registry_will_not_cancel_fail_nothing() {
    let cut = Fault::on("PUT", "/blobs/uploads/").does(FaultKind::CutAfter(100));
    let ecr = start(builder().upload_cancel(false).fault(cut));
    let (layout, push) = push(&ecr);
    push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert_eq!(requests(&ecr, "DELETE", "/blobs/uploads/").len(), 1);
}

#[test]
fn uploads_that_are_refused_together_leave_no_session() {
    let layout = Layout::of_layers(&[2000; 24]);
    // Which one is where when the first fails is a matter of luck: six times are enough to meet a lost session.
    for status in [403, 400].repeat(3) {
        let refused = FaultKind::status(status);
        let fault = Fault::on("PUT", "/blobs/uploads/").times(u64::MAX).does(refused);
        let ecr = start(builder().upload_cancel(true).fault(fault));
        let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs", "24"]).run().prints(&[]);
        assert!([4, 5].contains(&ran.status), "exit status {}:\n{}", ran.status, ran.stderr);
        ecr.wait_for_quiet();
        assert_eq!(ecr.open_sessions(), 0);
    }
}

#[test]
fn a_token_api_that_fails_is_asked_again() {
    for kind in [FaultKind::api_error(500, "ServerException", "try later"), FaultKind::Cut] {
        let ecr = start(builder().fault(Fault::api().does(kind)));
        let (layout, push) = push(&ecr);
        push.run().exits(0);
        assert_arrived(&ecr, "app", &layout, &layout.root());
        // The second time there is a token, and what comes then is another question.
        assert_eq!(ecr.api_requests().len(), 3);
    }
}

#[test]
fn a_token_api_that_stays_unavailable_is_no_question_of_rights() {
    let server = FaultKind::api_error(500, "ServerException", "try later");
    let throttled = FaultKind::api_error(400, "ThrottlingException", "Rate exceeded");
    for kind in [server, throttled, FaultKind::Cut] {
        let ecr = start(builder().fault(Fault::api().times(u64::MAX).does(kind.clone())));
        let (_layout, push) = push(&ecr);
        let ran = push.args(["--retries", "1"]).run().prints(&[]).says_one_error();
        assert_eq!(ran.status, 6, "{kind:?}:\n{}", ran.stderr);
        assert_eq!(ecr.api_requests().len(), 2, "{kind:?}");
    }
}
