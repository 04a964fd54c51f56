//! [`Deferral`]: what makes a message wait before it comes into its topic.

use std::time::Duration;

use rocketmq_protocol::message::{Properties, PropertiesRef, property};
use rocketmq_protocol::name::SCHEDULE_TOPIC;
use rocketmq_protocol::{ByteString, QueueId, ResponseCode};

use super::refusal::Refusal;

/// Holds messages that wait for a time. Java: `TimerMessageStore.java`, `TIMER_TOPIC`.
pub(super) const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";

/// Properties that ask for a time, the first that is there counts; a delay level overrules them.
pub(super) const TIMER_PROPERTIES: [&str; 3] =
    [property::TIMER_DELAY_SEC, property::TIMER_DELAY_MS, property::TIMER_DELIVER_MS];

/// The rules.
pub(super) struct Deferral {
    /// The highest delay level.
    levels: i32,
    /// How far ahead a time may be, in ms; `None` when times are switched off.
    max_timer_ms: Option<i64>,
}

/// Where a message waits, and with which properties.
#[derive(Debug, PartialEq)]
pub(super) struct Deferred {
    pub(super) topic: &'static str,
    pub(super) queue_id: QueueId,
    pub(super) properties: Properties,
    /// By which time it can be taken back, in ms; `None` for a delay level.
    pub(super) recall_ms: Option<i64>,
}

impl Deferral {
    pub(super) fn new(levels: usize, max_timer: Option<Duration>) -> Self {
        let max_timer_ms = max_timer.map(|max| i64::try_from(max.as_millis()).unwrap_or(i64::MAX));
        Self { levels: i32::try_from(levels).unwrap_or(i32::MAX), max_timer_ms }
    }

    /// How far ahead a time may be, in ms.
    pub(super) fn max_timer_ms(&self) -> i64 {
        self.max_timer_ms.unwrap_or(0)
    }

    /// What becomes of a message for `topic` with these properties; `None` when it need not wait.
    ///
    /// Java: `broker/util/HookUtils.java`, `handleScheduleMessage`.
    pub(super) fn of(
        &self,
        topic: &str,
        queue_id: QueueId,
        properties: PropertiesRef<'_>,
        now_ms: i64,
    ) -> Result<Option<Deferred>, Refusal> {
        let Some(level) = delay_level(properties) else {
            return self.timed(topic, queue_id, properties, now_ms);
        };
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
        let queue_id = QueueId::new(level - 1);
        Ok(Some(Deferred { topic: SCHEDULE_TOPIC, queue_id, properties, recall_ms: None }))
    }

    /// Java: `HookUtils.java`, `transformTimerMessage`.
    fn timed(
        &self,
        topic: &str,
        queue_id: QueueId,
        properties: PropertiesRef<'_>,
        now_ms: i64,
    ) -> Result<Option<Deferred>, Refusal> {
        // One that has waited already does not wait again.
        if topic == TIMER_TOPIC || properties.get(property::TIMER_OUT_MS).is_some() {
            return Ok(None);
        }
        let asked = TIMER_PROPERTIES.into_iter().find_map(|name| Some((name, properties.get(name)?)));
        let Some((name, value)) = asked else { return Ok(None) };
        let Some(max_ms) = self.max_timer_ms else {
            let remark = "timer messages are switched off (timerWheelEnable)".to_owned();
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
        };
        let number: i64 = value
            .parse()
            .map_err(|_| Refusal::illegal(format!("property {name}={value:?} is not a whole number")))?;
        let deliver_ms = match name {
            property::TIMER_DELAY_SEC => now_ms.saturating_add(number.saturating_mul(1000)),
            property::TIMER_DELAY_MS => now_ms.saturating_add(number),
            _ => number,
        };
        if deliver_ms <= now_ms {
            if properties.get(property::TIMER_DEL_UNIQKEY).is_some() {
                return Err(Refusal::illegal(format!(
                    "property {name}={value}: it is too late to take back"
                )));
            }
            return Ok(None);
        }
        if deliver_ms - now_ms > max_ms {
            let remark = format!(
                "property {name}={value}: that is more than {} s ahead (timerMaxDelaySec)",
                max_ms / 1000
            );
            return Err(Refusal::illegal(remark));
        }
        // The second before it, also where it is a whole second.
        let out_ms = (deliver_ms - 1).div_euclid(1000) * 1000;
        let properties = Properties::new(ByteString::from(properties.to_text().as_ref()))
            .to_builder()
            .set(property::TIMER_OUT_MS, &out_ms.to_string())
            .set(property::REAL_TOPIC, topic)
            .set(property::REAL_QID, &queue_id.to_string())
            .build()
            .map_err(|error| Refusal::illegal(error.to_string()))?;
        let (queue_id, recall_ms) = (QueueId::ZERO, Some(out_ms + 1));
        Ok(Some(Deferred { topic: TIMER_TOPIC, queue_id, properties, recall_ms }))
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
        rules().of("orders", QueueId::new(3), told.as_ref(), NOW).unwrap()
    }

    const NOW: i64 = 1_795_257_699_939;

    fn rules() -> Deferral {
        Deferral::new(18, Some(Duration::from_secs(3 * 24 * 3600)))
    }

    fn out(properties: &[(&str, &str)]) -> Option<String> {
        let waiting = deferred(properties)?;
        assert_eq!((waiting.topic, waiting.queue_id), (TIMER_TOPIC, QueueId::ZERO));
        waiting.properties.get("TIMER_OUT_MS").map(str::to_owned)
    }

    #[test]
    fn a_time_waits_in_the_second_before_it() {
        // The first three observed on 5.4.0, in the golden store.
        for (name, value, expected) in [
            ("TIMER_DELAY_MS", "3000", "1795257702000"),
            ("TIMER_DELAY_SEC", "72000", "1795329699000"),
            ("TIMER_DELIVER_MS", "1795257704948", "1795257704000"),
            ("TIMER_DELIVER_MS", "1795257704000", "1795257703000"),
            ("TIMER_DELIVER_MS", "1795257704001", "1795257704000"),
        ] {
            assert_eq!(out(&[(name, value)]).as_deref(), Some(expected), "{name}={value}");
        }
        // The first that Java looks at counts.
        let all = [("TIMER_DELIVER_MS", "1"), ("TIMER_DELAY_MS", "1"), ("TIMER_DELAY_SEC", "10")];
        assert_eq!(out(&all).as_deref(), Some("1795257709000"));
    }

    #[test]
    fn a_time_that_has_passed_or_was_waited_for_is_no_delay() {
        assert_eq!(deferred(&[("TIMER_DELIVER_MS", "1795257699939")]), None);
        assert_eq!(deferred(&[("TIMER_DELAY_SEC", "0")]), None);
        assert_eq!(deferred(&[("TIMER_DELAY_SEC", "5"), ("TIMER_OUT_MS", "1795257704000")]), None);
    }

    #[test]
    fn a_time_too_far_ahead_or_no_number_is_refused() {
        for (name, value) in [("TIMER_DELAY_SEC", "259201"), ("TIMER_DELAY_MS", "soon")] {
            let told = Properties::builder().set(name, value).build().unwrap();
            assert!(rules().of("orders", QueueId::ZERO, told.as_ref(), NOW).is_err(), "{name}={value}");
        }
        let told = Properties::builder().set("TIMER_DELAY_SEC", "1").build().unwrap();
        assert!(Deferral::new(18, None).of("orders", QueueId::ZERO, told.as_ref(), NOW).is_err());
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
