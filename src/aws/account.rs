//! Who the caller is, and what its account is set to.

use super::session::{AwsError, AwsSession};

/// Whose the credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account, twelve digits.
    pub account: String,
    /// The user or the session of a role.
    pub arn: String,
}

/// Whose the credentials are. Everybody may ask that.
///
/// # Errors
/// When STS refuses them, or can't be asked.
pub async fn identity(session: &AwsSession) -> Result<Identity, AwsError> {
    let asking =
        session.ask("sts:GetCallerIdentity", || async { Ok(session.sts().await?.get_caller_identity().send().await) });
    let caller = asking.await?;
    Ok(Identity { account: caller.account.unwrap_or_default(), arn: caller.arn.unwrap_or_default() })
}

/// The account's setting for mounts (facts/ecr.md, Mounts).
const BLOB_MOUNTING: &str = "BLOB_MOUNTING";

/// Whether the caller's account lets blobs be mounted from one repository into another. Needs `ecr:GetAccountSetting`, which
/// a push doesn't.
///
/// # Errors
/// When AWS refuses, or can't be asked.
pub async fn mounts_blobs(session: &AwsSession) -> Result<bool, AwsError> {
    let asking = session.ask("ecr:GetAccountSetting", || async {
        Ok(session.ecr().await?.get_account_setting().name(BLOB_MOUNTING).send().await)
    });
    Ok(asking.await?.value.is_some_and(|value| value.eq_ignore_ascii_case("ENABLED")))
}
