use local_ecr::{Credential, ExpiredToken, LocalEcr};
use serde_json::json;

use crate::client::{Client, Got, exchange, sha256};
use crate::signed::Api;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

fn builder() -> local_ecr::Builder {
    LocalEcr::builder().public("alias").repository("alias/app")
}

fn get(ecr: &LocalEcr, path: &str, authorization: &str) -> Got {
    let host = &ecr.registry_url()[7..];
    let line = if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
    let raw = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{line}\r\n");
    exchange(&ecr.registry_url(), raw.as_bytes())
}

/// The token that the API gives.
fn issued(ecr: &LocalEcr) -> String {
    let data = Api::public(ecr).ask("GetAuthorizationToken", &json!({}));
    assert!(data["authorizationData"]["expiresAt"].is_u64());
    data["authorizationData"]["authorizationToken"].as_str().expect("a token").to_owned()
}

/// What it is exchanged for.
fn bearer(ecr: &LocalEcr) -> String {
    let got = get(ecr, "/token/?service=public.ecr.aws&scope=aws", &format!("Basic {}", issued(ecr)));
    assert_eq!(got.status, 200, "{}", got.text());
    let token = serde_json::from_slice::<serde_json::Value>(&got.body).expect("JSON")["token"].clone();
    token.as_str().expect("a token").to_owned()
}

#[test]
fn a_token_is_exchanged_for_a_bearer_token() {
    let ecr = builder().start().expect("starts");
    assert_eq!((ecr.host().as_str(), ecr.region()), ("public.ecr.aws", "us-east-1"));
    let basic = format!("Basic {}", issued(&ecr));
    for authorization in ["", basic.as_str(), "Bearer x"] {
        let got = get(&ecr, "/v2/", authorization);
        assert_eq!((got.status, got.text().as_str()), (401, "Not Authorized"), "{authorization}");
        let challenge = "Bearer realm=\"https://public.ecr.aws/token/\",service=\"public.ecr.aws\",scope=\"aws\"";
        assert_eq!(got.header("www-authenticate"), Some(challenge));
    }
    assert!(ecr.registry_requests().iter().all(|entry| entry.credential != Credential::Valid));
    let bearer = format!("Bearer {}", bearer(&ecr));
    for (path, authorization) in [("/token/", ""), ("/token/", "Basic QVdTOng="), ("/token/", bearer.as_str())] {
        assert_eq!(get(&ecr, path, authorization).status, 401, "{authorization}");
    }
    assert_eq!(get(&ecr, "/v2/", &bearer).status, 200);
    assert_eq!(ecr.api_requests()[0].actions, ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"]);
}

#[test]
fn an_image_goes_up() {
    let ecr = builder().start().expect("starts");
    let client = Client::with_bearer(&ecr, &bearer(&ecr));
    let digest = client.upload("alias/app", b"layer");
    assert!(ecr.has_blob("alias/app", &digest));
    assert_eq!(client.put_manifest("alias/app", "v1", INDEX, EMPTY).status, 201);
    assert_eq!(client.get("/v2/alias/app/manifests/v1").body, EMPTY);
    let session = client.open("alias/app");
    client.get(&session).refuses(404, "BLOB_UPLOAD_UNKNOWN", "");
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
    let actions: Vec<_> = ecr.registry_requests().into_iter().flat_map(|entry| entry.actions).collect();
    let [initiate, part, complete, put] = ["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage"]
        .map(|a| format!("ecr-public:{a}"));
    assert_eq!(actions, [initiate.clone(), part, complete, put, initiate]);
    client.send("POST", "/v2/alias/other/blobs/uploads/", &[], b"").refuses(404, "NAME_UNKNOWN", "'alias/other'");
}

#[test]
fn rights_are_those_of_ecr_public() {
    let ecr = builder().deny("ecr-public:PutImage").start().expect("starts");
    let client = Client::with_bearer(&ecr, &bearer(&ecr));
    client.put_manifest("alias/app", "v1", INDEX, EMPTY).refuses(
        403,
        "DENIED",
        "ecr-public:PutImage on resource: arn:aws:ecr-public::123456789012:repository/app because",
    );
    for action in ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"] {
        let ecr = builder().deny(action).start().expect("starts");
        Api::public(&ecr).refused("GetAuthorizationToken", &json!({}), "AccessDeniedException", action);
    }
}

