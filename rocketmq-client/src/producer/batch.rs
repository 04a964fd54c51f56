//! Batches: many messages sent as one.

use std::borrow::Cow;
use std::iter::Peekable;
use std::ops::Range;

use rocketmq_protocol::ByteString;
use rocketmq_protocol::message::batch::BatchEntry;
use rocketmq_protocol::message::{MessageError, Properties, UniqueKeyGenerator, property};
use rocketmq_protocol::name::RETRY_PREFIX;
use rocketmq_protocol::requests::SendMessage;

use super::outgoing::{Outgoing, Shape, now_ms};
use crate::namespace::Namespace;
use crate::{Error, Message};

/// Bytes that a unique key adds to an entry: name, separators and the longest key.
const UNIQUE_KEY_BYTES: usize = 8 + 2 + 56;

/// What a batch takes room for at once, whatever size is allowed.
const LARGEST_ROOM: usize = 4 * 1024 * 1024;

/// A batch ready for the wire.
pub(super) struct Batch {
    pub(super) outgoing: Outgoing,
    pub(super) message_ids: Vec<ByteString>,
}

/// Puts messages into one body. `blank` is the request that it goes out with.
pub(super) fn encode(
    messages: &[Message],
    keys: &UniqueKeyGenerator,
    namespace: &Namespace,
    max_size: usize,
    blank: SendMessage,
) -> Result<Batch, Error> {
    let Some(first) = messages.first() else {
        return Err(Error::InvalidArgument { name: "messages", reason: "a batch of no messages".into() });
    };
    first.validate_topic()?;
    let now = now_ms();
    let total = messages.iter().map(size).fold(0, usize::saturating_add);
    let mut body = Vec::with_capacity(total.min(max_size).min(LARGEST_ROOM));
    // The keys, as the properties that they are, one after the other; and where each stands.
    let mut added = Vec::with_capacity(messages.len() * keys.property_len());
    let mut ids = Vec::with_capacity(messages.len());
    let waits_for_store = waits(first);
    for message in messages {
        let refuse = |reason: String| {
            Err(Error::InvalidMessage {
                topic: message.topic.to_string(),
                reason: format!("in a batch {reason}"),
            })
        };
        if message.topic != first.topic {
            return refuse(format!("all have one topic, the first has {}", first.topic));
        }
        message.validate_body(max_size)?;
        if waits(message) != waits_for_store {
            return refuse("all wait for the store, or none".into());
        }
        if message.is_delayed() {
            return refuse("none can be delayed".into());
        }
        if message.topic.starts_with(RETRY_PREFIX) {
            return refuse("none can go to a retry topic".into());
        }
        let mut properties = Cow::Borrowed(&message.properties);
        if let Some(namespace) = namespace.name() {
            properties = Cow::Owned(properties.with(property::INSTANCE_ID, namespace)?);
        }
        let entry =
            BatchEntry { flag: message.flag, body: &message.body, properties: (*properties).as_ref() };
        let before = added.len();
        match message.properties.get(property::UNIQ_KEY) {
            Some(key) => {
                added.extend_from_slice(key.as_bytes());
                ids.push(before..added.len());
                entry.encode(&mut body)?;
            }
            None => {
                ids.push(keys.append_property(now, &mut added));
                entry.encode_with(added.get(before..).unwrap_or_default(), &mut body)?;
            }
        }
        if body.len() > max_size {
            let (count, len) = (ids.len(), body.len());
            return refuse(format!(
                "{count} messages take {len} bytes, the limit is {max_size} (max_message_size); see BatchSplitter"
            ));
        }
    }
    let added = ByteString::from_utf8(added.into())
        .map_err(|source| MessageError::Text { field: "unique keys", source })?;
    let id = |place: Range<usize>| added.part(added.as_bytes().get(place)?);
    let message_ids = ids.into_iter().map(|place| id(place).unwrap_or_default()).collect();
    let shared = match first.property(property::WAIT) {
        Some(wait) => Properties::EMPTY.with(property::WAIT, wait)?,
        None => Properties::EMPTY,
    };
    let (properties, message_id) = shared.with_unique_key(keys, now)?;
    let request = SendMessage {
        topic: namespace.wrap(&first.topic),
        born_timestamp: now,
        properties: Some(properties.into()),
        batch: true,
        body: body.into(),
        ..blank
    };
    let outgoing = Outgoing { request, shape: Shape::Batch, message_id, is_timer: false };
    Ok(Batch { outgoing, message_ids })
}

pub(super) fn waits(message: &Message) -> bool {
    message.property(property::WAIT) != Some("false")
}

