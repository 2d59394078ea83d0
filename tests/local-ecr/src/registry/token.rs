//! ECR Public's challenge, and the exchange that it leads to (facts/ecr.md, Credentials).

use serde_json::json;

use super::Exchange;
use crate::auth::{Kind, Scheme, scheme};
use crate::config::PUBLIC;
use crate::journal::Credential;
use crate::reply::{Refusal, Reply};
use crate::sync::lock;

/// Where the exchange is.
const PATH: &str = "/token/";

impl Exchange<'_> {
    /// Whether the request is for the exchange.
    pub(super) fn is_exchange(&self) -> bool {
        self.call.registry.public && self.call.method == "GET" && self.call.path == PATH
    }

    /// GET: a bearer token for the token that the API gave. Strangers get none here.
    pub(super) fn token(&self) -> Result<Reply, Refusal> {
        let header = self.call.authorization();
        if self.call.credential != Credential::Valid || scheme(header) != Some(Scheme::Basic) {
            return Err(refused(&format!("Basic realm=\"https://{}/\",service=\"ecr.amazonaws.com\"", PUBLIC.0)));
        }
        let mut state = lock(&self.shared.state);
        let holder = state.tokens.holder(header);
        let token = state.tokens.issue(Kind::Bearer, holder.as_deref());
        Ok(Reply::new(200).json("application/json; charset=utf-8", &json!({ "token": token })))
    }

    /// The 401 of this registry, with its challenge.
    pub(super) fn challenge(&self) -> Refusal {
        if self.call.registry.public {
            return refused(&format!("Bearer realm=\"https://{0}{PATH}\",service=\"{0}\",scope=\"aws\"", PUBLIC.0));
        }
        refused(&format!("Basic realm=\"https://{}/\",service=\"ecr.amazonaws.com\"", self.call.registry.host()))
    }

    /// Whether the token is one that is only exchanged.
    pub(super) fn is_unexchanged(&self) -> bool {
        self.call.registry.public && scheme(self.call.authorization()) == Some(Scheme::Basic)
    }
}

fn refused(challenge: &str) -> Refusal {
    let reply = Reply::new(401).header("Www-Authenticate", challenge);
    reply.header("Content-Type", "text/plain; charset=utf-8").body("Not Authorized").into()
}
