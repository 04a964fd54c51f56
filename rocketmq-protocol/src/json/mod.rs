//! JSON as the peers write it: read tolerantly, printed in their style.
//!
//! Java prints with fastjson, whose text is not always JSON: integer keys are bare (`{0:"a"}`), a key may be an object
//! (`{{"queueId":0}:1}`), and a value that occurs twice is a reference to its first place (`{"$ref":"$.a"}`).
//! [`from_slice`] reads all of that, [`to_bytes`] prints what the Java readers of every release understand.

mod back_reference;
mod relaxed;
mod style;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use style::JsonStyle;

/// Objects and arrays may be nested this deep. The deepest body has 6 levels.
pub const MAX_DEPTH: usize = 64;

/// Longer text is refused. Frames end at 16 MiB, but a broker's own files may be longer.
pub const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;

/// Why text cannot be read, or a value not printed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It is too long to be looked at.
    #[error("JSON of {length} bytes, more than {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// [`MAX_TEXT_BYTES`].
        limit: usize,
    },
    /// It is not UTF-8.
    #[error("JSON is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first byte that is not.
        at: usize,
    },
    /// It is nested too deep.
    #[error("JSON is nested deeper than {limit} at byte {at}")]
    TooDeep {
        /// The bracket that goes too deep.
        at: usize,
        /// [`MAX_DEPTH`].
        limit: usize,
    },
    /// It is not even what fastjson would print.
    #[error("JSON has no {expected} at byte {at}")]
    Malformed {
        /// What should be there.
        expected: &'static str,
        /// Where.
        at: usize,
    },
    /// Its back references multiply it beyond measure.
    #[error("back references of JSON add more than {values} values or nest deeper than {depth}")]
    References {
        /// The most values that references may add.
        values: usize,
        /// [`MAX_DEPTH`].
        depth: usize,
    },
    /// It is JSON, but not of the wanted shape.
    #[error("JSON is not of the expected shape")]
    Shape(#[source] serde_json::Error),
    /// The value cannot be printed.
    #[error("cannot print JSON")]
    Print(#[source] serde_json::Error),
}

/// Reads a body. Members that are `null` count as missing.
///
/// # Errors
/// When the text is not what fastjson prints, exceeds a limit, or is not a `T`.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    let mut text = relaxed::relax(text)?;
    if text.has_references {
        let value = serde_json::from_str(&text.text).map_err(JsonError::Shape)?;
        // Printed again and not read from the value, which would compile every body a second time.
        text.text = back_reference::resolve(value)?.to_string().into();
    }
    serde_json::from_str(&text.text).map_err(JsonError::Shape)
}

/// Prints a body without blanks.
///
/// # Errors
/// When the value has a map with keys that are neither text nor numbers, or its own `Serialize` fails.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T, style: JsonStyle) -> Result<Bytes, JsonError> {
    style::print(value, style).map(Bytes::from).map_err(JsonError::Print)
}

/// [`to_bytes`] as text.
///
/// # Errors
/// As [`to_bytes`].
pub fn to_string<T: Serialize + ?Sized>(value: &T, style: JsonStyle) -> Result<String, JsonError> {
    let text = style::print(value, style).map_err(JsonError::Print)?;
    // Lossless: the printer writes whole strings and ASCII.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_reference_stands_for_its_target() {
        let read: Value = from_slice(br#"{"a":{0:[{"x":1}]},"b":{"$ref":"$.a"},"c":{"$ref":".."}}"#).unwrap();
        assert_eq!(read, json!({"a": {"0": [{"x": 1}]}, "b": {"0": [{"x": 1}]}}));
    }

    #[test]
    fn a_reference_to_a_table_with_numbers_keeps_them() {
        type Tables = BTreeMap<String, BTreeMap<i32, i64>>;
        let read: Tables = from_slice(br#"{"a":{0:1,-1:2},"b":{"$ref":"$.a"}}"#).unwrap();
        assert_eq!((read["b"].len(), &read["a"]), (2, &read["b"]));
    }

    #[test]
    fn a_null_member_takes_its_default() {
        #[derive(Deserialize, Debug, PartialEq, Default)]
        #[serde(default)]
        struct Body {
            number: i32,
            text: String,
            list: Vec<String>,
        }
        let read: Body = from_slice(br#"{"number":null, "text":"x", "list" : null , "other":null}"#).unwrap();
        assert_eq!(read, Body { text: "x".to_owned(), ..Body::default() });
    }

    #[test]
    fn an_error_says_where_and_which_limit() {
        let told = |text: &[u8]| from_slice::<Value>(text).unwrap_err().to_string();
        assert_eq!(told(b"{\"a\xff\":1}"), "JSON is not UTF-8 at byte 3");
        assert_eq!(told(b"{\"a\" 1}"), "JSON has no colon after a key at byte 5");
        assert_eq!(told(&b"[".repeat(100_000)), "JSON is nested deeper than 64 at byte 64");
        assert_eq!(told(&vec![b' '; MAX_TEXT_BYTES + 1]), "JSON of 67108865 bytes, more than 67108864");
        assert_eq!(told(b"[1,]"), "JSON is not of the expected shape");
    }

    #[test]
    fn the_deepest_text_allowed_is_read() {
        let text = [b"[".repeat(MAX_DEPTH), b"]".repeat(MAX_DEPTH)].concat();
        assert!(from_slice::<Value>(&text).is_ok());
        let text = format!("{}1{}", "{0:".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH));
        assert!(from_slice::<Value>(text.as_bytes()).is_ok());
    }
}
