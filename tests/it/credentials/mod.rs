//! Where credentials come from, what happens without them, and that nobody ever sees them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use local_ecr::{Credential, ExpiredToken, Fault, FaultKind, LocalEcr, MissingPermission, MissingRepository};

use crate::support::{Layout, Push, Tree, assert_arrived, builder, ecr, reference, requests, start};

const KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// A layout, and a push of it that has no credentials yet.
fn without_key(ecr: &LocalEcr) -> (Layout, Push) {
    let layout = Layout::fixture("good/index");
    let push = Push::of(layout.path()).at(ecr).to("app:v1").without(KEY).without(SECRET);
    (layout, push)
}

/// Puts a file into a push's HOME.
fn put(push: &Push, path: &str, text: &str) {
    let path = push.home().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn key_file(ecr: &LocalEcr, profile: &str) -> String {
    let (id, secret) = (ecr.access_key_id(), ecr.secret_access_key());
    format!("[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

#[test]
fn the_token_is_fetched_once_and_goes_with_every_request() {
    let (layout, ecr) = (Layout::fixture("good/nested-index"), ecr());
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(ecr.api_requests().len(), 1);
    assert!(ecr.registry_requests().iter().all(|entry| entry.credential == Credential::Valid));
    assert_eq!(ecr.issued_passwords().len(), 1);
}

#[test]
fn the_region_is_that_of_the_host_whatever_the_environment_says() {
    let layout = Layout::fixture("good/one-manifest");
    // The API takes only what is signed for a region that has a registry, and its token is good for that region alone.
    let ecr = start(LocalEcr::builder().account("111122223333").region("us-east-1").repository("app"));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1");
    let push = push.env("AWS_REGION", "eu-north-1").env("AWS_DEFAULT_REGION", "eu-north-1");
    push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert!(ecr.host().contains("us-east-1"));
}

#[test]
fn a_key_that_aws_does_not_know_is_said() {
    let ecr = ecr();
    let layout = Layout::fixture("good/one-manifest");
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").env(KEY, "AKIAI44QH8DHBEXAMPLE");
    let ran = push.run().exits(4).prints(&[]).says_one_error();
    ran.says(["UnrecognizedClientException", "ap-northeast-2", "next: AWS doesn't know these credentials"]);
    assert_eq!(ecr.registry_requests(), []);
}

#[test]
fn without_credentials_the_ways_to_give_them_are_said() {
    let ecr = ecr();
    let (_layout, push) = without_key(&ecr);
    let ran = push.run().exits(4).prints(&[]).says_one_error();
    ran.says(["no AWS credentials", "AWS_ACCESS_KEY_ID", "--profile"]);
    assert_eq!(ecr.journal(), []);
}

#[test]
fn each_missing_right_is_named() {
    let layout = Layout::fixture("good/index");
    for action in [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
    ] {
        let ecr = start(builder().deny(action));
        let before = Tree::of(layout.parent());
        let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]).run();
        let ran = ran.exits(4).prints(&[]).says_one_error();
        let hint = ran.stderr.lines().find(|line| line.contains("next: ")).unwrap_or_else(|| panic!("{}", ran.stderr));
        assert!(hint.contains(action), "{action} isn't in {hint:?}; stderr:\n{}", ran.stderr);
        ecr.wait_for_quiet();
        let journal: Vec<_> = ecr.registry_requests().iter().map(ToString::to_string).collect();
        assert_eq!(ecr.open_sessions(), 0, "{action}:\n{}", journal.join("\n"));
        assert!(ecr.tags("app").is_empty(), "{action}");
        before.is_unchanged(layout.parent());
    }
}

#[test]
fn a_connection_that_is_closed_for_want_of_a_right_is_explained() {
    let ecr = start(builder().deny("ecr:InitiateLayerUpload").missing_permission(MissingPermission::CloseConnection));
    let layout = Layout::fixture("good/one-manifest");
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--retries=1"]).run().prints(&[]).says_one_error();
    assert_ne!(ran.status, 0);
    ran.says(["ecr:InitiateLayerUpload"]);
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed() {
    let layout = Layout::of_layers(&[300_000, 200, 100]);
    for how in [ExpiredToken::Denied, ExpiredToken::Challenge] {
        // A token that is used up by the questions that go out side by side, and by those that tell why they were refused,
        // is nobody's: the fault sweep has the expiry at the first requests.
        for lifetime in 4..10 {
            let ecr = start(builder().token_lifetime(lifetime).expired_token(how));
            let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs", "1"]);
            push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
            assert_arrived(&ecr, "app", &layout, &layout.root());
            let (requests, tokens) = (ecr.registry_requests().len() as u64, ecr.api_requests().len() as u64);
            assert!(tokens > 1 && tokens <= requests.div_ceil(lifetime) + 1, "{tokens} tokens for {requests} requests");
        }
    }
}

#[test]
fn a_token_that_expires_while_many_blobs_are_in_flight_is_renewed() {
    let layout = Layout::of_layers(&[100_000; 12]);
    for how in [ExpiredToken::Denied, ExpiredToken::Challenge] {
        let ecr = start(builder().token_lifetime(20).expired_token(how));
        Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
        assert_arrived(&ecr, "app", &layout, &layout.root());
    }
}

#[test]
fn a_token_that_claims_to_have_expired_long_ago_is_used() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(builder().token_expires_at_in_past(true)));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(ecr.api_requests().len(), 1);
}

