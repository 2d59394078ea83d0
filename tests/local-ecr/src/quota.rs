//! Quotas as token buckets, one for each limited action.

use std::time::Instant;

/// So many requests at once, and so many more each second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per_second: f64,
}

/// What is left of a rate.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    left: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate) -> Self {
        Self { rate, left: f64::from(rate.burst), filled: Instant::now() }
    }

    /// Takes one request out; false when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + since * self.rate.per_second).min(f64::from(self.rate.burst));
        self.filled = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}
