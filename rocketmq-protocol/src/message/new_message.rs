//! [`NewMessage`]: a message on its way into the log.

use std::net::SocketAddr;

use bytes::BufMut;

use super::properties::check_len;
use super::property::VALUE_END;
use super::stored::{MAGIC_V1, MAGIC_V2, body_crc};
use super::{MessageError, PropertiesRef, SysFlag, host};
use crate::{LogPosition, QueueId};

/// Fields that take the same room in every record.
const FIXED_LEN: usize = 4 + 4 + 4 + 4 + 4 + 8 + 8 + 4 + 8 + 8 + 4 + 8 + 4 + 2;

/// What stands before the body, with two IPv6 addresses: all of that but the length of the properties.
const LONGEST_HEAD: usize = FIXED_LEN - 2 + 20 + 20;

/// A message to be written as a record. Queue offset, position and store time are 0 in it until
/// [`stored::patch`](super::stored::patch) fills them in.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Queue.
    pub queue_id: QueueId,
    /// The sender's own flag.
    pub flag: i32,
    /// System flag; its two address bits are set from the addresses.
    pub sys_flag: SysFlag,
    /// When it was sent, in milliseconds by the sender's clock.
    pub born_timestamp: i64,
    /// Who sent it. An IPv4-mapped IPv6 address is stored as the IPv4 address.
    pub born_host: SocketAddr,
    /// The broker's advertised address. Mapped addresses as above.
    pub store_host: SocketAddr,
    /// How often consumption failed.
    pub reconsume_times: i32,
    /// Position of the half message that this one commits, else 0.
    pub prepared_transaction_offset: LogPosition,
    /// The body, compressed if `sys_flag` says so.
    pub body: &'a [u8],
    /// Property strings, written as one: a missing 0x02 between two of them is added.
    pub properties: &'a [PropertiesRef<'a>],
}

impl NewMessage<'_> {
    /// Bytes of the record.
    ///
    /// # Errors
    /// [`MessageError::TooLong`] when topic or properties have more than 32,767 bytes or the record more than an `i32`
    /// can count. A broker's own limits are lower.
    pub fn encoded_len(&self) -> Result<usize, MessageError> {
        let topic = self.topic.len();
        let topic_limit = i16::MAX as usize;
        if topic > topic_limit {
            return Err(MessageError::TooLong { field: "topic", len: topic, limit: topic_limit });
        }
        let properties = self.properties_len();
        check_len(properties)?;
        let topic_length_field = if is_v2(self.topic) { 2 } else { 1 };
        let hosts =
            host::encoded_len(canonical(self.born_host)) + host::encoded_len(canonical(self.store_host));
        let around_body = FIXED_LEN + hosts + topic_length_field + topic + properties;
        let body_limit = i32::MAX as usize - around_body;
        if self.body.len() > body_limit {
            return Err(MessageError::TooLong { field: "body", len: self.body.len(), limit: body_limit });
        }
        Ok(around_body + self.body.len())
    }

    /// Appends the record to `out` and returns its length.
    ///
    /// # Errors
    /// As [`NewMessage::encoded_len`]; nothing is written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<usize, MessageError> {
        let len = self.encoded_len()?;
        let born_host = canonical(self.born_host);
        let store_host = canonical(self.store_host);
        let mut sys_flag = self.sys_flag.without(SysFlag::BORN_HOST_V6).without(SysFlag::STORE_HOST_V6);
        if born_host.is_ipv6() {
            sys_flag = sys_flag.with(SysFlag::BORN_HOST_V6);
        }
        if store_host.is_ipv6() {
            sys_flag = sys_flag.with(SysFlag::STORE_HOST_V6);
        }

        // Everything before the body, put together where there is room for sure. The casts to narrower lengths lose nothing:
        // `encoded_len` checked them.
        let mut head = [0; LONGEST_HEAD];
        let mut free = &mut head[..];
        free.put_u32(len as u32);
        free.put_u32(if is_v2(self.topic) { MAGIC_V2 } else { MAGIC_V1 });
        free.put_u32(body_crc(self.body));
        free.put_i32(self.queue_id.get());
        free.put_i32(self.flag);
        free.put_bytes(0, 8 + 8); // queue offset, position
        free.put_i32(sys_flag.get());
        free.put_i64(self.born_timestamp);
        host::write(born_host, &mut free);
        free.put_bytes(0, 8); // store time
        host::write(store_host, &mut free);
        free.put_i32(self.reconsume_times);
        free.put_i64(self.prepared_transaction_offset.get());
        free.put_u32(self.body.len() as u32);
        let used = LONGEST_HEAD - free.len();
        out.reserve(len);
        out.extend_from_slice(&head[..used]);
        out.extend_from_slice(self.body);
        if is_v2(self.topic) {
            out.put_u16(self.topic.len() as u16);
        } else {
            out.put_u8(self.topic.len() as u8);
        }
        out.extend_from_slice(self.topic.as_bytes());
        out.put_u16(self.properties_len() as u16);
        for (missing_end, part) in self.property_parts() {
            if missing_end {
                out.put_u8(VALUE_END);
            }
            out.extend_from_slice(part);
        }
        Ok(len)
    }

    fn properties_len(&self) -> usize {
        let parts = self.property_parts().map(|(missing_end, part)| usize::from(missing_end) + part.len());
        parts.fold(0, usize::saturating_add)
    }

    /// The parts that are not empty, each with whether the one before it lacks its 0x02.
    fn property_parts(&self) -> impl Iterator<Item = (bool, &[u8])> {
        let parts = self.properties.iter().filter(|part| !part.as_bytes().is_empty());
        parts.scan(true, |ended, part| {
            let missing_end = !*ended;
            *ended = !part.lacks_end();
            Some((missing_end, part.as_bytes()))
        })
    }
}

