//! [`Properties`]: the property string of a message, `name 0x01 value 0x02` repeated.
//!
//! Reading is as tolerant as Java's: the last 0x02 may be missing, a value may hold 0x01, pairs without a name or
//! without a value do not exist, of two pairs with one name the later counts.
//! Java: `common/message/MessageDecoder.java`, `string2messageProperties`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use memchr::{memchr, memchr2};

use super::property::{NAME_END, VALUE_END};
use super::{MessageError, UniqueKeyGenerator, property, tag_hash};
use crate::utf8::from_utf8;
use crate::{ByteString, TagHash};

/// The properties of a message where they lie in its record.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PropertiesRef<'a>(&'a [u8]);

impl<'a> PropertiesRef<'a> {
    /// Takes a property string. Any bytes will do; what is not a pair of UTF-8 name and value is skipped.
    pub const fn new(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// The property string.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The property string as text. Copies only where it is not UTF-8, and replaces what is not.
    pub fn to_text(self) -> Cow<'a, str> {
        from_utf8(self.0).map_or_else(|_| String::from_utf8_lossy(self.0), Cow::Borrowed)
    }

    /// The value of `name`.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let [value] = self.values([name]);
        value
    }

    /// The value of each of `names`, by one look at the pairs.
    #[inline]
    pub fn values<const N: usize>(self, names: [&str; N]) -> [Option<&'a str>; N] {
        let mut values = [None; N];
        for pair in (Split { left: self.0 }) {
            for (name, value) in names.iter().zip(&mut values) {
                let named =
                    pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(&[NAME_END]));
                let text = named.filter(|text| !text.is_empty() && is_name(name));
                *value = text.and_then(|text| from_utf8(text).ok()).or(*value);
            }
        }
        values
    }

    /// As [`PropertiesRef::iter`], for those who look at few of the pairs: no pair is skipped for not being UTF-8.
    pub const fn raw_iter(self) -> RawPairs<'a> {
        RawPairs(Split { left: self.0 })
    }

    /// Every pair in the order written, overruled ones included.
    pub const fn iter(self) -> Pairs<'a> {
        Pairs(self.raw_iter())
    }

    /// Whether another pair can only follow behind one more end mark.
    pub(super) fn lacks_end(self) -> bool {
        self.0.last().is_some_and(|last| *last != VALUE_END)
    }

    /// Bytes with the last end mark.
    pub(super) fn ended_len(self) -> usize {
        self.0.len() + usize::from(self.lacks_end())
    }

    /// Hash of the tag; 0 without one.
    pub fn tag_hash(self) -> TagHash {
        self.get(property::TAGS).map_or(TagHash::ZERO, tag_hash)
    }
}

impl<'a> From<&'a str> for PropertiesRef<'a> {
    fn from(encoded: &'a str) -> Self {
        Self(encoded.as_bytes())
    }
}

impl<'a> IntoIterator for PropertiesRef<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

impl fmt::Debug for PropertiesRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(*self).finish()
    }
}

/// Pairs of name and value, from [`PropertiesRef::iter`].
#[derive(Clone, Debug)]
pub struct Pairs<'a>(RawPairs<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|(name, value)| Some((from_utf8(name).ok()?, from_utf8(value).ok()?)))
    }
}

/// Pairs of name and value as bytes, from [`PropertiesRef::raw_iter`].
#[derive(Clone, Debug)]
pub struct RawPairs<'a>(Split<'a>);

impl<'a> Iterator for RawPairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|text| {
            split_at_byte(text, NAME_END).filter(|(name, value)| !name.is_empty() && !value.is_empty())
        })
    }
}

/// What stands before, between and after the end marks.
#[derive(Clone, Debug)]
struct Split<'a> {
    left: &'a [u8],
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let (pair, rest) = split_at_byte(self.left, VALUE_END).unwrap_or((self.left, &[]));
        self.left = rest;
        Some(pair)
    }
}

/// Whether a pair can have this name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.as_bytes().contains(&NAME_END)
}

/// What stands before and after the first `byte`.
fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr(byte, bytes)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// The properties of a message, sharing the buffer they were read from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(ByteString);

impl Properties {
    /// No properties.
    pub const EMPTY: Self = Self(ByteString::EMPTY);

    /// Takes a property string.
    pub const fn new(encoded: ByteString) -> Self {
        Self(encoded)
    }

