//! Requests to the API, signed as far as the server looks.

use local_ecr::LocalEcr;
use serde_json::Value;

use crate::client::{Got, exchange};

/// Who asks which API.
pub(crate) struct Api<'a> {
    ecr: &'a LocalEcr,
    pub(crate) key: String,
    pub(crate) token: Option<String>,
    pub(crate) region: String,
    target: &'static str,
    service: &'static str,
}

impl<'a> Api<'a> {
    /// ECR's, for the identity at home.
    pub(crate) fn new(ecr: &'a LocalEcr) -> Self {
        let (key, region) = (ecr.access_key_id().to_owned(), ecr.region().to_owned());
        Self { ecr, key, token: None, region, target: "AmazonEC2ContainerRegistry_V20150921", service: "ecr" }
    }

    /// ECR Public's, for the identity at home.
    pub(crate) fn public(ecr: &'a LocalEcr) -> Self {
        let region = "us-east-1".to_owned();
        Self { target: "SpencerFrontendService", service: "ecr-public", region, ..Self::new(ecr) }
    }

    /// The same for another identity.
    pub(crate) fn of(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }

    pub(crate) fn send(&self, operation: &str, input: &Value) -> Got {
        let Self { key, region, target, service, .. } = self;
        let (host, body) = (&self.ecr.api_url()[7..], input.to_string());
        let token = self.token.as_ref().map(|token| format!("X-Amz-Security-Token: {token}\r\n")).unwrap_or_default();
        let raw = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Amz-Target: {target}.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\n{token}Authorization: AWS4-HMAC-SHA256 Credential={key}/20261101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
        exchange(&self.ecr.api_url(), raw.as_bytes())
    }

    /// What a request gives.
    #[track_caller]
    pub(crate) fn ask(&self, operation: &str, input: &Value) -> Value {
        let got = self.send(operation, input);
        assert_eq!(got.status, 200, "{}", got.text());
        serde_json::from_slice(&got.body).expect("JSON")
    }

    /// Asserts code and a part of the message of a request that is refused.
    #[track_caller]
    pub(crate) fn refused(&self, operation: &str, input: &Value, code: &str, message: &str) {
        let got = self.send(operation, input);
        let text = got.text();
        assert_eq!((got.status, got.header("x-amzn-errortype")), (400, Some(code)), "{text}");
        assert!(text.contains(&format!("\"__type\":\"{code}\"")) && text.contains(message), "{text}");
    }
}
