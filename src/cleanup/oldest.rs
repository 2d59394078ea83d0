//! Which names of a layout are old enough to go. Pure: knows neither disk nor clock.

use std::cmp::Reverse;
use std::time::SystemTime;

/// How old a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// When its manifest was written.
    pub written: SystemTime,
    /// When that file last changed in any way.
    pub changed: SystemTime,
}

/// Which names go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// The newest so many stay.
    pub keep: Option<usize>,
    /// What changed since then stays.
    pub before: Option<SystemTime>,
}

/// For each of these names, in the order of the index, whether it goes. Of two that are equally old the later one is the
/// newer: builders append.
#[must_use]
pub fn going(names: &[Age], limits: Limits) -> Vec<bool> {
    let mut newest: Vec<usize> = (0..names.len()).collect();
    newest.sort_by_key(|at| Reverse((names[*at].written, *at)));
    let mut going = vec![false; names.len()];
    for at in newest.into_iter().skip(limits.keep.unwrap_or(0)) {
        going[at] = limits.before.is_none_or(|before| names[at].changed < before);
    }
    going
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_stay_and_the_young() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let check = |written: &[u64], keep: Option<usize>, before: Option<u64>, expected: &[usize]| {
            let ages: Vec<_> = written.iter().map(|s| Age { written: at(*s), changed: at(*s) }).collect();
            let going = going(&ages, Limits { keep, before: before.map(at) });
            let found: Vec<_> = going.iter().enumerate().filter(|(_, going)| **going).map(|(at, _)| at).collect();
            assert_eq!(found, expected, "{written:?} {keep:?} {before:?}");
        };
        check(&[1, 2, 3], Some(1), None, &[0, 1]);
        check(&[3, 2, 1], Some(1), None, &[1, 2]);
        check(&[5, 5, 5], Some(2), None, &[0]);
        check(&[1, 2, 3], Some(3), None, &[]);
        check(&[1, 2, 3], Some(9), None, &[]);
        check(&[1, 2, 3], Some(0), None, &[0, 1, 2]);
        check(&[1, 2, 3], None, Some(3), &[0, 1]);
        check(&[1, 2, 3], Some(2), Some(3), &[0]);
        check(&[1, 2, 3], Some(1), Some(2), &[0]);
        check(&[], Some(1), Some(2), &[]);
    }

    #[test]
    fn what_was_unpacked_just_now_is_young() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let names = [Age { written: at(1), changed: at(100) }, Age { written: at(2), changed: at(50) }];
        assert_eq!(going(&names, Limits { keep: None, before: Some(at(60)) }), [false, true]);
        assert_eq!(going(&names, Limits { keep: Some(1), before: None }), [true, false]);
    }
}
