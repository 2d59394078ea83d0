//! Where an image goes: `HOST/REPOSITORY[:TAG][@DIGEST]`, read with the grammar of the distribution project.
//!
//! Nothing is guessed: without a host there is no reference, since `docker.io` is never what was meant here.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use super::digest::{Digest, DigestError};

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// The first part is no host name: it has neither a dot nor a port and isn't `localhost`.
    #[error("{text:?} does not name registry and repository: a destination is HOST/REPOSITORY[:TAG]")]
    NoHost {
        /// What was typed.
        text: String,
    },
    /// A scheme was typed.
    #[error("{text:?} begins with a scheme: a destination is HOST/REPOSITORY[:TAG]")]
    Scheme {
        /// What was typed.
        text: String,
    },
    /// The host is malformed.
    #[error("{host:?} is no host name")]
    Host {
        /// What stood before the first slash.
        host: String,
    },
    /// The repository is malformed.
    #[error(
        "{repository:?} is no repository name: lower-case letters, digits, and single `.`, `_`, `-`, `/` between them"
    )]
    Repository {
        /// What stood after the first slash.
        repository: String,
    },
    /// The tag is malformed.
    #[error("{tag:?} is no tag: 1 to 128 letters, digits, `_`, `.`, `-`, and neither `.` nor `-` first")]
    Tag {
        /// What stood after the colon.
        tag: String,
    },
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A URL or reference as it may be shown: who writes user and password before a host has written them in the wrong place, and
/// not for everybody.
#[must_use]
pub fn without_user(text: &str) -> String {
    let host = text.find("://").map_or(0, |at| at + 3);
    let end = text[host..].find('/').map_or(text.len(), |at| host + at);
    match text[host..end].rfind('@') {
        Some(at) => format!("{}…{}", &text[..host], &text[host + at..]),
        None => text.to_owned(),
    }
}

/// A registry's host, with its port where one was given.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// Reads a host: a name, an IPv4 address or `[IPv6]`, with an optional port.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let bad = || ReferenceError::Host { host: without_user(text) };
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (None, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
        } else {
            match text.split_once(':') {
                Some((name, port)) => (Some(name), Some(port)),
                None => (Some(text), None),
            }
        };
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.is_some_and(|name| !name.split('.').all(label)) {
            return Err(bad());
        }
        let number = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
        if port.is_some_and(|port| !number(port)) {
            return Err(bad());
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// Host and port as text, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without the port.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.0.rfind(']') {
            Some(end) => &self.0[..=end],
            None => self.0.split(':').next().unwrap_or(&self.0),
        }
    }

    /// Whether it is this machine: `localhost`, 127.0.0.0/8, `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let name = self.name().trim_matches(['[', ']']);
        name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether it is on this machine or on its link, where no proxy leads, whatever the environment says: the metadata services
    /// and credential agents of EC2, ECS and EKS are, and what they hand out is nobody else's business.
    #[must_use]
    pub fn is_near(&self) -> bool {
        let on_link = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            // EC2's own addresses are unique local ones of a fixed prefix.
            IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.segments().starts_with(&[0xfd00, 0x0ec2]),
        };
        self.is_loopback() || self.name().trim_matches(['[', ']']).parse().is_ok_and(on_link)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag, checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// Reads a tag.
    ///
    /// # Errors
    /// When it isn't 1 to 128 letters, digits, `_`, `.` and `-`, or begins with `.` or `-`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Tag { tag: text.to_owned() }) }
    }

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// The registry.
    pub host: Host,
    /// The name in it; may hold slashes.
    pub name: String,
}

