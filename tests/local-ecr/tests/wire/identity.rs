//! Those who hand out credentials, and what ECR's API takes of them.

use local_ecr::{Fault, FaultKind, IssuedCredentials, LocalEcr, Role, Source, ViolationKind};

use crate::client::{Got, exchange};

const ROLE: &str = "arn:aws:iam::123456789012:role/push";

/// Sends a request to a side; headers are whole lines.
fn send(url: &str, first: &str, headers: &[&str], body: &str) -> Got {
    let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let (host, length) = (&url[7..], body.len());
    let raw = format!(
        "{first} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n{body}"
    );
    exchange(url, raw.as_bytes())
}

fn signature(key: &str, service: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential={key}/20261101/ap-northeast-2/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

fn ask_sts(ecr: &LocalEcr, headers: &[&str], form: &str) -> Got {
    send(&ecr.identity_url(), "POST /", headers, &format!("{form}&Version=2011-06-15"))
}

fn ask_ecr(ecr: &LocalEcr, key: &str, session_token: Option<&str>) -> Got {
    let session_token = session_token.map(|token| format!("X-Amz-Security-Token: {token}"));
    let signature = signature(key, "ecr");
    let target = "X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
    let headers: Vec<&str> = [&*signature, target].into_iter().chain(session_token.as_deref()).collect();
    send(&ecr.api_url(), "POST /", &headers, "{}")
}

#[track_caller]
fn says(got: &Got, status: u16, words: &str) {
    assert_eq!(got.status, status, "{}", got.text());
    assert!(got.text().contains(words), "{}", got.text());
}

/// The credentials that were handed out last, once it is sure that the reply has them.
#[track_caller]
fn given(ecr: &LocalEcr, got: &Got, source: Source) -> IssuedCredentials {
    let credentials = ecr.issued_credentials().pop().expect("some");
    says(got, 200, &credentials.access_key_id);
    says(got, 200, &credentials.secret_access_key);
    says(got, 200, &credentials.session_token);
    assert_eq!(credentials.source, source);
    credentials
}

#[test]
fn temporary_credentials_need_their_session_token() {
    let ecr = LocalEcr::builder().temporary_lifetime(1).start().expect("starts");
    let credentials = ecr.issue_credentials();
    let key = &credentials.access_key_id;
    says(&ask_ecr(&ecr, key, None), 400, "UnrecognizedClientException");
    says(&ask_ecr(&ecr, key, Some("other")), 400, "UnrecognizedClientException");
    says(&ask_ecr(&ecr, key, Some(&credentials.session_token)), 200, "authorizationToken");
    says(&ask_ecr(&ecr, key, Some(&credentials.session_token)), 400, "ExpiredTokenException");
    let fresh = ecr.issue_credentials();
    says(&ask_ecr(&ecr, &fresh.access_key_id, Some(&fresh.session_token)), 200, "authorizationToken");
}

#[test]
fn a_role_is_assumed_by_whoever_its_policy_trusts() {
    let role = Role::new(ROLE).external_id("id-1");
    let ecr = LocalEcr::builder().role(role).start().expect("starts");
    let signed = signature(ecr.access_key_id(), "sts");
    let form = format!("Action=AssumeRole&RoleArn={ROLE}&RoleSessionName=me");
    let denied =
        "User: arn:aws:iam::123456789012:user/local-ecr is not authorized to perform: sts:AssumeRole on resource: ";
    says(&ask_sts(&ecr, &[&signed], &form), 403, denied);
    says(&ask_sts(&ecr, &[&signed], &format!("{form}&ExternalId=id-2")), 403, "<Code>AccessDenied</Code>");
    says(
        &ask_sts(&ecr, &[&signed], &format!("{}s&ExternalId=id-1", form.replace("/push", "/pull"))),
        403,
        "AccessDenied",
    );
    says(&ask_sts(&ecr, &[], &form), 403, "MissingAuthenticationToken");
    says(&ask_sts(&ecr, &[&signature("AKIAOTHER", "sts")], &form), 403, "InvalidClientTokenId");

    let got = ask_sts(&ecr, &[&signed], &format!("{form}&ExternalId=id-1"));
    says(&got, 200, "<Arn>arn:aws:sts::123456789012:assumed-role/push/me</Arn>");
    let first = given(&ecr, &got, Source::AssumedRole);
    says(&ask_ecr(&ecr, &first.access_key_id, Some(&first.session_token)), 200, "authorizationToken");
    let entry = ecr.identity_requests().pop().expect("one");
    assert_eq!(entry.to_string(), "POST / sts:AssumeRole 200");
    assert_eq!((&*entry.parameters["ExternalId"], &*entry.parameters["RoleSessionName"]), ("id-1", "me"));
    assert_eq!(entry.signed.expect("it is signed").access_key_id, ecr.access_key_id());

    // Roles are assumed by roles, too.
    let (by_first, token) =
        (signature(&first.access_key_id, "sts"), format!("X-Amz-Security-Token: {}", first.session_token));
    says(&ask_sts(&ecr, &[&by_first], "Action=GetCallerIdentity"), 403, "InvalidClientTokenId");
    says(&ask_sts(&ecr, &[&by_first, &token], "Action=GetCallerIdentity"), 200, "<Account>123456789012</Account>");
}

#[test]
fn a_web_identity_needs_a_token_that_is_known() {
    let builder =
        LocalEcr::builder().role(Role::new(ROLE)).web_identity_token("good").expired_web_identity_token("old");
    let ecr = builder.start().expect("starts");
    let ask = |token: &str, role: &str| {
        let form =
            format!("Action=AssumeRoleWithWebIdentity&RoleArn={role}&RoleSessionName=me&WebIdentityToken={token}");
        ask_sts(&ecr, &[], &form)
    };
    says(&ask("bad", ROLE), 400, "<Code>InvalidIdentityToken</Code>");
    says(&ask("old", ROLE), 400, "<Code>ExpiredTokenException</Code>");
    says(&ask("good", "arn:aws:iam::123456789012:role/other"), 403, "<Code>AccessDenied</Code>");
    given(&ecr, &ask("good", ROLE), Source::WebIdentity);
}

#[test]
fn metadata_is_told_to_whoever_has_a_token() {
    let ecr = LocalEcr::builder().instance_role("node").start().expect("starts");
    let url = ecr.identity_url();
    let folder = "GET /latest/meta-data/iam/security-credentials/";
    says(&send(&url, folder, &[], ""), 401, "");
    says(&send(&url, folder, &["X-aws-ec2-metadata-token: made-up"], ""), 401, "");
    says(&send(&url, "PUT /latest/api/token", &[], ""), 400, "");
    says(&send(&url, "PUT /latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 21601"], ""), 400, "");
    let got = send(&url, "PUT /latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 60"], "");
    assert_eq!((got.status, got.header("x-aws-ec2-metadata-token-ttl-seconds")), (200, Some("60")));
    let token = format!("X-aws-ec2-metadata-token: {}", got.text());
    assert_eq!(send(&url, folder, &[&token], "").text(), "node");
    says(&send(&url, &format!("{folder}other"), &[&token], ""), 404, "");
    says(&send(&url, "GET /latest/meta-data/ami-id", &[&token], ""), 404, "");
    given(&ecr, &send(&url, &format!("{folder}node"), &[&token], ""), Source::Instance);
}

