//! Registries of several accounts in one push, each with its own way to credentials.

use local_ecr::{Credential, LocalEcr, Role, Source};

use super::{KEY, ROLE, SECRET, asking, hides, key_file, put, signers};
use crate::support::{Layout, Push, builder, start};

const OTHER: &str = "111122223333.dkr.ecr.eu-west-1.amazonaws.com";
const OTHER_ROLE: &str = "arn:aws:iam::111122223333:role/push";

/// A server with a second account in another region, and a push to both.
fn two_accounts() -> (LocalEcr, Layout, Push) {
    let roles = [Role::new(ROLE), Role::new(OTHER_ROLE).external_id("id-2")];
    let builder = builder().repository_in("111122223333", "eu-west-1", "app");
    let ecr = start(roles.into_iter().fold(builder, local_ecr::Builder::role));
    let (layout, push) = asking(&ecr);
    let push = through(push.to_reference(format!("{OTHER}/app:v1")), &ecr, &[&ecr.host(), OTHER]);
    (ecr, layout, push)
}

/// Reaches registries by their own names: local-ecr, which knows them by these, is the proxy on the way to them.
fn through(push: Push, ecr: &LocalEcr, hosts: &[&str]) -> Push {
    let endpoints = hosts.iter().map(|host| format!("--registry-endpoint={host}=http://{host}"));
    push.args(endpoints).env("HTTP_PROXY", ecr.registry_url()).env("NO_PROXY", "127.0.0.1")
}

/// Who signed for which region, each once, in the order of the regions.
fn by_region(ecr: &LocalEcr) -> Vec<(String, Option<Source>)> {
    let requests = ecr.api_requests();
    let regions = requests.iter().map(|entry| entry.signed.as_ref().unwrap().region.clone());
    let mut found: Vec<_> = regions.zip(signers(ecr, &requests)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup();
    found
}

#[track_caller]
fn arrives_at_both(ecr: &LocalEcr, layout: &Layout, push: &Push) {
    let line = |host: &str| format!("{host}/app@{}", layout.root());
    let ran = push.run().exits(0).prints(&[&line(&ecr.host()), &line(OTHER)]);
    hides(ecr, &ran);
    assert_eq!(ecr.registry("111122223333", "eu-west-1").tag("app", "v1"), Some(layout.root()));
    assert!(ecr.registry_requests().iter().all(|entry| entry.credential == Credential::Valid));
}

#[test]
fn each_host_has_its_profile() {
    let (ecr, layout, push) = two_accounts();
    put(&push, ".aws/credentials", &key_file(&ecr, "a"));
    let b = format!(
        "[profile b]\nrole_arn = {OTHER_ROLE}\nsource_profile = a\nexternal_id = id-2\nrole_session_name = b\n"
    );
    put(&push, ".aws/config", &b);
    // The bare one is for the host that has none of its own.
    let push = push.args(["--profile=a", &format!("--profile={OTHER}=b")]);
    arrives_at_both(&ecr, &layout, &push);
    let wanted = [("ap-northeast-2".to_owned(), None), ("eu-west-1".to_owned(), Some(Source::AssumedRole))];
    assert_eq!(by_region(&ecr), wanted);
    let entry = &ecr.identity_requests()[0];
    assert_eq!(entry.signed.as_ref().unwrap().region, "eu-west-1");
    assert_eq!((&*entry.parameters["ExternalId"], &*entry.parameters["RoleSessionName"]), ("id-2", "b"));
}

#[test]
fn each_host_has_its_role() {
    let (ecr, layout, push) = two_accounts();
    let push = push.env(KEY, ecr.access_key_id()).env(SECRET, ecr.secret_access_key());
    let (home, other) = (ecr.host(), |option: &str, value: &str| format!("--{option}={OTHER}={value}"));
    let push = push.args([format!("--role-arn={home}={ROLE}"), other("role-arn", OTHER_ROLE)]);
    let push = push.args([other("external-id", "id-2"), other("role-session-name", "second")]);
    arrives_at_both(&ecr, &layout, &push);
    let role = Some(Source::AssumedRole);
    assert_eq!(by_region(&ecr), [("ap-northeast-2".to_owned(), role), ("eu-west-1".to_owned(), role)]);
    let told = |region: &str| {
        let requests = ecr.identity_requests();
        let entry = requests.iter().find(|entry| entry.signed.as_ref().unwrap().region == region).unwrap();
        entry.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(told("ap-northeast-2"), [format!("RoleArn={ROLE}"), "RoleSessionName=ecr-push".to_owned()]);
    let second = [&*format!("RoleArn={OTHER_ROLE}"), "RoleSessionName=second"];
    assert_eq!(told("eu-west-1"), [&["ExternalId=id-2"], &second[..]].concat());
}

#[test]
fn a_role_may_be_for_one_host_alone() {
    let (ecr, layout, push) = two_accounts();
    let push = push.env(KEY, ecr.access_key_id()).env(SECRET, ecr.secret_access_key());
    let push = push.args([format!("--role-arn={OTHER}={OTHER_ROLE}"), format!("--external-id={OTHER}=id-2")]);
    arrives_at_both(&ecr, &layout, &push);
    let wanted = [("ap-northeast-2".to_owned(), None), ("eu-west-1".to_owned(), Some(Source::AssumedRole))];
    assert_eq!(by_region(&ecr), wanted);
}

#[test]
fn a_host_without_credentials_does_not_stop_the_other() {
    let (ecr, layout, push) = two_accounts();
    put(&push, ".aws/credentials", &key_file(&ecr, "a"));
    let push = push.args([format!("--profile={}=a", ecr.host()), format!("--profile={OTHER}=nobody")]);
    let ran = push.run().exits(4).prints(&[&format!("{}/app@{}", ecr.host(), layout.root())]).says_one_error();
    hides(&ecr, &ran);
    ran.says([OTHER, "nobody", "eu-west-1"]);
    assert_eq!(ecr.registry("111122223333", "eu-west-1").tags("app"), <[String; 0]>::default());
}

#[test]
fn an_identity_of_one_account_pushes_to_another_s_registry() {
    let ecr = start(builder().repository_in("111122223333", "ap-northeast-2", "theirs"));
    let host = "111122223333.dkr.ecr.ap-northeast-2.amazonaws.com";
    let layout = Layout::fixture("good/index");
    let push = Push::of(layout.path()).to_reference(format!("{host}/theirs:v1"));
    let push = ecr.environment().into_iter().fold(push, |push, (name, value)| push.env(name, value));
    let push = through(push, &ecr, &[host]);
    // The token names the identity's own registry as its endpoint, and is good for this one, too.
    push.run().exits(0).prints(&[&format!("{host}/theirs@{}", layout.root())]);
    assert_eq!(ecr.registry("111122223333", "ap-northeast-2").tag("theirs", "v1"), Some(layout.root()));
}
