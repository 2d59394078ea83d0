//! Replies before they become HTTP, so that faults can still change them.

use std::fs::File;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::body::{Broken, Outbound};
use crate::spoil::BodyFault;

/// What to answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
    /// The upload session that this reply makes known.
    pub(crate) session: Option<String>,
}

/// What a reply's body holds.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Bytes),
    File(File, u64),
    /// Only a length, for the reply to a HEAD.
    Measured(u64),
}

/// Why a handler gave no ordinary reply.
#[derive(Debug)]
pub(crate) enum Refusal {
    Reply(Box<Reply>),
    /// Close the connection.
    Cut,
    /// Say nothing.
    Stall,
    /// Say what the fault wants said.
    Fault,
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Cut => Self::Cut,
            Broken::Stall => Self::Stall,
            Broken::Refuse => Self::Fault,
        }
    }
}

impl From<Reply> for Refusal {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// The server's own disk failed it: no quirk of ECR's.
impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        error_reply(500, "UNKNOWN", &format!("local-ecr: {error}")).into()
    }
}

impl Reply {
    /// Without a body.
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), content: Content::Bytes(Bytes::new()), session: None }
    }

    /// Sets a header, or none if the value can't be one.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.set(name, Some(value));
        self
    }

    /// Replaces a header, or takes it away.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return;
        };
        self.headers.remove(&name);
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            self.headers.insert(name, value);
        }
    }

    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.content = Content::Bytes(bytes.into());
        self
    }

    pub(crate) fn file(mut self, file: File, length: u64) -> Self {
        self.content = Content::File(file, length);
        self
    }

    pub(crate) fn measured(mut self, length: u64) -> Self {
        self.content = Content::Measured(length);
        self
    }

    pub(crate) fn json(self, media_type: &str, value: &Value) -> Self {
        self.header(CONTENT_TYPE.as_str(), media_type).body(value.to_string())
    }

    /// As HTTP. The body of a HEAD's reply is only measured: hyper doesn't send it.
    pub(crate) fn into_response(self, fault: Option<BodyFault>) -> Response<Outbound> {
        let body = match self.content {
            Content::Bytes(bytes) => Outbound::Whole(bytes),
            Content::File(file, length) => Outbound::file(file, length),
            Content::Measured(length) => Outbound::Measured(length),
        };
        let body = if let Some(fault) = fault { body.spoil(fault) } else { body };
        let mut response = Response::new(body);
        *response.headers_mut() = self.headers;
        *response.status_mut() = self.status.try_into().unwrap_or_default();
        response
    }
}

/// An error in the registry's form. ECR ends it with a newline (seen in openai/tart#890).
pub(crate) fn error_reply(status: u16, code: &str, message: &str) -> Reply {
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    Reply::new(status).header("Content-Type", "application/json; charset=utf-8").body(format!("{body}\n"))
}