#[test]
fn bearer_tokens_expire_and_may_be_had_again() {
    for (how, status) in [(ExpiredToken::Denied, 403), (ExpiredToken::Challenge, 401)] {
        let ecr = builder().token_lifetime(1).expired_token(how).start().expect("starts");
        let basic = format!("Basic {}", issued(&ecr));
        for _ in 0..2 {
            let got = get(&ecr, "/token/", &basic);
            let token: serde_json::Value = serde_json::from_slice(&got.body).expect("JSON");
            let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
            assert_eq!([get(&ecr, "/v2/", &bearer).status, get(&ecr, "/v2/", &bearer).status], [200, status]);
        }
    }
}

#[test]
fn its_api_is_in_one_region() {
    let ecr = builder().start().expect("starts");
    let mut api = Api::public(&ecr);
    api.region = "eu-west-1".to_owned();
    api.refused("GetAuthorizationToken", &json!({}), "InvalidSignatureException", "region");
    // A private registry has that API beside it, but takes no token of it.
    let ecr = LocalEcr::builder().region("us-east-1").start().expect("starts");
    assert_eq!(Client::with_token(&ecr, &issued(&ecr)).get("/v2/").status, 401);
    assert_eq!(Client::new(&ecr).get("/v2/").status, 200);
}

#[test]
fn its_repositories_have_an_alias_before_their_name() {
    let ecr = builder().allow("ecr-public:CreateRepository").allow("ecr-public:DescribeRepositories");
    let ecr = ecr.start().expect("starts");
    let api = Api::public(&ecr);
    let made = api.ask("CreateRepository", &json!({ "repositoryName": "new", "tags": [{ "Key": "a", "Value": "b" }] }));
    let made = &made["repository"];
    assert_eq!((&made["repositoryName"], &made["repositoryUri"]), (&json!("new"), &json!("public.ecr.aws/alias/new")));
    assert_eq!(made["repositoryArn"], "arn:aws:ecr-public::123456789012:repository/new");
    let tags = ecr.here().repository_settings("alias/new").expect("it was made").tags;
    assert_eq!(tags.get("a").map(String::as_str), Some("b"));
    api.refused("CreateRepository", &json!({ "repositoryName": "app" }), "RepositoryAlreadyExistsException", "app");
    let told = api.ask("DescribeRepositories", &json!({ "repositoryNames": ["new"] }));
    assert_eq!(&told["repositories"], &json!([made]));
    let missing = json!({ "repositoryNames": ["xx"] });
    api.refused("DescribeRepositories", &missing, "RepositoryNotFoundException", "xx");
}

#[test]
fn a_layer_has_its_limit() {
    for builder in [builder(), LocalEcr::builder().repository("alias/app")] {
        let ecr = builder.layer_size_limit(10).start().expect("starts");
        let client =
            if ecr.host() == "public.ecr.aws" { Client::with_bearer(&ecr, &bearer(&ecr)) } else { Client::new(&ecr) };
        client.upload("alias/app", &[1; 10]);
        let (session, bytes) = (client.open("alias/app"), [1; 11]);
        let got = client.send("PUT", &format!("{session}?digest={}", sha256(&bytes)), &[], &bytes);
        got.refuses(400, "SIZE_INVALID", "maximum of 10 bytes");
        ecr.allow_open_sessions();
    }
}

#[test]
fn its_layers_are_told_of_the_registry_that_is_named() {
    let ecr = builder().start().expect("starts");
    let there = ecr.seed_blob("alias/app", b"there");
    let (absent, api) = (sha256(b"absent"), Api::public(&ecr));
    for registry in [json!("alias"), json!("123456789012"), json!(null)] {
        let asked = json!({ "registryId": registry, "repositoryName": "app", "layerDigests": [there, absent, "x"] });
        let told = api.ask("BatchCheckLayerAvailability", &asked);
        let layers = told["layers"].as_array().expect("a list");
        let found: Vec<_> = layers.iter().map(|layer| &layer["layerAvailability"]).collect();
        assert_eq!(found, ["AVAILABLE", "UNAVAILABLE"], "{registry}");
        assert_eq!(told["failures"][0]["failureCode"], "InvalidLayerDigest");
    }
    let of = |registry: &str, name: &str| json!({ "registryId": registry, "repositoryName": name, "layerDigests": [absent] });
    api.refused("BatchCheckLayerAvailability", &of("other", "app"), "RegistryNotFoundException", "'other'");
    api.refused("BatchCheckLayerAvailability", &of("alias", "xx"), "RepositoryNotFoundException", "xx");
    let ecr = builder().deny("ecr-public:BatchCheckLayerAvailability").start().expect("starts");
    let words = "ecr-public:BatchCheckLayerAvailability on resource: arn:aws:ecr-public::123456789012:repository/app";
    Api::public(&ecr).refused("BatchCheckLayerAvailability", &of("alias", "app"), "AccessDeniedException", words);
}
