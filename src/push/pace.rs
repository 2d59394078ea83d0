//! How many blobs at once, and how many requests a second. Pure: it knows neither network nor clock.
//!
//! Times are those since the push began.

use std::collections::VecDeque;
use std::time::Duration;

use super::reader::{PIECE, STREAM_PIECES};

/// Large blobs in flight at first. A stream to ECR gets 25 to 40 MB/s, whatever the link (facts/ecr.md, Speed): so many fill
/// a line of 2 Gbit/s, and what has more is found out.
const START: usize = 8;

/// A blob up to this size in bytes is over in a few round trips: it needs the line's rate less than a place in the queue.
const SMALL: u64 = 1024 * 1024;

/// Pieces that all blobs in flight may hold together: 16 MiB.
const PIECES: usize = 128;

/// More streams have brought something if the rate is so much higher than the best one before.
const GAIN: f64 = 1.1;

/// Refusals that come together are one.
const TOGETHER: Duration = Duration::from_secs(1);

/// So long after a refusal nothing grows.
const QUIET: Duration = Duration::from_secs(2);

/// What is in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flight {
    /// Blobs.
    pub blobs: usize,
    /// Those of them that are large.
    pub large: usize,
    /// The pieces that they may hold.
    pub pieces: usize,
    /// Beside these: blobs of which it is asked whether they are to be sent at all.
    pub asked: usize,
}

impl Flight {
    /// What one blob of `size` bytes is to it.
    #[must_use]
    pub fn of(size: u64) -> Self {
        let pieces = usize::try_from(size.div_ceil(PIECE as u64)).unwrap_or(usize::MAX);
        Self { blobs: 1, large: usize::from(size > SMALL), pieces: pieces.min(STREAM_PIECES), asked: 0 }
    }

    /// What a question is to it.
    pub const QUESTION: Self = Self { blobs: 0, large: 0, pieces: 0, asked: 1 };

    /// With one more blob.
    #[must_use]
    pub fn and(self, one: Self) -> Self {
        Self {
            blobs: self.blobs + one.blobs,
            large: self.large + one.large,
            pieces: self.pieces + one.pieces,
            asked: self.asked + one.asked,
        }
    }

    /// With one blob less.
    #[must_use]
    pub fn without(self, one: Self) -> Self {
        Self {
            blobs: self.blobs - one.blobs,
            large: self.large - one.large,
            pieces: self.pieces - one.pieces,
            asked: self.asked - one.asked,
        }
    }
}

/// How many blobs may be in flight: more large ones while that brings something, fewer when the registry asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lanes {
    /// The most that was allowed.
    jobs: usize,
    /// How many blobs.
    blobs: usize,
    /// How many large ones.
    large: usize,
    /// The best rate so far, in bytes a second.
    best: f64,
    refused: Option<Duration>,
}

impl Lanes {
    /// At most `jobs` blobs.
    #[must_use]
    pub fn new(jobs: usize) -> Self {
        Self { jobs, blobs: jobs, large: START.min(jobs), best: 0.0, refused: None }
    }

    /// Whether `one` more blob may start beside what is in flight; the first one always may. A question takes a place like a
    /// blob, since its connection will be the blob's: more of them are more connections that begin slowly.
    #[must_use]
    pub fn admits(&self, flight: Flight, one: Flight) -> bool {
        let with = flight.and(one);
        if one.asked > 0 {
            return with.asked + with.blobs <= self.blobs;
        }
        flight.blobs == 0
            || with.blobs <= self.blobs && (one.large == 0 || with.large <= self.large) && with.pieces <= PIECES
    }

    /// Takes in that `rate` bytes a second moved in the time up to `now`, with this in flight, and others waiting or not.
    pub fn measured(&mut self, now: Duration, rate: f64, flight: Flight, waiting: bool) {
        if self.refused.is_some_and(|refused| now < refused + QUIET) {
            return;
        }
        self.blobs = (self.blobs + self.blobs.div_ceil(4)).min(self.jobs);
        let full = waiting && flight.large >= self.large;
        if full && rate > self.best * GAIN {
            self.best = rate;
            self.large = (self.large + self.large.div_ceil(2)).min(self.jobs);
        }
    }

