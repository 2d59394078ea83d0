//! Temporary credentials that were handed out, and what a request that shows them is worth.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::{Algorithm, Digest};

/// Who handed temporary credentials out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// [`LocalEcr::issue_credentials`](crate::LocalEcr::issue_credentials).
    Test,
    /// STS, for another identity.
    AssumedRole,
    /// STS, for a web identity token.
    WebIdentity,
    /// The instance metadata service.
    Instance,
    /// The container endpoint.
    Container,
    /// IAM Identity Center.
    Sso,
}

/// Temporary credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCredentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The secret key.
    pub secret_access_key: String,
    /// The session token, which has to come along.
    pub session_token: String,
    /// Who handed them out.
    pub source: Source,
    /// The end that they were given.
    pub(crate) end: SystemTime,
}

impl IssuedCredentials {
    /// Their end in AWS's form.
    pub(super) fn expiration(&self) -> String {
        written(self.end)
    }
}

/// A time in AWS's form.
pub(super) fn written(time: SystemTime) -> String {
    // The years that this can't write are far away.
    DateTime::from(time).fmt(Format::DateTime).unwrap_or_default()
}

/// What credentials are worth that a request is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Good,
    Expired,
    Unknown,
}

#[derive(Debug)]
struct Issued {
    credentials: IssuedCredentials,
    principal: String,
    /// How many requests were signed with them, as far as that counts.
    requests: u64,
}

/// All that were handed out, by access key.
#[derive(Debug, Default)]
pub(crate) struct Temporary {
    issued: BTreeMap<String, Issued>,
    /// In the order of their making.
    order: Vec<String>,
}

impl Temporary {
    /// Hands credentials out, for a principal that STS knows by this ARN.
    pub(crate) fn issue(&mut self, source: Source, principal: String, expires_in: Duration) -> IssuedCredentials {
        let seed = format!("{}{source:?}{:?}", self.order.len(), SystemTime::now());
        let block = |name: &str| Digest::of(Algorithm::Sha512, format!("{name}{seed}").as_bytes());
        let hex = |name: &str| block(name).as_str()["sha512:".len()..].to_owned();
        let credentials = IssuedCredentials {
            access_key_id: format!("ASIA{}", hex("id")[..16].to_uppercase()),
            secret_access_key: STANDARD.encode(&hex("secret")[..30]),
            // Session tokens are base64, and clients have to escape them where they travel in a URL.
            session_token: STANDARD.encode(format!("?>?{}{}", hex("token"), hex("more"))),
            source,
            end: SystemTime::now() + expires_in,
        };
        self.order.push(credentials.access_key_id.clone());
        let issued = Issued { credentials: credentials.clone(), principal, requests: 0 };
        self.issued.insert(credentials.access_key_id.clone(), issued);
        credentials
    }

    /// What a request with this key and session token is worth; where there is a lifetime, it counts against that.
    pub(crate) fn check(&mut self, access_key_id: &str, token: Option<&str>, lifetime: Option<u64>) -> Known {
        match self.issued.get_mut(access_key_id) {
            Some(issued) if token == Some(&issued.credentials.session_token) => {
                let Some(most) = lifetime else { return Known::Good };
                issued.requests += 1;
                if issued.requests > most { Known::Expired } else { Known::Good }
            }
            _ => Known::Unknown,
        }
    }

    /// The ARN of whom they were given to.
    pub(crate) fn principal(&self, access_key_id: &str) -> Option<&str> {
        self.issued.get(access_key_id).map(|issued| issued.principal.as_str())
    }

    pub(crate) fn all(&self) -> Vec<IssuedCredentials> {
        self.order.iter().filter_map(|id| self.issued.get(id)).map(|issued| issued.credentials.clone()).collect()
    }
}
