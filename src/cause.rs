//! The causes of an error: all of them in a line, or what lies at the bottom of a dependency's.

use std::error::Error;
use std::fmt;

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
        fmt::Display::fmt(innermost, f)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_innermost() {
        let inner = std::io::Error::other("disk on fire");
        let outer = crate::trust::TrustError::Unreadable { path: "x".into(), source: inner };
        assert_eq!(Cause::new(outer).to_string(), "disk on fire");
    }
}
