//! [`InnerMessages`]: takes apart a record that stands for several messages.
//!
//! Its body is laid out like that of a [batch send](super::batch); the messages have consecutive queue offsets from
//! `INNER_BASE` on and share everything that an entry does not say. Java: `common/message/MessageDecoder.java`.

use bytes::Bytes;

use super::{MessageError, Properties, StoredMessage, SysFlag, batch, property};
use crate::QueueOffset;

const INNER_BATCH: SysFlag = SysFlag::NEED_UNWRAP.with(SysFlag::INNER_BATCH);

/// The single messages of a record, from [`StoredMessage::unwrapped`]. After an error nothing follows.
#[derive(Clone, Debug)]
pub struct InnerMessages(State);

#[derive(Clone, Debug)]
enum State {
    Single(StoredMessage),
    /// `shared` is what the messages have in common.
    Batch {
        shared: StoredMessage,
        left: Bytes,
        next: QueueOffset,
    },
    Done,
}

impl InnerMessages {
    pub(super) fn new(mut record: StoredMessage) -> Self {
        if !record.sys_flag.contains(INNER_BATCH) {
            return Self(State::Single(record));
        }
        let base = record.properties.get(property::INNER_BASE).and_then(|base| base.parse().ok());
        let next = base.map_or(record.queue_offset, QueueOffset::new);
        record.sys_flag = record.sys_flag.without(INNER_BATCH);
        let left = std::mem::take(&mut record.body);
        Self(State::Batch { shared: record, left, next })
    }
}

impl Iterator for InnerMessages {
    type Item = Result<StoredMessage, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (shared, left, next) = match std::mem::replace(&mut self.0, State::Done) {
            State::Single(message) => return Some(Ok(message)),
            State::Batch { shared, left, next } => (shared, left, next),
            State::Done => return None,
        };
        let mut entries = batch::entries(&left);
        let entry = match entries.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let message = StoredMessage {
            queue_offset: next,
            flag: entry.flag,
            body: left.slice_ref(entry.body),
            properties: Properties::from_part(&left, entry.properties.as_bytes()),
            ..shared.clone()
        };
        let left = left.slice_ref(entries.rest());
        self.0 = State::Batch { shared, left, next: next.plus(1) };
        Some(Ok(message))
    }
}

impl std::iter::FusedIterator for InnerMessages {}
