//! The hash that tags are filtered by.

use crate::TagHash;

/// `String.hashCode` of Java: 31-polynomial over UTF-16 units, wrapping at 32 bits.
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

/// What a consume queue stores for a message with this tag; 0 for the empty tag.
pub fn tag_hash(tag: &str) -> TagHash {
    TagHash::new(java_string_hash(tag).into())
}
