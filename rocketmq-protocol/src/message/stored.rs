//! The record: one message as the commit log stores it and a pull answers it.
//!
//! Big-endian, in this order: size 4, magic 4, body CRC 4, queue id 4, flag 4, queue offset 8, position 8, system flag 4,
//! born time 8, born host 8 or 20, store time 8, store host 8 or 20, reconsume times 4, prepared transaction offset 8,
//! body 4 + n, topic 1 + n (V1) or 2 + n (V2), properties 2 + n. Java: `store/CommitLog.java`, `MessageExtEncoder.java`.

use std::net::SocketAddr;

use super::reader::Reader;
use super::{MessageError, OffsetMessageId, PropertiesRef, SysFlag, host};
use crate::utf8::from_utf8;
use crate::{LogPosition, QueueId, QueueOffset, TagHash};

/// Magic of a record whose topic length takes one byte.
pub const MAGIC_V1: u32 = 0xdaa3_20a7;
/// Magic of a record whose topic length takes two bytes: topics longer than 127 bytes.
pub const MAGIC_V2: u32 = 0xdaa3_20ab;
/// Magic of the filler that ends a commit-log file: size 4, this 4, then anything. Never on the wire.
pub const MAGIC_BLANK: u32 = 0xcbd4_3194;

const CRC_AT: usize = 8;
const QUEUE_ID_AT: usize = 12;
const FLAG_AT: usize = 16;
const QUEUE_OFFSET_AT: usize = 20;
const POSITION_AT: usize = 28;
const SYS_FLAG_AT: usize = 36;
const BORN_TIMESTAMP_AT: usize = 40;
const BORN_HOST_AT: usize = 48;

/// What the format keeps of a CRC-32.
const CRC_MASK: u32 = 0x7fff_ffff;

/// CRC of a body as it is stored.
pub(super) fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & CRC_MASK
}

/// What lies between magic and born host.
type Head = [u8; BORN_HOST_AT - CRC_AT];

/// The bytes of a field of the head; its place in the record is known when this is compiled.
#[inline]
fn part<const N: usize>(head: &Head, at: usize) -> [u8; N] {
    head.get(at - CRC_AT..).and_then(|from| from.first_chunk()).copied().unwrap_or([0; N])
}

/// Fills in what is known only once the record has its place in the log.
///
/// # Panics
/// When `record` is shorter than an encoded [`NewMessage`](super::NewMessage).
pub fn patch(record: &mut [u8], queue_offset: QueueOffset, position: LogPosition, store_timestamp_ms: i64) {
    let mut put = |at: usize, value: i64| record[at..at + 8].copy_from_slice(&value.to_be_bytes());
    put(QUEUE_OFFSET_AT, queue_offset.get());
    put(POSITION_AT, position.get());
    let low_byte_of_sys_flag = i32::from(record[SYS_FLAG_AT + 3]);
    let born_host_len =
        if SysFlag::new(low_byte_of_sys_flag).contains(SysFlag::BORN_HOST_V6) { 20 } else { 8 };
    let store_timestamp_at = BORN_HOST_AT + born_host_len;
    record[store_timestamp_at..store_timestamp_at + 8].copy_from_slice(&store_timestamp_ms.to_be_bytes());
}

/// One record, looked at where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessageRef<'a> {
    total_size: usize,
    head: &'a Head,
    born_host: &'a [u8],
    store_timestamp: i64,
    store_host: &'a [u8],
    reconsume_times: i32,
    prepared_transaction_offset: LogPosition,
    body: &'a [u8],
    topic: &'a str,
    properties: PropertiesRef<'a>,
}

