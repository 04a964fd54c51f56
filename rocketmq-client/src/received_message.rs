//! [`ReceivedMessage`]: what a consumer gets.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::message::{
    CompressionError, InnerMessages, MessageError, Properties, StoredMessage, StoredMessages, SysFlag,
    property,
};
use rocketmq_protocol::name::RETRY_PREFIX;
use rocketmq_protocol::{ByteString, LogPosition, QueueId, QueueOffset};

use crate::namespace::Namespace;

/// Bodies that decompress to more than this are not believed: no broker takes messages anywhere near.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A message as a broker gave it. Cheap to clone; body, topic and properties share the buffer of the pull they came with
/// and keep it alive.
#[derive(Clone)]
pub struct ReceivedMessage {
    /// Shared, because messages go through many hands.
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    stored: StoredMessage,
    broker_name: ByteString,
    /// The topic it was sent to: not the retry topic that it may have come through.
    topic: ByteString,
    /// Filled when the body is first asked for, by whoever asks.
    body: OnceLock<Result<Bytes, Arc<CompressionError>>>,
}

impl ReceivedMessage {
    pub(crate) fn new(stored: StoredMessage, broker_name: &ByteString) -> Self {
        let original = || stored.properties.get(property::RETRY_TOPIC);
        let topic = match stored.topic.starts_with(RETRY_PREFIX).then(original).flatten() {
            Some(original) => ByteString::from(original),
            None => stored.topic.clone(),
        };
        let inner = Inner { stored, broker_name: broker_name.clone(), topic, body: OnceLock::new() };
        Self { inner: Arc::new(inner) }
    }

    /// The same, with topics as they are known within `namespace`.
    pub(crate) fn within(mut self, namespace: &Namespace) -> Self {
        if namespace.name().is_some() {
            let inner = Arc::make_mut(&mut self.inner);
            for topic in [&mut inner.stored.topic, &mut inner.topic] {
                *topic = ByteString::from(&*namespace.unwrap(topic));
            }
        }
        self
    }

    /// The same, known to come from this broker.
    pub(crate) fn of_broker(mut self, broker_name: &ByteString) -> Self {
        Arc::make_mut(&mut self.inner).broker_name = broker_name.clone();
        self
    }

    /// The body, decompressed if it was compressed: at the first call, so that the work is done where it is wanted.
    ///
    /// # Errors
    /// It is not what its flag says, takes more than 64 MiB, or is compressed in a way that this build does not know.
    pub fn body(&self) -> Result<&Bytes, Arc<CompressionError>> {
        let body = self.inner.body.get_or_init(|| {
            let StoredMessage { sys_flag, body, .. } = &self.inner.stored;
            match sys_flag.compression() {
                Ok(None) => Ok(body.clone()),
                Ok(Some(compression)) => compression.decompress(body, MAX_BODY).map_err(Arc::new),
                Err(unknown) => Err(Arc::new(unknown)),
            }
        });
        body.as_ref().map_err(Arc::clone)
    }

    /// The topic it was sent to.
    pub fn topic(&self) -> &str {
        &self.inner.topic
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.property(property::TAGS)
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.property(property::KEYS).unwrap_or_default().split_ascii_whitespace()
    }

    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.inner.stored.properties.get(name)
    }

    /// All properties, RocketMQ's own among them.
    pub fn properties(&self) -> &Properties {
        &self.inner.stored.properties
    }

    /// What identifies the message wherever it is stored: the key that its producer gave it, the same for every copy that
    /// retries may have made. Without one, where it is stored.
    pub fn message_id(&self) -> Cow<'_, str> {
        match self.property(property::UNIQ_KEY) {
            Some(key) => Cow::Borrowed(key),
            None => Cow::Owned(self.inner.stored.offset_message_id().to_string()),
        }
    }

    /// Name of the broker that it came from.
    pub fn broker_name(&self) -> &str {
        &self.inner.broker_name
    }

    /// The queue that it came from. Its topic is the retry topic for a message that comes again.
    pub fn queue(&self) -> MessageQueue {
        MessageQueue::new(&*self.inner.stored.topic, &*self.inner.broker_name, self.inner.stored.queue_id)
    }

    /// Number of that queue.
    pub fn queue_id(&self) -> QueueId {
        self.inner.stored.queue_id
    }

    /// Position in that queue.
    pub fn queue_offset(&self) -> QueueOffset {
        self.inner.stored.queue_offset
    }

    /// Position in the commit log of that broker.
    pub fn position(&self) -> LogPosition {
        self.inner.stored.physical_offset
    }

    /// How often it was consumed in vain before.
    pub fn reconsume_times(&self) -> i32 {
        self.inner.stored.reconsume_times
    }

    /// The same message after it was consumed in vain once more.
    pub(crate) fn after_failure(&self) -> Self {
        let mut after = self.clone();
        let times = &mut Arc::make_mut(&mut after.inner).stored.reconsume_times;
        *times = times.saturating_add(1);
        after
    }

    /// As the broker has it.
    pub(crate) fn stored(&self) -> &StoredMessage {
        &self.inner.stored
    }

    /// The producer's own number.
    pub fn flag(&self) -> i32 {
        self.inner.stored.flag
    }

    /// When it was sent, by the producer's clock.
    pub fn born_time(&self) -> SystemTime {
        time(self.inner.stored.born_timestamp)
    }

    /// When it was stored, by the broker's clock.
    pub fn store_time(&self) -> SystemTime {
        time(self.inner.stored.store_timestamp)
    }

    /// Who sent it, as the broker saw it.
    pub fn born_host(&self) -> SocketAddr {
        self.inner.stored.born_host
    }
}

