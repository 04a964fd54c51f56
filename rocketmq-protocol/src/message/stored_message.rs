//! [`StoredMessage`]: a record taken out of a pulled body, sharing its buffer.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};

use super::{
    CompressionError, InnerMessages, MessageError, NewMessage, OffsetMessageId, Properties, StoredMessageRef,
    SysFlag, stored,
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
        let record = StoredMessageRef::parse(bytes)?;
        let topic = ByteString::from_utf8(bytes.slice_ref(record.topic().as_bytes()));
        let message = Self {
            topic: topic.map_err(|source| MessageError::Text { field: "topic", source })?,
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
            properties: Properties::from_bytes(bytes.slice_ref(record.properties().as_bytes())),
        };
        let size = record.total_size();
        bytes.advance(size);
        Ok(Some(message))
    }

    /// Appends the record to `out` and returns its length. The CRC is computed anew.
    ///
    /// # Errors
    /// As [`NewMessage::encode`].
    pub fn encode(&self, out: &mut BytesMut) -> Result<usize, MessageError> {
        let at = out.len();
        let len = self.as_new(&[self.properties.encoded()]).encode(out)?;
        stored::patch(&mut out[at..], self.queue_offset, self.physical_offset, self.store_timestamp);
        Ok(len)
    }

    fn as_new<'a>(&'a self, properties: &'a [&'a str]) -> NewMessage<'a> {
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
}

impl StoredMessages {
    /// Takes the body of a pull, pop, query or view answer.
    pub const fn new(body: Bytes) -> Self {
        Self { left: body }
    }
}

impl Iterator for StoredMessages {
    type Item = Result<StoredMessage, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = StoredMessage::decode(&mut self.left);
        if next.is_err() {
            self.left.clear();
        }
        next.transpose()
    }
}

impl std::iter::FusedIterator for StoredMessages {}