impl<'a> StoredMessageRef<'a> {
    /// Reads the record at the start of `bytes`; more may follow it. The CRC is not checked:
    /// [`StoredMessageRef::crc_matches`].
    ///
    /// # Errors
    /// When no whole and consistent record starts there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let mut head = Reader::new(bytes);
        let declared = head.i32("size")?;
        let magic = u32::from_be_bytes(head.array("magic")?);
        if magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(MessageError::Magic { found: magic });
        }
        let invalid = || MessageError::Length { field: "record", value: declared };
        let after_magic =
            usize::try_from(declared).ok().and_then(|size| size.checked_sub(CRC_AT)).ok_or_else(invalid)?;
        let mut fields = Reader::new(head.bytes("record", after_magic)?);

        let head = fields.array_ref("record head")?;
        let sys_flag = SysFlag::new(i32::from_be_bytes(part(head, SYS_FLAG_AT)));
        let born_host = fields.bytes("born host", host::len(sys_flag.contains(SysFlag::BORN_HOST_V6)))?;
        let store_timestamp = fields.i64("store timestamp")?;
        let store_host = fields.bytes("store host", host::len(sys_flag.contains(SysFlag::STORE_HOST_V6)))?;
        let reconsume_times = fields.i32("reconsume times")?;
        let prepared_transaction_offset = LogPosition::new(fields.i64("prepared transaction offset")?);
        let body = fields.sized32("body")?;
        let topic = if magic == MAGIC_V1 { fields.sized8("topic")? } else { fields.sized16("topic")? };
        let topic = from_utf8(topic).map_err(|source| MessageError::Text { field: "topic", source })?;
        let properties = PropertiesRef::new(fields.sized16("properties")?);

        let total_size = after_magic + CRC_AT;
        let unused = fields.rest().len();
        if unused != 0 {
            return Err(MessageError::Size { declared: total_size, actual: total_size - unused });
        }
        Ok(Self {
            total_size,
            head,
            born_host,
            store_timestamp,
            store_host,
            reconsume_times,
            prepared_transaction_offset,
            body,
            topic,
            properties,
        })
    }

    /// Bytes of the record.
    pub const fn total_size(&self) -> usize {
        self.total_size
    }

    /// CRC-32 of the body as stored, without its top bit.
    pub fn body_crc(&self) -> u32 {
        u32::from_be_bytes(part(self.head, CRC_AT))
    }

    /// Whether the body is the one that the CRC was computed of.
    pub fn crc_matches(&self) -> bool {
        body_crc(self.body) == self.body_crc()
    }

    /// Queue.
    pub fn queue_id(&self) -> QueueId {
        QueueId::new(i32::from_be_bytes(part(self.head, QUEUE_ID_AT)))
    }

    /// The sender's own flag.
    pub fn flag(&self) -> i32 {
        i32::from_be_bytes(part(self.head, FLAG_AT))
    }

    /// Position in the queue.
    pub fn queue_offset(&self) -> QueueOffset {
        QueueOffset::new(i64::from_be_bytes(part(self.head, QUEUE_OFFSET_AT)))
    }

    /// Position of the record in the commit log.
    pub fn physical_offset(&self) -> LogPosition {
        LogPosition::new(i64::from_be_bytes(part(self.head, POSITION_AT)))
    }

    /// System flag.
    pub fn sys_flag(&self) -> SysFlag {
        SysFlag::new(i32::from_be_bytes(part(self.head, SYS_FLAG_AT)))
    }

    /// When it was sent, in milliseconds by the sender's clock.
    pub fn born_timestamp(&self) -> i64 {
        i64::from_be_bytes(part(self.head, BORN_TIMESTAMP_AT))
    }

    /// Who sent it.
    pub fn born_host(&self) -> SocketAddr {
        host::decode(self.born_host)
    }

    /// When it was stored, in milliseconds by the broker's clock.
    pub const fn store_timestamp(&self) -> i64 {
        self.store_timestamp
    }

    /// The broker that stored it.
    pub fn store_host(&self) -> SocketAddr {
        host::decode(self.store_host)
    }

    /// How often consumption failed.
    pub const fn reconsume_times(&self) -> i32 {
        self.reconsume_times
    }

    /// Position of the half message that this one commits, else 0.
    pub const fn prepared_transaction_offset(&self) -> LogPosition {
        self.prepared_transaction_offset
    }

    /// The body as stored: compressed if the system flag says so.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Topic.
    pub const fn topic(&self) -> &'a str {
        self.topic
    }

    /// Properties.
    pub const fn properties(&self) -> PropertiesRef<'a> {
        self.properties
    }

    /// Hash of the tag; 0 without one.
    pub fn tag_hash(&self) -> TagHash {
        self.properties.tag_hash()
    }

    /// The id that finds the record again.
    pub fn offset_message_id(&self) -> OffsetMessageId {
        OffsetMessageId { host: self.store_host(), position: self.physical_offset() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), v2: bool) {
            drop(StoredMessageRef::parse(&bytes));
            // Past the size and the magic, the fields get their share of nonsense.
            let magic = if v2 { MAGIC_V2 } else { MAGIC_V1 };
            let size = u32::try_from(bytes.len() + 8).unwrap();
            let framed = [&size.to_be_bytes()[..], &magic.to_be_bytes(), &bytes].concat();
            drop(StoredMessageRef::parse(&framed));
        }
    }

    #[test]
    fn the_filler_and_impossible_sizes_are_no_records() {
        let filler = [&100_u32.to_be_bytes()[..], &MAGIC_BLANK.to_be_bytes(), &[0; 92]].concat();
        assert_eq!(StoredMessageRef::parse(&filler), Err(MessageError::Magic { found: MAGIC_BLANK }));
        for declared in [i32::MIN, -1, 0, 7] {
            let bytes = [&declared.to_be_bytes()[..], &MAGIC_V1.to_be_bytes(), &[0; 92]].concat();
            let expected = MessageError::Length { field: "record", value: declared };
            assert_eq!(StoredMessageRef::parse(&bytes), Err(expected));
        }
        let short = [&100_u32.to_be_bytes()[..], &MAGIC_V1.to_be_bytes()].concat();
        let expected = MessageError::Truncated { field: "record", needed: 92, left: 0 };
        assert_eq!(StoredMessageRef::parse(&short), Err(expected));
        let long = [&100_u32.to_be_bytes()[..], &MAGIC_V1.to_be_bytes(), &[0; 92]].concat();
        assert_eq!(StoredMessageRef::parse(&long), Err(MessageError::Size { declared: 100, actual: 91 }));
    }
}
