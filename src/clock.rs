//! What time it was, and how far this machine's clock is from somebody else's, as an answer's `Date` tells.

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

/// The time so long ago; the beginning of time if that was earlier.
#[must_use]
pub fn ago(age: Duration) -> SystemTime {
    SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH)
}

/// How long a `Retry-After` asks to wait: seconds, or a date, which is reckoned from the answer's own `Date`.
#[must_use]
pub fn asked(retry_after: &str, date: Option<&str>) -> Option<Duration> {
    let text = retry_after.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = |date: &str| DateTime::from_str(date, DateTimeFormat::HttpDate).ok().map(|date| date.secs());
    let wait = seconds(text)?.checked_sub(seconds(date?.trim())?)?;
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
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

    #[test]
    fn what_is_asked_for() {
        let date = Some("Tue, 24 Nov 2026 22:19:49 GMT");
        let check = |text: &str, date, expected: Option<u64>| {
            assert_eq!(asked(text, date), expected.map(Duration::from_secs), "{text:?} {date:?}");
        };
        check("7", None, Some(7));
        check(" 0 ", date, Some(0));
        check("Tue, 24 Nov 2026 22:20:19 GMT", date, Some(30));
        check("Tue, 24 Nov 2026 22:19:19 GMT", date, Some(0));
        check("Tue, 24 Nov 2026 22:20:19 GMT", None, None);
        check("Tue, 24 Nov 2026 22:20:19 GMT", Some("now"), None);
        check("soon", date, None);
        check("-1", date, None);
        check("1.5", date, None);
    }
}
