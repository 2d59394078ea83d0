//! Faults: what goes wrong, and at which request.

use std::time::Duration;

use crate::identity;
use crate::journal::Side;

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// This status, these headers and this body, without acting on the request.
    Status {
        /// The status code.
        status: u16,
        /// Headers beside the usual ones.
        headers: Vec<(String, String)>,
        /// The body; a HEAD gets none.
        body: String,
    },
    /// The connection closes as soon as the request's head has arrived.
    Cut,
    /// The connection closes once so many bytes of the request's body have arrived; they are kept in
    /// the upload session. A shorter body is not cut.
    CutAfter(u64),
    /// The request is never acted on nor answered.
    Stall,
    /// After so many bytes of the request's body nothing more is read, and no answer comes.
    StallAfter(u64),
    /// This status in the registry's form of error, once so many bytes of the request's body have arrived; they are
    /// kept in the upload session. A shorter body is acted on.
    StatusAfter(u64, u16),
    /// The request is acted on, and the reply waits this long.
    Delay(Duration),
    /// The request is acted on; the reply's body comes in pieces of so many bytes, each after this time.
    SlowReply {
        /// Bytes in a piece.
        bytes: usize,
        /// The time before each.
        every: Duration,
    },
    /// The request is acted on; the reply breaks off in the middle of its body. Not for HEAD, whose reply has none.
    TruncatedReply,
    /// The request is acted on; the reply breaks off after so many bytes of its body.
    TruncatedReplyAfter(u64),
    /// The request is acted on; after so many bytes of the reply's body no more comes.
    StalledReplyAfter(u64),
    /// The request is acted on, and the connection closes without a reply.
    CutReply,
    /// The request is acted on; one header of the reply is replaced, or taken away.
    Header {
        /// The header's name. Not `Content-Length`: take [`FaultKind::TruncatedReply`] for that.
        name: String,
        /// Its new value; none takes it away.
        value: Option<String>,
    },
    /// 307 to this place, without acting on the request.
    Redirect(String),
}

impl FaultKind {
    /// A status in the registry's form of error, as a server in trouble answers.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let (code, message) = words(status);
        let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{message}\"}}]}}\n");
        let headers = vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Self::Status { status, headers, body }
    }

    /// An error in the API's form.
    #[must_use]
    pub fn api_error(status: u16, code: &str, message: &str) -> Self {
        let headers = vec![
            ("Content-Type".to_owned(), "application/x-amz-json-1.1".to_owned()),
            ("X-Amzn-ErrorType".to_owned(), code.to_owned()),
        ];
        let body = serde_json::json!({ "__type": code, "message": message }).to_string();
        Self::Status { status, headers, body }
    }

    /// An error in STS's form.
    #[must_use]
    pub fn sts_error(status: u16, code: &str, message: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/xml".to_owned())];
        Self::Status { status, headers, body: identity::error_body(code, message) }
    }
}

/// Code and message for a status.
pub(crate) fn words(status: u16) -> (&'static str, &'static str) {
    match status {
        429 => ("TOOMANYREQUESTS", "Rate exceeded"),
        403 => ("DENIED", "Access denied"),
        _ => ("UNKNOWN", "An internal error occurred"),
    }
}

/// A fault at certain requests.
///
/// ```
/// use local_ecr::{Fault, FaultKind};
/// // The third registry request is cut; so are the first two PUTs of a manifest, after they took effect.
/// let faults = [
///     Fault::at(3).does(FaultKind::Cut),
///     Fault::on("PUT", "/manifests/").times(2).does(FaultKind::CutReply),
/// ];
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    trigger: Trigger,
    kind: FaultKind,
    /// How many matching requests there were.
    seen: u64,
}

impl Fault {
    /// At the nth registry request, counted from one and from when the fault was set.
    pub fn at(nth: u64) -> Trigger {
        Trigger { side: Side::Registry, method: None, path: String::new(), nth, times: 1 }
    }

    /// At the first registry request with this method (`*` for any) whose path and query contain this text.
    pub fn on(method: &str, path: impl Into<String>) -> Trigger {
        let method = (method != "*").then(|| method.to_owned());
        Trigger { side: Side::Registry, method, path: path.into(), nth: 1, times: 1 }
    }

    /// At the first API request.
    pub fn api() -> Trigger {
        Trigger { side: Side::Api, method: None, path: String::new(), nth: 1, times: 1 }
    }

    /// At the first API request for an operation whose name contains this text, such as `BatchCheckLayerAvailability`.
    pub fn operation(name: impl Into<String>) -> Trigger {
        Trigger { path: name.into(), ..Self::api() }
    }

    /// At the first request for credentials whose path and query contain this text; STS is at `/`.
    pub fn identity(path: impl Into<String>) -> Trigger {
        Trigger { side: Side::Identity, method: None, path: path.into(), nth: 1, times: 1 }
    }

    /// Counts the request if it matches; gives what goes wrong with it. The API has one path: there it is the operation.
    pub(crate) fn strike(&mut self, side: Side, method: &str, path: &str) -> Option<FaultKind> {
        let Trigger { nth, times, .. } = self.trigger;
        if !self.trigger.matches(side, method, path) {
            return None;
        }
        self.seen += 1;
        let due = self.seen >= nth && self.seen - nth < times;
        due.then(|| self.kind.clone())
    }
}

/// The requests at which a fault happens; [`Trigger::does`] makes the fault.
#[derive(Clone, Debug)]
#[must_use = "a trigger is no fault before it is told what it does"]
pub struct Trigger {
    side: Side,
    method: Option<String>,
    path: String,
    nth: u64,
    times: u64,
}

impl Trigger {
    /// Not at the first matching request, but at the nth, counted from one.
    pub fn nth(self, nth: u64) -> Self {
        Self { nth, ..self }
    }

    /// At so many matching requests one after another; `u64::MAX` for all that follow.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// What goes wrong there.
    #[must_use]
    pub fn does(self, kind: FaultKind) -> Fault {
        Fault { trigger: self, kind, seen: 0 }
    }

    fn matches(&self, side: Side, method: &str, path: &str) -> bool {
        self.side == side && self.method.as_deref().is_none_or(|wanted| wanted == method) && path.contains(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_counts_only_what_it_matches() {
        let mut fault = Fault::on("PUT", "/manifests/").nth(2).times(2).does(FaultKind::Cut);
        let mut strike = |method, path| fault.strike(Side::Registry, method, path).is_some();
        assert!(!strike("PUT", "/v2/app/manifests/a"));
        assert!(!strike("GET", "/v2/app/manifests/a"));
        assert!(strike("PUT", "/v2/app/manifests/b"));
        assert!(strike("PUT", "/v2/app/manifests/c"));
        assert!(!strike("PUT", "/v2/app/manifests/d"));
    }
}
