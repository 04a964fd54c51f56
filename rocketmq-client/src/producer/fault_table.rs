//! [`FaultTable`]: brokers that were slow or failed lately, and are passed over for a while.
//!
//! Java: `client/latency/MQFaultStrategy.java`, `LatencyFaultToleranceImpl.java`. There a broker that refused without a
//! detector at work stays unreachable until something is sent to it all the same; here only the detector's absence or
//! answer decides that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rocketmq_protocol::name::SELF_TEST_TOPIC;
use rocketmq_protocol::requests::GetMaxOffset;
use rocketmq_protocol::{ByteString, QueueId};
use tokio::time::Instant;
use tracing::debug;

use crate::client::Core;
use crate::deadline::Deadline;
use crate::route_table::BrokerChoice;

/// A failed attempt counts as one that took this long.
const FAILURE: Duration = Duration::from_secs(10);
/// Limit of one probe.
const PROBE_LIMIT: Duration = Duration::from_millis(200);

/// Passing over brokers that were slow or failed: off unless given to
/// [`ProducerBuilder::latency_fault`](crate::ProducerBuilder::latency_fault).
///
/// A broker whose answer took at least so long is not sent to for a while, as long as there is another one. Java's table,
/// which is the default: 550 ms → 2 s, 1.8 s → 5 s, 3 s → 6 s, 5 s → 10 s, 15 s → 30 s; a failure counts as 10 s. It only
/// concerns sends that may go to any queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyFault {
    /// From this latency on, unavailable for so long. By rising latency.
    levels: Vec<(Duration, Duration)>,
    detect_every: Option<Duration>,
}

impl Default for LatencyFault {
    fn default() -> Self {
        let ms = Duration::from_millis;
        let levels = [(550, 2_000), (1_800, 5_000), (3_000, 6_000), (5_000, 10_000), (15_000, 30_000)];
        Self {
            levels: levels.map(|(latency, away)| (ms(latency), ms(away))).to_vec(),
            detect_every: Some(Duration::from_secs(2)),
        }
    }
}

impl LatencyFault {
    /// Another table: from this latency on, unavailable for so long.
    #[must_use]
    pub fn levels(mut self, levels: impl IntoIterator<Item = (Duration, Duration)>) -> Self {
        self.levels = levels.into_iter().collect();
        self.levels.sort();
        self
    }

    /// How often a broker that failed is asked whether it is back. Until it answers, it is the last choice. `None`: never
    /// asked. Default 2 s.
    #[must_use]
    pub fn detect_every(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.detect_every = interval.into();
        self
    }

    fn away(&self, latency: Duration) -> Duration {
        let reached = self.levels.iter().rev().find(|(from, _)| latency >= *from);
        reached.map_or(Duration::ZERO, |(_, away)| *away)
    }

    /// Zero would be asking all the time.
    pub(super) fn is_sound(&self) -> bool {
        self.detect_every != Some(Duration::ZERO)
    }
}

/// Brokers that were slow or failed lately.
pub(super) struct FaultTable {
    rules: LatencyFault,
    /// Held for a lookup or a change, never while asking a broker.
    brokers: Mutex<HashMap<ByteString, Fault>>,
}

struct Fault {
    /// Passed over until then.
    until: Instant,
    is_reachable: bool,
}

impl FaultTable {
    pub(super) fn new(rules: LatencyFault) -> Self {
        Self { rules, brokers: Mutex::default() }
    }

    /// An attempt took so long, and worked.
    pub(super) fn worked(&self, broker: &ByteString, took: Duration) {
        let away = self.rules.away(took);
        let mut brokers = self.brokers();
        if !away.is_zero() || brokers.contains_key(&**broker) {
            Self::note(&mut brokers, broker, away, true);
        }
    }

    /// An attempt failed.
    pub(super) fn failed(&self, broker: &ByteString) {
        debug!(%broker, "broker passed over for a while");
        let is_reachable = self.rules.detect_every.is_none();
        Self::note(&mut self.brokers(), broker, self.rules.away(FAILURE), is_reachable);
    }