#[test]
fn a_container_shows_its_token() {
    let ecr = LocalEcr::builder().container_token("pod").start().expect("starts");
    let ask = |headers: &[&str]| send(&ecr.identity_url(), "GET /v1/credentials", headers, "");
    says(&ask(&[]), 401, "AccessDeniedException");
    says(&ask(&["Authorization: other"]), 401, "AccessDeniedException");
    given(&ecr, &ask(&["Authorization: pod"]), Source::Container);
    let open = LocalEcr::builder().start().expect("starts");
    given(&open, &send(&open.identity_url(), "GET /v1/credentials", &[], ""), Source::Container);
}

#[test]
fn identity_center_gives_a_user_its_roles_and_renews_its_session() {
    let builder =
        LocalEcr::builder().sso_token("session").sso_role("111122223333", "Push").sso_renewal("again", "next");
    let ecr = builder.start().expect("starts");
    let ask = |token: &str, role: &str| {
        let first = format!("GET /federation/credentials?role_name={role}&account_id=111122223333");
        send(&ecr.identity_url(), &first, &[&format!("x-amz-sso_bearer_token: {token}")], "")
    };
    says(&ask("made-up", "Push"), 401, "not found or invalid");
    says(&ask("session", "Admin"), 403, "No access");
    given(&ecr, &ask("session", "Push"), Source::Sso);
    says(&ask("next", "Push"), 401, "");
    let renew = |token: &str| {
        let body = format!(r#"{{"grantType":"refresh_token","refreshToken":"{token}"}}"#);
        send(&ecr.identity_url(), "POST /token", &[], &body)
    };
    says(&renew("made-up"), 400, "Invalid refresh token");
    says(&renew("again"), 200, r#""accessToken":"next""#);
    given(&ecr, &ask("next", "Push"), Source::Sso);
}

#[test]
fn a_fault_strikes_those_who_hand_out_credentials() {
    let kind = FaultKind::sts_error(400, "RequestExpired", "Request has expired.");
    let ecr = LocalEcr::builder().fault(Fault::identity("/v1/").does(kind)).start().expect("starts");
    let ask = || send(&ecr.identity_url(), "GET /v1/credentials", &[], "");
    says(&ask(), 400, "<Code>RequestExpired</Code>");
    says(&ask(), 200, "AccessKeyId");
}

#[test]
fn what_makes_an_identity_goes_nowhere_else() {
    let made = || {
        let builder =
            LocalEcr::builder().container_token("pod-token").sso_token("sso-token").web_identity_token("web-token");
        builder.start().expect("starts")
    };
    let check = |stray: bool, side: fn(&LocalEcr) -> String, first: &str, header: &dyn Fn(&LocalEcr) -> String| {
        let ecr = made();
        let header = header(&ecr);
        send(&side(&ecr), first, &[&header], "");
        let found = ecr.check().err().unwrap_or_default();
        let is_stray = found.iter().any(|violation| violation.kind() == ViolationKind::StrayCredential);
        assert_eq!(is_stray, stray, "{first} with {header}: {found:?}");
        ecr.expect_violation(ViolationKind::StrayCredential);
        ecr.expect_violation(ViolationKind::UnknownRequest);
    };
    let (registry, api, identity) = (LocalEcr::registry_url, LocalEcr::api_url, LocalEcr::identity_url);
    let basic = |ecr: &LocalEcr| {
        let pair = crate::client::base64(&format!("AWS:{}", ecr.issue_password()));
        format!("Authorization: Basic {pair}")
    };
    let signed = |service: &'static str| move |ecr: &LocalEcr| signature(ecr.access_key_id(), service);
    let line = |line: &'static str| move |_: &LocalEcr| line.to_owned();
    let session = |ecr: &LocalEcr| format!("X-Amz-Security-Token: {}", ecr.issue_credentials().session_token);
    let secret = |ecr: &LocalEcr| format!("X-Any: {}", ecr.secret_access_key());

    check(false, registry, "GET /v2/", &basic);
    check(true, identity, "GET /v1/credentials", &basic);
    check(true, identity, "POST /", &basic);
    check(false, identity, "POST /", &signed("sts"));
    check(true, identity, "POST /", &signed("ecr"));
    check(true, api, "POST /", &signed("sts"));
    check(false, api, "POST /", &signed("ecr"));
    check(false, identity, "GET /v1/credentials", &line("Authorization: pod-token"));
    check(true, identity, "GET /latest/", &line("Authorization: pod-token"));
    check(true, registry, "GET /v2/", &line("X-Any: pod-token"));
    check(false, identity, "GET /federation/credentials", &line("x-amz-sso_bearer_token: sso-token"));
    check(true, api, "POST /", &line("x-amz-sso_bearer_token: sso-token"));
    check(true, identity, "GET /v1/credentials", &line("x-amz-sso_bearer_token: made-up"));
    check(true, registry, "GET /v2/", &line("X-aws-ec2-metadata-token: made-up"));
    check(true, identity, "GET /v1/credentials?token=web-token", &line("X-Any: thing"));
    check(true, LocalEcr::elsewhere_url, "GET /", &line("X-Any: web-token"));
    check(true, registry, "GET /v2/", &session);
    check(true, api, "POST /", &secret);
}
