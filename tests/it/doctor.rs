//! `ecr-push doctor`: what each check says, that the exit status is the push's, and that nothing is changed.

use std::collections::BTreeSet;

use local_ecr::{Builder, Fault, FaultKind, LocalEcr, MissingRepository, Source, TagMutability, ViolationKind};
use serde_json::Value;

use crate::support::servers::{Front, Said};
use crate::support::{Layout, Push, Ran, builder, ecr, requests, start};

/// An examination of `app:v1`.
fn doctor(ecr: &LocalEcr) -> Push {
    // The command stands where a push has its SOURCE.
    let push = Push::of("doctor").at(ecr).to("app:v1").env("AWS_ENDPOINT_URL_STS", ecr.identity_url());
    // It asks for what a push doesn't: the repository's settings, the account's, those of templates.
    ecr.expect_violation(ViolationKind::ForbiddenAction);
    push
}

/// As the builder of the tests, with all that the doctor may ask.
fn open() -> Builder {
    let asked = ["ecr:DescribeRepositories", "ecr:GetAccountSetting", "ecr:DescribeRepositoryCreationTemplates"];
    // Whether a session is gone is seen only where it can be cancelled.
    asked.into_iter().fold(builder().upload_cancel(true), Builder::allow)
}

/// The line about one check: its state and what was seen.
#[track_caller]
fn line<'a>(ran: &'a Ran, name: &str) -> (&'a str, &'a str) {
    let found = ran.stdout.lines().find_map(|line| {
        let (state, rest) = line.split_once("  ")?;
        let (found, finding) = rest.trim_start().split_once("  ")?;
        (found == name).then_some((state.trim(), finding.trim_start()))
    });
    found.unwrap_or_else(|| panic!("no line about {name:?} in:\n{}", ran.stdout))
}

/// Asserts on the line about one check.
#[track_caller]
fn check(ran: &Ran, name: &str, state: &str, words: &[&str]) {
    let (found, finding) = line(ran, name);
    assert_eq!(found, state, "{name}: {finding}");
    for words in words {
        assert!(finding.contains(words), "no {words:?} in {name}: {finding}");
    }
}

/// Asserts that the registry is as it was: empty.
#[track_caller]
fn is_untouched(ecr: &LocalEcr) {
    ecr.wait_for_quiet();
    assert_eq!(ecr.open_sessions(), 0);
    let here = ecr.here();
    for repository in here.repositories() {
        assert_eq!(here.manifests(&repository), [] as [String; 0]);
        assert_eq!(here.blobs(&repository), [] as [String; 0]);
        assert_eq!(here.tags(&repository), [] as [String; 0]);
    }
}

const RIGHTS: [&str; 6] = [
    "ecr:BatchGetImage",
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
];

#[test]
fn all_is_well() {
    let ecr = start(open().blob_mounting(true));
    let ran = doctor(&ecr).run().exits(0);
    check(&ran, "host", "ok", &["account 123456789012 in ap-northeast-2"]);
    check(&ran, "credentials", "ok", &["found in the environment"]);
    check(&ran, "identity", "ok", &["arn:aws:iam::123456789012:"]);
    check(&ran, "API name", "ok", &["127.0.0.1"]);
    check(&ran, "API connection", "ok", &[&ecr.api_url(), "in the clear"]);
    check(&ran, "clock", "ok", &["0 s ahead of AWS's"]);
    check(&ran, "token", "ok", &[]);
    check(&ran, "registry connection", "ok", &[&ecr.registry_url()]);
    check(&ran, "login", "ok", &[]);
    check(&ran, "repository", "ok", &["its tags are mutable"]);
    for right in RIGHTS {
        check(&ran, right, "ok", &["allowed"]);
    }
    check(&ran, "tag", "ok", &["v1 is free"]);
    check(&ran, "mounts", "ok", &["BLOB_MOUNTING is on"]);
    let end = format!("A push to {}/app:v1 would work.", ecr.host());
    assert_eq!(ran.stdout.lines().last(), Some(end.as_str()));
    assert_eq!(ran.stderr, "");
    is_untouched(&ecr);
    assert_eq!(requests(&ecr, "DELETE", "/blobs/uploads/").len(), 1, "the session is cancelled");
}