    /// The time away only ever gets longer.
    fn note(
        brokers: &mut HashMap<ByteString, Fault>,
        broker: &ByteString,
        away: Duration,
        is_reachable: bool,
    ) {
        let until = Instant::now() + away;
        let fault = brokers.entry(broker.detach()).or_insert(Fault { until, is_reachable });
        fault.until = fault.until.max(until);
        fault.is_reachable = is_reachable;
    }

    pub(super) fn is_available(&self, broker: &str) -> bool {
        self.brokers().get(broker).is_none_or(|fault| fault.until <= Instant::now())
    }

    pub(super) fn is_reachable(&self, broker: &str) -> bool {
        self.brokers().get(broker).is_none_or(|fault| fault.is_reachable)
    }

    fn unreachable(&self) -> Vec<ByteString> {
        self.brokers().iter().filter(|(_, fault)| !fault.is_reachable).map(|(name, _)| name.clone()).collect()
    }

    fn found(&self, broker: &str) {
        if let Some(fault) = self.brokers().get_mut(broker) {
            fault.is_reachable = true;
        }
    }

    fn forget(&self, broker: &str) {
        self.brokers().remove(broker);
    }

    fn brokers(&self) -> MutexGuard<'_, HashMap<ByteString, Fault>> {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks brokers that failed whether they are back, until the producer is gone.
    pub(super) async fn detect(table: Weak<Self>, core: Arc<Core>) {
        loop {
            let Some(interval) = table.upgrade().and_then(|table| table.rules.detect_every) else { return };
            tokio::time::sleep(interval).await;
            let Some(table) = table.upgrade() else { return };
            for broker in table.unreachable() {
                table.probe(&core, &broker).await;
            }
        }
    }

    /// Any answer will do: who refuses is there.
    async fn probe(&self, core: &Core, broker: &str) {
        let Some(addr) = core.routes.address(broker, BrokerChoice::Master) else {
            self.forget(broker); // no route names it
            return;
        };
        let deadline = Deadline::after(PROBE_LIMIT);
        let Ok(connection) = core.connections.connect(&addr, deadline).await else { return };
        let question =
            GetMaxOffset { topic: ByteString::from_static(SELF_TEST_TOPIC), queue_id: QueueId::new(0) };
        match connection.call(&question, deadline.left()).await {
            Err(error) if error.response_code().is_none() => {}
            _ => self.found(broker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_table_is_javas() {
        let rules = LatencyFault::default();
        for (latency, away) in [
            (0, 0),
            (549, 0),
            (550, 2_000),
            (1_799, 2_000),
            (1_800, 5_000),
            (3_000, 6_000),
            (5_000, 10_000),
            (10_000, 10_000),
            (15_000, 30_000),
            (1_000_000, 30_000),
        ] {
            assert_eq!(rules.away(ms(latency)), ms(away), "{latency}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_broker_is_away_for_the_tables_time_and_the_time_only_gets_longer() {
        let table = FaultTable::new(LatencyFault::default());
        let broker = ByteString::from("a");
        table.worked(&broker, ms(100));
        assert!(table.is_available("a") && table.is_available("never-heard-of"));
        table.worked(&broker, ms(2_000));
        assert!(!table.is_available("a") && table.is_reachable("a"));
        tokio::time::advance(ms(4_000)).await;
        table.worked(&broker, ms(600)); // 2 s more
        tokio::time::advance(ms(1_001)).await;
        assert!(!table.is_available("a"));
        tokio::time::advance(ms(1_000)).await;
        assert!(table.is_available("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_failed_is_the_last_choice_until_it_answers() {
        let table = FaultTable::new(LatencyFault::default());
        let broker = ByteString::from("a");
        table.failed(&broker);
        assert!(!table.is_available("a") && !table.is_reachable("a"));
        assert_eq!(table.unreachable(), std::slice::from_ref(&broker));
        tokio::time::advance(ms(10_001)).await;
        assert!(table.is_available("a") && !table.is_reachable("a"));
        table.worked(&broker, ms(1));
        assert!(table.is_reachable("a"));
        let without = FaultTable::new(LatencyFault::default().detect_every(None));
        without.failed(&broker);
        assert!(!without.is_available("a") && without.is_reachable("a"));
    }
}
