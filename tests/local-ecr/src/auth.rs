//! Tokens that were issued, and what the `Authorization` header of a request is worth.
//!
//! API requests must name the known access key, a region that has a registry and the service `ecr`
//! in their `SigV4` header. The signature itself is not verified.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::digest::{Algorithm, Digest};
use crate::journal::{Credential, Signed};

/// How long a token lasts (facts/ecr.md, Credentials).
const TWELVE_HOURS: Duration = Duration::from_hours(12);

/// The registry's tokens, by password.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: BTreeMap<String, Issued>,
}

#[derive(Debug)]
struct Issued {
    region: String,
    requests: u64,
}

impl Tokens {
    /// A new password for user `AWS`, as long as ECR's are, for registries in this region
    /// (facts/ecr.md: a token is region-bound, whatever the account).
    pub(crate) fn issue(&mut self, region: &str) -> String {
        let seed = format!("{}{region}{:?}", self.issued.len(), SystemTime::now());
        let block = |number: u32| Digest::of(Algorithm::Sha512, format!("{seed}{number}").as_bytes());
        let payload: String = (0..10).map(|number| block(number).as_str()["sha512:".len()..].to_owned()).collect();
        let expiration = seconds(SystemTime::now() + TWELVE_HOURS);
        let password = STANDARD.encode(
            json!({ "payload": payload, "version": "2", "type": "DATA_KEY", "expiration": expiration }).to_string(),
        );
        self.issued.insert(password.clone(), Issued { region: region.to_owned(), requests: 0 });
        password
    }

    /// What a registry request's header is worth; counts the request against the token's lifetime.
    pub(crate) fn check(&mut self, header: Option<&str>, region: &str, lifetime: Option<u64>) -> Credential {
        let Some(header) = header else {
            return Credential::Absent;
        };
        let Some(token) = basic_password(header).and_then(|password| self.issued.get_mut(&password)) else {
            return Credential::Wrong;
        };
        if token.region != region {
            return Credential::Wrong;
        }
        token.requests += 1;
        if lifetime.is_some_and(|most| token.requests > most) { Credential::Expired } else { Credential::Valid }
    }

    pub(crate) fn passwords(&self) -> Vec<String> {
        self.issued.keys().cloned().collect()
    }
}

/// The password of user `AWS` in a Basic header.
fn basic_password(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    pair.strip_prefix("AWS:").map(str::to_owned)
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
        let header = format!("Basic {}", STANDARD.encode(format!("AWS:{}", tokens.issue("eu-west-1"))));
        let mut check = |region| tokens.check(Some(&header), region, Some(1));
        assert_eq!(check("us-east-1"), Credential::Wrong);
        assert_eq!(check("eu-west-1"), Credential::Valid);
        assert_eq!(check("eu-west-1"), Credential::Expired);
    }
}
