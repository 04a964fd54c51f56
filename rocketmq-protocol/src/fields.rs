//! Header fields (`extFields`): name and value pairs of one frame, kept in the compact layout whatever encoding they
//! arrived in, so that reading them allocates nothing.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ByteString;

/// The fields of one frame, in wire order, checked when the frame was decoded.
///
/// Layout, repeated: name length `u16`, name, value length `u32`, value (UTF-8). Java:
/// `protocol/RocketMQSerializable.java`, `mapSerialize`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Bytes);

impl Fields {
    /// Takes bytes in the compact layout.
    ///
    /// # Errors
    /// A length that points past the end, or text that is not UTF-8.
    pub(crate) fn checked(bytes: Bytes) -> Result<Self, MalformedFields> {
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            let (name, value, after) = split_pair(rest).ok_or(MalformedFields)?;
            if std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err() {
                return Err(MalformedFields);
            }
            rest = after;
        }
        Ok(Self(bytes))
    }

    /// Takes bytes that a [`FieldsBuffer`] wrote.
    pub(crate) fn trusted(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The fields in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FieldValue<'_>)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (name, value, after) = split_pair(rest)?;
            rest = after;
            Some((std::str::from_utf8(name).ok()?, FieldValue { bytes: value, whole: &self.0 }))
        })
    }

    /// The value of `name`, if present.
    pub fn get(&self, name: &str) -> Option<FieldValue<'_>> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The compact layout.
    pub(crate) fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, value.as_str()))).finish()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut buffer = FieldsBuffer::default();
        for (name, value) in pairs {
            buffer.begin(name);
            buffer.value(value);
        }
        buffer.take()
    }
}

/// The fields are not in the compact layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header fields with a length beyond their end or text that is not UTF-8")]
pub struct MalformedFields;

fn split_pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_len, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(u16::from_be_bytes(*name_len).into())?;
    let (value_len, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*value_len)).ok()?)?;
    Some((name, value, rest))
}

/// One value, borrowed from its frame.
#[derive(Clone, Copy)]
pub struct FieldValue<'a> {
    bytes: &'a [u8],
    whole: &'a Bytes,
}

impl<'a> FieldValue<'a> {
    /// The text.
    pub fn as_str(self) -> &'a str {
        std::str::from_utf8(self.bytes).unwrap_or_default()
    }

    /// The text, sharing the frame's buffer.
    pub fn to_byte_string(self) -> ByteString {
        ByteString::from_utf8(self.whole.slice_ref(self.bytes)).unwrap_or_default()
    }
}

/// Collects fields in the compact layout. Its buffer is reused from frame to frame.
#[derive(Default)]
pub(crate) struct FieldsBuffer(BytesMut);

impl FieldsBuffer {
    /// Room for what the next frame usually brings, so that one allocation serves many frames.
    const CHUNK: usize = 16 * 1024;

    pub(crate) fn begin(&mut self, name: &str) {
        if self.0.is_empty() {
            self.0.reserve(Self::CHUNK);
        }
        // A longer name cannot be told to a peer; none of the protocol's is.
        let name = name.get(..usize::from(u16::MAX)).unwrap_or(name);
        self.0.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
        self.0.put_slice(name.as_bytes());
    }

    pub(crate) fn value(&mut self, value: &str) {
        self.0.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.put_slice(value.as_bytes());
    }

    pub(crate) fn mark(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn truncate(&mut self, mark: usize) {
        self.0.truncate(mark);
    }

    pub(crate) fn take(&mut self) -> Fields {
        Fields::trusted(self.0.split().freeze())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Reads a length-prefixed block off the front of `bytes`.
pub(crate) fn split_block(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    (bytes.remaining() >= len).then(|| bytes.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_and_kept_in_order() {
        let fields: Fields = [("b", "2"), ("a", "1")].into_iter().collect();
        assert_eq!(fields.get("a").unwrap().as_str(), "1");
        assert!(fields.get("c").is_none());
        let names: Vec<_> = fields.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn a_value_shares_the_buffer_of_its_frame() {
        let fields: Fields = [("topic", "orders")].into_iter().collect();
        let topic = fields.get("topic").unwrap().to_byte_string();
        assert!(fields.as_bytes().as_ptr_range().contains(&topic.as_bytes().as_ptr()));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Fields::checked(Bytes::from_static(&[0, 9, b'a'])), Err(MalformedFields));
        assert_eq!(Fields::checked(Bytes::from_static(&[0, 1, b'a', 0xff, 0, 0, 0])), Err(MalformedFields));
        assert_eq!(Fields::checked(Bytes::from_static(&[0, 1, 0xff, 0, 0, 0, 0])), Err(MalformedFields));
    }
}
