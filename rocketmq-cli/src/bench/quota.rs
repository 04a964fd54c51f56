//! [`Quota`]: how many messages are to be sent, when, and by whom.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Hands out the numbers of messages until there are enough of them or time is up.
pub(crate) struct Quota {
    next: AtomicU64,
    end: u64,
    over: AtomicBool,
    began: Instant,
    /// Messages per second; as fast as possible when there is none.
    rate: Option<f64>,
}

/// Messages of one send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) numbers: Range<u64>,
    /// When it is to be sent, whatever became of those before it; now, when there is no rate.
    pub(crate) due: Option<Instant>,
}

impl Quota {
    /// Messages up to the number `end`.
    pub(crate) fn new(end: u64, rate: Option<f64>) -> Self {
        Self { next: AtomicU64::new(0), end, over: AtomicBool::new(false), began: Instant::now(), rate }
    }

    /// As many messages as `duration` has room for at `rate`; without a rate, until [`Quota::finish`].
    pub(crate) fn lasting(duration: Duration, rate: Option<f64>) -> Self {
        let end = rate.map_or(u64::MAX, |rate| (rate * duration.as_secs_f64()).ceil() as u64);
        Self::new(end, rate)
    }

    /// The next messages, up to `most`; `None` when that was all.
    pub(crate) fn take(&self, most: u64) -> Option<Turn> {
        if self.is_over() {
            return None;
        }
        let from = self.next.fetch_add(most, Ordering::Relaxed);
        let numbers = from..from.saturating_add(most).min(self.end);
        let due = self.rate.map(|rate| self.began + Duration::from_secs_f64(from as f64 / rate));
        (!numbers.is_empty()).then_some(Turn { numbers, due })
    }

    /// No more messages.
    pub(crate) fn finish(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// When the first message was due.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_given_once_and_no_more_than_were_asked_for() {
        let quota = Quota::new(10, None);
        let turns: Vec<_> = std::iter::from_fn(|| quota.take(4)).map(|turn| turn.numbers).collect();
        assert_eq!(turns, [0..4, 4..8, 8..10]);
    }

    #[test]
    fn a_rate_gives_every_message_its_time() {
        let quota = Quota::lasting(Duration::from_secs(2), Some(1000.0));
        let dues: Vec<_> = std::iter::from_fn(|| quota.take(500)).filter_map(|turn| turn.due).collect();
        let after = |ms| quota.began() + Duration::from_millis(ms);
        assert_eq!(dues, [after(0), after(500), after(1000), after(1500)]);
    }

    #[test]
    fn nothing_is_given_once_it_is_finished() {
        let quota = Quota::lasting(Duration::from_secs(1), None);
        assert!(quota.take(1).is_some());
        quota.finish();
        assert_eq!(quota.take(1), None);
    }
}
