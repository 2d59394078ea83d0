//! When bytes may leave, and how many may be under way: the arithmetic of a slow line. Knows no sockets and no timer.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What TCP sends before the first acknowledgement: ten segments of 1,460 bytes (RFC 6928).
const FIRST_WINDOW: usize = 14_600;
/// As far as a window grows: what a receiver of today offers at most.
const LARGEST_WINDOW: usize = 4 << 20;

/// A line that bytes leave one after the other.
#[derive(Debug)]
pub(super) struct Line {
    /// Bytes per second.
    rate: u64,
    /// When the last byte that was handed over has left.
    free: Instant,
}

impl Line {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free: Instant::now() }
    }

    /// When the last of so many bytes has left that are handed over now.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Instant {
        self.free = self.free.max(now) + time_for(bytes, self.rate);
        self.free
    }
}

/// How long so many bytes take at this rate.
fn time_for(bytes: usize, rate: u64) -> Duration {
    let nanoseconds = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// How many bytes pass at this rate within a time.
pub(super) fn bytes_within(time: Duration, rate: u64) -> usize {
    let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// TCP's window in slow start: it grows by what is acknowledged. Nothing is ever lost.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    /// Sent and not acknowledged.
    flying: usize,
    /// Acknowledgements under way: when they come, and for how many bytes.
    acknowledgements: VecDeque<(Instant, usize)>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { size: FIRST_WINDOW, flying: 0, acknowledgements: VecDeque::new() }
    }

    /// How many bytes may be sent, now that these acknowledgements have come.
    pub(super) fn room(&mut self, now: Instant) -> usize {
        while let Some(&(at, bytes)) = self.acknowledgements.front()
            && at <= now
        {
            self.acknowledgements.pop_front();
            self.flying -= bytes;
            self.size = (self.size + bytes).min(LARGEST_WINDOW);
        }
        self.size.saturating_sub(self.flying)
    }

    /// Notes that bytes are sent.
    pub(super) fn send(&mut self, bytes: usize) {
        self.flying += bytes;
    }

    /// Notes that bytes of those have arrived, and when their acknowledgement will.
    pub(super) fn arrive(&mut self, bytes: usize, acknowledged: Instant) {
        self.acknowledgements.push_back((acknowledged, bytes));
    }

    /// When there will be more room.
    pub(super) fn next_acknowledgement(&self) -> Option<Instant> {
        self.acknowledgements.front().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_leave_one_after_the_other() {
        let mut line = Line::new(1000);
        let start = line.free;
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        for (bytes, now, leaves) in [(500, 0, 500), (500, 100, 1000), (1, 900, 1001), (100, 5000, 5100)] {
            assert_eq!(line.take(bytes, after(now)), after(leaves), "{bytes} bytes at {now} ms");
        }
    }

    #[test]
    fn a_window_doubles_with_each_round_until_it_is_largest() {
        let (mut window, mut now) = (Window::new(), Instant::now());
        let mut rooms = Vec::new();
        for _ in 0..12 {
            let room = window.room(now);
            rooms.push(room);
            window.send(room);
            assert_eq!(window.room(now), 0);
            now += Duration::from_millis(10);
            window.arrive(room, now);
        }
        assert_eq!(rooms[..4], [14_600, 29_200, 58_400, 116_800]);
        assert_eq!(rooms[10..], [LARGEST_WINDOW, LARGEST_WINDOW]);
    }

    proptest! {
        /// No faster than its rate over any stretch, in order, and never idle while something waits.
        #[test]
        fn a_line_is_as_fast_as_its_rate(
            rate in 1_u64..1_000_000_000,
            sent in vec((0_usize..100_000, 0_u64..50_000), 1..50),
        ) {
            let mut line = Line::new(rate);
            let mut now = line.free;
            let (mut busy_since, mut busy_bytes, mut last) = (now, 0, now);
            for (bytes, wait) in sent {
                now += Duration::from_micros(wait);
                if now > last {
                    (busy_since, busy_bytes) = (now, 0);
                }
                busy_bytes += bytes;
                let leaves = line.take(bytes, now);
                prop_assert!(leaves >= last && leaves >= now);
                let (exact, found) = (time_for(busy_bytes, rate), leaves - busy_since);
                // Each take rounds up to a nanosecond.
                prop_assert!(found >= exact && found <= exact + Duration::from_nanos(50), "{found:?} for {exact:?}");
                last = leaves;
            }
        }

        /// What is under way never exceeds the window, and every byte that arrives makes room again.
        #[test]
        fn a_window_holds(steps in vec((0_usize..200_000, 0_u64..40), 1..100)) {
            let (mut window, mut now) = (Window::new(), Instant::now());
            for (wanted, wait) in steps {
                now += Duration::from_millis(wait);
                let bytes = wanted.min(window.room(now));
                window.send(bytes);
                prop_assert!(window.flying <= window.size && window.size <= LARGEST_WINDOW);
                window.arrive(bytes, now + Duration::from_millis(30));
            }
            prop_assert_eq!(window.room(now + Duration::from_secs(1)), window.size);
            prop_assert_eq!((window.flying, window.next_acknowledgement()), (0, None));
        }
    }
}
