//! A client that sends exactly what it is told and shows exactly what came back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use local_ecr::{Answer, LocalEcr};

/// A reply, or what there was of it.
#[derive(Debug)]
pub(crate) struct Got {
    /// 0 when the connection closed without a reply.
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    fn parse(raw: &[u8]) -> Self {
        let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Self { status: 0, headers: Vec::new(), body: raw.to_vec() };
        };
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers = lines.filter_map(pair).collect();
        Self { status: status.unwrap_or(0), headers, body: raw[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The path of the `Location` header.
    pub(crate) fn location(&self) -> String {
        let location = self.header("location").expect("a Location");
        let rest = location.strip_prefix("http://").expect("an absolute URL");
        rest[rest.find('/').expect("a path")..].to_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts status, error code and a part of the message.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, code: &str, message: &str) {
        let text = self.text();
        assert_eq!(self.status, status, "{text}");
        assert!(text.contains(&format!("\"code\":\"{code}\"")) && text.contains(message), "{text}");
    }
}

/// Talks to the registry with one token; a connection for each request.
pub(crate) struct Client<'a> {
    pub(crate) ecr: &'a LocalEcr,
    authorization: String,
}

impl<'a> Client<'a> {
    pub(crate) fn new(ecr: &'a LocalEcr) -> Self {
        Self::with_token(ecr, &base64(&format!("AWS:{}", ecr.issue_password())))
    }

    /// With a token as the API gives it.
    pub(crate) fn with_token(ecr: &'a LocalEcr, token: &str) -> Self {
        Self { ecr, authorization: format!("Basic {token}") }
    }

    /// With a bearer token.
    pub(crate) fn with_bearer(ecr: &'a LocalEcr, token: &str) -> Self {
        Self { ecr, authorization: format!("Bearer {token}") }
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut raw =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nAuthorization: {}\r\n", self.authorization);
        let length = body.len().to_string();
        let host = &self.ecr.registry_url()[7..];
        let given = |name: &str| headers.iter().any(|(known, _)| *known == name);
        let usual = [("Content-Length", length.as_str()), ("Host", host)];
        for (name, value) in headers.iter().chain(usual.iter().filter(|(name, _)| !given(name))) {
            raw.extend([name, ": ", value, "\r\n"]);
        }
        raw.push_str("\r\n");
        [raw.as_bytes(), body].concat()
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        exchange(&self.ecr.registry_url(), &self.request(method, path, headers, body))
    }

    pub(crate) fn get(&self, path: &str) -> Got {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn head(&self, path: &str) -> Got {
        self.send("HEAD", path, &[], b"")
    }

    /// Sends less of a body than it promised, and hangs up.
    pub(crate) fn hang_up(&self, method: &str, path: &str, body: &[u8]) {
        let promised = (body.len() + 1).to_string();
        let raw = self.request(method, path, &[("Content-Length", &promised)], body);
        let before = self.ecr.journal().len();
        let mut stream = TcpStream::connect(&self.ecr.registry_url()[7..]).expect("the server listens");
        stream.write_all(&raw).expect("it reads");
        stream.shutdown(Shutdown::Both).expect("a connection");
        drop(stream);
        // The server notices in its own time, and what is sent next must not overtake it.
        while self.ecr.journal().iter().skip(before).all(|entry| entry.answer == Answer::Pending) {
            std::thread::yield_now();
        }
        self.ecr.wait_for_quiet();
    }

    /// Opens an upload session; gives its path.
    pub(crate) fn open(&self, repository: &str) -> String {
        let got = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(got.status, 202, "{}", got.text());
        got.location()
    }

    /// Uploads a blob in ECR's best way; gives its digest.
    pub(crate) fn upload(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let got = self.send("PUT", &format!("{}?digest={digest}", self.open(repository)), &[], bytes);
        assert_eq!(got.status, 201, "{}", got.text());
        digest
    }

    pub(crate) fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Got {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.send("PUT", &path, &[("Content-Type", media_type)], bytes)
    }
}

/// Sends raw bytes to an `http://` origin and reads until the end.
pub(crate) fn exchange(origin: &str, raw: &[u8]) -> Got {
    let mut stream = TcpStream::connect(&origin[7..]).expect("the server listens");
    // The server may have hung up already; what it said before counts.
    let _ = stream.write_all(raw);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    Got::parse(&reply)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(bytes);
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)]));
    let hex: String = hash.iter().flat_map(digits).collect();
    format!("sha256:{hex}")
}

pub(crate) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
