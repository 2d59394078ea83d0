//! Credentials that end in mid-push are fetched anew from where they came.

use std::time::Duration;

use local_ecr::{Answer, Builder, LocalEcr, Role, Source};

use super::{KEY, METADATA_OFF, ROLE, SECRET, asking, hides, signers};
use crate::support::{Layout, Push, assert_arrived, builder, reference, start};

/// The registry's token lasts for less than the push needs.
fn with_short_tokens() -> Builder {
    builder().token_lifetime(6)
}

#[track_caller]
fn arrives_in_the_end(ecr: &LocalEcr, layout: &Layout, push: Push, source: Source) {
    // Uploads side by side would use up each token before one of them is through.
    let ran = push.args(["--jobs=1"]).run().exits(0).prints(&[&reference(ecr, "app", &layout.root())]);
    hides(ecr, &ran);
    assert_arrived(ecr, "app", layout, &layout.root());
    let signers = signers(ecr, &ecr.api_requests());
    assert!(signers.iter().all(|signer| *signer == Some(source)), "{signers:?}");
}

/// What the API answered, one after the other.
fn answers(ecr: &LocalEcr) -> Vec<Answer> {
    ecr.api_requests().iter().map(|entry| entry.answer).collect()
}

/// The token; at the next request the credentials have expired; with new ones it goes on.
#[track_caller]
fn was_renewed(ecr: &LocalEcr, source: Source) {
    let answers = answers(ecr);
    let [good, expired] = [200, 400].map(Answer::Status);
    assert!(answers.starts_with(&[good, expired, good]), "{answers:?}");
    let issued = ecr.issued_credentials().iter().filter(|credentials| credentials.source == source).count();
    assert_eq!(issued, answers.iter().filter(|answer| **answer == good).count(), "each was good for one request");
}

#[test]
fn credentials_of_a_container_are_renewed() {
    let ecr = start(with_short_tokens().temporary_lifetime(1));
    let (layout, push) = asking(&ecr);
    let push = push.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", ecr.container_url());
    arrives_in_the_end(&ecr, &layout, push, Source::Container);
    was_renewed(&ecr, Source::Container);
}

#[test]
fn credentials_of_an_instance_are_renewed() {
    let ecr = start(with_short_tokens().temporary_lifetime(1).instance_role("node"));
    let (layout, push) = asking(&ecr);
    arrives_in_the_end(&ecr, &layout, push.without(METADATA_OFF), Source::Instance);
    was_renewed(&ecr, Source::Instance);
}

#[test]
fn a_role_is_assumed_anew() {
    let ecr = start(with_short_tokens().temporary_lifetime(1).role(Role::new(ROLE)));
    let (layout, push) = asking(&ecr);
    let push = push.env(KEY, ecr.access_key_id()).env(SECRET, ecr.secret_access_key()).args(["--role-arn", ROLE]);
    arrives_in_the_end(&ecr, &layout, push, Source::AssumedRole);
    was_renewed(&ecr, Source::AssumedRole);
}

#[test]
fn a_web_identity_token_is_read_anew() {
    let ecr =
        start(with_short_tokens().temporary_lifetime(1).role(Role::new(ROLE)).web_identity_token("jwt-of-nobody"));
    let (layout, push) = asking(&ecr);
    super::put(&push, "jwt", "jwt-of-nobody");
    let file = push.home().join("jwt");
    let push = push.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE);
    arrives_in_the_end(&ecr, &layout, push, Source::WebIdentity);
    was_renewed(&ecr, Source::WebIdentity);
}

#[test]
fn credentials_that_say_that_they_end_are_renewed_before_they_do() {
    // Their end is near from the start: each time that they are needed there are new ones, and none is ever refused.
    let ecr = start(with_short_tokens().temporary_lifetime(1).temporary_expires_in(Duration::from_secs(20)));
    let (layout, push) = asking(&ecr);
    let push = push.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", ecr.container_url());
    arrives_in_the_end(&ecr, &layout, push, Source::Container);
    let answers = answers(&ecr);
    assert!(answers.len() > 1 && answers.iter().all(|answer| *answer == Answer::Status(200)), "{answers:?}");

    // With an hour ahead of them they are fetched once.
    let ecr = start(with_short_tokens());
    let (layout, push) = asking(&ecr);
    let push = push.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", ecr.container_url());
    arrives_in_the_end(&ecr, &layout, push, Source::Container);
    assert_eq!((ecr.issued_credentials().len(), ecr.api_requests().len() > 1), (1, true));
}
