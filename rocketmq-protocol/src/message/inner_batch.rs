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
pub struct InnerMessages {
    outer: StoredMessage,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Single,
    Batch { left: Bytes, next: QueueOffset },
    Done,
}

impl InnerMessages {
    pub(super) fn new(mut outer: StoredMessage) -> Self {
        if !outer.sys_flag.contains(INNER_BATCH) {
            return Self { outer, state: State::Single };
        }
        let base = outer.properties.get(property::INNER_BASE).and_then(|base| base.parse().ok());
        let next = base.map_or(outer.queue_offset, QueueOffset::new);
        outer.sys_flag = outer.sys_flag.without(INNER_BATCH);
        let left = std::mem::take(&mut outer.body);
        Self { outer, state: State::Batch { left, next } }
    }
}

impl Iterator for InnerMessages {
    type Item = Result<StoredMessage, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Single => Some(Ok(self.outer.clone())),
            State::Batch { left, next } => {
                let mut entries = batch::entries(&left);
                let entry = match entries.next()? {
                    Ok(entry) => entry,
                    Err(error) => return Some(Err(error)),
                };
                let message = StoredMessage {
                    queue_offset: next,
                    flag: entry.flag,
                    body: left.slice_ref(entry.body),
                    properties: Properties::from_bytes(left.slice_ref(entry.properties.as_bytes())),
                    ..self.outer.clone()
                };
                self.state = State::Batch { left: left.slice_ref(entries.rest()), next: next.plus(1) };
                Some(Ok(message))
            }
            State::Done => None,
        }
    }
}

impl std::iter::FusedIterator for InnerMessages {}