    /// Takes in that the registry had too much of it (429, 503) or that connections broke, with this in flight.
    pub fn refused(&mut self, now: Duration, flight: Flight) {
        if self.refused.is_some_and(|refused| now < refused + TOGETHER) {
            return;
        }
        self.refused = Some(now);
        self.blobs = (flight.blobs.min(self.blobs) / 2).max(1);
        self.large = self.large.min(self.blobs);
        // What the line gave before is no measure for what the registry gives now.
        self.best = 0.0;
    }
}

/// At most so many requests in any second, wherever it begins.
#[derive(Debug, Clone)]
pub struct Window {
    most: usize,
    sent: VecDeque<Duration>,
}

impl Window {
    /// A second, and a little for what the way does to their distance.
    const LENGTH: Duration = Duration::from_millis(1050);

    /// At most `most` a second.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, sent: VecDeque::new() }
    }

    /// How long one more request has to wait; it counts as sent then.
    pub fn admit(&mut self, now: Duration) -> Duration {
        while self.sent.front().is_some_and(|sent| *sent + Self::LENGTH <= now) {
            self.sent.pop_front();
        }
        let before = self.sent.len().checked_sub(self.most).and_then(|at| self.sent.get(at));
        let time = before.map_or(now, |sent| now.max(*sent + Self::LENGTH));
        self.sent.push_back(time);
        time.saturating_sub(now)
    }
}

/// So many requests at once, and then so many a second; fewer when the registry asks for it.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: u32,
    /// The time that one request takes now.
    each: Duration,
    /// How many go at once now.
    burst: u32,
    /// When it will be full again.
    full: Duration,
}

impl Bucket {
    /// The longest time that one request takes.
    const SLOWEST: Duration = Duration::from_secs(1);

