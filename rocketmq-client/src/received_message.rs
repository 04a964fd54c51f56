//! [`ReceivedMessage`]: what a consumer gets.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::message::{
    CompressionError, MessageError, Properties, StoredMessage, StoredMessages, SysFlag, property,
};
use rocketmq_protocol::name::RETRY_PREFIX;
use rocketmq_protocol::{ByteString, LogPosition, QueueId, QueueOffset};

use crate::namespace::Namespace;

/// Bodies that decompress to more than this are not believed: no broker takes messages anywhere near.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A message as a broker gave it. Cheap to clone; it keeps alive what came with the same pull: body, topic and properties
/// share one buffer.
#[derive(Clone)]
pub struct ReceivedMessage {
    /// Shared, because messages go through many hands.
    answer: Arc<Answer>,
    /// Its place among the messages of the answer.
    at: usize,
}

/// What one answer of a broker brought: one allocation for all its messages.
struct Answer {
    broker_name: ByteString,
    messages: Vec<Inner>,
}

#[derive(Clone)]
struct Inner {
    stored: StoredMessage,
    /// The topic it was sent to, if it came through a retry topic.
    original_topic: Option<ByteString>,
    /// Of a compressed body; filled when it is first asked for, by whoever asks.
    decompressed: OnceLock<Result<Bytes, Arc<CompressionError>>>,
}

impl Inner {
    fn new(stored: StoredMessage) -> Self {
        let mut message = Self { stored, original_topic: None, decompressed: OnceLock::new() };
        message.find_original_topic();
        message
    }

    fn find_original_topic(&mut self) {
        if self.stored.topic.starts_with(RETRY_PREFIX) {
            self.original_topic = self.stored.properties.get(property::RETRY_TOPIC).map(ByteString::from);
        }
    }

    /// Makes the topics those that are known within `namespace`.
    fn enter(&mut self, namespace: &Namespace) {
        if namespace.name().is_some() {
            for topic in self.original_topic.iter_mut().chain([&mut self.stored.topic]) {
                *topic = ByteString::from(&*namespace.unwrap(topic));
            }
        }
    }
}

impl ReceivedMessage {
    pub(crate) fn new(stored: StoredMessage, broker_name: &ByteString) -> Self {
        Self::alone(Inner::new(stored), broker_name)
    }

    fn alone(message: Inner, broker_name: &ByteString) -> Self {
        let answer = Answer { broker_name: broker_name.clone(), messages: vec![message] };
        Self { answer: Arc::new(answer), at: 0 }
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "counted from the messages of this very answer, which never change"
    )]
    fn inner(&self) -> &Inner {
        &self.answer.messages[self.at]
    }

    /// The same, with topics as they are known within `namespace`.
    pub(crate) fn within(&self, namespace: &Namespace) -> Self {
        let mut message = self.inner().clone();
        message.enter(namespace);
        Self::alone(message, &self.answer.broker_name)
    }

    /// The same, known to come from this broker.
    pub(crate) fn of_broker(&self, broker_name: &ByteString) -> Self {
        Self::alone(self.inner().clone(), broker_name)
    }

    /// The body, decompressed if it was compressed: at the first call, so that the work is done where it is wanted.
    ///
    /// # Errors
    /// It is not what its flag says, takes more than 64 MiB, or is compressed in a way that this build does not know.
    pub fn body(&self) -> Result<&Bytes, Arc<CompressionError>> {
        let Inner { stored: StoredMessage { sys_flag, body, .. }, decompressed, .. } = self.inner();
        let compression = match sys_flag.compression() {
            Ok(None) => return Ok(body),
            Ok(Some(compression)) => compression,
            Err(unknown) => return Err(Arc::new(unknown)),
        };
        let decompress = || compression.decompress(body, MAX_BODY).map_err(Arc::new);
        decompressed.get_or_init(decompress).as_ref().map_err(Arc::clone)
    }

    /// The topic it was sent to.
    pub fn topic(&self) -> &str {
        let Inner { stored, original_topic, .. } = self.inner();
        original_topic.as_ref().unwrap_or(&stored.topic)
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
        self.inner().stored.properties.get(name)
    }

    /// All properties, RocketMQ's own among them.
    pub fn properties(&self) -> &Properties {
        &self.inner().stored.properties
    }

    /// What identifies the message wherever it is stored: the key that its producer gave it, the same for every copy that
    /// retries may have made. Without one, where it is stored.
    pub fn message_id(&self) -> Cow<'_, str> {
        match self.property(property::UNIQ_KEY) {
            Some(key) => Cow::Borrowed(key),
            None => Cow::Owned(self.inner().stored.offset_message_id().to_string()),
        }
    }

    /// Name of the broker that it came from.
    pub fn broker_name(&self) -> &str {
        &self.answer.broker_name
    }

    /// The queue that it came from. Its topic is the retry topic for a message that comes again.
    pub fn queue(&self) -> MessageQueue {
        MessageQueue::new(
            &*self.inner().stored.topic,
            &*self.answer.broker_name,
            self.inner().stored.queue_id,
        )
    }

    /// Number of that queue.
    pub fn queue_id(&self) -> QueueId {
        self.inner().stored.queue_id
    }

    /// Position in that queue.
    pub fn queue_offset(&self) -> QueueOffset {
        self.inner().stored.queue_offset
    }

    /// Position in the commit log of that broker.
    pub fn position(&self) -> LogPosition {
        self.inner().stored.physical_offset
    }

    /// How often it was consumed in vain before.
    pub fn reconsume_times(&self) -> i32 {
        self.inner().stored.reconsume_times
    }

    /// The same message after it was consumed in vain once more.
    pub(crate) fn after_failure(&self) -> Self {
        let mut after = self.inner().clone();
        after.stored.reconsume_times = after.stored.reconsume_times.saturating_add(1);
        Self::alone(after, &self.answer.broker_name)
    }

    /// As the broker has it.
    pub(crate) fn stored(&self) -> &StoredMessage {
        &self.inner().stored
    }

    /// The producer's own number.
    pub fn flag(&self) -> i32 {
        self.inner().stored.flag
    }

    /// When it was sent, by the producer's clock.
    pub fn born_time(&self) -> SystemTime {
        time(self.inner().stored.born_timestamp)
    }

    /// When it was stored, by the broker's clock.
    pub fn store_time(&self) -> SystemTime {
        time(self.inner().stored.store_timestamp)
    }

    /// Who sent it, as the broker saw it.
    pub fn born_host(&self) -> SocketAddr {
        self.inner().stored.born_host
    }
}

