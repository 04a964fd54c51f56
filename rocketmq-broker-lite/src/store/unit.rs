//! [`Unit`]: one 20-byte entry of a consume queue.

use rocketmq_protocol::{LogPosition, TagHash};

/// Bytes of a unit.
pub(super) const UNIT_SIZE: usize = 20;

/// An entry of a consume queue, big-endian: position i64, size i32, tag hash i64. Java: `store/ConsumeQueue.java`, `CQ_STORE_UNIT_SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Where the record starts.
    pub(super) position: LogPosition,
    /// Bytes of the record.
    pub(super) size: i32,
    /// What tag filters look at; in the delay topic, the due time in ms.
    pub(super) tag_hash: TagHash,
}

impl Unit {
    /// Stands for a message that never was: before the first one of a queue that does not start at 0.
    pub(super) const BLANK: Self =
        Self { position: LogPosition::ZERO, size: i32::MAX, tag_hash: TagHash::ZERO };

    pub(super) fn encode(self) -> [u8; UNIT_SIZE] {
        let mut bytes = [0; UNIT_SIZE];
        bytes[..8].copy_from_slice(&self.position.get().to_be_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_be_bytes());
        bytes[12..].copy_from_slice(&self.tag_hash.get().to_be_bytes());
        bytes
    }

    /// Reads a unit; `None` where a queue ends, which is what zeros mean.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (position, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (tag_hash, _) = rest.split_first_chunk()?;
        let (position, size) = (i64::from_be_bytes(*position), i32::from_be_bytes(*size));
        let unit = Self {
            position: LogPosition::new(position),
            size,
            tag_hash: TagHash::new(i64::from_be_bytes(*tag_hash)),
        };
        (position >= 0 && size > 0).then_some(unit)
    }

    /// The last unit of a queue whose messages are deleted; their records are all before `log_end`. To Java a blank like any other.
    pub(super) fn tombstone(log_end: LogPosition) -> Self {
        Self { tag_hash: TagHash::new(log_end.get()), ..Self::BLANK }
    }

    pub(super) fn is_blank(self) -> bool {
        Self { tag_hash: TagHash::ZERO, ..self } == Self::BLANK
    }

    /// What [`Unit::tombstone`] was made with, if it is one.
    pub(super) fn buried_before(self) -> Option<LogPosition> {
        (self.is_blank() && self != Self::BLANK).then(|| LogPosition::new(self.tag_hash.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_reads_back_and_zeros_are_the_end() {
        let unit =
            Unit { position: LogPosition::new(1 << 40), size: 258, tag_hash: TagHash::new(-2_598_902) };
        assert_eq!(unit.encode()[..12], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(Unit::decode(&unit.encode()), Some(unit));
        assert_eq!(Unit::decode(&[0; 20]), None);
        assert_eq!(Unit::decode(&unit.encode()[..19]), None);
    }

    #[test]
    fn a_tombstone_is_a_blank_that_says_when() {
        let tombstone = Unit::tombstone(LogPosition::new(4711));
        assert_eq!(Unit::decode(&tombstone.encode()), Some(tombstone));
        assert!(tombstone.is_blank() && Unit::BLANK.is_blank());
        assert_eq!(tombstone.buried_before(), Some(LogPosition::new(4711)));
        assert_eq!(Unit::BLANK.buried_before(), None);
    }
}
