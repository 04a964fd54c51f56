//! [`Quota`]: how many messages are to be sent, when, and by whom.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

/// How much is sent.
#[derive(Args)]
pub(crate) struct Extent {
    /// How long to send
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How many messages to send, however long that takes
    #[arg(long, short, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
}

impl Extent {
    pub(crate) fn quota(&self, rate: Option<f64>) -> Quota {
        match self.messages {
            Some(messages) => Quota::new(messages, rate),
            None => Quota::lasting(self.duration, rate),
        }
    }

    /// Whether it can be sent `batch` messages at a time, with none left over.
    pub(crate) fn is_multiple_of(&self, batch: u64) -> bool {
        self.messages.is_none_or(|messages| messages % batch == 0)
    }

    /// When it is to end; with a number of messages, when they are sent.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.messages.is_none().then_some(self.duration)
    }
}

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

    /// Finishes when time is up, or when the user wants it to end: the report is printed all the same.
    pub(crate) async fn finish_in_time(&self, time: Option<Duration>) {
        let time_is_up = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time_is_up => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        self.finish();
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