impl Repository {
    /// Whether a text is the name of a repository in a registry, without host and tag.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        is_repository(text)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// `HOST/REPOSITORY[:TAG][@DIGEST]`, as a destination is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag, if one was given.
    pub tag: Option<Tag>,
    /// The digest, if one was given.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a destination.
    ///
    /// # Errors
    /// When host, repository, tag or digest is malformed.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.contains("://") {
            return Err(ReferenceError::Scheme { text: without_user(text) });
        }
        let no_host = || ReferenceError::NoHost { text: without_user(text) };
        let (host, rest) = text.split_once('/').ok_or_else(no_host)?;
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(no_host());
        }
        let host = Host::parse(host)?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (rest, None),
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(Tag::parse(tag)?)),
            None => (rest, None),
        };
        if !is_repository(name) {
            return Err(ReferenceError::Repository { repository: name.to_owned() });
        }
        Ok(Self { repository: Repository { host, name: name.to_owned() }, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, several times with slashes between, 255 bytes at most.
fn is_repository(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let component = |part: &str| {
        let separators = part.split(|c: char| c.is_ascii() && alphanumeric(c as u8)).filter(|s| !s.is_empty());
        part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().last().is_some_and(alphanumeric)
            && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
    };
    name.len() <= 255 && name.split('/').all(component)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads() {
        let check = |text: &str, host: &str, name: &str, tag: Option<&str>, digest: bool| {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.repository.host.as_str(), host, "{text}");
            assert_eq!(reference.repository.name, name, "{text}");
            assert_eq!(reference.tag.as_ref().map(Tag::as_str), tag, "{text}");
            assert_eq!(reference.digest.is_some(), digest, "{text}");
            assert_eq!(reference.to_string(), text);
        };
        let ecr = "123456789012.dkr.ecr.us-west-2.amazonaws.com";
        check(&format!("{ecr}/app"), ecr, "app", None, false);
        check(&format!("{ecr}/team/my_app-x:V1.2_3-a"), ecr, "team/my_app-x", Some("V1.2_3-a"), false);
        check(&format!("{ecr}/a__b/c--d@sha256:{HEX}"), ecr, "a__b/c--d", None, true);
        check(&format!("localhost/app:v1@sha256:{HEX}"), "localhost", "app", Some("v1"), true);
        check("[::1]:5000/app:v1", "[::1]:5000", "app", Some("v1"), false);
        check("127.0.0.1:5000/0", "127.0.0.1:5000", "0", None, false);
    }

    #[test]
    fn refuses() {
        let check = |text: &str| assert!(Reference::parse(text).is_err(), "{text}");
        check("");
        check("app:v1");
        check("team/app:v1");
        check("https://h.example/app");
        check("h.example/");
        check("h.example/App");
        check("h.example/a//b");
        check("h.example/a/../b");
        check("h.example/a...b");
        check("h.example/a:");
        check("h.example/a:-v");
        check("h.example/a:v1:v2");
        check("h.example/a@sha256:00");
        check("h.example:0/a");
        check("h.example:99999/a");
        check("h.example:+80/a");
        check("-h.example/a");
        check("user@h.example/a");
        check(&format!("h.example/a:{}", "x".repeat(129)));
    }

    #[test]
    fn users_are_not_shown() {
        let check = |text: &str, shown: &str| assert_eq!(without_user(text), shown);
        check("http://a:b@h.example/x?y", "http://…@h.example/x?y");
        check("a:b@c@h.example/x", "…@h.example/x");
        check("a:b@h.example", "…@h.example");
        check("h.example/a@sha256:00", "h.example/a@sha256:00");
        check("", "");
        let error = Reference::parse("AWS:secret@h.example/app:v1").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn near() {
        let check = |text: &str, yes| assert_eq!(Host::parse(text).unwrap().is_near(), yes, "{text}");
        check("localhost:80", true);
        check("127.1.2.3", true);
        check("169.254.169.254", true);
        check("169.254.170.23:80", true);
        check("[fd00:ec2::254]", true);
        check("10.0.0.1", false);
        check("[fd00:ec3::1]", false);
        check("localhost.example.com", false);
    }

    #[test]
    fn loopback() {
        let check = |text: &str, yes| assert_eq!(Host::parse(text).unwrap().is_loopback(), yes, "{text}");
        check("localhost:5000", true);
        check("127.8.0.1", true);
        check("[::1]:80", true);
        check("localhost.example.com", false);
        check("10.0.0.1:5000", false);
    }

    proptest! {
        #[test]
        fn round_trips(
            host in "[a-z][a-z0-9]{0,8}(\\.[a-z0-9]{1,8}){1,3}(:[1-9][0-9]{0,3})?",
            name in "[a-z0-9]{1,5}((\\.|_|__|-{1,3}|/)[a-z0-9]{1,5}){0,4}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"),
        ) {
            let text = format!("{host}/{name}{}", tag.map(|tag| format!(":{tag}")).unwrap_or_default());
            prop_assert_eq!(Reference::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = Reference::parse(&text);
        }
    }
}
