//! Where something is reached, as a user writes it.

use std::fmt;

use reqwest::Url;

use crate::oci::reference::Host;

/// An http or https URL without user, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Reads a URL; `None` if it has something that would be left out when it is used.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let bare =
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && bare).then_some(Self(url))
    }

    /// Whether what goes there can be read by everybody on the way.
    #[must_use]
    pub fn is_in_the_clear(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback()
    }

    /// A place below this one.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        Self(url)
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether no proxy leads there, whatever the environment says.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.0.host_str().and_then(|host| Host::parse(host).ok()).is_some_and(|host| host.is_near())
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0.host_str().and_then(|host| Host::parse(host).ok()).is_some_and(|host| host.is_loopback())
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_it_uses() {
        let check = |text: &str, good: bool| assert_eq!(Endpoint::parse(text).is_some(), good, "{text}");
        check("http://127.0.0.1:5000", true);
        check("https://vpce-1.dkr.ecr.eu-west-1.vpce.amazonaws.com/", true);
        check("ftp://h.example", false);
        check("https://user:password@h.example", false);
        check("https://h.example/?x=y", false);
        check("h.example", false);
        check("", false);
    }

    #[test]
    fn in_the_clear() {
        let check = |text: &str, yes: bool| assert_eq!(Endpoint::parse(text).unwrap().is_in_the_clear(), yes, "{text}");
        check("http://h.example", true);
        check("https://h.example", false);
        check("http://localhost:5000", false);
        check("http://[::1]:5000", false);
    }
}
