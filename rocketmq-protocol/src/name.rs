//! Names of topics and groups: what they may look like, and which ones the system keeps for itself.

/// Longest name of a topic, in characters.
pub const MAX_TOPIC: usize = 127;
/// Longest name of a retry or dead-letter topic, in characters: prefix and group.
pub const MAX_GROUP_TOPIC: usize = 255;
/// Longest name of a group, in characters.
pub const MAX_GROUP: usize = 120;

/// Begins the topic that holds a group's failed messages until they come again.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Begins the topic that holds the messages a group has given up.
pub const DLQ_PREFIX: &str = "%DLQ%";

/// Its settings are the template of topics that are created by sending to them.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
/// Holds delayed messages, a queue per level.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Holds messages of undecided transactions.
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// Notes which of them were decided.
pub const HALF_OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Holds messages whose transaction was never decided.
pub const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Kept for the broker's self test.
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
/// Kept for notes about offsets that were moved.
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
/// What Java's benchmark programs send to.
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
/// Holds message traces.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Kept for checkpoints.
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
/// Begins every other topic of the system.
pub const SYSTEM_PREFIX: &str = "rmq_sys_";

/// Topics that clients must not send to. Java: `common/topic/TopicValidator.java`.
pub const NOT_SENDABLE: [&str; 6] = [
    SCHEDULE_TOPIC,
    HALF_TOPIC,
    HALF_OP_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
];

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing but white space.
    #[error("the {kind} name is blank")]
    Blank {
        /// `topic` or `group`.
        kind: &'static str,
    },
    /// A character that names don't have.
    #[error(
        "the {kind} name {name:?} has {character:?} at {position}; allowed are %, |, a-z, A-Z, 0-9, _ and -"
    )]
    Character {
        /// `topic` or `group`.
        kind: &'static str,
        /// The name, cut at [`MAX_GROUP_TOPIC`] characters.
        name: String,
        /// The first such character.
        character: char,
        /// How many characters stand before it.
        position: usize,
    },
    /// Too many characters.
    #[error("the {kind} name {name:?} has {length} characters, more than {limit}")]
    TooLong {
        /// `topic` or `group`.
        kind: &'static str,
        /// The name, cut at [`MAX_GROUP_TOPIC`] characters.
        name: String,
        /// Its length.
        length: usize,
        /// The longest allowed.
        limit: usize,
    },
}

/// Checks the name of a topic: not blank, only `%|a-zA-Z0-9_-`, at most [`MAX_TOPIC`] characters, or
/// [`MAX_GROUP_TOPIC`] with one of the prefixes [`RETRY_PREFIX`] and [`DLQ_PREFIX`].
///
/// # Errors
/// The first rule that the name breaks.
pub fn validate_topic(topic: &str) -> Result<(), NameError> {
    let of_group = topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX);
    validate("topic", topic, if of_group { MAX_GROUP_TOPIC } else { MAX_TOPIC })
}

/// Checks the name of a producer or consumer group: not blank, only `%|a-zA-Z0-9_-`, at most [`MAX_GROUP`] characters.
///
/// # Errors
/// The first rule that the name breaks.
pub fn validate_group(group: &str) -> Result<(), NameError> {
    validate("group", group, MAX_GROUP)
}

fn validate(kind: &'static str, name: &str, limit: usize) -> Result<(), NameError> {
    let shown = || name.chars().take(MAX_GROUP_TOPIC).collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-');
    // What is allowed is ASCII, and not blank: up to there, bytes are characters.
    let first_bad = name.bytes().position(|byte| !allowed(byte));
    if name.is_empty() || (first_bad.is_some() && name.trim().is_empty()) {
        return Err(NameError::Blank { kind });
    }
    if let Some(position) = first_bad {
        let character = name.chars().nth(position).unwrap_or_default();
        return Err(NameError::Character { kind, name: shown(), character, position });
    }
    if name.len() > limit {
        return Err(NameError::TooLong { kind, name: shown(), length: name.len(), limit });
    }
    Ok(())
}

/// The topic that holds the group's failed messages until they come again.
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// The topic that holds the messages the group has given up.
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// The topic that a cluster's replies to requests are stored in.
pub fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_REPLY_TOPIC")
}

/// Whether the topic is the system's own on a broker of this name in this cluster: users neither create nor delete it.
pub fn is_system_topic(topic: &str, cluster: &str, broker: &str) -> bool {
    NOT_SENDABLE.contains(&topic)
        || [AUTO_CREATE_TOPIC, BENCHMARK_TOPIC, TRACE_TOPIC, CHECKPOINT_TOPIC, cluster, broker]
            .contains(&topic)
        || topic.starts_with(SYSTEM_PREFIX)
        || topic.strip_suffix("_REPLY_TOPIC") == Some(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_allowed_characters_and_length_passes() {
        assert_eq!(validate_topic("%azAZ09_-|"), Ok(()));
        assert_eq!(validate_topic(&"t".repeat(127)), Ok(()));
        assert_eq!(validate_group(&"g".repeat(120)), Ok(()));
        assert_eq!(validate_topic(&retry_topic(&"g".repeat(248))), Ok(()));
        assert_eq!(validate_topic(&dlq_topic(&"g".repeat(250))), Ok(()));
    }

    #[test]
    fn a_refusal_names_the_value_the_place_and_the_limit() {
        assert_eq!(validate_topic(" \t").unwrap_err().to_string(), "the topic name is blank");
        assert_eq!(
            validate_group("标 x").unwrap_err().to_string(),
            "the group name \"标 x\" has '标' at 0; allowed are %, |, a-z, A-Z, 0-9, _ and -"
        );
        let long = "t".repeat(128);
        assert_eq!(
            validate_topic(&long).unwrap_err().to_string(),
            format!("the topic name {long:?} has 128 characters, more than 127")
        );
        let huge = validate_topic(&retry_topic(&"g".repeat(1 << 20))).unwrap_err();
        assert!(
            huge.to_string().ends_with("has 1048583 characters, more than 255")
                && huge.to_string().len() < 400
        );
    }

    #[test]
    fn system_topics_depend_on_cluster_and_broker() {
        for topic in ["TBW102", "SCHEDULE_TOPIC_XXXX", "rmq_sys_wheel_timer", "c", "b", "c_REPLY_TOPIC"] {
            assert!(is_system_topic(topic, "c", "b"), "{topic}");
        }
        for topic in ["orders", "d_REPLY_TOPIC", "%RETRY%g"] {
            assert!(!is_system_topic(topic, "c", "b"), "{topic}");
        }
    }
}
