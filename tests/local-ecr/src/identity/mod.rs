//! Where credentials come from: STS, the instance metadata service, the container endpoint of ECS and EKS, IAM Identity
//! Center. All of them on one port; a request's path says whose it is.
//!
//! What they hand out are temporary credentials that ECR's API then takes (`issued`). Signatures are not verified.

mod builder;
mod container;
mod issued;
mod metadata;
mod settings;
mod sso;
mod stray;
mod sts;

use std::sync::Arc;

use crate::body::Inbound;
use crate::iam::partition;
use crate::reply::{Refusal, Reply};
use crate::server::{Call, Shared};

pub(crate) use container::PATH as CONTAINER_PATH;
pub use issued::{IssuedCredentials, Source};
pub(crate) use issued::{Known, Temporary};
pub use settings::Role;
pub(crate) use settings::Settings;
pub(crate) use stray::is_stray;
pub(crate) use sts::error_body;

/// The ARN of a role's session, in the account at home.
pub(crate) fn assumed_role(shared: &Shared, role: &str, session: &str) -> String {
    let home = &shared.config.home;
    format!("arn:{}:sts::{}:assumed-role/{role}/{session}", partition(&home.region), home.account)
}

/// More than any request here needs.
const REQUEST_LIMIT: usize = 64 * 1024;

/// Answers a request for credentials.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    call: &Call,
    sequence: usize,
    inbound: &mut Inbound,
) -> Result<Reply, Refusal> {
    match (call.method.as_str(), call.path.as_str()) {
        ("POST", "/") => sts::handle(shared, call, sequence, inbound).await,
        ("POST", "/token") => sso::token(shared, inbound).await,
        ("GET", "/federation/credentials") => Ok(sso::credentials(shared, call, sequence)),
        ("GET", container::PATH) => Ok(container::handle(shared, call, sequence)),
        (_, path) if path.starts_with("/latest/") => metadata::handle(shared, call, sequence),
        _ => Ok(shared.unknown(call)),
    }
}