#[test]
fn a_token_that_is_never_taken_ends_the_push() {
    let refused = Fault::on("*", "").times(u64::MAX).does(FaultKind::status(401));
    let ecr = start(builder().fault(refused));
    let layout = Layout::fixture("good/one-manifest");
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(4).prints(&[]).says_one_error();
    ran.says(["401", "ECR doesn't take this token"]);
    assert!(ecr.api_requests().len() < 6, "{} tokens were fetched", ecr.api_requests().len());
}

#[test]
fn a_missing_repository_is_named_without_delay() {
    let layout = Layout::fixture("good/index");
    for how in [MissingRepository::NotFound, MissingRepository::CloseConnection] {
        let ecr = start(LocalEcr::builder().missing_repository(how));
        let since = Instant::now();
        let ran = Push::of(layout.path()).at(&ecr).to("team/app:v1").run().exits(5).prints(&[]).says_one_error();
        ran.says(["team/app", "NAME_UNKNOWN", "create-repository"]).says_nothing_of(["trying again"]);
        assert!(since.elapsed() < Duration::from_secs(20), "{how:?} took {:?}", since.elapsed());
    }
}

#[test]
fn a_repository_that_is_made_by_the_push_gets_the_image() {
    let (layout, ecr) =
        (Layout::fixture("good/index"), start(LocalEcr::builder().missing_repository(MissingRepository::CreateOnPush)));
    Push::of(layout.path()).at(&ecr).to("team/app:v1").run().exits(0);
    assert_arrived(&ecr, "team/app", &layout, &layout.root());
}

/// Asserts that neither outputs nor files below these folders have any of the secrets.
fn nobody_saw(secrets: &[String], outputs: &[&str], folders: &[&Path]) {
    let mut texts: Vec<(String, Vec<u8>)> = vec![("the output".to_owned(), outputs.concat().into_bytes())];
    for folder in folders {
        for path in Tree::of(folder).paths() {
            let path = folder.join(path);
            texts.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
        }
    }
    for secret in secrets {
        for (place, text) in &texts {
            let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{place} has a secret: {secret:.20}…");
        }
    }
}

