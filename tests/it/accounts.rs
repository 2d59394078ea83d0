//! Pushes to another account's registry: the identity's own policy counts, and the repository's.

use local_ecr::{DenyReason, LocalEcr, PolicyKind};

use crate::support::{Layout, Push, assert_arrived, builder, reference, start};

const KEY: &str = "AKIAI44QH8DHBEXAMPLE";
const OTHER: &str = "210987654321";
const ARN: &str = "arn:aws:iam::210987654321:user/ci";

fn server() -> local_ecr::Builder {
    builder().identity(KEY, "its-secret", None, OTHER, ARN)
}

fn push(layout: &Layout, ecr: &LocalEcr) -> Push {
    let push = Push::of(layout.path()).at(ecr).to("app:v1");
    ecr.identity_environment(KEY).into_iter().fold(push, |push, (name, value)| push.env(name, value))
}

#[test]
fn a_repository_that_lets_the_account_in_gets_the_image() {
    let (layout, ecr) = (Layout::fixture("good/index"), start(server().repository_policy_allows(OTHER)));
    push(&layout, &ecr).run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    assert!(ecr.host().starts_with("123456789012."));
}

#[test]
fn a_repository_that_does_not_names_its_own_policy() {
    let (layout, ecr) = (Layout::fixture("good/index"), start(server()));
    let ran = push(&layout, &ecr).run().exits(4).prints(&[]).says_one_error();
    ran.says(["no resource-based policy allows the ecr:BatchGetImage action", ARN, "  next: "]);
}

#[test]
fn an_identity_without_the_right_is_told_of_both_policies() {
    let missing = DenyReason::Missing(PolicyKind::Identity);
    let ecr = start(server().repository_policy_allows(OTHER).identity_deny(KEY, "ecr:PutImage", missing));
    let layout = Layout::fixture("good/index");
    let ran = push(&layout, &ecr).run().exits(4).prints(&[]).says_one_error();
    ran.says(["needs ecr:PutImage on arn:aws:ecr:ap-northeast-2:123456789012:repository/app", "account 123456789012"]);
}

#[test]
fn the_doctor_says_whose_account_it_is() {
    let ecr = start(server().repository_policy_allows(OTHER));
    ecr.expect_violation(local_ecr::ViolationKind::ForbiddenAction);
    let push = Push::of("doctor").at(&ecr).to("app:v1").env("AWS_ENDPOINT_URL_STS", ecr.identity_url());
    let push = ecr.identity_environment(KEY).into_iter().fold(push, |push, (name, value)| push.env(name, value));
    let ran = push.run().exits(0);
    assert!(ran.stdout.contains("of another account than the registry's"), "{}", ran.stdout);
}
