//! [`StoredMessage`]: a record taken out of a pulled body, sharing its buffer.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};

use super::{
    CompressionError, InnerMessages, MessageError, NewMessage, OffsetMessageId, Properties, PropertiesRef,
    StoredMessageRef, SysFlag, stored,
};
use crate::{ByteString, LogPosition, QueueId, QueueOffset};

/// One message as a broker stored it. Body, topic and properties are slices of the buffer they came in and keep the
/// whole of it alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Topic.
    pub topic: ByteString,
    /// Queue.
    pub queue_id: QueueId,
    /// Position in the queue.
    pub queue_offset: QueueOffset,
    /// Position of the record in the commit log.
    pub physical_offset: LogPosition,
    /// The sender's own flag.
    pub flag: i32,
    /// System flag.
    pub sys_flag: SysFlag,
    /// When it was sent, in milliseconds by the sender's clock.
    pub born_timestamp: i64,
    /// Who sent it.
    pub born_host: SocketAddr,
    /// When it was stored, in milliseconds by the broker's clock.
    pub store_timestamp: i64,
    /// The broker that stored it.
    pub store_host: SocketAddr,
    /// How often consumption failed.
    pub reconsume_times: i32,
    /// Position of the half message that this one commits, else 0.
    pub prepared_transaction_offset: LogPosition,
    /// The body, compressed if `sys_flag` says so: [`StoredMessage::decompressed`].
    pub body: Bytes,
    /// Properties.
    pub properties: Properties,
}

impl StoredMessage {
    /// Takes the record off the front of `bytes`; `None` when they are empty.
    ///
    /// # Errors
    /// When no whole record starts there; `bytes` stay as they are.
    pub fn decode(bytes: &mut Bytes) -> Result<Option<Self>, MessageError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        Self::decode_next(bytes, &mut ByteString::default(), |message| message).map(Some)
    }

    /// Takes the record off the front of `bytes`. A topic that is the `last` one shares it, and becomes it otherwise.
    #[inline]
    fn decode_next<T>(
        bytes: &mut Bytes,
        last: &mut ByteString,
        keep: impl FnOnce(Self) -> T,
    ) -> Result<T, MessageError> {
        let record = StoredMessageRef::parse(bytes)?;
        if *last != *record.topic() {
            let topic = ByteString::from_utf8(bytes.slice_ref(record.topic().as_bytes()));
            *last = topic.map_err(|source| MessageError::Text { field: "topic", source })?;
        }
        let size = record.total_size();
        let kept = keep(Self {
            topic: last.clone(),
            queue_id: record.queue_id(),
            queue_offset: record.queue_offset(),
            physical_offset: record.physical_offset(),
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            store_timestamp: record.store_timestamp(),
            store_host: record.store_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            body: bytes.slice_ref(record.body()),
            properties: Properties::from_part(bytes, record.properties().as_bytes()),
        });
        bytes.advance(size);
        Ok(kept)
    }

    /// Appends the record to `out` and returns its length. The CRC is computed anew.
    ///
    /// # Errors
    /// As [`NewMessage::encode`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<usize, MessageError> {
        let at = out.len();
        let len = self.as_new(&[self.properties.as_ref()]).encode(out)?;
        stored::patch(&mut out[at..], self.queue_offset, self.physical_offset, self.store_timestamp);
        Ok(len)
    }

    fn as_new<'a>(&'a self, properties: &'a [PropertiesRef<'a>]) -> NewMessage<'a> {
        NewMessage {
            topic: &self.topic,
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times,
            prepared_transaction_offset: self.prepared_transaction_offset,
            body: &self.body,
            properties,
        }
    }

    /// The message with its body decompressed and [`SysFlag::COMPRESSED`] cleared; unchanged when it is not compressed.
    ///
    /// # Errors
    /// When the body cannot be decompressed or comes out longer than `max_len` bytes.
    pub fn decompressed(self, max_len: usize) -> Result<Self, CompressionError> {
        let Some(compression) = self.sys_flag.compression()? else { return Ok(self) };
        let body = compression.decompress(&self.body, max_len)?;
        Ok(Self { body, sys_flag: self.sys_flag.without(SysFlag::COMPRESSED), ..self })
    }

    /// The single messages in it: itself, unless it is an inner batch. Decompress first.
    pub fn unwrapped(self) -> InnerMessages {
        InnerMessages::new(self)
    }

    /// The id that finds the record again.
    pub const fn offset_message_id(&self) -> OffsetMessageId {
        OffsetMessageId { host: self.store_host, position: self.physical_offset }
    }
}

/// The records of a pulled body, one after the other. After an error nothing follows.
#[derive(Clone, Debug)]
pub struct StoredMessages {
    left: Bytes,
    /// That of the last one: as a rule the messages of a body have one topic, which need not be read again.
    topic: ByteString,
}

impl StoredMessages {
    /// Takes the body of a pull, pop, query or view answer.
    pub const fn new(body: Bytes) -> Self {
        Self { left: body, topic: ByteString::EMPTY }
    }

    /// As [`Iterator::next`], for what becomes of the message at once: built there, it is not moved on the way.
    #[inline]
    pub fn next_with<T>(&mut self, keep: impl FnOnce(StoredMessage) -> T) -> Option<Result<T, MessageError>> {
        if self.left.is_empty() {
            return None;
        }
        let next = StoredMessage::decode_next(&mut self.left, &mut self.topic, keep);
        if next.is_err() {
            self.left.clear();
        }
        Some(next)
    }

    /// Bytes of the records that are still to come.
    pub const fn bytes_left(&self) -> usize {
        self.left.len()
    }
}

impl Iterator for StoredMessages {
    type Item = Result<StoredMessage, MessageError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.next_with(|message| message)
    }
}

