//! The hash that tags are filtered by.

use crate::TagHash;

/// `String.hashCode` of Java: 31-polynomial over UTF-16 units, wrapping at 32 bits.
pub fn java_string_hash(text: &str) -> i32 {
    java_string_hash_on(0, text)
}

/// The hash of a text that goes on with `text`, from the hash of what comes before.
pub fn java_string_hash_on(hash: i32, text: &str) -> i32 {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(unit.into());
    if !text.is_ascii() {
        return text.encode_utf16().fold(hash, add);
    }
    // Four at a time: one by one, each waits for the multiplication before it.
    let fours = text.as_bytes().chunks_exact(4);
    let rest = fours.remainder();
    let hash = fours.fold(hash, |hash, four| {
        let weighed = four.iter().zip([31 * 31 * 31, 31 * 31, 31, 1]);
        let four: i32 = weighed.map(|(byte, weight)| i32::from(*byte) * weight).sum();
        hash.wrapping_mul(31 * 31 * 31 * 31).wrapping_add(four)
    });
    rest.iter().fold(hash, |hash, byte| add(hash, (*byte).into()))
}

/// What a consume queue stores for a message with this tag; 0 for the empty tag.
pub fn tag_hash(tag: &str) -> TagHash {
    TagHash::new(java_string_hash(tag).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_hash_is_the_polynomial_over_utf16_units(before in "[a-z]{0,9}|\\PC{0,5}", text in "[ -~]{0,40}|\\PC{0,9}") {
            let units = format!("{before}{text}");
            let expected = units.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
            prop_assert_eq!(java_string_hash_on(java_string_hash(&before), &text), expected);
        }
    }
}
