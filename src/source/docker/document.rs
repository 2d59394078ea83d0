//! `manifest.json`, and what of a config matters here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::cause::Cause;
use crate::oci::descriptor::Platform;
use crate::oci::digest::Digest;

/// An image in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The member that is its config.
    pub config: String,
    /// Its names.
    pub names: Vec<String>,
    /// The members that are its layers, the base first. An image without any has `null` there.
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    names: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Entry {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// When it isn't JSON of that form, or one that docker would read differently.
    pub fn parse(bytes: &[u8]) -> Result<Vec<Self>, Cause> {
        let list: Vec<Wire> = serde_json::from_slice(bytes).map_err(Cause::new)?;
        let entry = |wire: Wire| {
            // For docker `config` is `Config`, and the last of them counts.
            let known = |key: &&String| ["Config", "RepoTags", "Layers"].iter().any(|it| it.eq_ignore_ascii_case(key));
            match wire.others.keys().find(known) {
                Some(key) => Err(Cause::new(format!("{key:?} is not how that key is written"))),
                None => Ok(Self {
                    config: wire.config,
                    names: wire.names.unwrap_or_default(),
                    layers: wire.layers.unwrap_or_default(),
                }),
            }
        };
        list.into_iter().map(entry).collect()
    }
}

/// What of an image's config matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// What the image runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// Its layers.
    pub rootfs: RootFs,
}

/// The layers of an image.
#[derive(Debug, Clone, Deserialize)]
pub struct RootFs {
    /// The digests of their uncompressed bytes, the base first; `null` in an image without any.
    pub diff_ids: Option<Vec<Digest>>,
}

impl Config {
    /// Reads a config.
    ///
    /// # Errors
    /// When it isn't JSON, or has no `rootfs`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Cause> {
        serde_json::from_slice(bytes).map_err(Cause::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let entry = |config: &str, names: &[&str], layers: &[&str]| Entry {
            config: config.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
        };
        let check = |text: &str, expected: &[Entry]| assert_eq!(Entry::parse(text.as_bytes()).unwrap(), expected);
        check("[]", &[]);
        check(r#"[{"Config":"c","RepoTags":["a:b"],"Layers":["l"]}]"#, &[entry("c", &["a:b"], &["l"])]);
        check(r#"[{"Config":"c","RepoTags":null,"Layers":null,"Parent":"p"}]"#, &[entry("c", &[], &[])]);
        check(r#"[{"Config":"c"}]"#, &[entry("c", &[], &[])]);
        for bad in [
            "",
            "{}",
            "null",
            "[{}]",
            r#"[{"Config":1}]"#,
            r#"[{"Config":"c","Layers":"l"}]"#,
            r#"[{"Config":"c","Layers":[null]}]"#,
            r#"[{"Config":"c","Config":"d"}]"#,
            r#"[{"Config":"c","config":"d"}]"#,
            r#"[{"Config":"c","layers":["d"]}]"#,
            r#"[{"Config":"c"}] x"#,
        ] {
            assert!(Entry::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn configs() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text =
            format!(r#"{{"os":"linux","architecture":"arm","variant":"v7","rootfs":{{"diff_ids":["{digest}"]}}}}"#);
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm/v7");
        assert_eq!(config.rootfs.diff_ids.unwrap_or_default().len(), 1);
        for bad in ["", "[]", "{}", r#"{"rootfs":{"diff_ids":["sha256:a"]}}"#, r#"{"rootfs":[]}"#] {
            assert!(Config::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
