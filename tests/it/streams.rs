//! Layers that are compressed on their way: whatever breaks off is made again, and nothing is left open.

use std::thread;
use std::time::{Duration, Instant};

use local_ecr::{
    Answer, Builder, ExpiredToken, Fault, FaultKind, LayerLag, LocalEcr, MissingPermission, MissingRepository,
    TagMutability,
};

use crate::support::archive::{Era, Saved, Stored, assert_pushed};
use crate::support::layout::MANIFEST;
use crate::support::{Push, Ran, Tree, builder, reference, requests, start};

/// What hasn't come by then never will.
const NEVER: Duration = Duration::from_mins(1);

/// An image with two layers that are compressed on their way and one that is small, in an archive, and a registry.
struct Case {
    image: Saved,
    stored: Stored,
    ecr: LocalEcr,
}

impl Case {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(more: impl FnOnce(Builder) -> Builder) -> Self {
        let image = Saved::usual();
        let stored = Stored::new(&Era::Podman.save(&[&image]));
        let ecr = start(more(builder().repository("second").upload_cancel(true)));
        Self { image, stored, ecr }
    }

    fn fault(self, fault: Fault) -> Self {
        self.ecr.inject(fault);
        self
    }

    fn push(&self) -> Push {
        Push::of(self.stored.path()).at(&self.ecr).to("app:v1")
    }

    /// All is there.
    #[track_caller]
    fn arrives(&self, ran: Ran, repository: &str) -> Ran {
        let ran = self.arrived(ran, repository);
        self.is_closed();
        ran
    }

    #[track_caller]
    fn arrived(&self, ran: Ran, repository: &str) -> Ran {
        let ran = ran.exits(0);
        let root = self.ecr.tag(repository, "v1").expect("the tag is written");
        assert_pushed(&self.ecr, repository, &root, &self.image, "+gzip");
        let line = reference(&self.ecr, repository, &root);
        assert!(ran.stdout.lines().any(|it| it == line), "{line} isn't in {:?}", ran.stdout);
        self.ecr.wait_for_quiet();
        ran
    }

    /// Nothing was tagged.
    #[track_caller]
    fn fails(&self, ran: Ran, status: i32) -> Ran {
        let ran = ran.exits(status).prints(&[]);
        for repository in self.ecr.here().repositories() {
            assert!(self.ecr.tags(&repository).is_empty(), "{repository} has a tag");
            assert!(self.ecr.here().manifests(&repository).is_empty(), "{repository} has a manifest");
        }
        self.is_closed();
        ran
    }

    #[track_caller]
    fn is_closed(&self) {
        self.ecr.wait_for_quiet();
        assert_eq!(self.ecr.open_sessions(), 0, "{:?}", self.ecr.registry_requests());
    }
}

#[test]
fn a_layer_is_one_post_one_patch_and_an_empty_put() {
    let case = Case::new();
    case.arrives(case.push().run(), "app");
    let (posts, patches) = (requests(&case.ecr, "POST", "/blobs/uploads/"), requests(&case.ecr, "PATCH", ""));
    let puts = requests(&case.ecr, "PUT", "/blobs/uploads/");
    assert_eq!((posts.len(), patches.len(), puts.len()), (4, 2, 4));
    for patch in patches {
        assert_eq!((patch.answer, patch.content_range), (Answer::Status(201), None));
        let session = patch.path.split('?').next().unwrap_or_default();
        let ends: Vec<_> = puts.iter().filter(|put| put.path.starts_with(session)).collect();
        assert!(matches!(ends.as_slice(), [put] if put.bytes == 0), "{ends:?}");
    }
}

#[test]
fn what_breaks_off_once_is_made_again() {
    let stall = FaultKind::StallAfter(300_000);
    let any = [
        FaultKind::Cut,
        FaultKind::CutReply,
        FaultKind::Stall,
        FaultKind::status(500),
        FaultKind::status(503),
        FaultKind::status(429),
    ];
    let mut faults: Vec<(&str, u64, FaultKind)> = Vec::new();
    for method in ["POST", "PATCH", "PUT"] {
        faults.extend(any.iter().map(|kind| (method, 1, kind.clone())));
        faults.push((method, 2, FaultKind::Cut));
    }
    for after in [1, 300_000] {
        faults.extend([("PATCH", 1, FaultKind::CutAfter(after)), ("PATCH", 2, FaultKind::StatusAfter(after, 500))]);
    }
    faults.push(("PATCH", 1, FaultKind::CutAfter(1_000_000)));
    faults.push(("PATCH", 1, stall));
    let run = |(method, nth, kind): &(&str, u64, FaultKind)| {
        let case = Case::new().fault(Fault::on(method, "/blobs/uploads/").nth(*nth).does(kind.clone()));
        let ran = case.push().args(["--timeout=2", "--jobs=1"]).run();
        assert!(ran.stderr.contains("trying again"), "{method} {nth} {kind:?}:\n{}", ran.stderr);
        case.arrived(ran, "app");
        // Whoever was never told of a session can't close it.
        let untold = usize::from((*method, kind) == ("POST", &FaultKind::CutReply));
        assert_eq!(case.ecr.open_sessions(), untold, "{method} {nth} {kind:?}");
    };
    // Most of the time they wait before they try again.
    thread::scope(|scope| {
        let mut running = Vec::new();
        for part in faults.chunks(faults.len().div_ceil(6)) {
            running.push(scope.spawn(move || part.iter().for_each(run)));
        }
        for part in running {
            part.join().unwrap();
        }
    });
}