const fn is_v2(topic: &str) -> bool {
    topic.len() > i8::MAX as usize
}

fn canonical(host: SocketAddr) -> SocketAddr {
    SocketAddr::new(host.ip().to_canonical(), host.port())
}

#[cfg(test)]
mod tests {
    use super::super::StoredMessageRef;
    use super::*;

    fn message<'a>(topic: &'a str, properties: &'a [PropertiesRef<'a>]) -> NewMessage<'a> {
        NewMessage {
            topic,
            queue_id: QueueId::ZERO,
            flag: 0,
            sys_flag: SysFlag::NONE,
            born_timestamp: 0,
            born_host: ([127, 0, 0, 1], 1).into(),
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: b"hello",
            properties,
        }
    }

    #[test]
    fn property_parts_are_joined_by_exactly_one_end_mark() {
        for (parts, joined) in [
            (&["a\x01b", "c\x01d\x02"][..], "a\x01b\x02c\x01d\x02"),
            (&["a\x01b\x02", "", "c\x01d"], "a\x01b\x02c\x01d"),
            (&["", "a\x01b", ""], "a\x01b"),
            (&[], ""),
        ] {
            let mut out = Vec::new();
            let parts: Vec<_> = parts.iter().map(|part| PropertiesRef::from(*part)).collect();
            let len = message("t", &parts).encode(&mut out).unwrap();
            assert_eq!((len, out.len()), (91 + 1 + 5 + joined.len(), len));
            assert_eq!(StoredMessageRef::parse(&out).unwrap().properties().as_bytes(), joined.as_bytes());
        }
    }

    #[test]
    fn what_the_format_cannot_hold_is_refused_with_field_value_and_limit() {
        let mut out = Vec::new();
        let long = "x".repeat(32_768);
        let error = message(&long, &[]).encode(&mut out).unwrap_err();
        assert_eq!(error.to_string(), "topic has 32768 bytes, the limit is 32767");
        let error = message("t", &[long[1..].into(), "y".into()]).encode(&mut out).unwrap_err();
        assert_eq!(error.to_string(), "properties has 32769 bytes, the limit is 32767");
        assert!(out.is_empty());
        message("t", &[long[1..].into()]).encode(&mut out).unwrap();
    }

    #[test]
    fn a_mapped_address_is_stored_as_ipv4() {
        let mut out = Vec::new();
        let born_host = "[::ffff:10.1.2.3]:4".parse().unwrap();
        NewMessage { born_host, sys_flag: SysFlag::BORN_HOST_V6, ..message("t", &[]) }
            .encode(&mut out)
            .unwrap();
        let record = StoredMessageRef::parse(&out).unwrap();
        assert_eq!(record.born_host(), ([10, 1, 2, 3], 4).into());
        assert_eq!(record.sys_flag(), SysFlag::NONE);
    }
}
