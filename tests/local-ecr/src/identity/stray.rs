//! Where the secrets of identities may go: each to the one service that it is for.

use super::{container, metadata, sso};
use crate::auth::Signer;
use crate::journal::Side;
use crate::server::{Call, Shared};
use crate::sync::lock;

/// Whether a request's head has something of an identity that is none of its receiver's business. Bodies are not looked
/// at: those of STS and of the OIDC service hold secrets rightly, others are read by nobody here.
pub(crate) fn is_stray(shared: &Shared, call: &Call) -> bool {
    let signed_for = call.authorization().and_then(Signer::read).map(|signer| signer.service);
    let identity = call.side == Side::Identity;
    // A signature is for one service.
    if signed_for.is_some_and(|service| (service == "sts") != identity) {
        return true;
    }
    let holds = |secret: &String| call.holds(secret);
    let settings = &shared.config.identity;
    let state = lock(&shared.state);
    let path = call.path.as_str();
    let at = |wanted: &str| identity && path.starts_with(wanted);
    let web_identity = settings.web_identity_tokens.iter().chain(&settings.expired_web_identity_tokens).any(holds);
    let sessions = settings.sso_tokens.iter().chain(&state.sso_tokens).any(holds);
    let container = settings.container_token.iter().any(holds);
    let metadata = state.metadata_tokens.iter().any(holds);
    // A session token goes with a signature, and a secret key nowhere.
    let issued = state.temporary.all();
    let unsigned = signed_for.is_none() && issued.iter().any(|credentials| call.holds(&credentials.session_token));
    let keys = call.holds(&shared.config.secret_access_key)
        || issued.iter().any(|credentials| call.holds(&credentials.secret_access_key));
    let misplaced = (call.header(metadata::TOKEN).is_some() && !at("/latest/"))
        || (call.header(sso::BEARER).is_some() && !at("/federation/"));
    let authorized = identity && call.authorization().is_some() && signed_for.is_none() && !at(container::PATH);
    web_identity
        || (sessions && !at("/federation/"))
        || (container && !at(container::PATH))
        || (metadata && !at("/latest/"))
        || unsigned
        || keys
        || misplaced
        || authorized
}
