//! Header fields (`extFields`): name and value pairs of one frame, kept in the compact layout whatever encoding they
//! arrived in, so that reading them allocates nothing.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::ByteString;
use crate::utf8::from_utf8;

/// The fields of one frame, in wire order. That no length points past the end was checked when the frame was decoded;
/// whether a value is text is looked at once, when it is read.
///
/// Layout, repeated: name length `u16`, name, value length `u32`, value (UTF-8). Java:
/// `protocol/RocketMQSerializable.java`, `mapSerialize`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Bytes);

impl Fields {
    /// Takes bytes in the compact layout.
    ///
    /// # Errors
    /// A length that points past the end.
    pub(crate) fn checked(bytes: Bytes) -> Result<Self, MalformedFields> {
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            (_, _, rest) = split_pair(rest).ok_or(MalformedFields)?;
        }
        Ok(Self(bytes))
    }

    /// Takes bytes that a [`FieldsBuffer`] wrote.
    pub(crate) fn trusted(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The fields in wire order, but for those whose name is not text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FieldValue<'_>)> {
        self.pairs().filter_map(|(name, value)| Some((from_utf8(name).ok()?, value)))
    }

    /// The fields in wire order, names as they came.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&[u8], FieldValue<'_>)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (name, value, after) = split_pair(rest)?;
            rest = after;
            Some((name, FieldValue { bytes: value, whole: &self.0 }))
        })
    }

    /// The value of `name`, if present.
    pub fn get(&self, name: &str) -> Option<FieldValue<'_>> {
        self.pairs().find(|(candidate, _)| *candidate == name.as_bytes()).map(|(_, value)| value)
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
        let text = |(name, value): (_, FieldValue<'_>)| {
            (name, String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        f.debug_map().entries(self.iter().map(text)).finish()
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
#[error("header fields with a length beyond their end")]
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
    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The text; `None` when it is not UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        from_utf8(self.bytes).ok()
    }

    /// The text, sharing the frame's buffer; `None` when it is not UTF-8.
    pub fn to_byte_string(self) -> Option<ByteString> {
        ByteString::from_utf8(self.whole.slice_ref(self.bytes)).ok()
    }

    /// The number in decimal digits; `None` when there is anything else, or more than 64 bits hold.
    pub(crate) fn to_integer(self) -> Option<i64> {
        let (negative, digits) = match self.bytes.split_first()? {
            (b'-', digits) => (true, digits),
            (b'+', digits) => (false, digits),
            _ => (false, self.bytes),
        };
        if digits.is_empty() {
            return None;
        }
        // Counted down from zero: there is one more number below it than above.
        let number = digits.iter().try_fold(0_i64, |number, digit| {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 { None } else { number.checked_mul(10)?.checked_sub(i64::from(digit)) }
        })?;
        if negative { Some(number) } else { number.checked_neg() }
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
        // `extend_from_slice` is compiled into the caller, `put_slice` is a call each.
        self.0.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.0.extend_from_slice(name.as_bytes());
    }

    pub(crate) fn value(&mut self, value: &str) {
        self.0.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(value.as_bytes());
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
        assert_eq!(fields.get("a").unwrap().as_str(), Some("1"));
        assert!(fields.get("c").is_none());
        let names: Vec<_> = fields.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn a_value_shares_the_buffer_of_its_frame() {
        let fields: Fields = [("topic", "orders")].into_iter().collect();
        let topic = fields.get("topic").unwrap().to_byte_string().unwrap();
        assert!(fields.as_bytes().as_ptr_range().contains(&topic.as_bytes().as_ptr()));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Fields::checked(Bytes::from_static(&[0, 9, b'a'])), Err(MalformedFields));
        assert_eq!(Fields::checked(Bytes::from_static(&[0, 1, b'a', 0xff, 0, 0, 0])), Err(MalformedFields));
    }

    #[test]
    fn what_is_not_text_is_not_read_as_text() {
        let fields = Fields::checked(Bytes::from_static(&[0, 1, b'a', 0, 0, 0, 1, 0xff])).unwrap();
        let value = fields.get("a").unwrap();
        assert_eq!((value.as_str(), value.to_byte_string(), value.to_integer()), (None, None, None));
        let fields = Fields::checked(Bytes::from_static(&[0, 1, 0xff, 0, 0, 0, 1, b'1'])).unwrap();
        assert_eq!(fields.iter().count(), 0);
    }

    #[test]
    fn integers_are_read_as_the_standard_library_does() {
        let read = |text: &str| [("n", text)].into_iter().collect::<Fields>().get("n").unwrap().to_integer();
        for text in ["0", "-0", "+7", "42", "-1", "007", "", "-", "+", "1x", " 1", "--1", "1.0"] {
            assert_eq!(read(text), text.parse().ok(), "{text:?}");
        }
        for edge in [i64::MIN, i64::MAX] {
            assert_eq!(read(&edge.to_string()), Some(edge));
        }
        assert_eq!(read("9223372036854775808"), None);
        assert_eq!(read("-9223372036854775809"), None);
    }
}
