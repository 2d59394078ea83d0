use local_ecr::{Credential, ExpiredToken, LocalEcr, ViolationKind};

use crate::client::{Client, exchange};

fn without_token(ecr: &LocalEcr, authorization: &str) -> crate::client::Got {
    let host = &ecr.registry_url()[7..];
    let raw = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{authorization}\r\n");
    exchange(&ecr.registry_url(), raw.as_bytes())
}

#[test]
fn no_token_and_a_wrong_one_are_challenged() {
    let ecr = LocalEcr::builder().start().expect("starts");
    for authorization in ["", "Authorization: Basic QVdTOng=\r\n"] {
        let got = without_token(&ecr, authorization);
        assert_eq!((got.status, got.text().as_str()), (401, "Not Authorized"));
        assert_eq!(got.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(got.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(
            got.header("www-authenticate"),
            Some(
                "Basic realm=\"https://123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/\",service=\"ecr.amazonaws.com\""
            )
        );
    }
    assert_eq!(Client::new(&ecr).get("/v2/").status, 200);
    let credentials: Vec<_> = ecr.registry_requests().iter().map(|entry| entry.credential).collect();
    assert_eq!(credentials, [Credential::Absent, Credential::Wrong, Credential::Valid]);
}

#[test]
fn a_token_expires_in_mid_push() {
    let builder = || LocalEcr::builder().token_lifetime(1);
    let ecr = builder().start().expect("starts");
    let client = Client::new(&ecr);
    assert_eq!(client.get("/v2/").status, 200);
    client.get("/v2/").refuses(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.");
    assert_eq!(Client::new(&ecr).get("/v2/").status, 200);

    let ecr = builder().expired_token(ExpiredToken::Challenge).start().expect("starts");
    let client = Client::new(&ecr);
    assert_eq!([client.get("/v2/").status, client.get("/v2/").status], [200, 401]);
}

#[test]
fn other_registries_are_reached_by_host_name() {
    let ecr = LocalEcr::builder().repository_in("210987654321", "ap-northeast-2", "app").start().expect("starts");
    let client = Client::new(&ecr);
    let get = |host: &str| client.send("GET", "/v2/app/manifests/v1", &[("Host", host)], b"");
    get("123456789012.dkr.ecr.ap-northeast-2.amazonaws.com").refuses(404, "NAME_UNKNOWN", "id '123456789012'");
    get("210987654321.dkr.ecr.ap-northeast-2.amazonaws.com").refuses(404, "MANIFEST_UNKNOWN", "");
    // A token is region-bound.
    assert_eq!(get("210987654321.dkr.ecr.eu-west-1.amazonaws.com").status, 401);
}

#[test]
fn what_a_push_must_not_ask_is_a_violation() {
    let ecr = LocalEcr::builder().repository("app").start().expect("starts");
    let client = Client::new(&ecr);
    assert_eq!(client.get("/v2/app/tags/list").status, 403);
    assert_eq!(client.get("/v2/_catalog").status, 404);
    assert_eq!(client.send("GET", "/v2/", &[("Host", "elsewhere.example")], b"").status, 200);
    let kinds: Vec<_> = ecr.check().expect_err("three").iter().map(local_ecr::Violation::kind).collect();
    let expected = [ViolationKind::ForbiddenAction, ViolationKind::UnknownRequest, ViolationKind::StrayCredential];
    assert_eq!(kinds, expected);
    for kind in expected {
        ecr.expect_violation(kind);
    }
}

#[test]
fn a_quota_answers_429() {
    let ecr = LocalEcr::builder().repository("app").rate("ecr:BatchGetImage", 1, 0.001).start().expect("starts");
    let client = Client::new(&ecr);
    assert_eq!(client.get("/v2/app/manifests/v1").status, 404);
    let got = client.get("/v2/app/manifests/v1");
    got.refuses(429, "TOOMANYREQUESTS", "Rate exceeded");
    assert_eq!(got.header("retry-after"), None);
}