impl std::iter::FusedIterator for StoredMessages {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{PropertiesRef, batch::BatchEntry};
    use super::*;

    fn any_host() -> impl Strategy<Value = SocketAddr> {
        let canonical = |(ip, port): (std::net::IpAddr, u16)| SocketAddr::new(ip.to_canonical(), port);
        any::<(std::net::IpAddr, u16)>().prop_map(canonical)
    }

    prop_compose! {
        fn any_message()(
            topic in "[%|a-zA-Z0-9_-]{0,127}|[a-z]{120,300}|\\PC{0,40}",
            queue in any::<(i32, i64, i64)>(),
            flags in any::<(i32, i32)>(),
            times in any::<(i64, i64, i32, i64)>(),
            born_host in any_host(),
            store_host in any_host(),
            body in prop::collection::vec(any::<u8>(), 0..600),
            pairs in prop::collection::vec(("[^\x01\x02]{1,12}", "[^\x01\x02]{0,30}"), 0..6),
        ) -> StoredMessage {
            let mut sys_flag = SysFlag::new(flags.1).without(SysFlag::BORN_HOST_V6).without(SysFlag::STORE_HOST_V6);
            if born_host.is_ipv6() {
                sys_flag = sys_flag.with(SysFlag::BORN_HOST_V6);
            }
            if store_host.is_ipv6() {
                sys_flag = sys_flag.with(SysFlag::STORE_HOST_V6);
            }
            let properties = pairs.iter().fold(Properties::builder(), |all, (name, value)| all.set(name, value));
            StoredMessage {
                topic: topic.into(),
                queue_id: queue.0.into(),
                queue_offset: queue.1.into(),
                physical_offset: queue.2.into(),
                flag: flags.0,
                sys_flag,
                born_timestamp: times.0,
                born_host,
                store_timestamp: times.1,
                store_host,
                reconsume_times: times.2,
                prepared_transaction_offset: times.3.into(),
                body: body.into(),
                properties: properties.build().unwrap(),
            }
        }
    }

    proptest! {
        #[test]
        fn messages_survive_encoding_and_decoding(messages in prop::collection::vec(any_message(), 0..5)) {
            let mut out = Vec::new();
            for message in &messages {
                let len = message.encode(&mut out).unwrap();
                let record = StoredMessageRef::parse(&out[out.len() - len..]).unwrap();
                prop_assert!(record.crc_matches());
                prop_assert_eq!(record.total_size(), len);
            }
            let decoded: Vec<_> = StoredMessages::new(out.into()).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(decoded, messages);
        }

        #[test]
        fn a_record_cut_anywhere_is_an_error(message in any_message(), cut in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            message.encode(&mut out).unwrap();
            let mut cut = Bytes::from(out).slice(..cut.index(91));
            let before = cut.clone();
            prop_assume!(!cut.is_empty());
            prop_assert!(StoredMessage::decode(&mut cut).is_err());
            prop_assert_eq!(cut, before);
        }

        #[test]
        fn flipped_bytes_give_a_message_or_an_error(
            message in any_message(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut out = Vec::new();
            message.encode(&mut out).unwrap();
            for (at, value) in flips {
                let at = at.index(out.len());
                out[at] = value;
            }
            for message in StoredMessages::new(out.into()).flatten() {
                if let Ok(message) = message.decompressed(1 << 16) {
                    message.unwrapped().for_each(drop);
                }
            }
        }

        #[test]
        fn an_inner_batch_of_any_bytes_gives_messages_or_an_error(mut message in any_message()) {
            message.sys_flag = message.sys_flag.with(SysFlag::NEED_UNWRAP).with(SysFlag::INNER_BATCH);
            prop_assert!(message.unwrapped().count() <= 600);
        }

        #[test]
        fn an_inner_batch_survives_wrapping(outer in any_message(), inner in prop::collection::vec(any_message(), 0..5)) {
            let mut body = Vec::new();
            for message in &inner {
                let properties = PropertiesRef::new(message.properties.encoded().as_bytes());
                BatchEntry { flag: message.flag, body: &message.body, properties }.encode(&mut body).unwrap();
            }
            let sys_flag = outer.sys_flag.with(SysFlag::NEED_UNWRAP).with(SysFlag::INNER_BATCH);
            let outer = StoredMessage { sys_flag, body: body.into(), properties: Properties::EMPTY, ..outer };
            let unwrapped: Vec<_> = outer.clone().unwrapped().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(unwrapped.len(), inner.len());
            for (at, (single, inner)) in (0_i64..).zip(unwrapped.iter().zip(&inner)) {
                prop_assert_eq!(single.queue_offset, outer.queue_offset.plus(at));
                prop_assert_eq!((&single.body, &single.properties), (&inner.body, &inner.properties));
            }
        }
    }

    #[test]
    fn decoding_shares_the_pulled_body() {
        let mut out = Vec::new();
        let message = StoredMessage {
            topic: "orders".into(),
            queue_id: QueueId::ZERO,
            queue_offset: QueueOffset::ZERO,
            physical_offset: LogPosition::ZERO,
            flag: 0,
            sys_flag: SysFlag::NONE,
            born_timestamp: 0,
            born_host: ([127, 0, 0, 1], 1).into(),
            store_timestamp: 0,
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: Bytes::from_static(b"hello"),
            properties: Properties::EMPTY.with("TAGS", "a").unwrap(),
        };
        message.encode(&mut out).unwrap();
        let pulled = Bytes::from(out);
        let range = pulled.as_ptr_range();
        let decoded = StoredMessage::decode(&mut pulled.clone()).unwrap().unwrap();
        for part in [decoded.topic.as_bytes(), &decoded.body, decoded.properties.encoded().as_bytes()] {
            assert!(range.contains(&part.as_ptr()));
        }
    }
}
