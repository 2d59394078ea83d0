//! Reads manifests as strictly as ECR does, and no further than needed to know what they point to.

use serde_json::{Map, Value};

use crate::digest::Digest;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a manifest says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    /// Config and layers that must be in the repository.
    pub(crate) blobs: Vec<Digest>,
    /// All layers, with those that need not be there.
    pub(crate) layers: usize,
    /// An index's manifests.
    pub(crate) children: Vec<Digest>,
    pub(crate) subject: Option<Digest>,
    /// What a referrer counts as: its artifact type, else its config's media type.
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: Option<Value>,
}

/// Why a manifest can't be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not JSON, not of a known kind, or with a field that the kind doesn't have.
    Syntax,
    /// The body names another media type than the request.
    MediaType,
}

impl Document {
    /// Reads a manifest that was sent under a media type.
    pub(crate) fn read(media_type: &str, bytes: &[u8]) -> Result<Self, Unreadable> {
        // Strict parsing: unknown fields, kinds that ECR doesn't have (artifact manifests) and a missing
        // media type are all called a syntax error (facts/ecr.md, Manifests).
        let known: &[&str] = match media_type {
            OCI_MANIFEST => {
                &["schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations"]
            }
            OCI_INDEX => &["schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"],
            DOCKER_MANIFEST => &["schemaVersion", "mediaType", "config", "layers"],
            DOCKER_LIST => &["schemaVersion", "mediaType", "manifests"],
            _ => return Err(Unreadable::Syntax),
        };
        let Ok(Value::Object(fields)) = serde_json::from_slice(bytes) else {
            return Err(Unreadable::Syntax);
        };
        if fields.keys().any(|name| !known.contains(&name.as_str())) {
            return Err(Unreadable::Syntax);
        }
        match fields.get("mediaType") {
            Some(Value::String(named)) if named == media_type => (),
            Some(Value::String(_)) => return Err(Unreadable::MediaType),
            // Docker's kinds carry their media type in the body; OCI's may leave it out.
            None if [OCI_MANIFEST, OCI_INDEX].contains(&media_type) => (),
            _ => return Err(Unreadable::Syntax),
        }
        Self::interpret(media_type, &fields).ok_or(Unreadable::Syntax)
    }

    /// Nothing when a field has another form than its kind demands.
    fn interpret(media_type: &str, fields: &Map<String, Value>) -> Option<Self> {
        if fields.get("schemaVersion")?.as_u64()? != 2 {
            return None;
        }
        let artifact_type = match fields.get("artifactType") {
            None => None,
            Some(named) => Some(named.as_str()?.to_owned()),
        };
        let mut document = Self { artifact_type, annotations: fields.get("annotations").cloned(), ..Self::default() };
        if let Some(subject) = fields.get("subject") {
            document.subject = Some(Descriptor::read(subject)?.digest);
        }
        if is_index(media_type) {
            for child in fields.get("manifests")?.as_array()? {
                document.children.push(Descriptor::read(child)?.digest);
            }
            return Some(document);
        }
        let config = Descriptor::read(fields.get("config")?)?;
        document.artifact_type = document.artifact_type.or(Some(config.media_type));
        document.blobs.push(config.digest);
        for layer in fields.get("layers")?.as_array()? {
            let layer = Descriptor::read(layer)?;
            document.layers += 1;
            if !is_foreign(&layer.media_type) {
                document.blobs.push(layer.digest);
            }
        }
        Some(document)
    }
}

struct Descriptor {
    media_type: String,
    digest: Digest,
}

impl Descriptor {
    fn read(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        fields.get("size")?.as_u64()?;
        Some(Self {
            media_type: fields.get("mediaType")?.as_str()?.to_owned(),
            digest: Digest::parse(fields.get("digest")?.as_str()?)?,
        })
    }
}

/// Whether a media type is one of an index.
pub(crate) fn is_index(media_type: &str) -> bool {
    [OCI_INDEX, DOCKER_LIST].contains(&media_type)
}

/// Layers that are fetched from elsewhere and never uploaded.
fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(media_type: &str, body: &str, expected: &Result<usize, Unreadable>) {
        let found = Document::read(media_type, body.as_bytes()).map(|document| document.blobs.len());
        assert_eq!(&found, expected, "{media_type} {body}");
    }

    #[test]
    fn unknown_fields_and_kinds_are_syntax_errors() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let descriptor = |media_type: &str| format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#);
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar");
        let foreign = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar");
        let body =
            |more: &str| format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer},{foreign}]{more}}}"#);
        check(OCI_MANIFEST, &body(""), &Ok(2));
        check(OCI_MANIFEST, &body(r#","annotations":{"a":"b"}"#), &Ok(2));
        check(OCI_MANIFEST, &body(r#","history":[]"#), &Err(Unreadable::Syntax));
        check(OCI_MANIFEST, &body(&format!(r#","mediaType":"{DOCKER_MANIFEST}""#)), &Err(Unreadable::MediaType));
        check(DOCKER_MANIFEST, &body(""), &Err(Unreadable::Syntax));
        check("application/vnd.oci.artifact.manifest.v1+json", &body(""), &Err(Unreadable::Syntax));
        check(OCI_MANIFEST, "[]", &Err(Unreadable::Syntax));
        check(OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#, &Ok(0));
    }
}
