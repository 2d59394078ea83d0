//! The role that the command line names, on top of whatever credentials there are.

use local_ecr::{Builder, Entry, Fault, FaultKind, LocalEcr, Role, Source};

use super::{KEY, METADATA_OFF, ROLE, SECRET, arrives, asking, fails, key_file, put};
use crate::support::{Layout, Push, builder, start};

fn trusting() -> Builder {
    builder().role(Role::new(ROLE))
}

/// A push with local-ecr's own key that assumes the role.
fn with_key(ecr: &LocalEcr) -> (Layout, Push) {
    let (layout, push) = asking(ecr);
    let push = push.env(KEY, ecr.access_key_id()).env(SECRET, ecr.secret_access_key());
    (layout, push.args(["--role-arn", ROLE]))
}

/// The one request for a role.
#[track_caller]
fn assumed(ecr: &LocalEcr) -> Entry {
    let mut requests = ecr.identity_requests();
    requests.retain(|entry| entry.actions == ["sts:AssumeRole"]);
    assert_eq!(requests.len(), 1, "{requests:?}");
    let entry = requests.remove(0);
    let signed = entry.signed.as_ref().expect("it is signed");
    assert_eq!((&*signed.service, &*signed.region), ("sts", ecr.region()), "the region is that of the registry");
    assert_eq!(entry.parameters["RoleArn"], ROLE);
    entry
}

#[test]
fn a_role_is_assumed_with_keys_of_the_environment() {
    let ecr = start(trusting());
    let (layout, push) = with_key(&ecr);
    let ran = arrives(&ecr, &layout, &push, Some(Source::AssumedRole));
    ran.says(["origin=\"role, assumed with those of the environment\""]);
    let entry = assumed(&ecr);
    assert_eq!(entry.signed.unwrap().access_key_id, ecr.access_key_id());
    assert_eq!(entry.parameters["RoleSessionName"], "ecr-push");
    assert!(!entry.parameters.contains_key("ExternalId"));
}

#[test]
fn a_role_is_assumed_with_a_profile() {
    let ecr = start(trusting());
    let (layout, push) = asking(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "p"));
    let ran = arrives(&ecr, &layout, &push.args(["--profile=p", "--role-arn", ROLE]), Some(Source::AssumedRole));
    ran.says(["origin=\"role, assumed with those of the profile p\""]);
    assumed(&ecr);
}

#[test]
fn a_role_is_assumed_with_that_of_the_instance() {
    let ecr = start(trusting().instance_role("node"));
    let (layout, push) = asking(&ecr);
    let push = push.without(METADATA_OFF).args(["--role-arn", ROLE]);
    arrives(&ecr, &layout, &push, Some(Source::AssumedRole));
    let first = &ecr.issued_credentials()[0];
    assert_eq!(first.source, Source::Instance);
    assert_eq!(assumed(&ecr).signed.unwrap().access_key_id, first.access_key_id);
}

#[test]
fn external_id_and_session_name_arrive() {
    let check = |args: &[&str], environment: &[(&str, &str)], session_name: &str| {
        let ecr = start(builder().role(Role::new(ROLE).external_id("id-1")));
        let (layout, push) = with_key(&ecr);
        let push = environment.iter().fold(push.args(args), |push, (name, value)| push.env(name, value));
        arrives(&ecr, &layout, &push, Some(Source::AssumedRole));
        let entry = assumed(&ecr);
        assert_eq!((&*entry.parameters["ExternalId"], &*entry.parameters["RoleSessionName"]), ("id-1", session_name));
    };
    let own = ("AWS_ROLE_SESSION_NAME", "build-7");
    check(&["--external-id=id-1", "--role-session-name=job"], &[own], "job");
    check(&["--external-id=id-1"], &[own], "build-7");
    check(&["--external-id=id-1"], &[("AWS_ROLE_SESSION_NAME", "")], "ecr-push");
    check(&[], &[("ECR_PUSH_EXTERNAL_ID", "id-1"), ("ECR_PUSH_ROLE_SESSION_NAME", "job")], "job");
}

#[test]
fn a_role_that_is_not_given_is_explained_by_both_policies() {
    for args in [&[][..], &["--external-id=id-2"]] {
        let ecr = start(builder().role(Role::new(ROLE).external_id("id-1")));
        let (_layout, push) = with_key(&ecr);
        let ran = fails(&ecr, &push.args(args), 4);
        ran.says(["AccessDenied", "sts:AssumeRole", ROLE, "trust policy", "--external-id"]);
        assert_eq!(ecr.api_requests(), []);
    }
}

#[test]
fn credentials_that_sts_does_not_know_are_said() {
    let ecr = start(trusting());
    let (_layout, push) = with_key(&ecr);
    let ran = fails(&ecr, &push.env(KEY, "AKIAI44QH8DHBEXAMPLE"), 4);
    ran.says(["InvalidClientTokenId", "AWS doesn't know these credentials"]);
}

#[test]
fn credentials_that_have_expired_get_no_role() {
    let expired = FaultKind::sts_error(403, "ExpiredToken", "The security token included in the request is expired");
    let ecr = start(trusting().fault(Fault::identity("/").does(expired)));
    let (_layout, push) = with_key(&ecr);
    fails(&ecr, &push, 4).says(["ExpiredToken", "next: the AWS credentials (environment) have expired: get new ones"]);
}

#[test]
fn sts_that_is_too_busy_is_unavailable() {
    let busy = FaultKind::sts_error(400, "Throttling", "Rate exceeded");
    let ecr = start(trusting().fault(Fault::identity("/").times(u64::MAX).does(busy)));
    let (_layout, push) = with_key(&ecr);
    fails(&ecr, &push.args(["--retries=1"]), 6).says(["Throttling", "next: wait a little"]);
    assert_eq!(ecr.identity_requests().len(), 2);
}

#[test]
fn sts_that_cannot_be_reached_is_unavailable() {
    let ecr = start(trusting());
    let (_layout, push) = with_key(&ecr);
    let ran = fails(&ecr, &push.env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9").args(["--retries=1"]), 6);
    ran.says(["role", "refused", "sts"]);

    let ecr = start(trusting().fault(Fault::identity("/").times(u64::MAX).does(FaultKind::Stall)));
    let (_layout, push) = with_key(&ecr);
    fails(&ecr, &push.args(["--retries=0", "--timeout=1"]), 6).says(["role", "sts"]);
}

#[test]
fn sts_that_is_a_proxy_s_page_is_said() {
    let page = FaultKind::Status { status: 502, headers: Vec::new(), body: "<html>Bad gateway</html>".to_owned() };
    let ecr = start(trusting().fault(Fault::identity("/").times(u64::MAX).does(page)));
    let (_layout, push) = with_key(&ecr);
    fails(&ecr, &push.args(["--retries=1"]), 6).says(["role", "502"]).says_nothing_of(["<html>"]);
}
