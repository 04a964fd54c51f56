//! [`Tally`]: what came of messages, and how long each took.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest time told apart from longer ones, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// What came of messages.
pub(crate) struct Tally {
    pub(crate) messages: u64,
    /// Of their bodies.
    pub(crate) bytes: u64,
    /// Messages that came to nothing.
    pub(crate) errors: u64,
    /// Why the first of them did.
    pub(crate) first_error: Option<String>,
    /// Microseconds.
    pub(crate) times: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { messages: 0, bytes: 0, errors: 0, first_error: None, times: times() }
    }

    /// Messages, sent or received together, that went well.
    pub(crate) fn went_well(&mut self, messages: u64, bytes: u64, took: Duration) {
        self.messages += messages;
        self.bytes += bytes;
        record(&mut self.times, took);
    }

    pub(crate) fn failed(&mut self, messages: u64, why: impl FnOnce() -> String) {
        self.errors += messages;
        self.first_error.get_or_insert_with(why);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.times.add(&other.times).expect("all have the same bounds");
    }
}

/// Three digits of every time up to [`LONGEST_US`]. Pages of it that are not used take no memory.
pub(crate) fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order")
}

pub(crate) fn record(times: &mut Histogram<u64>, took: Duration) {
    times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_and_the_first_error_is_kept() {
        let mut all = Tally::new();
        all.went_well(32, 4096, Duration::from_millis(2));
        let mut other = Tally::new();
        other.failed(3, || "refused".into());
        other.failed(1, || "lost".into());
        other.went_well(1, 10, Duration::from_secs(3600));
        all.add(other);
        assert_eq!((all.messages, all.bytes, all.errors), (33, 4106, 4));
        assert_eq!(all.first_error.as_deref(), Some("refused"));
        assert!(all.times.max() >= LONGEST_US);
    }
}
