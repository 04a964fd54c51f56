//! [`ByteString`]: UTF-8 text that shares the buffer it was read from.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::Utf8Error;

use bytes::Bytes;

/// UTF-8 text backed by [`Bytes`]: cloning and slicing share the buffer, so header fields are read without
/// an allocation each.
///
/// It keeps the whole buffer alive. Text that outlives its request (a map key, say) is better copied:
/// [`ByteString::detach`].
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteString(bytestring::ByteString); // which knows, without looking again, that it is UTF-8

impl ByteString {
    /// The empty text.
    pub const EMPTY: Self = Self(bytestring::ByteString::new());

    /// Text that is part of the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(bytestring::ByteString::from_static(text))
    }

    /// Takes `bytes` as text.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, Utf8Error> {
        bytestring::ByteString::try_from(bytes).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes of the text, sharing its buffer.
    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// The part of this text that `bytes` are, sharing its buffer. `None` where they are not borrowed from it, or begin or end
    /// within a character; nothing else of them is looked at.
    pub fn part(&self, bytes: &[u8]) -> Option<Self> {
        let from = (bytes.as_ptr() as usize).checked_sub(self.as_ptr() as usize)?;
        self.get(from..from.checked_add(bytes.len())?).map(|text| Self(self.0.slice_ref(text)))
    }

    /// A copy that owns just its own bytes and lets the buffer it came from go.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self::from(self.as_str())
    }
}

impl Deref for ByteString {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ByteString {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for ByteString {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for ByteString {
    fn from(text: &str) -> Self {
        Self(text.to_owned().into())
    }
}

impl From<String> for ByteString {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&String> for ByteString {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl PartialEq<str> for ByteString {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ByteString {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl serde::Serialize for ByteString {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ByteString {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_shares_the_buffer_and_ends_between_characters() {
        let text = ByteString::from("aé=b");
        let bytes = text.as_bytes();
        for (from, to, part) in
            [(0, 5, Some("aé=b")), (1, 3, Some("é")), (5, 5, Some("")), (1, 2, None), (2, 4, None)]
        {
            let found = text.part(&bytes[from..to]);
            assert_eq!(found.as_deref(), part, "{from}..{to}");
            assert!(
                found.is_none_or(|found| bytes.as_ptr_range().contains(&found.as_ptr()) || found.is_empty())
            );
        }
        for stranger in
            [ByteString::from("aé=b"), ByteString::from("a longer text than this one is, somewhere else")]
        {
            assert_eq!(text.part(stranger.as_bytes()), None);
        }
    }
}
