//! Credentials, whose they are, and what their account is set to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Notes, State};
use crate::auth::AuthError;
use crate::aws::account;
use crate::aws::host::EcrRegistry;
use crate::aws::session::{AwsError, AwsSession};
use crate::aws::token::TokenError;
use crate::cause::chain;
use crate::error::Error;

/// Where credentials are found, and whose they are; says whether there are any.
pub(super) async fn credentials(notes: &mut Notes, session: &AwsSession, bound: Duration) -> bool {
    match session.found().await {
        Ok(found) => {
            let until = found.expiry().map(|end| format!(", good for {} more", left(end))).unwrap_or_default();
            notes.good("credentials", format!("found in the {}{until}", found.origin()));
        }
        Err(error) => {
            notes.error("credentials", refused(error));
            return false;
        }
    }
    // A push asks STS for nothing, so that it works where STS is out of reach, and nobody waits for it here.
    let Ok(identity) = tokio::time::timeout(bound, account::identity(session)).await else {
        notes.note("identity", State::Notice, format!("not known: STS gave no answer in {} s", bound.as_secs()));
        return true;
    };
    match identity {
        Ok(identity) => match session.registry() {
            EcrRegistry::Private(host) if host.account != identity.account => notes.note(
                "identity",
                State::Notice,
                format!(
                    "{}, of another account than the registry's: the repository's policy has to allow it, too",
                    identity.arn
                ),
            ),
            _ => notes.good("identity", identity.arn),
        },
        Err(error) => notes.note("identity", State::Notice, format!("not known: {}", chain(&error))),
    }
    true
}

fn refused(error: AwsError) -> Error {
    Error::Auth(std::sync::Arc::new(AuthError::Token(TokenError::Aws(error))))
}

/// How long until a time in seconds since 1970, in words.
fn left(end: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match end.saturating_sub(now) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Whether blobs can be mounted: faster where it works, and never needed.
pub(super) async fn mounts(notes: &mut Notes, session: &AwsSession, bound: Duration) {
    let Ok(mounts) = tokio::time::timeout(bound, account::mounts_blobs(session)).await else {
        return notes.note("mounts", State::Notice, "the account's setting can't be seen: no answer in time");
    };
    match mounts {
        Ok(true) => notes.good("mounts", "the account's setting BLOB_MOUNTING is on"),
        Ok(false) => notes.note(
            "mounts",
            State::Notice,
            "the account's setting BLOB_MOUNTING is off: blobs that another repository has are sent again",
        ),
        Err(error) => {
            let finding = format!("the account's setting can't be seen: {}", chain(&error));
            notes.note("mounts", State::Notice, finding);
        }
    }
}
