//! How far this machine's clock is from somebody else's, as an answer's `Date` tells.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_ecr::primitives::{DateTime, DateTimeFormat};

/// A clock that is off by more than this has its signatures refused by AWS.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// By how many seconds our clock is ahead of the one that wrote this `Date`; negative when it is behind.
#[must_use]
pub fn ahead(date: &str) -> Option<i64> {
    let theirs = DateTime::from_str(date, DateTimeFormat::HttpDate).ok()?.secs();
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(i64::try_from(ours).ok()? - theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_dates() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let date = |seconds: i64| DateTime::from_secs(seconds).fmt(DateTimeFormat::HttpDate).unwrap();
        let now = i64::try_from(now).unwrap();
        assert!(ahead(&date(now - 1000)).is_some_and(|off| (1000..1060).contains(&off)));
        assert!(ahead(&date(now + 1000)).is_some_and(|off| (-1000..-940).contains(&off)));
        assert_eq!(ahead("yesterday"), None);
    }
}
