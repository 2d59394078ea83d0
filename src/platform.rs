//! Platforms as people ask for them, and which of an index's they mean. Pure.

use std::fmt;

use thiserror::Error;

use crate::oci::descriptor::Platform;

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no platform: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT is the form, as in linux/arm64")]
pub struct WantedError {
    /// What was read.
    text: String,
}

/// What an image runs on, under the one name that each has for containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Normal {
    os: String,
    architecture: String,
    /// Empty for the usual one of amd64 and arm64.
    variant: String,
}

impl Normal {
    /// As containerd normalises, so that what it would run is what is found.
    fn of(os: &str, architecture: &str, variant: &str) -> Self {
        let [os, architecture, variant] = [os, architecture, variant].map(str::to_ascii_lowercase);
        let os = if os == "macos" { "darwin" } else { &os };
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("amd64" | "x86_64" | "x86-64", "v1") => ("amd64", ""),
            ("amd64" | "x86_64" | "x86-64", other) => ("amd64", other),
            ("arm64" | "aarch64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("arm64" | "aarch64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("arm64" | "aarch64", other) => ("arm64", other),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    fn of_platform(platform: &Platform) -> Self {
        Self::of(&platform.os, &platform.architecture, platform.variant.as_deref().unwrap_or_default())
    }
}

/// A platform that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    text: String,
    normal: Normal,
    /// Whether a variant was named.
    is_exact: bool,
}

impl Wanted {
    /// Reads `OS/ARCHITECTURE[/VARIANT]`.
    ///
    /// # Errors
    /// When it is of another form.
    pub fn parse(text: &str) -> Result<Self, WantedError> {
        let is_word = |word: &&str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (normal, is_exact) = match parts.as_slice() {
            _ if !parts.iter().all(is_word) => return Err(WantedError { text: text.to_owned() }),
            [os, architecture] => (Normal::of(os, architecture, ""), false),
            [os, architecture, variant] => (Normal::of(os, architecture, variant), true),
            _ => return Err(WantedError { text: text.to_owned() }),
        };
        Ok(Self { text: text.to_owned(), normal, is_exact })
    }

    /// Which of `platforms` are meant: those that are the same. Where a variant wasn't named and the usual one isn't there,
    /// every other one may be meant.
    #[must_use]
    pub fn among(&self, platforms: &[Option<Platform>]) -> Vec<usize> {
        let of = |wanted: &dyn Fn(&Normal) -> bool| -> Vec<usize> {
            let there = platforms.iter().enumerate();
            there
                .filter(|(_, it)| it.as_ref().is_some_and(|it| wanted(&Normal::of_platform(it))))
                .map(|(at, _)| at)
                .collect()
        };
        let same = of(&|there| *there == self.normal);
        if self.is_exact || !same.is_empty() {
            return same;
        }
        of(&|there| there.os == self.normal.os && there.architecture == self.normal.architecture)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Option<Platform> {
        let mut parts = text.split('/').map(str::to_owned);
        let (os, architecture) = (parts.next()?, parts.next()?);
        Some(Platform { os, architecture, variant: parts.next() })
    }

    #[test]
    fn what_is_meant() {
        let check = |wanted: &str, there: &[&str], expected: &[&str]| {
            let platforms: Vec<_> = there.iter().map(|text| platform(text)).collect();
            let found = Wanted::parse(wanted).unwrap().among(&platforms);
            let found: Vec<_> = found.into_iter().map(|at| there[at]).collect();
            assert_eq!(found, expected, "{wanted} of {there:?}");
        };
        let usual = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64", ""];
        check("linux/amd64", &usual, &["linux/amd64"]);
        check("linux/amd64/v1", &usual, &["linux/amd64"]);
        check("linux/x86_64", &usual, &["linux/amd64"]);
        check("Linux/AMD64", &usual, &["linux/amd64"]);
        check("linux/arm64", &usual, &["linux/arm64/v8"]);
        check("linux/aarch64", &usual, &["linux/arm64/v8"]);
        check("linux/arm64/v8", &["linux/arm64"], &["linux/arm64"]);
        check("linux/arm", &usual, &["linux/arm/v7"]);
        check("linux/armhf", &usual, &["linux/arm/v7"]);
        check("linux/armel", &["linux/arm/v6"], &["linux/arm/v6"]);
        check("linux/arm/7", &usual, &["linux/arm/v7"]);
        check("linux/arm/v7", &["linux/arm"], &["linux/arm"]);
        check("linux/i386", &["linux/386"], &["linux/386"]);
        check("windows/amd64", &usual, &["windows/amd64"]);
        check("linux/s390x", &usual, &[]);
        check("darwin/amd64", &usual, &[]);
        // The usual variant wins; another one is meant where it isn't there; a variant that was named is that one.
        check("linux/amd64", &["linux/amd64/v3", "linux/amd64"], &["linux/amd64"]);
        check("linux/amd64", &["linux/amd64/v3", "linux/arm64"], &["linux/amd64/v3"]);
        check("linux/arm", &["linux/arm/v5", "linux/arm/v6"], &["linux/arm/v5", "linux/arm/v6"]);
        check("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], &[]);
        check("linux/amd64/v2", &["linux/amd64", "linux/amd64/v3"], &[]);
    }

    #[test]
    fn refuses() {
        for text in
            ["", "linux", "linux/", "/arm64", "linux//v8", "linux/arm/v7/x", "linux/a b", "linux,arm64", "*/arm64"]
        {
            assert!(Wanted::parse(text).is_err(), "{text}");
        }
    }
}
