//! [`BatchUnit`]: one 46-byte entry of a batch consume queue.

use rocketmq_protocol::message::{StoredMessageRef, SysFlag, property};

use super::unit::{UNIT_SIZE, Unit};

/// Bytes of a unit.
pub(super) const BATCH_UNIT_SIZE: usize = 46;

/// An entry of a batch consume queue, big-endian: position i64, size i32, tag hash i64, store timestamp i64, offset of the first
/// message i64, messages i16, then -1 as i32 (for compaction) and 0 as i32. Java: `store/queue/BatchConsumeQueue.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchUnit {
    /// The record, as an ordinary queue would have it.
    pub(super) unit: Unit,
    pub(super) store_timestamp: i64,
    /// Queue offset of its first message.
    pub(super) first: i64,
    /// Its messages, at least one.
    pub(super) count: i16,
}

impl BatchUnit {
    /// The unit of a record, given that of an ordinary queue. `None` if its count of messages makes no sense.
    pub(super) fn of(message: &StoredMessageRef<'_>, unit: Unit) -> Option<Self> {
        let number = |name| message.properties().get(name).and_then(|number| number.parse::<i64>().ok());
        let offset = message.queue_offset().get();
        let (first, count) = match message.sys_flag().contains(SysFlag::INNER_BATCH) {
            true => (number(property::INNER_BASE).unwrap_or(offset), number(property::INNER_NUM)?),
            false => (offset, 1),
        };
        let count = i16::try_from(count).ok().filter(|count| *count > 0)?;
        let store_timestamp = message.store_timestamp();
        (0..=i64::MAX / 64).contains(&first).then_some(Self { unit, store_timestamp, first, count })
    }

    /// Offset behind its last message.
    pub(super) fn end(&self) -> i64 {
        self.first.saturating_add(i64::from(self.count))
    }

    pub(super) fn encode(self) -> [u8; BATCH_UNIT_SIZE] {
        let mut bytes = [0; BATCH_UNIT_SIZE];
        bytes[..UNIT_SIZE].copy_from_slice(&self.unit.encode());
        bytes[20..28].copy_from_slice(&self.store_timestamp.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.first.to_be_bytes());
        bytes[36..38].copy_from_slice(&self.count.to_be_bytes());
        bytes[38..42].copy_from_slice(&(-1_i32).to_be_bytes());
        bytes
    }

    /// Reads a unit; `None` where a queue ends.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let unit = Unit::decode(bytes)?;
        let (store_timestamp, rest) = bytes.get(UNIT_SIZE..)?.split_first_chunk()?;
        let (first, rest) = rest.split_first_chunk()?;
        let (store_timestamp, first) = (i64::from_be_bytes(*store_timestamp), i64::from_be_bytes(*first));
        let count = i16::from_be_bytes(*rest.first_chunk()?);
        (first >= 0 && count > 0).then_some(Self { unit, store_timestamp, first, count })
    }
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::{LogPosition, TagHash};

    use super::*;

    #[test]
    fn a_unit_reads_back_and_zeros_are_the_end() {
        let unit = Unit { position: LogPosition::new(142_488), size: 906, tag_hash: TagHash::new(-7) };
        let batch = BatchUnit { unit, store_timestamp: 1_795_257_695_819, first: 1 << 33, count: 5 };
        let bytes = batch.encode();
        assert_eq!(bytes[36..], [0, 5, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(BatchUnit::decode(&bytes), Some(batch));
        assert_eq!(BatchUnit::decode(&[0; 46]), None);
        assert_eq!(BatchUnit::decode(&bytes[..37]), None);
    }
}