impl fmt::Debug for ReceivedMessage {
    /// Without the body: it may be long, and secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedMessage")
            .field("topic", &self.inner.topic)
            .field("broker_name", &self.inner.broker_name)
            .field("queue_id", &self.queue_id())
            .field("queue_offset", &self.queue_offset())
            .field("message_id", &self.message_id())
            .field("reconsume_times", &self.reconsume_times())
            .finish_non_exhaustive()
    }
}

fn time(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// The messages of a pulled body, those of inner batches singly. A batch that cannot be taken apart comes as it is, so
/// that the user sees why. After an error nothing follows.
pub(crate) struct ReceivedMessages<'a> {
    records: StoredMessages,
    /// What is left of an inner batch.
    inner: Option<InnerMessages>,
    broker_name: &'a ByteString,
}

impl<'a> ReceivedMessages<'a> {
    pub(crate) fn new(body: Bytes, broker_name: &'a ByteString) -> Self {
        Self { records: StoredMessages::new(body), inner: None, broker_name }
    }
}

impl Iterator for ReceivedMessages<'_> {
    type Item = Result<ReceivedMessage, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(message) = self.inner.as_mut().and_then(Iterator::next) {
                return Some(message.map(|message| ReceivedMessage::new(message, self.broker_name)));
            }
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            if record.sys_flag.contains(SysFlag::INNER_BATCH.with(SysFlag::NEED_UNWRAP)) {
                if let Ok(plain) = record.clone().decompressed(MAX_BODY) {
                    self.inner = Some(plain.unwrapped());
                    continue;
                }
                // Its `body` says what is wrong.
            }
            return Some(Ok(ReceivedMessage::new(record, self.broker_name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::message::{Compression, PropertiesBuilder};

    use super::*;

    fn stored(topic: &str, properties: PropertiesBuilder) -> StoredMessage {
        StoredMessage {
            topic: topic.into(),
            queue_id: QueueId::new(1),
            queue_offset: QueueOffset::new(7),
            physical_offset: LogPosition::new(100),
            flag: 0,
            sys_flag: SysFlag::NONE,
            born_timestamp: 1_000,
            born_host: "10.0.0.1:5".parse().unwrap(),
            store_timestamp: 2_000,
            store_host: "10.0.0.2:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: Bytes::from_static(b"hello"),
            properties: properties.build().unwrap(),
        }
    }

    fn received(stored: StoredMessage) -> ReceivedMessage {
        ReceivedMessage::new(stored, &"broker-a".into())
    }

    #[test]
    fn a_message_that_comes_again_has_its_own_topic() {
        let properties = Properties::builder().set(property::RETRY_TOPIC, "orders");
        let message = received(stored("%RETRY%group", properties.clone()));
        assert_eq!(message.topic(), "orders");
        assert_eq!(message.queue(), MessageQueue::new("%RETRY%group", "broker-a", 1));
        assert_eq!(received(stored("other", properties)).topic(), "other");
    }

    #[test]
    fn the_id_is_the_producers_key_or_else_the_place() {
        let with_key = stored("t", Properties::builder().set(property::UNIQ_KEY, "KEY"));
        assert_eq!(received(with_key).message_id(), "KEY");
        assert_eq!(
            received(stored("t", Properties::builder())).message_id(),
            "0A00000200002A9F0000000000000064"
        );
    }

    #[test]
    fn a_compressed_body_is_decompressed_and_a_corrupt_one_is_an_error_to_see() {
        let mut message = stored("t", Properties::builder());
        message.sys_flag = SysFlag::NONE.with_compression(Compression::Zlib);
        assert!(received(message.clone()).body().is_err());
        message.body = Compression::Zlib.compress(b"hello", 5).unwrap();
        assert_eq!(received(message).body().unwrap(), &Bytes::from_static(b"hello"));
    }

    #[test]
    fn an_inner_batch_that_cannot_be_taken_apart_still_arrives() {
        let mut message = stored("t", Properties::builder());
        message.sys_flag =
            SysFlag::INNER_BATCH.with(SysFlag::NEED_UNWRAP).with_compression(Compression::Zlib);
        let mut bytes = bytes::BytesMut::new();
        message.encode(&mut bytes).unwrap();
        let broker = "broker-a".into();
        let decoded: Vec<_> = ReceivedMessages::new(bytes.freeze(), &broker).map(Result::unwrap).collect();
        assert_eq!(decoded.len(), 1);
        assert!(decoded[0].body().is_err());
    }
}
