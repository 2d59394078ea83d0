use local_ecr::{DenyReason, LocalEcr, PolicyKind};
use serde_json::json;

use crate::client::Client;
use crate::signed::Api;

const KEY: &str = "AKIAI44QH8DHBEXAMPLE";
const OTHER: &str = "210987654321";
const ARN: &str = "arn:aws:sts::210987654321:assumed-role/ci/run";

fn builder(token: Option<&str>) -> local_ecr::Builder {
    LocalEcr::builder().repository("app").identity(KEY, "secret", token, OTHER, ARN)
}

#[test]
fn a_denial_names_the_policy() {
    use DenyReason::{Explicit, Missing, Unsaid};
    let missing = |what: &str| format!(" because no {what} allows the ecr:PutImage action");
    let explicit = |what: &str| format!(" with an explicit deny in {what}");
    for (reason, end) in [
        (Missing(PolicyKind::Identity), missing("identity-based policy")),
        (Explicit(PolicyKind::Identity), explicit("an identity-based policy")),
        (Missing(PolicyKind::Resource), missing("resource-based policy")),
        (Explicit(PolicyKind::Resource), explicit("a resource-based policy")),
        (Missing(PolicyKind::ServiceControl), missing("service control policy")),
        (Explicit(PolicyKind::ServiceControl), explicit("a service control policy")),
        (Explicit(PolicyKind::ResourceControl), explicit("a resource control policy")),
        (Missing(PolicyKind::VpcEndpoint), missing("VPC endpoint policy")),
        (Explicit(PolicyKind::VpcEndpoint), explicit("a VPC endpoint policy")),
        (Missing(PolicyKind::Boundary), missing("permissions boundary")),
        (Explicit(PolicyKind::Boundary), explicit("a permissions boundary")),
        (Missing(PolicyKind::Session), missing("session policy")),
        (Explicit(PolicyKind::Session), explicit("a session policy")),
        (Unsaid, String::new()),
    ] {
        let ecr = LocalEcr::builder().repository("app").deny_with("ecr:PutImage", reason).start().expect("starts");
        let start = "User: arn:aws:iam::123456789012:user/local-ecr is not authorized to perform: ecr:PutImage on resource: arn:aws:ecr:ap-northeast-2:123456789012:repository/app";
        let sentence = format!("{start}{end}\"");
        Client::new(&ecr).put_manifest("app", "v1", "x", b"{}").refuses(403, "DENIED", &sentence);
        let put = json!({ "repositoryName": "app", "imageManifest": "{}" });
        Api::new(&ecr).refused("PutImage", &put, "AccessDeniedException", &sentence);
    }
}

#[test]
fn a_session_token_must_come_along() {
    let ecr = builder(Some("token")).start().expect("starts");
    let mut api = Api::new(&ecr).of(KEY);
    for token in [None, Some("other".to_owned())] {
        api.token = token;
        api.refused("GetAuthorizationToken", &json!({}), "UnrecognizedClientException", "security token");
    }
    api.token = Some("token".to_owned());
    let data = &api.ask("GetAuthorizationToken", &json!({}))["authorizationData"][0];
    assert_eq!(data["proxyEndpoint"], "https://210987654321.dkr.ecr.ap-northeast-2.amazonaws.com");
    let variables = ecr.identity_environment(KEY);
    for pair in [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_SESSION_TOKEN", "token")] {
        let same = variables.iter().filter(|(name, value)| (*name, value.as_str()) == pair);
        assert_eq!(same.count(), 1, "{pair:?}");
    }
}

#[test]
fn keys_expire() {
    let ecr = builder(None).identity_expires_after(KEY, 1).start().expect("starts");
    let api = Api::new(&ecr).of(KEY);
    api.ask("GetAuthorizationToken", &json!({}));
    api.refused("GetAuthorizationToken", &json!({}), "ExpiredTokenException", "is expired");
    Api::new(&ecr).ask("GetAuthorizationToken", &json!({}));
    let home = LocalEcr::builder().identity_expires_after(ecr.access_key_id(), 0).start().expect("starts");
    Api::new(&home).refused("GetAuthorizationToken", &json!({}), "ExpiredTokenException", "is expired");
}