impl fmt::Debug for ReceivedMessage {
    /// Without the body: it may be long, and secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedMessage")
            .field("topic", &self.topic())
            .field("broker_name", &self.broker_name())
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

/// The messages of an answer, in their order.
pub(crate) struct ReceivedMessages {
    answer: Arc<Answer>,
    at: usize,
}

impl ReceivedMessages {
    /// Takes a body apart, as far as it can be read, with topics as they are known within `namespace`. The messages of
    /// inner batches come singly; a batch that cannot be taken apart comes as it is, so that the user sees why.
    pub(crate) fn decode(
        body: Bytes,
        broker_name: &ByteString,
        namespace: &Namespace,
    ) -> (Self, Result<(), MessageError>) {
        let mut messages = Vec::new();
        let decoded = decode(body, &mut messages);
        if namespace.name().is_some() {
            messages.iter_mut().for_each(|message| message.enter(namespace));
        }
        let answer = Answer { broker_name: broker_name.clone(), messages };
        (Self { answer: Arc::new(answer), at: 0 }, decoded)
    }
}

impl Iterator for ReceivedMessages {
    type Item = ReceivedMessage;

    fn next(&mut self) -> Option<ReceivedMessage> {
        let at = self.at;
        self.answer.messages.get(at)?;
        self.at += 1;
        Some(ReceivedMessage { answer: Arc::clone(&self.answer), at })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.answer.messages.len() - self.at;
        (left, Some(left))
    }
}

fn decode(body: Bytes, messages: &mut Vec<Inner>) -> Result<(), MessageError> {
    let len = body.len();
    let mut records = StoredMessages::new(body);
    // A record is large, and there are many: it is built where it stays, and looked at there.
    let keep = |stored| Inner { stored, original_topic: None, decompressed: OnceLock::new() };
    while let Some(kept) = records.next_with(|stored| messages.push(keep(stored))) {
        kept?;
        if messages.len() == 1 {
            messages.reserve(len / (len - records.bytes_left()).max(1)); // records are of one size, more or less
        }
        let Some(message) = messages.last_mut() else { continue };
        message.find_original_topic();
        if message.stored.sys_flag.contains(SysFlag::INNER_BATCH.with(SysFlag::NEED_UNWRAP)) {
            // The `body` of one that stays says what is wrong.
            if let Ok(plain) = message.stored.clone().decompressed(MAX_BODY) {
                messages.pop();
                for message in plain.unwrapped() {
                    messages.push(Inner::new(message?));
                }
            }
        }
    }
    Ok(())
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
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        let broker = "broker-a".into();
        let (decoded, whole) = ReceivedMessages::decode(bytes.into(), &broker, &Namespace::default());
        let decoded: Vec<_> = decoded.collect();
        assert_eq!((decoded.len(), whole), (1, Ok(())));
        assert!(decoded[0].body().is_err());
    }
}