#[test]
fn the_policy_is_what_a_push_needs_and_no_more() {
    let ecr = start(open());
    let ran = doctor(&ecr).args(["--output", "json"]).run().exits(0);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&document["schemaVersion"], &document["exitStatus"]), (&1.into(), &0.into()));
    let policy = document["policy"]["Statement"].as_array().unwrap();
    let actions = policy.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    let actions: BTreeSet<&str> = actions.map(|action| action.as_str().unwrap()).collect();
    let arn = format!("arn:aws:ecr:{}:{}:repository/app", ecr.region(), ecr.account());
    assert_eq!((policy[0]["Resource"].as_str(), policy[1]["Resource"].as_str()), (Some("*"), Some(arn.as_str())));

    // With nothing but what the policy says a push arrives, and asks for each of these actions.
    let layout = Layout::fixture("good/one-manifest");
    let ecr = crate::support::ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    let journal = ecr.journal();
    let asked: BTreeSet<&str> = journal.iter().flat_map(|entry| entry.actions.iter().copied()).collect();
    assert_eq!(asked, actions);
}

#[test]
fn each_right_that_is_missing_is_named() {
    for right in RIGHTS {
        let ecr = start(open().deny(right).missing_permission(local_ecr::MissingPermission::Forbidden));
        let ran = doctor(&ecr).run().exits(4);
        check(&ran, right, "FAILED", &["was answered 403"]);
        let next = ran.stdout.lines().skip_while(|line| !line.starts_with("FAILED")).nth(1).unwrap();
        let arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/app";
        assert!(next.contains("next: ") && next.contains(&format!("{right} on {arn}")), "{right}: {next}");
        assert_eq!(ran.stdout.lines().filter(|line| line.starts_with("FAILED")).count(), 1, "{}", ran.stdout);
        assert!(ran.stdout.contains("would end with exit status 4."), "{}", ran.stdout);
        is_untouched(&ecr);

        // The push says the same.
        let layout = Layout::fixture("good/one-manifest");
        Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(4).says([right]);
    }
    let ecr = start(open().deny("ecr:GetAuthorizationToken"));
    let ran = doctor(&ecr).run().exits(4);
    check(&ran, "token", "FAILED", &["ecr:GetAuthorizationToken"]);
    check(&ran, "registry connection", "ok", &[]);
    assert_eq!(ecr.registry_requests().len(), 1, "without a token there is nothing more to ask");
}

#[test]
fn a_connection_that_is_closed_for_want_of_a_right_is_what_the_push_says_of_it() {
    let right = "ecr:InitiateLayerUpload";
    let ecr = start(open().deny(right).missing_permission(local_ecr::MissingPermission::CloseConnection));
    let ran = doctor(&ecr).run().exits(4);
    check(&ran, right, "FAILED", &["closes the connection every time"]);
    check(&ran, "ecr:UploadLayerPart", "unknown", &[]);
    assert!(ran.stdout.contains(&format!("{right} on arn:aws:ecr:")), "{}", ran.stdout);
}

#[test]
fn what_a_push_tries_again_the_doctor_does_too() {
    for (method, path) in
        [("GET", "/v2/"), ("HEAD", "/blobs/"), ("POST", "/uploads/"), ("PATCH", ""), ("PUT", ""), ("HEAD", "/v1")]
    {
        let ecr = start(open().fault(Fault::on(method, path).does(FaultKind::status(503))));
        doctor(&ecr).run().exits(0);
    }
}

#[test]
fn the_end_of_an_upload_is_not_tried_where_nothing_was_written() {
    let refused = Fault::on("PATCH", "/blobs/uploads/").times(u64::MAX).does(FaultKind::status(403));
    let ecr = start(open().fault(refused));
    let ran = doctor(&ecr).run().exits(4);
    check(&ran, "ecr:UploadLayerPart", "FAILED", &["403"]);
    check(&ran, "ecr:CompleteLayerUpload", "unknown", &[]);
    is_untouched(&ecr);
}