#[test]
fn what_always_breaks_off_ends_the_push() {
    for method in ["POST", "PATCH", "PUT"] {
        for kind in [FaultKind::status(500), FaultKind::status(429), FaultKind::Cut] {
            // A POST that is always cut is how ECR refuses one (facts/ecr.md, Uploading a blob).
            let status = if (method, &kind) == ("POST", &FaultKind::Cut) { 4 } else { 6 };
            let fault = Fault::on(method, "/blobs/uploads/").times(u64::MAX).does(kind.clone());
            let case = Case::new().fault(fault);
            let before = Tree::of(case.stored.parent());
            let ran = case.push().args(["--retries=1", "--jobs=1", "--cleanup"]).run();
            case.fails(ran, status).says(["could not be uploaded"]).says_one_error();
            // Each of two layers has its turn, and one more.
            let times = requests(&case.ecr, method, "/blobs/uploads/").len();
            assert!(times == 4 || status == 4, "{method} {kind:?}: {times}");
            before.is_unchanged(case.stored.parent());
        }
    }
}

#[test]
fn without_retries_the_first_failure_is_the_last() {
    let case = Case::new().fault(Fault::on("PATCH", "/blobs/uploads/").does(FaultKind::CutAfter(300_000)));
    let ran = case.push().args(["--retries=0"]).run();
    case.fails(ran, 6).says_nothing_of(["trying again"]);
}

#[test]
fn a_token_that_expires_on_the_way_is_renewed() {
    for how in [ExpiredToken::Challenge, ExpiredToken::Denied] {
        // Every request of the push is one at which it expires.
        for requests in 3..9 {
            let case = Case::with(|builder| builder.token_lifetime(requests).expired_token(how));
            let ran = case.push().args(["--jobs=1"]).run();
            case.arrives(ran, "app");
        }
    }
}

#[test]
fn a_missing_repository_is_said_or_made() {
    for how in [MissingRepository::NotFound, MissingRepository::CloseConnection] {
        let case = Case::with(|builder| builder.missing_repository(how));
        let push = || Push::of(case.stored.path()).at(&case.ecr).to("team/new:v1");
        case.fails(push().run(), 5).says(["team/new", "--create-repository"]).says_one_error();
        let allowed = Case::with(|builder| {
            builder.missing_repository(how).allow("ecr:CreateRepository").allow("ecr:DescribeRepositories")
        });
        let push = Push::of(allowed.stored.path()).at(&allowed.ecr).to("team/new:v1").args(["--create-repository"]);
        allowed.arrives(push.run(), "team/new").says(["team/new"]);
        assert_eq!(crate::support::asked(&allowed.ecr, "ecr:CreateRepository"), 1);
    }
}

#[test]
fn a_missing_right_is_named() {
    for action in ["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"] {
        for how in [MissingPermission::Forbidden, MissingPermission::CloseConnection] {
            let case = Case::with(|builder| builder.deny(action).missing_permission(how));
            let ran = case.push().args(["--retries=1"]).run();
            case.fails(ran, 4).says([action]).says_one_error();
        }
    }
}

#[test]
fn an_immutable_tag_stays_where_it_is() {
    let case = Case::with(|builder| builder.immutability("app", TagMutability::Immutable));
    let config = case.ecr.seed_blob("app", b"{}");
    let other = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
    });
    let there = case.ecr.seed_manifest("app", MANIFEST, other.to_string().as_bytes(), Some("v1"));
    let before = Tree::of(case.stored.parent());
    let ran = case.push().args(["--cleanup"]).run().exits(5).prints(&[]).says_one_error();
    ran.says(["immutable", "v1"]);
    assert_eq!(case.ecr.tag("app", "v1"), Some(there.clone()));
    assert_eq!(case.ecr.here().manifests("app"), [there]);
    case.is_closed();
    before.is_unchanged(case.stored.parent());
}

