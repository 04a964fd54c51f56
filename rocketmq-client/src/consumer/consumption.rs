//! [`Consumption`]: how fast a consumer pulls and handles messages, by topic, over the last minute and hour.
//! Java: `client/stat/ConsumerStatsManager.java`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocketmq_protocol::body::ConsumeStatus;
use tokio::time::Instant;

/// How fast a consumer pulls and handles messages.
#[derive(Default)]
pub(super) struct Consumption {
    /// Held to count or to add up.
    topics: Mutex<BTreeMap<String, Topic>>,
}

#[derive(Default)]
struct Topic {
    minute: Window<10>,
    hour: Window<600>,
}

/// What happened in slices of `SECONDS` each, six of which make the window.
#[derive(Default)]
struct Window<const SECONDS: u64> {
    slices: VecDeque<(Instant, Counts)>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    pulls: u32,
    pull_time: Duration,
    pulled: u64,
    batches: u32,
    handling_time: Duration,
    succeeded: u64,
    failed: u64,
}

/// Slices of a window.
const SLICES: u32 = 6;

impl Consumption {
    /// A pull brought `messages`.
    pub(super) fn pulled(&self, topic: &str, messages: usize, took: Duration) {
        let counts = Counts { pulls: 1, pull_time: took, pulled: messages as u64, ..Counts::default() };
        self.count(topic, counts);
    }

    /// A batch was handled: so many messages were done, and so many failed.
    pub(super) fn handled(&self, topic: &str, succeeded: usize, failed: usize, took: Duration) {
        let (succeeded, failed) = (succeeded as u64, failed as u64);
        self.count(topic, Counts { batches: 1, handling_time: took, succeeded, failed, ..Counts::default() });
    }

    /// The rates of every topic.
    pub(super) fn statuses(&self) -> BTreeMap<String, ConsumeStatus> {
        let now = Instant::now();
        self.topics().iter_mut().map(|(topic, counts)| (topic.clone(), counts.status(now))).collect()
    }

    fn count(&self, topic: &str, counts: Counts) {
        let now = Instant::now();
        let mut topics = self.topics();
        if !topics.contains_key(topic) {
            topics.insert(topic.to_owned(), Topic::default());
        }
        if let Some(topic) = topics.get_mut(topic) {
            topic.minute.add(now, counts);
            topic.hour.add(now, counts);
        }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<String, Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topic {
    fn status(&mut self, now: Instant) -> ConsumeStatus {
        let (minute, hour) = (self.minute.sum(now), self.hour.sum(now));
        let in_handler = if minute.batches == 0 { hour } else { minute };
        ConsumeStatus {
            consume_failed_msgs: i64::try_from(hour.failed).unwrap_or(i64::MAX),
            consume_failed_tps: minute.failed as f64 / 60.0,
            consume_ok_tps: minute.succeeded as f64 / 60.0,
            consume_rt: mean_ms(in_handler.handling_time, in_handler.batches),
            pull_rt: mean_ms(minute.pull_time, minute.pulls),
            pull_tps: minute.pulled as f64 / 60.0,
        }
    }
}

impl<const SECONDS: u64> Window<SECONDS> {
    const SLICE: Duration = Duration::from_secs(SECONDS);

    fn add(&mut self, now: Instant, counts: Counts) {
        match self.slices.back_mut() {
            Some((begun, sum)) if now < *begun + Self::SLICE => sum.add(counts),
            _ => {
                self.forget(now);
                self.slices.push_back((now, counts));
            }
        }
    }

    fn sum(&mut self, now: Instant) -> Counts {
        self.forget(now);
        let mut sum = Counts::default();
        self.slices.iter().for_each(|(_, counts)| sum.add(*counts));
        sum
    }

    /// Forgets what is older than the window.
    fn forget(&mut self, now: Instant) {
        while self.slices.front().is_some_and(|(begun, _)| *begun + Self::SLICE * SLICES <= now) {
            self.slices.pop_front();
        }
    }
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.pulls += more.pulls;
        self.pull_time += more.pull_time;
        self.pulled += more.pulled;
        self.batches += more.batches;
        self.handling_time += more.handling_time;
        self.succeeded += more.succeeded;
        self.failed += more.failed;
    }
}

fn mean_ms(total: Duration, count: u32) -> f64 {
    total.checked_div(count).unwrap_or_default().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(status: &BTreeMap<String, ConsumeStatus>) -> ConsumeStatus {
        status["t"]
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_of_the_last_minute_and_failures_of_the_last_hour() {
        let stats = Consumption::default();
        stats.pulled("t", 120, Duration::from_millis(4));
        stats.pulled("t", 0, Duration::from_millis(2));
        stats.handled("t", 60, 6, Duration::from_millis(30));
        stats.handled("t", 0, 0, Duration::from_millis(10));
        let expected = ConsumeStatus {
            consume_failed_msgs: 6,
            consume_failed_tps: 0.1,
            consume_ok_tps: 1.0,
            consume_rt: 20.0,
            pull_rt: 3.0,
            pull_tps: 2.0,
        };
        assert_eq!(at(&stats.statuses()), expected);
        tokio::time::advance(Duration::from_secs(60)).await;
        let later = at(&stats.statuses());
        assert_eq!((later.pull_tps, later.consume_ok_tps, later.consume_failed_tps), (0.0, 0.0, 0.0));
        assert_eq!((later.consume_failed_msgs, later.consume_rt), (6, 20.0), "the hour knows");
        tokio::time::advance(Duration::from_secs(3540)).await;
        assert_eq!(at(&stats.statuses()), ConsumeStatus::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_moves_on_slice_by_slice() {
        let stats = Consumption::default();
        for _ in 0..12 {
            stats.pulled("t", 10, Duration::ZERO);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(at(&stats.statuses()).pull_tps, 50.0 / 60.0); // the sixth slice has just gone
        assert_eq!(stats.topics()["t"].minute.slices.len(), 5);
    }
}
