//! Tokens that were issued, and what the `Authorization` header of a request is worth.
//!
//! API requests must name a known access key, a region that has a registry and the API's service
//! in their `SigV4` header. The signature itself is not verified.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::config::RegistryId;
use crate::digest::{Algorithm, Digest};
use crate::journal::{Credential, Signed};

/// How long a token lasts (facts/ecr.md, Credentials).
const TWELVE_HOURS: Duration = Duration::from_hours(12);

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Registries in this region, whatever the account, as a Basic password (facts/ecr.md: a token is region-bound).
    Region(String),
    /// ECR Public's exchange, as a Basic password.
    Exchange,
    /// ECR Public's registry, as a bearer token.
    Bearer,
}

impl Kind {
    /// The kind that the API gives for a registry.
    pub(crate) fn of(registry: &RegistryId) -> Self {
        if registry.public { Self::Exchange } else { Self::Region(registry.region.clone()) }
    }

    /// Whether a token opens a registry when it is presented in this way.
    fn opens(&self, registry: &RegistryId, scheme: Scheme) -> bool {
        match self {
            Self::Region(region) => scheme == Scheme::Basic && !registry.public && *region == registry.region,
            Self::Exchange => scheme == Scheme::Basic && registry.public,
            Self::Bearer => scheme == Scheme::Bearer && registry.public,
        }
    }
}

/// How a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Basic,
    Bearer,
}

/// The registry's tokens, by password.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: BTreeMap<String, Issued>,
}

#[derive(Debug)]
struct Issued {
    kind: Kind,
    /// The access key that it was given to; none for the one at home.
    holder: Option<String>,
    requests: u64,
}

impl Tokens {
    /// A new password for user `AWS` or a bearer token, as long as ECR's are.
    pub(crate) fn issue(&mut self, kind: Kind, holder: Option<&str>) -> String {
        let seed = format!("{}{kind:?}{:?}", self.issued.len(), SystemTime::now());
        let block = |number: u32| Digest::of(Algorithm::Sha512, format!("{seed}{number}").as_bytes());
        let payload: String = (0..10).map(|number| block(number).as_str()["sha512:".len()..].to_owned()).collect();
        let expiration = seconds(SystemTime::now() + TWELVE_HOURS);
        let password = STANDARD.encode(
            json!({ "payload": payload, "version": "2", "type": "DATA_KEY", "expiration": expiration }).to_string(),
        );
        let issued = Issued { kind, holder: holder.map(str::to_owned), requests: 0 };
        self.issued.insert(password.clone(), issued);
        password
    }

    /// What a registry request's header is worth; counts the request against the token's lifetime, unless it is one
    /// that is only exchanged.
    pub(crate) fn check(&mut self, header: Option<&str>, registry: &RegistryId, lifetime: Option<u64>) -> Credential {
        let Some(header) = header else {
            return Credential::Absent;
        };
        let found = presented(header).and_then(|(scheme, secret)| {
            let token = self.issued.get_mut(&secret)?;
            token.kind.opens(registry, scheme).then_some(token)
        });
        let Some(token) = found else {
            return Credential::Wrong;
        };
        token.requests += u64::from(token.kind != Kind::Exchange);
        if lifetime.is_some_and(|most| token.requests > most) { Credential::Expired } else { Credential::Valid }
    }

    /// The access key that a header's token was given to; none for the one at home.
    pub(crate) fn holder(&self, header: Option<&str>) -> Option<String> {
        let (_, secret) = presented(header?)?;
        self.issued.get(&secret)?.holder.clone()
    }

    pub(crate) fn passwords(&self) -> Vec<String> {
        self.issued.keys().cloned().collect()
    }
}

/// The password of user `AWS` in a Basic header, or a bearer token.
fn presented(header: &str) -> Option<(Scheme, String)> {
    let (scheme, value) = header.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((Scheme::Bearer, value.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    pair.strip_prefix("AWS:").map(|password| (Scheme::Basic, password.to_owned()))
}

/// How a header presents its token.
pub(crate) fn scheme(header: Option<&str>) -> Option<Scheme> {
    presented(header?).map(|(scheme, _)| scheme)
}

/// What an API request says of who signed it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signer<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl<'a> Signer<'a> {
    /// Reads `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …`.
    pub(crate) fn read(header: &'a str) -> Option<Self> {
        let fields = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let named = |name: &str| fields.split(',').find_map(|field| field.trim().strip_prefix(name));
        // A header without a signature is none.
        named("Signature=")?;
        let mut scope = named("Credential=")?.split('/');
        let access_key_id = scope.next()?;
        let _date = scope.next()?;
        let signer = Self { access_key_id, region: scope.next()?, service: scope.next()? };
        (scope.next() == Some("aws4_request")).then_some(signer)
    }
}

impl Signer<'_> {
    /// As the journal has it.
    pub(crate) fn noted(&self) -> Signed {
        let [access_key_id, region, service] = [self.access_key_id, self.region, self.service].map(str::to_owned);
        Signed { access_key_id, region, service }
    }
}

/// When a token issued now ends, in seconds since 1970. Test servers give a time in the past (facts/ecr.md,
/// Credentials: moto says 2015).
pub(crate) fn expires_at(in_past: bool) -> u64 {
    if in_past { 1_420_070_400 } else { seconds(SystemTime::now() + TWELVE_HOURS) }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signer_is_read_from_the_scope() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AKIA/20261101/eu-west-1/ecr/aws4_request, SignedHeaders=host, Signature=00";
        let signer = Signer { access_key_id: "AKIA", region: "eu-west-1", service: "ecr" };
        assert_eq!(Signer::read(header), Some(signer));
        assert_eq!(Signer::read("AWS4-HMAC-SHA256 Credential=AKIA/20261101/eu-west-1/ecr/aws4_request"), None);
        assert_eq!(Signer::read("Basic QVdTOng="), None);
    }

    #[test]
    fn a_token_is_bound_to_its_region_and_to_its_lifetime() {
        let mut tokens = Tokens::default();
        let password = tokens.issue(Kind::Region("eu-west-1".to_owned()), Some("AKIAOTHER"));
        let header = format!("Basic {}", STANDARD.encode(format!("AWS:{password}")));
        assert_eq!(tokens.holder(Some(&header)).as_deref(), Some("AKIAOTHER"));
        let mut check = |region| tokens.check(Some(&header), &RegistryId::new("123456789012", region), Some(1));
        assert_eq!(check("us-east-1"), Credential::Wrong);
        assert_eq!(check("eu-west-1"), Credential::Valid);
        assert_eq!(check("eu-west-1"), Credential::Expired);
    }
}