/// Cuts messages into batches that can be sent: of one topic and no more than so many bytes each. A message that is larger
/// comes alone, for the send to refuse.
///
/// ```no_run
/// # async fn example(producer: rocketmq_client::Producer) -> Result<(), rocketmq_client::Error> {
/// use rocketmq_client::{BatchSplitter, Message};
///
/// let messages = (0..10_000).map(|number| Message::new("orders", format!("order {number}")));
/// for batch in BatchSplitter::new(messages, 1024 * 1024) {
///     producer.send_batch(batch).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct BatchSplitter<I: Iterator<Item = Message>> {
    messages: Peekable<I>,
    max_bytes: usize,
}

impl<I: Iterator<Item = Message>> BatchSplitter<I> {
    /// Batches of at most `max_bytes`, which is best below the producer's largest message.
    pub fn new(messages: impl IntoIterator<IntoIter = I>, max_bytes: usize) -> Self {
        Self { messages: messages.into_iter().peekable(), max_bytes }
    }
}

impl<I: Iterator<Item = Message>> Iterator for BatchSplitter<I> {
    type Item = Vec<Message>;

    fn next(&mut self) -> Option<Vec<Message>> {
        let first = self.messages.next()?;
        let mut bytes = size(&first);
        let mut batch = vec![first];
        while let Some(next) = self.messages.next_if(|next| {
            let first = batch.first();
            first.is_some_and(|first| first.topic == next.topic && waits(first) == waits(next))
                && bytes.saturating_add(size(next)) <= self.max_bytes
        }) {
            bytes = bytes.saturating_add(size(&next));
            batch.push(next);
        }
        Some(batch)
    }
}

/// At most what the message will take in a batch.
pub(super) fn size(message: &Message) -> usize {
    let entry =
        BatchEntry { flag: message.flag, body: &message.body, properties: message.properties.as_ref() };
    entry.encoded_len().map_or(usize::MAX, |len| len.saturating_add(UNIQUE_KEY_BYTES))
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::message::batch;

    use super::super::outgoing::blank_request;
    use super::*;
    use crate::Delay;

    fn keys() -> UniqueKeyGenerator {
        UniqueKeyGenerator::new([10, 0, 0, 1].into(), 1, 2)
    }

    fn blank() -> SendMessage {
        blank_request(&"group".into(), 4)
    }

    fn refusal(messages: Vec<Message>) -> String {
        encode(&messages, &keys(), &Namespace::default(), 1000, blank()).err().unwrap().to_string()
    }

    #[test]
    fn every_entry_has_its_own_key() {
        let messages = [Message::new("t", "a"), Message::new("t", "b")];
        let batch = encode(&messages, &keys(), &Namespace::default(), 1000, blank()).unwrap();
        let entries: Vec<_> = batch::entries(&batch.outgoing.request.body).collect::<Result<_, _>>().unwrap();
        let found: Vec<_> =
            entries.iter().map(|entry| entry.properties.get(property::UNIQ_KEY).unwrap()).collect();
        assert_eq!(found, batch.message_ids.iter().map(|id| &**id).collect::<Vec<_>>());
        assert_eq!(entries.iter().map(|entry| entry.body).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_ne!(found[0], found[1]);
        assert!(!batch.message_ids.contains(&batch.outgoing.message_id));
    }

    #[test]
    fn messages_that_do_not_go_together_are_refused() {
        let message = || Message::new("t", "body");
        let built = |builder: crate::MessageBuilder| builder.body("b").build().unwrap();
        assert_eq!(refusal(vec![]), "messages: a batch of no messages");
        assert!(refusal(vec![message(), Message::new("u", "b")]).contains("the first has t"));
        let impatient = built(Message::builder("t").wait_for_store(false));
        assert!(refusal(vec![message(), impatient]).contains("or none"));
        let delayed = built(Message::builder("t").delay(Delay::Level(1)));
        assert!(refusal(vec![message(), delayed]).contains("delayed"));
        assert!(refusal(vec![Message::new("%RETRY%g", "b")]).contains("retry topic"));
        let long = refusal(vec![Message::new("t", vec![0; 500]), Message::new("t", vec![0; 500])]);
        assert!(long.contains("2 messages take") && long.contains("limit is 1000"), "{long}");
    }

    #[test]
    fn the_splitter_keeps_order_and_every_batch_fits() {
        let messages: Vec<_> = (0..100).map(|number| Message::new("t", vec![1; number * 3 + 1])).collect();
        let batches: Vec<_> = BatchSplitter::new(messages.clone(), 1000).collect();
        assert!(batches.len() > 10);
        for batch in &batches {
            assert!(encode(batch, &keys(), &Namespace::default(), 1000, blank()).is_ok());
        }
        assert_eq!(batches.concat(), messages);
        let mixed = [Message::new("t", "a"), Message::new("u", "a"), Message::new("u", vec![0; 5000])];
        assert_eq!(BatchSplitter::new(mixed, 1000).map(|batch| batch.len()).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
