//! IAM Identity Center: a profile whose user has logged in with `aws sso login`.

use local_ecr::{Builder, LocalEcr, Source};
use serde_json::{Value, json};

use super::{arrives, asked, asking, fails, put};
use crate::support::{Layout, Push, builder, start};

/// The file of a session is called by the SHA-1 of the session's name, or of [`START`] where it has none.
const SESSION_FILE: &str = ".aws/sso/cache/71b21161ffa1e6516bcc072aaf5ef38cbe85b511.json";
const START_FILE: &str = ".aws/sso/cache/f632e07e51c126e5393865de086d88fdc967460e.json";
const START: &str = "https://users.awsapps.example/start";

const TOKEN: &str = "access-token-of-the-session";
const REFRESH: &str = "refresh-token-of-the-session";
const CLIENT_SECRET: &str = "secret-of-the-client";

fn center() -> Builder {
    builder().sso_token(TOKEN).sso_role("123456789012", "Push")
}

const ROLE: &str = "sso_account_id = 123456789012\nsso_role_name = Push\n";

/// A push whose profile has a session, as the aws CLI writes it since version 2.9.
fn with_session(ecr: &LocalEcr, cached: &Value) -> (Layout, Push) {
    let (layout, push) = asking(ecr);
    let session = format!("[sso-session company]\nsso_start_url = {START}\nsso_region = eu-west-1\n");
    put(&push, ".aws/config", &format!("{session}[profile p]\nsso_session = company\n{ROLE}"));
    put(&push, SESSION_FILE, &cached.to_string());
    (layout, push.env("AWS_PROFILE", "p"))
}

fn cached(token: &str, end: &str) -> Value {
    json!({"startUrl": START, "region": "eu-west-1", "accessToken": token, "expiresAt": end})
}

fn refreshable(end: &str) -> Value {
    let mut cached = cached("access-token-of-yesterday", end);
    let more = json!({
        "clientId": "client", "clientSecret": CLIENT_SECRET, "refreshToken": REFRESH,
        "registrationExpiresAt": "2099-01-01T00:00:00Z",
    });
    cached.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cached
}

const FUTURE: &str = "2099-01-01T00:00:00Z";
const PAST: &str = "2020-01-01T00:00:00Z";
const ASKED: &str = "GET /federation/credentials?role_name=Push&account_id=123456789012 sso:GetRoleCredentials";

#[test]
fn a_session_gives_its_role() {
    let ecr = start(center());
    let (layout, push) = with_session(&ecr, &cached(TOKEN, FUTURE));
    let ran = arrives(&ecr, &layout, &push.args(["--profile=p"]), Some(Source::Sso));
    ran.says(["origin=\"profile p (SSO)\""]);
    assert_eq!(asked(&ecr), [format!("{ASKED} 200")]);
}

#[test]
fn a_profile_without_a_session_of_its_own_gives_its_role() {
    let ecr = start(center());
    let (layout, push) = asking(&ecr);
    let config = format!("[profile p]\nsso_start_url = {START}\nsso_region = eu-west-1\n{ROLE}");
    put(&push, ".aws/config", &config);
    put(&push, START_FILE, &cached(TOKEN, FUTURE).to_string());
    arrives(&ecr, &layout, &push.env("AWS_PROFILE", "p"), Some(Source::Sso));
    assert_eq!(asked(&ecr), [format!("{ASKED} 200")]);
}

#[test]
fn a_session_that_ends_is_renewed() {
    let ecr = start(center().sso_renewal(REFRESH, "access-token-of-today"));
    let (layout, push) = with_session(&ecr, &refreshable(PAST));
    let ran = arrives(&ecr, &layout, &push, Some(Source::Sso));
    ran.says_nothing_of([CLIENT_SECRET, "access-token-of-yesterday"]);
    assert_eq!(asked(&ecr), ["POST /token 200".to_owned(), format!("{ASKED} 200")]);
}

#[test]
fn a_session_that_has_ended_asks_for_a_login() {
    let check = |cached: &Value, words: &[&str], asked_for: &[String]| {
        let ecr = start(center());
        let (_layout, push) = with_session(&ecr, cached);
        let ran = fails(&ecr, &push, 4);
        ran.says(["profile", "aws sso login --profile p"]).says(words.iter().copied()).says_nothing_of([
            CLIENT_SECRET,
            "access-token-of-yesterday",
            REFRESH,
        ]);
        assert_eq!(asked(&ecr), asked_for);
    };
    check(&cached("access-token-of-yesterday", PAST), &["expired"], &[]);
    check(&cached("access-token-of-yesterday", FUTURE), &["UnauthorizedException"], &[format!("{ASKED} 401")]);
    let refused = ["POST /token 400".to_owned(), format!("{ASKED} 401")];
    check(&refreshable(PAST), &["UnauthorizedException"], &refused);
}

#[test]
fn a_session_that_never_was_asks_for_a_login() {
    let ecr = start(center());
    let (_layout, push) = with_session(&ecr, &cached(TOKEN, FUTURE));
    std::fs::remove_file(push.home().join(SESSION_FILE)).unwrap();
    fails(&ecr, &push, 4).says(["aws sso login --profile p"]);
    assert_eq!(ecr.identity_requests(), []);
}

#[test]
fn a_role_that_the_user_does_not_have_is_said() {
    let ecr = start(builder().sso_token(TOKEN).sso_role("123456789012", "Other"));
    let (_layout, push) = with_session(&ecr, &cached(TOKEN, FUTURE));
    fails(&ecr, &push.args(["--profile=p"]), 4)
        .says(["ForbiddenException", "this user has no such role in that account"]);
}

#[test]
fn a_session_that_no_file_describes_is_said() {
    let ecr = start(center());
    let (_layout, push) = asking(&ecr);
    put(&push, ".aws/config", &format!("[profile p]\nsso_session = nobody\n{ROLE}"));
    fails(&ecr, &push.args(["--profile=p"]), 4).says(["nobody", "profile p"]);
}