    /// `rate` at once, and then `rate` a second.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { rate, each: Duration::from_secs(1) / rate.max(1), burst: rate, full: Duration::ZERO }
    }

    /// How long one more request has to wait; it is taken out then.
    pub fn admit(&mut self, now: Duration) -> Duration {
        self.full = self.full.max(now) + self.each;
        self.full.saturating_sub(now + self.each * self.burst)
    }

    /// Half as many, one by one: the registry had too many.
    pub fn slow_down(&mut self) {
        self.each = (self.each * 2).min(Self::SLOWEST);
        self.burst = 1;
    }

    /// A little more, up to what it was made for.
    pub fn recover(&mut self) {
        let least = Duration::from_secs(1) / self.rate.max(1);
        self.each = (self.each * 9 / 10).max(least);
        if self.each == least {
            self.burst = self.rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;
    const LARGE: u64 = 100 * MIB;

    fn flight(large: usize, small: usize) -> Flight {
        let many = |size, number| (0..number).fold(Flight::default(), |flight: Flight, _| flight.and(Flight::of(size)));
        many(LARGE, large).and(many(1000, small))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_may_start() {
        let check = |jobs, flight: Flight, size, expected| {
            assert_eq!(Lanes::new(jobs).admits(flight, Flight::of(size)), expected, "{flight:?} {size}");
        };
        check(32, flight(0, 0), LARGE, true);
        check(32, flight(7, 0), LARGE, true);
        check(32, flight(8, 0), LARGE, false);
        // Small ones fill the gaps, and don't keep large ones out.
        check(32, flight(8, 0), 1000, true);
        check(32, flight(8, 23), 1000, true);
        check(32, flight(8, 24), 1000, false);
        check(32, flight(7, 24), LARGE, true);
        check(2, flight(2, 0), 1000, false);
        check(1, flight(0, 0), LARGE, true);
        check(1, flight(1, 0), 0, false);
        // Memory is bounded, however many were allowed.
        check(256, flight(0, 128), 1000, false);
    }

    #[test]
    fn who_may_ask() {
        let check = |jobs, large, asked, expected| {
            let flight = Flight { asked, ..flight(large, 0) };
            assert_eq!(Lanes::new(jobs).admits(flight, Flight::QUESTION), expected, "{jobs} {large} {asked}");
        };
        check(1, 0, 0, true);
        check(1, 0, 1, false);
        check(32, 8, 23, true);
        check(32, 8, 24, false);
    }

    #[test]
    fn grows_while_it_helps() {
        let mut lanes = Lanes::new(32);
        let mut check = |now, rate, waiting, expected| {
            let full = flight(lanes.large, 0);
            lanes.measured(seconds(now), rate, full, waiting);
            assert_eq!(lanes.large, expected, "after {now} s");
        };
        check(1, 280e6, true, 12);
        check(2, 420e6, true, 18);
        check(3, 630e6, true, 27);
        // The line is full.
        check(4, 635e6, true, 27);
        check(5, 690e6, true, 27);
        check(6, 700e6, true, 32);
        check(7, 900e6, true, 32);
    }

    #[test]
    fn does_not_grow_for_nobody() {
        let mut lanes = Lanes::new(32);
        lanes.measured(seconds(1), 1e6, flight(8, 0), false);
        lanes.measured(seconds(2), 1e9, flight(7, 10), true);
        assert_eq!(lanes, Lanes::new(32));
    }

    #[test]
    fn shrinks_and_recovers() {
        let mut lanes = Lanes::new(32);
        lanes.refused(seconds(10), flight(8, 24));
        assert_eq!((lanes.blobs, lanes.large), (16, 8));
        // One of many that were refused together.
        lanes.refused(seconds(10) + Duration::from_millis(900), flight(8, 23));
        assert_eq!((lanes.blobs, lanes.large), (16, 8));
        lanes.refused(seconds(11), flight(8, 8));
        assert_eq!((lanes.blobs, lanes.large), (8, 8));
        lanes.refused(seconds(12), flight(8, 0));
        assert_eq!((lanes.blobs, lanes.large), (4, 4));
        lanes.measured(seconds(13), 1e9, flight(4, 0), true);
        assert_eq!((lanes.blobs, lanes.large), (4, 4));
        lanes.measured(seconds(14), 1e8, flight(4, 0), true);
        assert_eq!((lanes.blobs, lanes.large), (5, 6));
        let mut grown = 0;
        while lanes.blobs < 32 {
            grown += 1;
            lanes.measured(seconds(14 + grown), 1e8, flight(6, 0), true);
        }
        assert!(grown < 15, "{grown}");
    }

    #[test]
    fn one_is_always_left() {
        let mut lanes = Lanes::new(1);
        lanes.refused(seconds(1), flight(1, 0));
        assert!(lanes.admits(Flight::default(), Flight::of(LARGE)));
        assert_eq!((lanes.blobs, lanes.large), (1, 1));
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let mut bucket = Bucket { burst: 3, ..Bucket::new(10) };
        let mut check = |now, expected| {
            let wait = bucket.admit(Duration::from_millis(now));
            assert_eq!(wait, Duration::from_millis(expected), "at {now} ms");
        };
        check(0, 0);
        check(0, 0);
        check(0, 0);
        check(0, 100);
        check(0, 200);
        check(150, 150);
        check(2000, 0);
        check(2000, 0);
        check(2000, 0);
        check(2000, 100);
    }

    #[test]
    fn a_bucket_slows_down_and_recovers() {
        let mut bucket = Bucket::new(10);
        bucket.slow_down();
        assert_eq!((bucket.admit(Duration::ZERO), bucket.admit(Duration::ZERO)), (Duration::ZERO, seconds(1) / 5));
        for _ in 0..10 {
            bucket.slow_down();
        }
        assert_eq!(bucket.each, seconds(1));
        let mut looks = 0;
        while bucket.burst == 1 {
            looks += 1;
            bucket.recover();
        }
        assert_eq!((bucket.each, bucket.burst), (seconds(1) / 10, 10));
        assert!(looks < 30, "{looks}");
    }

    proptest! {
        #[test]
        fn never_more_than_the_window_takes(gaps in proptest::collection::vec(0_u64..400, 1..200), most in 1_usize..12) {
            let mut window = Window::new(most);
            let mut now = Duration::ZERO;
            let mut sent: Vec<Duration> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                sent.push(now + window.admit(now));
            }
            prop_assert!(sent.is_sorted());
            for several in sent.windows(most + 1) {
                prop_assert!(several[most] >= several[0] + Duration::from_secs(1));
            }
        }

        #[test]
        fn lanes_stay_in_their_bounds(
            jobs in 1_usize..300,
            events in proptest::collection::vec((any::<bool>(), 0_u64..5000, 0.0..1e9_f64, 0_usize..40), 0..60),
        ) {
            let mut lanes = Lanes::new(jobs);
            let mut now = Duration::ZERO;
            for (refused, gap, rate, large) in events {
                now += Duration::from_millis(gap);
                if refused { lanes.refused(now, flight(large, 0)) } else { lanes.measured(now, rate, flight(large, 0), true) }
                prop_assert!((1..=jobs).contains(&lanes.blobs) && (1..=jobs).contains(&lanes.large));
            }
        }
    }
}
