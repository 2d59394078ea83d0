//! Pulls an image over plain HTTP and reckons every digest anew.
//!
//! Shares no line with ecr-push, so that a mistake there isn't made here again.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::fixtures::layout::Algorithm;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// A repository of a registry.
pub(crate) struct Repository<'a> {
    /// Host and port.
    pub(crate) address: &'a str,
    pub(crate) name: &'a str,
    /// Of the user `AWS`.
    pub(crate) password: &'a str,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    pub(crate) manifests: BTreeSet<String>,
    pub(crate) blobs: BTreeSet<String>,
    pub(crate) bytes: usize,
}

impl Repository<'_> {
    /// The digest of the manifest under a tag.
    pub(crate) fn resolve(&self, tag: &str) -> Result<String, Box<dyn Error>> {
        Ok(Algorithm::Sha256.digest(&self.get(&format!("manifests/{tag}"))?))
    }

    /// Pulls the image of that digest with all that it reaches.
    pub(crate) fn pull(&self, digest: &str) -> Result<Pulled, Box<dyn Error>> {
        let mut pulled = Pulled::default();
        let mut wanted = vec![digest.to_owned()];
        while let Some(digest) = wanted.pop() {
            if !pulled.manifests.insert(digest.clone()) {
                continue;
            }
            let bytes = self.checked("manifests", &digest)?;
            pulled.bytes += bytes.len();
            let manifest: Value = serde_json::from_slice(&bytes)?;
            wanted.extend(digests(&manifest["manifests"]));
            for blob in digests(&manifest["layers"]).chain(manifest["config"]["digest"].as_str().map(str::to_owned)) {
                if pulled.blobs.insert(blob.clone()) {
                    pulled.bytes += self.checked("blobs", &blob)?.len();
                }
            }
        }
        Ok(pulled)
    }

    /// Gets something by its digest and sees that it is that.
    fn checked(&self, kind: &str, digest: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let bytes = self.get(&format!("{kind}/{digest}"))?;
        let found = Algorithm::Sha256.digest(&bytes);
        if found == digest { Ok(bytes) } else { Err(format!("{digest} came back as {found}").into()) }
    }

    fn get(&self, what: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let Self { address, name, password } = self;
        let credentials = STANDARD.encode(format!("AWS:{password}"));
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET /v2/{name}/{what} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {credentials}\r\n\
             Accept: {ACCEPT}\r\nConnection: close\r\n\r\n"
        )?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n").ok_or("a reply without an end of its head")?;
        let head = String::from_utf8_lossy(&reply[..end]);
        match head.lines().next() {
            Some(status) if status.contains(" 200 ") => Ok(reply.split_off(end + 4)),
            other => Err(format!("GET {what}: {}", other.unwrap_or_default()).into()),
        }
    }
}

fn digests(descriptors: &Value) -> impl Iterator<Item = String> {
    descriptors.as_array().into_iter().flatten().filter_map(|one| one["digest"].as_str().map(str::to_owned))
}
