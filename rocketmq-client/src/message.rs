//! [`Message`]: what a producer sends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rocketmq_protocol::ByteString;
use rocketmq_protocol::message::{Properties, PropertiesBuilder, property};
use rocketmq_protocol::name::{NOT_SENDABLE, validate_topic};

use crate::Error;

/// A message to be sent. Cheap to clone: topic, body and properties are shared.
///
/// ```
/// # fn main() -> Result<(), rocketmq_client::Error> {
/// use rocketmq_client::Message;
///
/// let plain = Message::new("orders", "hello");
/// let rich = Message::builder("orders")
///     .body(vec![1, 2, 3])
///     .tag("created")
///     .key("order-42")
///     .property("region", "eu")
///     .build()?;
/// assert_eq!(rich.property("region"), Some("eu"));
/// # assert_eq!(plain.topic(), "orders");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub(crate) topic: ByteString,
    pub(crate) body: Bytes,
    pub(crate) flag: i32,
    pub(crate) properties: Properties,
}

/// When a message becomes visible to consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delay {
    /// After the broker's delay of this level, from 1. Brokers' defaults: 1s 5s 10s 30s 1m 2m … 10m 20m 30m 1h 2h.
    Level(u8),
    /// After this time, in whole milliseconds. Needs a 5.x broker: older ones deliver at once.
    After(Duration),
    /// At this time. Needs a 5.x broker: older ones deliver at once.
    At(SystemTime),
}