#[test]
fn one_of_two_destinations_fails_and_the_other_finishes() {
    let all = u64::MAX;
    let faults = [
        (Fault::on("POST", "/v2/second/").times(all).does(FaultKind::status(403)), 4),
        (Fault::on("PATCH", "/v2/second/").times(all).does(FaultKind::status(500)), 6),
        (Fault::on("PATCH", "/v2/second/").times(all).does(FaultKind::CutAfter(300_000)), 6),
        (Fault::on("PUT", "/v2/second/blobs/").times(all).does(FaultKind::status(500)), 6),
        (Fault::on("PUT", "/v2/second/blobs/").times(all).does(FaultKind::status(403)), 4),
        (Fault::on("PUT", "/v2/second/manifests/").times(all).does(FaultKind::status(403)), 4),
    ];
    for (fault, status) in faults {
        let case = Case::new().fault(fault.clone());
        let before = Tree::of(case.stored.parent());
        let push = case.push().to("second:v1").args(["--retries=1", "--cleanup"]);
        let ran = push.run().exits(status);
        let root = case.ecr.tag("app", "v1").unwrap_or_else(|| panic!("{fault:?}: app got no tag:\n{}", ran.stderr));
        ran.prints(&[&reference(&case.ecr, "app", &root)]).says(["/second"]);
        assert_pushed(&case.ecr, "app", &root, &case.image, "+gzip");
        assert!(case.ecr.tags("second").is_empty(), "{fault:?}");
        case.is_closed();
        before.is_unchanged(case.stored.parent());
    }
}

#[test]
fn one_of_two_destinations_breaks_off_and_gets_the_layer_alone() {
    for method in ["POST", "PATCH", "PUT"] {
        let case = Case::new().fault(Fault::on(method, "/v2/second/blobs/").does(FaultKind::Cut));
        let ran = case.push().to("second:v1").args(["--jobs=1"]).run();
        let ran = case.arrives(ran, "app");
        case.arrives(ran, "second");
        assert_eq!(requests(&case.ecr, "PATCH", "/v2/app/").len(), 2, "{method}");
        assert_eq!(requests(&case.ecr, "POST", "/v2/app/").len(), 4, "{method}");
    }
}

#[test]
fn a_slow_destination_does_not_lose_what_a_fast_one_has() {
    let slow = Fault::on("PATCH", "/v2/second/").does(FaultKind::Delay(Duration::from_millis(700)));
    let case = Case::new().fault(slow);
    let ran = case.push().to("second:v1").run();
    let ran = case.arrives(ran, "app");
    case.arrives(ran, "second");
}

#[test]
fn layers_that_a_registry_sees_late_are_waited_for() {
    let case = Case::with(|builder| builder.layer_lag(LayerLag::Refusals(2)));
    let ran = case.push().run();
    case.arrives(ran, "app");
}

#[test]
fn a_rate_limit_slows_a_push_down_and_does_not_end_it() {
    let case =
        Case::with(|builder| builder.rate("ecr:InitiateLayerUpload", 1, 5.0).rate("ecr:CompleteLayerUpload", 1, 5.0));
    let ran = case.push().run();
    case.arrives(ran, "app");
    assert!(
        case.ecr.registry_requests().iter().any(|entry| entry.answer == Answer::Status(429)),
        "no quota was reached"
    );
}

#[test]
fn a_signal_stops_a_layer_on_its_way() {
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let fault = Fault::on("PATCH", "/blobs/uploads/").times(u64::MAX).does(FaultKind::StallAfter(300_000));
        let case = Case::new().fault(fault);
        let before = Tree::of(case.stored.parent());
        let run = case.push().to("second:v1").args(["--cleanup"]).start();
        let since = Instant::now();
        while !case.ecr.registry_requests().iter().any(|entry| entry.method == "PATCH" && entry.bytes >= 200_000) {
            assert!(since.elapsed() < NEVER, "no layer came: {:?}", case.ecr.registry_requests());
            thread::yield_now();
        }
        let sent = Instant::now();
        run.signal(signal);
        let ran = case.fails(run.wait(), status);
        ran.says(["interrupted", "SOURCE is untouched", "no tag was written"]);
        assert!(sent.elapsed() < Duration::from_secs(4), "it took {:?}", sent.elapsed());
        before.is_unchanged(case.stored.parent());
    }
}
