//! The body of a batch send: entries back to back, each with flag, body and properties of one message. All else the
//! messages share, and stands in the request header.
//!
//! Entry, big-endian: size 4, magic 4 and CRC 4 (both 0), flag 4, body 4 + n, properties 2 + n.
//! Java: `common/message/MessageDecoder.java`, `encodeMessages`.

use bytes::BufMut;

use super::properties::check_len;
use super::property::VALUE_END;
use super::reader::Reader;
use super::{MessageError, PropertiesRef};

/// Everything in an entry but body and properties.
const FIXED_LEN: usize = 4 + 4 + 4 + 4 + 4 + 2;

/// One message of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchEntry<'a> {
    /// The sender's own flag.
    pub flag: i32,
    /// The body; never compressed.
    pub body: &'a [u8],
    /// Properties.
    pub properties: PropertiesRef<'a>,
}

impl BatchEntry<'_> {
    /// Bytes of the entry.
    ///
    /// # Errors
    /// [`MessageError::TooLong`] when the properties have more than 32,767 bytes or the entry more than an `i32` can count.
    pub fn encoded_len(&self) -> Result<usize, MessageError> {
        self.len_with(self.properties.as_bytes().len())
    }

    fn len_with(&self, properties: usize) -> Result<usize, MessageError> {
        check_len(properties)?;
        let limit = i32::MAX as usize - FIXED_LEN - properties;
        if self.body.len() > limit {
            return Err(MessageError::TooLong { field: "body", len: self.body.len(), limit });
        }
        Ok(FIXED_LEN + self.body.len() + properties)
    }

    /// Appends the entry to `out` and returns its length.
    ///
    /// # Errors
    /// As [`BatchEntry::encoded_len`]; nothing is written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<usize, MessageError> {
        self.encode_parts(&[self.properties.as_bytes()], out)
    }

    /// As [`encode`](Self::encode), with the pairs of `more` behind the properties; these must not have any of them.
    ///
    /// # Errors
    /// As [`BatchEntry::encoded_len`]; nothing is written then.
    pub fn encode_with(&self, more: &[u8], out: &mut Vec<u8>) -> Result<usize, MessageError> {
        let end: &[u8] = if self.properties.lacks_end() { &[VALUE_END] } else { &[] };
        self.encode_parts(&[self.properties.as_bytes(), end, more], out)
    }

    fn encode_parts(&self, properties: &[&[u8]], out: &mut Vec<u8>) -> Result<usize, MessageError> {
        let properties_len = properties.iter().map(|part| part.len()).sum();
        let len = self.len_with(properties_len)?;
        // The casts to narrower lengths lose nothing: `len_with` checked them.
        out.reserve(len);
        out.put_u32(len as u32);
        out.put_bytes(0, 4 + 4); // magic, CRC
        out.put_i32(self.flag);
        out.put_u32(self.body.len() as u32);
        out.extend_from_slice(self.body);
        out.put_u16(properties_len as u16);
        for part in properties {
            out.extend_from_slice(part);
        }
        Ok(len)
    }
}

/// The entries of a batch body, looked at where they lie. After an error nothing follows.
///
/// Size, magic and CRC of an entry are not looked at, as in Java: the lengths of its parts say where it ends.
pub const fn entries(body: &[u8]) -> BatchEntries<'_> {
    BatchEntries { left: body }
}

/// From [`entries`].
#[derive(Clone, Debug)]
pub struct BatchEntries<'a> {
    left: &'a [u8],
}

impl<'a> Iterator for BatchEntries<'a> {
    type Item = Result<BatchEntry<'a>, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let mut fields = Reader::new(std::mem::take(&mut self.left));
        let entry = read_entry(&mut fields);
        if entry.is_ok() {
            self.left = fields.rest();
        }
        Some(entry)
    }
}

impl<'a> BatchEntries<'a> {
    /// The bytes after the entries taken so far.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.left
    }
}

impl std::iter::FusedIterator for BatchEntries<'_> {}

fn read_entry<'a>(fields: &mut Reader<'a>) -> Result<BatchEntry<'a>, MessageError> {
    fields.bytes("size, magic and CRC", 12)?;
    Ok(BatchEntry {
        flag: fields.i32("flag")?,
        body: fields.sized32("body")?,
        properties: PropertiesRef::new(fields.sized16("properties")?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn more_properties_stand_behind_those_of_the_message() {
        for (own, together) in
            [("", "c\x01d\x02"), ("a\x01b", "a\x01b\x02c\x01d\x02"), ("a\x01b\x02", "a\x01b\x02c\x01d\x02")]
        {
            let entry = BatchEntry { flag: 7, body: b"body", properties: own.into() };
            let (mut with, mut whole) = (Vec::new(), Vec::new());
            let len = entry.encode_with(b"c\x01d\x02", &mut with).unwrap();
            BatchEntry { properties: together.into(), ..entry }.encode(&mut whole).unwrap();
            assert_eq!((len, &with), (whole.len(), &whole));
        }
    }

    proptest! {
        #[test]
        fn batches_survive_encoding_and_decoding(
            sent in prop::collection::vec((any::<i32>(), any::<Vec<u8>>(), "(a\x01b\x02)*"), 0..6),
        ) {
            let batch: Vec<_> = sent.iter().map(|(flag, body, properties)| BatchEntry {
                flag: *flag,
                body,
                properties: properties.as_str().into(),
            }).collect();
            let mut out = Vec::new();
            for entry in &batch {
                let before = out.len();
                prop_assert_eq!(entry.encode(&mut out).unwrap(), out.len() - before);
            }
            prop_assert_eq!(entries(&out).collect::<Result<Vec<_>, _>>().unwrap(), batch);
        }

        #[test]
        fn any_bytes_are_entries_and_at_most_one_error(bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200)) {
            let errors = entries(&bytes).filter(Result::is_err).count();
            prop_assert!(errors <= 1);
            prop_assert!(entries(&bytes).count() <= bytes.len() / FIXED_LEN + 1);
        }
    }

    #[test]
    fn properties_that_do_not_fit_are_refused() {
        let long = "x".repeat(32_768);
        let entry = BatchEntry { properties: long.as_str().into(), ..BatchEntry::default() };
        let refused = entry.encode(&mut Vec::new());
        assert_eq!(refused, Err(MessageError::TooLong { field: "properties", len: 32_768, limit: 32_767 }));
    }
}