#[test]
fn no_secret_is_printed_or_written_at_any_verbosity() {
    let scenes = [
        || builder(),
        || builder().token_lifetime(5).expired_token(ExpiredToken::Challenge),
        || builder().deny("ecr:PutImage"),
        || builder().fault(Fault::on("*", "").nth(3).times(9).does(FaultKind::Cut)),
    ];
    for (scene, make) in scenes.iter().enumerate() {
        for verbosity in ["--quiet", "-vv"] {
            let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(make()));
            let temporary = layout.parent().join("tmp");
            fs::create_dir(&temporary).unwrap();
            let push = Push::of(layout.path()).at(&ecr).to("app:v1").args([verbosity, "--retries=1"]);
            let push = push.env("TMPDIR", &temporary).env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
            let ran = push.run();
            let mut secrets = ecr.issued_passwords();
            assert!(!secrets.is_empty(), "scene {scene}");
            secrets.extend(secrets.clone().iter().map(|password| encoded(&format!("AWS:{password}"))));
            secrets.push(ecr.secret_access_key().to_owned());
            // Some lines of base64 would do, too.
            secrets.extend(
                secrets.clone().iter().filter(|secret| secret.len() > 200).map(|secret| secret[60..140].to_owned()),
            );
            nobody_saw(&secrets, &[&ran.stdout, &ran.stderr], &[push.home(), layout.parent()]);
            if verbosity.starts_with("-v") {
                ran.says(["/v2/app/manifests/v1"]);
            }
        }
    }
}

fn encoded(text: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)
}

#[test]
fn a_profile_is_read_from_the_shared_files() {
    let check = |args: &[&str], environment: &[(&str, &str)]| {
        let ecr = ecr();
        let (layout, push) = without_key(&ecr);
        put(&push, ".aws/credentials", &key_file(&ecr, "p"));
        // A region of the profile counts for nothing: the host names it.
        put(&push, ".aws/config", "[profile p]\nregion = eu-north-1\n");
        let push = environment.iter().fold(push.args(args), |push, (name, value)| push.env(name, value));
        push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    };
    check(&["--profile", "p"], &[]);
    check(&[], &[("AWS_PROFILE", "p")]);
    check(&["--profile", "p"], &[("AWS_PROFILE", "q")]);
    check(&[], &[("ECR_PUSH_PROFILE", "p"), ("AWS_PROFILE", "q")]);
    check(&["--profile=q", "--profile=123456789012.dkr.ecr.ap-northeast-2.amazonaws.com=p"], &[]);
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let ecr = ecr();
    let (_layout, push) = without_key(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "p"));
    push.args(["--profile", "nobody"]).run().exits(4).prints(&[]).says(["nobody"]);
}

#[test]
fn a_process_of_the_profile_gives_credentials() {
    let ecr = ecr();
    let (layout, push) = without_key(&ecr);
    let json = serde_json::json!({
        "Version": 1, "AccessKeyId": ecr.access_key_id(), "SecretAccessKey": ecr.secret_access_key(),
    });
    let script = push.home().join("give");
    fs::write(&script, format!("#!/bin/sh\necho '{json}'\n")).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    put(&push, ".aws/config", &format!("[profile p]\ncredential_process = {}\n", script.display()));
    push.args(["--profile", "p"]).run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
}

#[test]
fn an_endpoint_may_be_named_on_the_command_line() {
    let ecr = ecr();
    let layout = Layout::fixture("good/one-manifest");
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").env("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:9");
    push.args(["--endpoint-url", &ecr.api_url()]).run().exits(0);
}

#[test]
fn a_refused_head_is_explained_by_a_get_and_asks_for_no_other_right() {
    let ecr = start(builder().deny("ecr:BatchGetImage"));
    let layout = Layout::fixture("good/one-manifest");
    Push::of(layout.path())
        .at(&ecr)
        .to("app:v1")
        .run()
        .exits(4)
        .says(["is not authorized to perform: ecr:BatchGetImage"]);
    assert!(!requests(&ecr, "GET", "/manifests/").is_empty());
}

#[test]
fn docker_credentials_are_for_other_registries() {
    let ecr = ecr();
    let layout = Layout::fixture("good/one-manifest");
    let host = ecr.registry_url().replace("http://", "");
    let push =
        Push::of(layout.path()).to_reference(format!("{host}/app:v1")).logged_in(&host, "AWS", &ecr.issue_password());
    push.run().exits(0).prints(&[&format!("{host}/app@{}", layout.root())]);
    assert_eq!(ecr.api_requests(), []);

    let anonymous = Push::of(layout.path()).to_reference(format!("{host}/app:v1"));
    let ran = anonymous.run().exits(4).prints(&[]).says_one_error();
    ran.says(["401", &format!("docker login {host}")]);
}