    /// Shares `encoded`, a part of `buffer`; only where that is not UTF-8 a copy with replacement characters is made.
    pub(super) fn from_part(buffer: &Bytes, encoded: &[u8]) -> Self {
        let text = ByteString::from_utf8(buffer.slice_ref(encoded));
        Self(text.unwrap_or_else(|_| String::from_utf8_lossy(encoded).into_owned().into()))
    }

    /// Starts from nothing.
    pub fn builder() -> PropertiesBuilder {
        PropertiesBuilder { encoded: String::new(), error: None }
    }

    /// Starts from these.
    pub fn to_builder(&self) -> PropertiesBuilder {
        let mut encoded = String::with_capacity(self.0.len() + 64);
        encoded.push_str(&self.0);
        PropertiesBuilder { encoded, error: None }
    }

    /// The property string.
    pub const fn encoded(&self) -> &ByteString {
        &self.0
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> PropertiesRef<'_> {
        PropertiesRef(self.0.as_bytes())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.as_ref().get(name)
    }

    /// Every pair in the order written, overruled ones included.
    pub fn iter(&self) -> Pairs<'_> {
        self.as_ref().iter()
    }

    /// A copy in which `name` has this value.
    ///
    /// # Errors
    /// As [`PropertiesBuilder::build`].
    pub fn with(&self, name: &str, value: &str) -> Result<Self, MessageError> {
        // What is exactly full is shared without one more allocation.
        let mut encoded = String::with_capacity(self.as_ref().ended_len() + name.len() + value.len() + 2);
        encoded.push_str(&self.0);
        PropertiesBuilder { encoded, error: None }.set(name, value).build()
    }

    /// These with the next unique key, unless they have one: a message that is sent again is known as the same. Returns the
    /// key, too.
    ///
    /// # Errors
    /// As [`PropertiesBuilder::build`].
    pub fn with_unique_key(
        &self,
        keys: &UniqueKeyGenerator,
        now_ms: i64,
    ) -> Result<(Self, ByteString), MessageError> {
        if let Some(key) = self.get(property::UNIQ_KEY) {
            return Ok((self.clone(), key.into()));
        }
        let own = self.as_ref();
        let mut encoded = Vec::with_capacity(own.ended_len() + keys.property_len());
        encoded.extend_from_slice(own.0);
        encoded.extend(own.lacks_end().then_some(VALUE_END));
        let key = keys.append_property(now_ms, &mut encoded);
        check_len(encoded.len())?;
        let encoded = String::from_utf8(encoded).unwrap_or_default(); // one text behind the other
        let key = encoded.get(key).unwrap_or_default().into();
        Ok((Self(encoded.into()), key))
    }
}

impl From<Properties> for ByteString {
    fn from(properties: Properties) -> Self {
        properties.0
    }
}

impl<'a> IntoIterator for &'a Properties {
    type Item = (&'a str, &'a str);
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// Writes a property string: [`Properties::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PropertiesBuilder {
    encoded: String,
    /// The first refusal; `build` reports it, so that calls chain.
    error: Option<MessageError>,
}

impl PropertiesBuilder {
    /// Gives `name` this value in place of any other. No reader sees an empty value, so that removes the property.
    pub fn set(self, name: &str, value: &str) -> Self {
        let has_separator = |text: &str| memchr2(NAME_END, VALUE_END, text.as_bytes()).is_some();
        if name.is_empty() || has_separator(name) || has_separator(value) {
            let refused = MessageError::Property { name: name.to_owned() };
            return Self { error: self.error.or(Some(refused)), ..self };
        }
        let mut builder = self.remove(name);
        if !value.is_empty() {
            if PropertiesRef::from(builder.encoded.as_str()).lacks_end() {
                builder.encoded.push(VALUE_END.into());
            }
            builder.encoded.reserve(name.len() + value.len() + 2);
            builder.encoded.push_str(name);
            builder.encoded.push(NAME_END.into());
            builder.encoded.push_str(value);
            builder.encoded.push(VALUE_END.into());
        }
        builder
    }

    /// Removes `name`.
    pub fn remove(mut self, name: &str) -> Self {
        let is_named =
            |pair: &str| pair.strip_prefix(name).is_some_and(|rest| rest.starts_with(char::from(NAME_END)));
        if !name.contains(char::from(NAME_END)) && self.encoded.split(char::from(VALUE_END)).any(is_named) {
            let kept = self.encoded.split_inclusive(char::from(VALUE_END)).filter(|pair| !is_named(pair));
            self.encoded = kept.collect();
        }
        self
    }