impl Message {
    /// A message without properties. The topic is checked when it is sent.
    pub fn new(topic: impl Into<ByteString>, body: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), body: body.into(), flag: 0, properties: Properties::EMPTY }
    }

    /// Sets up a message.
    pub fn builder(topic: impl Into<ByteString>) -> MessageBuilder {
        MessageBuilder {
            topic: topic.into(),
            body: Bytes::new(),
            flag: 0,
            properties: Properties::builder(),
            keys: String::new(),
            refused: None,
        }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.property(property::TAGS)
    }

    /// The value of a property, of the user's or of RocketMQ's own.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name)
    }

    /// Gives the message a property, in place of any other of that name.
    ///
    /// # Errors
    /// As for [`MessageBuilder::property`].
    pub fn set_property(&mut self, name: &str, value: &str) -> Result<(), Error> {
        check_property(name, value)
            .map_err(|reason| Error::InvalidMessage { topic: self.topic.to_string(), reason })?;
        self.properties = self.properties.with(name, value)?;
        Ok(())
    }

    /// All properties.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Checks what every broker checks. Java: `client/Validators.java`.
    pub(crate) fn validate(&self, max_size: usize) -> Result<(), Error> {
        self.validate_topic()?;
        self.validate_body(max_size)
    }

    /// The part of [`validate`](Self::validate) that the messages of a batch have in common.
    pub(crate) fn validate_topic(&self) -> Result<(), Error> {
        validate_topic(&self.topic)?;
        if NOT_SENDABLE.contains(&self.topic()) {
            let reason = "the topic is the system's own".into();
            return Err(Error::InvalidMessage { topic: self.topic.to_string(), reason });
        }
        Ok(())
    }

    /// The other part of [`validate`](Self::validate).
    pub(crate) fn validate_body(&self, max_size: usize) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::InvalidMessage { topic: self.topic.to_string(), reason });
        match self.body.len() {
            0 => refuse("its body is empty".into()),
            len if len > max_size => {
                refuse(format!("its body has {len} bytes, the limit is {max_size} (max_message_size)"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is delivered later.
    pub(crate) fn is_delayed(&self) -> bool {
        self.property(property::DELAY).is_some() || self.is_timer()
    }

    /// Whether it is delivered at a time that is no delay level.
    pub(crate) fn is_timer(&self) -> bool {
        use property::{TIMER_DELAY_MS, TIMER_DELAY_SEC, TIMER_DELIVER_MS};
        // One look for messages without any: it is asked for each message.
        self.properties.encoded().contains("TIMER_DE")
            && [TIMER_DELAY_MS, TIMER_DELAY_SEC, TIMER_DELIVER_MS]
                .iter()
                .any(|name| self.property(name).is_some())
    }
}

/// Sets up a [`Message`]: [`Message::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MessageBuilder {
    topic: ByteString,
    body: Bytes,
    flag: i32,
    properties: PropertiesBuilder,
    keys: String,
    /// The first refusal; `build` reports it, so that calls chain.
    refused: Option<String>,
}

impl MessageBuilder {
    /// The body. Bytes are shared, not copied.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The tag that consumers filter by.
    pub fn tag(self, tag: &str) -> Self {
        self.set(property::TAGS, tag)
    }

    /// A key that the message can be found by. May be given several times; keys have no blanks.
    pub fn key(mut self, key: &str) -> Self {
        if key.is_empty() || key.contains(char::is_whitespace) {
            return self.refuse(format!("the key {key:?} is empty or has blanks"));
        }
        if !self.keys.is_empty() {
            self.keys.push(' ');
        }
        self.keys.push_str(key);
        self
    }

    /// A property of the user's own. Names that RocketMQ uses itself are refused, and so are blank names and values.
    pub fn property(self, name: &str, value: &str) -> Self {
        match check_property(name, value) {
            Ok(()) => self.set(name, value),
            Err(reason) => self.refuse(reason),
        }
    }

    /// When consumers see it. Default: at once.
    pub fn delay(self, delay: Delay) -> Self {
        let timers = [property::DELAY, property::TIMER_DELAY_MS, property::TIMER_DELIVER_MS];
        let mut without = self;
        for name in timers {
            without.properties = without.properties.remove(name);
        }
        let millis = |duration: Duration| duration.as_millis().to_string();
        match delay {
            Delay::Level(0) => without.refuse("delay level 0: levels begin at 1".into()),
            Delay::Level(level) => without.set(property::DELAY, &level.to_string()),
            Delay::After(duration) => without.set(property::TIMER_DELAY_MS, &millis(duration)),
            Delay::At(time) => {
                let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default(); // the past is now
                without.set(property::TIMER_DELIVER_MS, &millis(since_epoch))
            }
        }
    }

    /// When the broker asks about the message's transaction for the first time, in whole seconds. Only with
    /// [`TransactionProducer`](crate::TransactionProducer). Default: the broker's `transactionTimeOut`, 6 s.
    pub fn first_check_after(self, time: Duration) -> Self {
        self.set(property::CHECK_IMMUNITY_TIME_IN_SECONDS, &time.as_secs().to_string())
    }

    /// Whether the broker answers only when the message is flushed and replicated as its settings say. Default true.
    pub fn wait_for_store(self, wait: bool) -> Self {
        self.set(property::WAIT, if wait { "true" } else { "false" })
    }

    /// A number of the user's own that is stored with the message. Default 0.
    pub fn flag(mut self, flag: i32) -> Self {
        self.flag = flag;
        self
    }

    /// The message.
    ///
    /// # Errors
    /// The first argument that was refused: [`Error::InvalidMessage`], or [`Error::Format`] for a property that cannot be
    /// written or properties of more than 32,767 bytes.
    pub fn build(self) -> Result<Message, Error> {
        if let Some(reason) = self.refused {
            return Err(Error::InvalidMessage { topic: self.topic.to_string(), reason });
        }
        let properties = match self.keys.as_str() {
            "" => self.properties,
            keys => self.properties.set(property::KEYS, keys),
        };
        Ok(Message { topic: self.topic, body: self.body, flag: self.flag, properties: properties.build()? })
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.properties = self.properties.set(name, value);
        self
    }

    fn refuse(mut self, reason: String) -> Self {
        self.refused.get_or_insert(reason);
        self
    }
}

/// What users may set.
fn check_property(name: &str, value: &str) -> Result<(), String> {
    if RESERVED.contains(&name) {
        return Err(format!("the property name {name:?} is RocketMQ's own"));
    }
    if name.trim().is_empty() || value.trim().is_empty() {
        return Err(format!("the property {name:?} has a blank name or value"));
    }
    Ok(())
}

/// Property names that users may not set. Java: `common/message/MessageConst.java`, `STRING_HASH_SET`.
const RESERVED: [&str; 52] = {
    use property::*;
    [
        KEYS,
        TAGS,
        WAIT,
        DELAY,
        RETRY_TOPIC,
        REAL_TOPIC,
        REAL_QID,
        TRAN_MSG,
        PGROUP,
        MIN_OFFSET,
        MAX_OFFSET,
        BUYER_ID,
        ORIGIN_MESSAGE_ID,
        TRANSFER_FLAG,
        CORRECTION_FLAG,
        MQ2_FLAG,
        RECONSUME_TIME,
        MAX_RECONSUME_TIMES,
        MSG_REGION,
        TRACE_ON,
        UNIQ_KEY,
        EXTEND_UNIQ_INFO,
        CONSUME_START_TIME,
        INNER_NUM,
        INNER_BASE,
        DUP_INFO,
        CHECK_IMMUNITY_TIME_IN_SECONDS,
        TRAN_PREPARED_QUEUE_OFFSET,
        TRANSACTION_ID,
        TRANSACTION_CHECK_TIMES,
        TRANS_OFFSET,
        INSTANCE_ID,
        CORRELATION_ID,
        REPLY_TO_CLIENT,
        TTL,
        ARRIVE_TIME,
        PUSH_REPLY_TIME,
        CLUSTER,
        MSG_TYPE,
        POP_CK,
        POP_CK_OFFSET,
        FIRST_POP_TIME,
        SHARDING_KEY,
        REDIRECT,
        INNER_MULTI_DISPATCH,
        INNER_MULTI_QUEUE_OFFSET,
        TIMER_DELAY_SEC,
        TIMER_DELAY_MS,
        TIMER_DELIVER_MS,
        BORN_HOST,
        BORN_TIMESTAMP,
        CRC32,
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(builder: MessageBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn what_the_builder_is_given_becomes_properties() {
        let message = Message::builder("t")
            .body("b")
            .tag("A")
            .key("k1")
            .key("k2")
            .property("region", "eu")
            .delay(Delay::Level(3))
            .delay(Delay::After(Duration::from_secs(2)))
            .build()
            .unwrap();
        assert_eq!(message.tag(), Some("A"));
        assert_eq!(message.property(property::KEYS), Some("k1 k2"));
        assert_eq!(message.property("region"), Some("eu"));
        assert_eq!(message.property(property::DELAY), None);
        assert_eq!(message.property(property::TIMER_DELAY_MS), Some("2000"));
        assert!(message.is_delayed());
    }

    #[test]
    fn a_refused_argument_is_named_when_the_message_is_built() {
        let builder = || Message::builder("t").body("b");
        assert!(refusal(builder().property("TAGS", "x")).contains("\"TAGS\" is RocketMQ's own"));
        assert!(refusal(builder().property("a", " ")).contains("\"a\" has a blank name or value"));
        assert!(refusal(builder().property("a", "\u{1}")).contains("0x01"));
        assert!(refusal(builder().key("two words")).contains("\"two words\""));
        assert!(refusal(builder().delay(Delay::Level(0))).contains("levels begin at 1"));
    }

    #[test]
    fn a_message_that_no_broker_would_take_names_value_and_limit() {
        let refusal = |message: Message| message.validate(10).unwrap_err().to_string();
        assert_eq!(refusal(Message::new("t", "")), "the message to t cannot be sent: its body is empty");
        assert_eq!(
            refusal(Message::new("t", "12345678901")),
            "the message to t cannot be sent: its body has 11 bytes, the limit is 10 (max_message_size)"
        );
        assert!(refusal(Message::new("bad topic", "b")).contains("has ' ' at 3"));
        assert!(refusal(Message::new("SCHEDULE_TOPIC_XXXX", "b")).contains("the system's own"));
        assert!(Message::new("t", "1234567890").validate(10).is_ok());
    }
}