fn token_of<'a>(ecr: &'a LocalEcr, api: &Api) -> Client<'a> {
    let data = api.ask("GetAuthorizationToken", &json!({}));
    Client::with_token(ecr, data["authorizationData"][0]["authorizationToken"].as_str().expect("a token"))
}

#[test]
fn a_caller_of_another_account_is_judged_by_both_policies() {
    let resource = "on resource: arn:aws:ecr:ap-northeast-2:123456789012:repository/app because no resource-based policy allows the ecr:InitiateLayerUpload action";
    let identity = "because no identity-based policy allows the ecr:InitiateLayerUpload action";
    let denied = DenyReason::Missing(PolicyKind::Identity);
    for (allowed, own, sentence) in [
        (false, true, Some(format!("User: {ARN} is not authorized to perform: ecr:InitiateLayerUpload {resource}"))),
        (true, false, Some(identity.to_owned())),
        (true, true, None),
    ] {
        let mut builder = builder(None);
        if allowed {
            builder = builder.repository_policy_allows(OTHER);
        }
        if !own {
            builder = builder.identity_deny(KEY, "ecr:InitiateLayerUpload", denied);
        }
        let ecr = builder.start().expect("starts");
        let client = token_of(&ecr, &Api::new(&ecr).of(KEY));
        let got = client.send("POST", "/v2/app/blobs/uploads/", &[], b"");
        match sentence {
            Some(sentence) => got.refuses(403, "DENIED", &sentence),
            None => assert_eq!(client.send("DELETE", &got.location(), &[], b"").status, 204),
        }
        // The identity at home is another one.
        let client = Client::new(&ecr);
        let session = client.open("app");
        assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
    }
}

#[test]
fn the_identity_at_home_may_be_a_stranger_elsewhere() {
    let ecr = LocalEcr::builder().repository_in(OTHER, "ap-northeast-2", "app");
    let ecr = ecr.repository_policy_omits("123456789012").start().expect("starts");
    let host = "210987654321.dkr.ecr.ap-northeast-2.amazonaws.com";
    let got = Client::new(&ecr).send("GET", "/v2/app/manifests/v1", &[("Host", host)], b"");
    got.refuses(403, "DENIED", "because no resource-based policy allows the ecr:BatchGetImage action");
    let asked = json!({ "registryId": OTHER, "repositoryName": "app", "layerDigests": ["x"] });
    let api = Api::new(&ecr);
    api.refused("BatchCheckLayerAvailability", &asked, "AccessDeniedException", "because no resource-based policy");
}

#[test]
fn other_identities_may_more() {
    let ecr = builder(None).identity_allow(KEY, "ecr:CreateRepository").start().expect("starts");
    let api = Api::new(&ecr).of(KEY);
    // In its own account, which is another than the one at home.
    let made = api.ask("CreateRepository", &json!({ "repositoryName": "mine" }));
    assert_eq!(made["repository"]["registryId"], OTHER);
    assert_eq!(ecr.registry(OTHER, "ap-northeast-2").repositories(), ["mine"]);
}

#[test]
fn settings_and_quotas() {
    for (on, value) in [(true, "ENABLED"), (false, "DISABLED")] {
        let ecr = LocalEcr::builder().allow("ecr:GetAccountSetting").blob_mounting(on).start().expect("starts");
        let api = Api::new(&ecr);
        let told = api.ask("GetAccountSetting", &json!({ "name": "BLOB_MOUNTING" }));
        assert_eq!(told, json!({ "name": "BLOB_MOUNTING", "value": value }));
        api.refused("GetAccountSetting", &json!({ "name": "x" }), "InvalidParameterException", "'name'");
    }
    let ecr = LocalEcr::builder().rate("ecr:GetAuthorizationToken", 1, 0.001).start().expect("starts");
    let mut api = Api::new(&ecr);
    api.ask("GetAuthorizationToken", &json!({}));
    api.refused("GetAuthorizationToken", &json!({}), "ThrottlingException", "Rate exceeded");
    // Quotas are an account's in a region.
    let ecr = builder(None).rate("ecr:GetAuthorizationToken", 1, 0.001).start().expect("starts");
    api = Api::new(&ecr);
    api.ask("GetAuthorizationToken", &json!({}));
    api.of(KEY).ask("GetAuthorizationToken", &json!({}));
}