#[test]
fn what_the_doctor_may_not_ask_is_no_failure() {
    let layout = Layout::fixture("good/one-manifest");
    let ecr = ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    let ran = doctor(&ecr).run().exits(0);
    check(&ran, "repository", "ok", &["app is there"]);
    check(&ran, "tag", "unknown", &[&layout.root(), "ecr:DescribeRepositories"]);
    check(&ran, "mounts", "note", &["ecr:GetAccountSetting"]);
    assert!(ran.stdout.contains("as far as can be seen"), "{}", ran.stdout);
}

#[test]
fn without_credentials_the_network_is_looked_at_all_the_same() {
    let ecr = start(open());
    let ran = doctor(&ecr).without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY").run().exits(4);
    check(&ran, "credentials", "FAILED", &["no AWS credentials were found"]);
    check(&ran, "API connection", "ok", &[]);
    check(&ran, "registry connection", "ok", &[]);
    assert!(ran.stdout.contains("next: set AWS_ACCESS_KEY_ID"), "{}", ran.stdout);
}

#[test]
fn where_credentials_come_from_and_whose_they_are() {
    let ecr = start(open().instance_role("agent"));
    let push = doctor(&ecr).without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
    let push = push.without("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", ecr.identity_url());
    let ran = push.run().exits(0);
    check(&ran, "credentials", "ok", &["found in the instance metadata, good for"]);
    assert!(ecr.issued_credentials().iter().all(|issued| issued.source == Source::Instance));
    check(&ran, "identity", "ok", &["arn:aws:sts::123456789012:assumed-role/agent/"]);
}

#[test]
fn sts_out_of_reach_is_no_failure() {
    let ecr = start(open());
    let ran = doctor(&ecr).env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9").args(["--retries=0"]).run().exits(0);
    check(&ran, "identity", "note", &["not known", "sts:GetCallerIdentity"]);
    assert!(ran.stdout.contains("would work."), "{}", ran.stdout);
}

#[test]
fn a_repository_that_is_missing_is_asked_no_further() {
    let missing = |how| {
        let ecr = start(LocalEcr::builder().missing_repository(how).allow("ecr:DescribeRepositories"));
        ecr.expect_violation(ViolationKind::ForbiddenAction);
        ecr
    };
    for how in [MissingRepository::NotFound, MissingRepository::CloseConnection, MissingRepository::CreateOnPush] {
        let ecr = missing(how);
        let ran = doctor(&ecr).run().exits(5);
        check(&ran, "repository", "FAILED", &["NAME_UNKNOWN"]);
        check(&ran, "ecr:InitiateLayerUpload", "unknown", &["before the repository is there"]);
        assert!(ran.stdout.contains("--create-repository"), "{}", ran.stdout);
        assert_eq!(ecr.here().repositories(), [] as [String; 0]);

        let ran = doctor(&ecr).args(["--create-repository"]).run().exits(0);
        check(&ran, "repository", "note", &["--create-repository makes it"]);
        check(&ran, "ecr:CreateRepository", "unknown", &[]);
        assert!(ran.stdout.contains("\"ecr:CreateRepository\""), "{}", ran.stdout);
        assert_eq!(ecr.here().repositories(), [] as [String; 0]);
    }
}

#[test]
fn a_tag_that_is_taken_and_immutable_fails() {
    let layout = Layout::fixture("good/one-manifest");
    let filters = TagMutability::ImmutableWithExclusion(vec!["latest".to_owned()]);
    let ecr = start(open().immutability("app", filters));
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["-t", "latest"]).run().exits(0);
    let ran = doctor(&ecr).run().exits(5);
    check(&ran, "tag", "FAILED", &["v1 is immutable", &layout.root()]);
    check(&ran, "repository", "ok", &["immutable but for latest"]);
    let other = Push::of("doctor").at(&ecr).to("app:latest").env("AWS_ENDPOINT_URL_STS", ecr.identity_url());
    check(&other.run().exits(0), "tag", "ok", &["latest names", "would be moved"]);
}