    /// The properties.
    ///
    /// # Errors
    /// [`MessageError::Property`] for the first name or value that cannot be written, [`MessageError::TooLong`] past
    /// 32,767 bytes.
    pub fn build(self) -> Result<Properties, MessageError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        check_len(self.encoded.len())?;
        Ok(Properties(self.encoded.into()))
    }
}

/// A record has 16 bits, one of them the sign, for the length of its properties.
pub(super) fn check_len(len: usize) -> Result<i16, MessageError> {
    let limit = i16::MAX as usize;
    i16::try_from(len).map_err(|_| MessageError::TooLong { field: "properties", len, limit })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_set_last_is_read(sets in prop::collection::vec(("[a-c]|[^\x01\x02]{1,9}", "[^\x01\x02]{0,9}"), 0..20)) {
            let mut expected = HashMap::new();
            let mut builder = Properties::builder();
            for (name, value) in &sets {
                builder = builder.set(name, value);
                if value.is_empty() {
                    expected.remove(name.as_str());
                } else {
                    expected.insert(name.as_str(), value.as_str());
                }
            }
            let built = builder.build().unwrap();
            prop_assert_eq!(built.iter().count(), expected.len());
            prop_assert_eq!(built.iter().collect::<HashMap<_, _>>(), expected);
        }

        #[test]
        fn get_and_iter_agree_on_any_bytes(bytes in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..60)) {
            let properties = PropertiesRef::new(&bytes);
            let last: HashMap<_, _> = properties.iter().collect();
            for (name, value) in last {
                prop_assert_eq!(properties.get(name), Some(value));
            }
            let bytes = Bytes::from(bytes);
            drop(Properties::from_part(&bytes, &bytes));
        }

        #[test]
        fn names_that_are_not_there_are_not_found(bytes in "[ab\x01\x02]{0,20}", name in "[ab\x01\x02]{0,3}") {
            let properties = PropertiesRef::from(bytes.as_str());
            let found = properties.iter().filter(|pair| pair.0 == name).last();
            prop_assert_eq!(properties.get(&name), found.map(|pair| pair.1));
        }
    }

    #[test]
    fn a_pair_is_added_to_a_string_that_lacks_its_end() {
        let properties = Properties::new("a\x01b".into()).with("c", "d").unwrap();
        assert_eq!(properties.encoded(), &"a\x01b\x02c\x01d\x02");
    }

    #[test]
    fn a_unique_key_is_given_once() {
        let keys = UniqueKeyGenerator::new([10, 0, 0, 1].into(), 1, 2);
        for text in ["", "a\x01b", "a\x01b\x02"] {
            let plain = Properties::new(text.into());
            let (properties, key) = plain.with_unique_key(&keys, 5).unwrap();
            assert_eq!(key.len(), 32);
            assert_eq!(properties, plain.with(property::UNIQ_KEY, &key).unwrap());
            assert_eq!(properties.with_unique_key(&keys, 6).unwrap(), (properties, key));
        }
        let full = Properties::new("x".repeat(32_767).into());
        assert!(full.with_unique_key(&keys, 5).is_err());
    }

    #[test]
    fn the_first_refusal_is_reported() {
        for (name, value) in [("", "v"), ("a\x01", "v"), ("a", "\x02")] {
            let refused =
                Properties::builder().set("fine", "v").set(name, value).set("later", "\x01").build();
            assert_eq!(refused, Err(MessageError::Property { name: name.to_owned() }));
        }
        let refused = Properties::EMPTY.with("a", &"x".repeat(32_765));
        assert_eq!(refused, Err(MessageError::TooLong { field: "properties", len: 32_768, limit: 32_767 }));
    }

    #[test]
    fn a_string_that_is_not_utf8_keeps_its_good_pairs() {
        let bytes = Bytes::from_static(b"a\x01b\x02k\x01\xff\x02");
        assert_eq!(PropertiesRef::new(&bytes).iter().collect::<Vec<_>>(), [("a", "b")]);
        assert_eq!(Properties::from_part(&bytes, &bytes).get("k"), Some("\u{fffd}"));
    }
}
