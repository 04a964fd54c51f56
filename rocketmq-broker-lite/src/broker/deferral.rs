//! [`Deferral`]: what makes a message wait before it comes into its topic.

use rocketmq_protocol::message::{Properties, PropertiesRef, property};
use rocketmq_protocol::name::SCHEDULE_TOPIC;
use rocketmq_protocol::{ByteString, QueueId};

use super::refusal::Refusal;

/// Properties that ask for a time; a delay level overrules them.
pub(super) const TIMER_PROPERTIES: [&str; 3] =
    [property::TIMER_DELAY_SEC, property::TIMER_DELAY_MS, property::TIMER_DELIVER_MS];

/// The rules.
pub(super) struct Deferral {
    /// The highest delay level.
    levels: i32,
}

/// Where a message waits, and with which properties.
#[derive(Debug, PartialEq)]
pub(super) struct Deferred {
    pub(super) topic: &'static str,
    pub(super) queue_id: QueueId,
    pub(super) properties: Properties,
}

impl Deferral {
    pub(super) fn new(levels: usize) -> Self {
        Self { levels: i32::try_from(levels).unwrap_or(i32::MAX) }
    }

    /// What becomes of a message for `topic` with these properties; `None` when it need not wait.
    ///
    /// Java: `broker/util/HookUtils.java`, `handleScheduleMessage`.
    pub(super) fn of(
        &self,
        topic: &str,
        queue_id: QueueId,
        properties: PropertiesRef<'_>,
    ) -> Result<Option<Deferred>, Refusal> {
        let Some(level) = delay_level(properties) else { return Ok(None) };
        let level = level.min(self.levels);
        if level == 0 {
            return Ok(None);
        }
        let mut builder = Properties::new(ByteString::from(properties.to_text().as_ref())).to_builder();
        for name in TIMER_PROPERTIES {
            builder = builder.remove(name);
        }
        let properties = builder
            .set(property::DELAY, &level.to_string())
            .set(property::REAL_TOPIC, topic)
            .set(property::REAL_QID, &queue_id.to_string())
            .build()
            .map_err(|error| Refusal::illegal(error.to_string()))?;
        Ok(Some(Deferred { topic: SCHEDULE_TOPIC, queue_id: QueueId::new(level - 1), properties }))
    }
}

/// The delay level that is asked for. Java takes one that is 0, negative or no number for none.
pub(super) fn delay_level(properties: PropertiesRef<'_>) -> Option<i32> {
    properties.get(property::DELAY)?.parse().ok().filter(|level| *level > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deferred(properties: &[(&str, &str)]) -> Option<Deferred> {
        let told = properties.iter().fold(Properties::builder(), |told, (name, value)| told.set(name, value));
        let told = told.build().unwrap();
        Deferral::new(18).of("orders", QueueId::new(3), told.as_ref()).unwrap()
    }

    #[test]
    fn a_level_beyond_the_last_is_the_last() {
        let waiting = deferred(&[("DELAY", "99"), ("KEYS", "k")]).unwrap();
        assert_eq!((waiting.topic, waiting.queue_id), (SCHEDULE_TOPIC, QueueId::new(17)));
        let properties = &waiting.properties;
        assert_eq!(
            ["DELAY", "REAL_TOPIC", "REAL_QID", "KEYS"].map(|name| properties.get(name)),
            [Some("18"), Some("orders"), Some("3"), Some("k")]
        );
    }

    #[test]
    fn a_level_of_zero_or_less_or_no_number_does_not_delay() {
        for level in ["0", "-1", "x", "9999999999", "1.5"] {
            assert_eq!(deferred(&[("DELAY", level)]), None, "{level}");
        }
        assert_eq!(deferred(&[]), None);
    }

    #[test]
    fn a_level_overrules_a_time() {
        let waiting =
            deferred(&[("DELAY", "2"), ("TIMER_DELAY_SEC", "5"), ("TIMER_DELIVER_MS", "1")]).unwrap();
        assert_eq!(waiting.queue_id, QueueId::new(1));
        assert_eq!(
            waiting.properties.get("TIMER_DELAY_SEC").or(waiting.properties.get("TIMER_DELIVER_MS")),
            None
        );
    }
}
