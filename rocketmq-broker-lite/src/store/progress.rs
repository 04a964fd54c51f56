//! [`Progress`]: what a long read of the log says now and then.

use std::time::{Duration, Instant};

use rocketmq_protocol::LogPosition;

/// A read that takes longer says how far it is, that often.
const EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Progress {
    from: LogPosition,
    started: Instant,
    told: Instant,
}

/// How fast a read is, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) bytes_per_second: u64,
    pub(super) remaining_bytes: u64,
    pub(super) remaining_seconds: u64,
}

impl Progress {
    pub(super) fn new(from: LogPosition, now: Instant) -> Self {
        Self { from, started: now, told: now }
    }

    /// A report of a read that is at `at` on its way to `end`, if it is time for one.
    pub(super) fn report(&mut self, at: LogPosition, end: LogPosition, now: Instant) -> Option<Report> {
        if now.duration_since(self.told) < EVERY {
            return None;
        }
        self.told = now;
        let bytes = |from: LogPosition, to: LogPosition| u64::try_from(to.get() - from.get()).unwrap_or(0);
        let milliseconds = u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX);
        let bytes_per_second = bytes(self.from, at).saturating_mul(1000) / milliseconds.max(1);
        let remaining_bytes = bytes(at, end);
        let remaining_seconds = remaining_bytes.div_ceil(bytes_per_second.max(1));
        Some(Report { bytes_per_second, remaining_bytes, remaining_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_read_tells_its_rate_and_what_remains_every_five_seconds() {
        let (start, at) = (Instant::now(), |gigabytes: i64| LogPosition::new(gigabytes << 30));
        let mut progress = Progress::new(at(1), start);
        let mut report =
            |gigabytes, seconds| progress.report(at(gigabytes), at(13), start + Duration::from_secs(seconds));
        assert_eq!(report(2, 4), None);
        let told = |bytes_per_second, remaining: u64| {
            let remaining_seconds = (remaining << 30).div_ceil(bytes_per_second);
            Some(Report { bytes_per_second, remaining_bytes: remaining << 30, remaining_seconds })
        };
        assert_eq!(report(2, 5), told((1 << 30) / 5, 11));
        assert_eq!(report(3, 9), None);
        assert_eq!(report(4, 12), told(1 << 28, 9));
        assert_eq!(report(13, 20), told((12 << 30) / 20, 0));
    }
}
