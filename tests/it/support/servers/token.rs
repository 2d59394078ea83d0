//! The distribution project's token protocol from the other side: whoever shows a password, or a refresh token, gets a
//! signed token that a real registry verifies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{Certificate, CertificateParams, KeyPair, SigningKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Asked, Authority, Front, Login, Said};

/// Who the tokens are from, and for whom: the registry compares both.
const ISSUER: &str = "notary";
const SERVICE: &str = "registry.test";

/// What `docker login` leaves behind where a registry hands out identity tokens.
pub(crate) const REFRESH_TOKEN: &str = "refresh-me-4711";

/// A running token server.
pub(crate) struct Notary {
    front: Front,
    scheme: &'static str,
    folder: TempDir,
}

struct Seal {
    key: KeyPair,
    certificate: Certificate,
}

impl Notary {
    /// A server that gives `login` what it asks for, or everybody; https with a certificate of `authority`, if there is one.
    pub(crate) fn start(login: Option<Login>, authority: Option<&Authority>) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = CertificateParams::default().self_signed(&key).expect("a certificate can be made");
        let folder = TempDir::new().expect("a folder can be made");
        std::fs::write(folder.path().join("root.pem"), certificate.pem()).expect("it can be written");
        let seal = Arc::new(Seal { key, certificate });
        let password = login.map(Login::header);
        let answer = move |asked: &Asked| answer(&seal, password.as_deref(), asked);
        let (front, scheme) = match authority {
            Some(authority) => (Front::start_tls(authority, answer), "https"),
            None => (Front::start(answer), "http"),
        };
        Self { front, scheme, folder }
    }

    /// What a registry needs to know of it.
    pub(super) fn config(&self) -> Value {
        // By another name than the registry's: TLS clients know sessions by name, whatever the port, and rustls offers one
        // server's session to the other in a way that rustls itself refuses.
        let realm = format!("{}://{}/token", self.scheme, self.front.address().replace("127.0.0.1", "localhost"));
        let bundle: PathBuf = self.folder.path().join("root.pem");
        json!({"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle})
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.front.asked()
    }
}

impl std::fmt::Debug for Notary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notary").field("address", &self.front.address()).finish_non_exhaustive()
    }
}

fn answer(seal: &Seal, password: Option<&str>, asked: &Asked) -> Said {
    let by_password = asked.method == "GET" && asked.authorization() == password;
    let form = String::from_utf8_lossy(&asked.body).into_owned();
    let by_token = asked.method == "POST" && parameter(&form, "refresh_token").as_deref() == Some(REFRESH_TOKEN);
    let query = asked.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let (asking, field) = match (by_password, by_token) {
        (true, _) => (query, "token"),
        (_, true) => (form.as_str(), "access_token"),
        _ => return Said::status(401).body(r#"{"details":"incorrect username or password"}"#),
    };
    if parameter(asking, "service").as_deref() != Some(SERVICE) {
        return Said::status(400).body("which service?");
    }
    let token = token(seal, &parameter(asking, "scope").unwrap_or_default());
    Said::status(200).header("content-type", "application/json").body(json!({field: token}).to_string())
}

/// A value of a query or a form.
fn parameter(text: &str, name: &str) -> Option<String> {
    let url = reqwest::Url::parse(&format!("form:?{text}")).ok()?;
    url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

/// A token that allows what `scope` asks for.
fn token(seal: &Seal, scope: &str) -> String {
    let access = |scope: &str| match scope.splitn(3, ':').collect::<Vec<_>>().as_slice() {
        [kind, name, actions] => {
            Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
        }
        _ => None,
    };
    let access: Vec<Value> = scope.split(' ').filter_map(access).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(seal.certificate.der())]});
    let claims = json!({
        "iss": ISSUER, "aud": SERVICE, "sub": "somebody", "jti": "1", "access": access,
        "iat": now, "nbf": now - 60, "exp": now + 300,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = seal.key.sign(signed.as_bytes()).expect("a key can sign");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(raw(&signature)))
}

/// The two numbers of an ECDSA signature in DER, 32 bytes each: what a token has.
fn raw(der: &[u8]) -> Vec<u8> {
    // SEQUENCE length, then twice INTEGER length; with P-256 each length is one byte.
    let mut rest = &der[2..];
    let mut numbers = Vec::with_capacity(64);
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        numbers.resize(numbers.len() + 32 - number.len(), 0);
        numbers.extend(number);
        rest = after;
    }
    numbers
}
