//! Waiting for ECR's scan of an image.

use std::time::Duration;

/// ECR's severities, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// None was given, or not yet.
    Undefined,
    /// For information.
    Informational,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// How a scan is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanWait {
    /// The severity from which on a finding fails the run; none for a look alone.
    pub fail_at: Option<Severity>,
    /// A bound on waiting.
    pub bound: Duration,
}
