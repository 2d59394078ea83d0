//! The endpoint that ECS, and EKS Pod Identity's agent, have for a container.

use local_ecr::{LocalEcr, Source};

use super::{arrives, asked, asking, fails, put};
use crate::support::servers::{Front, Said};
use crate::support::{Layout, Push, builder, start};

const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

fn in_a_container(ecr: &LocalEcr) -> (Layout, Push) {
    let (layout, push) = asking(ecr);
    let push = push.env(URI, ecr.container_url());
    (layout, push)
}

#[test]
fn a_task_pushes_as_its_role() {
    for token in [None, Some("token-of-the-task")] {
        let ecr = start(token.map_or(builder(), |token| builder().container_token(token)));
        let (layout, mut push) = in_a_container(&ecr);
        push = token.iter().fold(push, |push, token| push.env(TOKEN, token));
        let ran = arrives(&ecr, &layout, &push, Some(Source::Container));
        ran.says(["origin=\"container endpoint\""]);
        assert_eq!(asked(&ecr), ["GET /v1/credentials 200"]);
    }
}

#[test]
fn no_proxy_sees_what_the_endpoint_is_shown() {
    let ecr = start(builder().container_token("token-of-the-task"));
    let proxy = Front::start(|_| Said::status(502));
    let (layout, push) = in_a_container(&ecr);
    let push = push.env(TOKEN, "token-of-the-task").env("HTTP_PROXY", format!("http://{}", proxy.address()));
    arrives(&ecr, &layout, &push, Some(Source::Container));
    assert_eq!(proxy.asked().len(), 0);
}

#[test]
fn a_pod_shows_the_token_in_its_file() {
    let ecr = start(builder().container_token("token-of-the-pod"));
    let (layout, push) = in_a_container(&ecr);
    put(&push, "token", "token-of-the-pod");
    let file = push.home().join("token");
    // The file outranks the variable.
    arrives(&ecr, &layout, &push.env(TOKEN_FILE, file).env(TOKEN, "other"), Some(Source::Container));
}

#[test]
fn a_token_that_the_endpoint_does_not_know_is_said() {
    let ecr = start(builder().container_token("token-of-the-pod"));
    let (_layout, push) = in_a_container(&ecr);
    put(&push, "token", "secret-of-another-pod");
    let file = push.home().join("token");
    let ran = fails(&ecr, &push.env(TOKEN_FILE, file), 4);
    ran.says(["container endpoint", "401", "EKS Pod Identity association"]).says_nothing_of(["secret-of-another-pod"]);
    assert_eq!(asked(&ecr), ["GET /v1/credentials 401"]);
}

#[test]
fn a_token_that_is_not_there_is_said() {
    let ecr = start(builder().container_token("token-of-the-pod"));
    let (_layout, push) = in_a_container(&ecr);
    fails(&ecr, &push.env(TOKEN_FILE, "/nowhere/token"), 4).says(["container endpoint", "No such file"]);
    assert_eq!(ecr.identity_requests(), []);
}

#[test]
fn a_token_that_no_header_can_have_is_said_and_not_shown() {
    let ecr = start(builder().container_token("token-of-the-pod"));
    let (_layout, push) = in_a_container(&ecr);
    put(&push, "token", "token-of-the-pod\n");
    let file = push.home().join("token");
    fails(&ecr, &push.env(TOKEN_FILE, file), 4).says(["container endpoint", "header value", "its token"]);
    assert_eq!(ecr.identity_requests(), []);
}

#[test]
fn a_proxy_in_between_is_thought_of() {
    let ecr = start(builder());
    let (_layout, push) = asking(&ecr);
    let push = push.env(URI, "http://localhost:9/v1/credentials").env("HTTP_PROXY", "http://127.0.0.1:9");
    fails(&ecr, &push, 6).says(["container endpoint", "AWS_CONTAINER_CREDENTIALS_FULL_URI right?"]);
}

#[test]
fn an_endpoint_that_nobody_listens_on_is_unavailable() {
    let ecr = start(builder());
    let (_layout, push) = asking(&ecr);
    let ran = fails(&ecr, &push.env(URI, "http://127.0.0.1:9/v1/credentials"), 6);
    ran.says(["container endpoint", "refused", "its agent"]);
}

#[test]
fn an_endpoint_that_is_not_the_machine_s_own_is_not_asked() {
    let ecr = start(builder());
    let (_layout, push) = asking(&ecr);
    let ran = fails(&ecr, &push.env(URI, "http://192.0.2.1/v1/credentials"), 4);
    ran.says(["container endpoint", "http://192.0.2.1/v1/credentials", "allowed IP address"]);
}