#[test]
fn a_clock_that_is_off_is_noticed() {
    let date = FaultKind::Header { name: "Date".to_owned(), value: Some("Sat, 01 Jan 2000 00:00:00 GMT".to_owned()) };
    let ecr = start(open().fault(Fault::api().times(u64::MAX).does(date)));
    let ran = doctor(&ecr).run().exits(4);
    check(&ran, "clock", "FAILED", &["ahead of AWS's"]);
    assert!(ran.stdout.contains("next: set the clock"), "{}", ran.stdout);
}

#[test]
fn an_api_that_is_not_there_is_said() {
    let ecr = start(open());
    let ran = doctor(&ecr).env("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:9").args(["--retries=0"]).run().exits(6);
    check(&ran, "API connection", "FAILED", &["no connection"]);
    assert!(ran.stdout.contains("`ecr.api`"), "{}", ran.stdout);
    let url = "https://api.ecr.ap-northeast-2.invalid";
    let ran = doctor(&ecr).env("AWS_ENDPOINT_URL_ECR", url).args(["--retries=0"]).run().exits(6);
    check(&ran, "API name", "FAILED", &["api.ecr.ap-northeast-2.invalid does not resolve"]);
}

#[test]
fn an_authority_that_is_not_trusted_is_said() {
    let ecr = start(open().tls(true));
    let ran = doctor(&ecr).without("AWS_CA_BUNDLE").args(["--retries=0"]).run().exits(6);
    check(&ran, "registry connection", "FAILED", &["no trusted TLS connection"]);
    check(&ran, "API connection", "FAILED", &["no trusted TLS connection"]);
    assert!(ran.stdout.contains("--ca-file FILE"), "{}", ran.stdout);
    let ran = doctor(&ecr).run().exits(0);
    check(&ran, "registry connection", "ok", &["over TLS with a trusted certificate"]);
}

#[test]
fn a_proxy_on_the_way_is_named_without_its_password() {
    let proxy = Front::start(|_| Said::status(502));
    let push = Push::of("doctor")
        .to_reference("123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:v1")
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        .env("HTTPS_PROXY", format!("http://somebody:secret4711@{}", proxy.address()))
        .args(["--retries=0"]);
    let ran = push.run().exits(6);
    for name in ["API connection", "registry connection"] {
        check(&ran, name, "FAILED", &["through the proxy http://127.0.0.1:"]);
    }
    assert!(ran.stdout.contains("HTTPS_PROXY"), "{}", ran.stdout);
    assert!(!(ran.stdout + &ran.stderr).contains("secret4711"));
}

#[test]
fn no_secret_is_printed() {
    let ecr = start(open());
    let ran = doctor(&ecr).args(["-vv"]).env("RUST_LOG", "trace").run().exits(0);
    for secret in ecr.secrets() {
        assert!(!ran.stdout.contains(&secret) && !ran.stderr.contains(&secret), "{secret:.20}…");
    }
}

#[test]
fn a_signal_takes_the_session_back() {
    let ecr = start(open().fault(Fault::on("PATCH", "/blobs/uploads/").does(FaultKind::Stall)));
    let (seen, waiting) = std::sync::mpsc::channel();
    ecr.on_answer(move |entry| {
        if entry.method == "POST" && entry.path.contains("/blobs/uploads/") {
            let _ = seen.send(());
        }
    });
    let running = doctor(&ecr).start();
    waiting.recv_timeout(std::time::Duration::from_mins(1)).expect("a session is opened");
    running.signal("TERM");
    let ran = running.wait();
    assert_eq!(ran.status, 143, "{}{}", ran.stdout, ran.stderr);
    ecr.wait_for_quiet();
    assert_eq!(ecr.open_sessions(), 0);
}

#[test]
fn the_command_line_is_the_pushs() {
    let ran = Push::of("doctor").to_reference("123456789012.dkr.ecr.ap-northeast2.amazonaws.com/app").run().exits(2);
    ran.prints(&[]).says(["was ap-northeast-2 meant?"]);
    let ran = Push::of("doctor").to_reference("evil.123456789012.dkr.ecr.us-west-2.amazonaws.com/app").run().exits(2);
    ran.prints(&[]).says(["looks like an ECR registry and is none"]);
}
