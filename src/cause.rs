//! The causes of an error: all of them in a line, or what lies at the bottom of a dependency's.

use std::error::Error;
use std::fmt;
use std::io;

/// A dependency's error, of which only the innermost cause is shown: the layers above it say "error sending request" and
/// the like, which whoever wraps it has said better.
#[derive(Debug)]
pub struct Cause(Box<dyn Error + Send + Sync>);

impl Cause {
    /// Wraps an error.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut innermost: &dyn Error = &*self.0;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        // A program's last words come with the end of their line.
        let text = innermost.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        f.write_str(&lines.join("; "))
    }
}

impl Error for Cause {}

/// An error with all its causes; a cause that the text before it says already is left out.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The first cause of `error` that is a `T`, itself included.
///
/// An `io::Error` is no `source` of what it wraps but holds it, sometimes several deep.
#[must_use]
pub fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let held = held.map(|inner| inner as &(dyn Error + 'static));
    error.downcast_ref().or_else(|| held.and_then(find)).or_else(|| error.source().and_then(find))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::TrustError;

    #[test]
    fn finds_what_lies_below() {
        let below = || TrustError::NoCertificate { path: "below".into() };
        let held = TrustError::Unreadable { path: "x".into(), source: io::Error::other(below()) };
        let twice = TrustError::Unreadable { path: "y".into(), source: io::Error::other(io::Error::other(below())) };
        for error in [held, twice] {
            let is_top = find::<TrustError>(&error).is_some_and(|found| matches!(found, TrustError::Unreadable { .. }));
            assert!(is_top);
            let TrustError::Unreadable { source, .. } = &error else { panic!("{error}") };
            assert_eq!(find::<TrustError>(source).map(ToString::to_string), Some(below().to_string()));
            assert!(find::<fmt::Error>(&error).is_none());
        }
    }

    #[test]
    fn shows_the_innermost() {
        let inner = std::io::Error::other("disk on fire");
        let outer = crate::trust::TrustError::Unreadable { path: "x".into(), source: inner };
        assert_eq!(Cause::new(outer).to_string(), "disk on fire");
        assert_eq!(Cause::new("no entry\n\n  try again\n").to_string(), "no entry; try again");
    }
}
