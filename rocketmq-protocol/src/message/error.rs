//! [`MessageError`]: why bytes are not a message, or a message does not fit into its format.

use std::str::Utf8Error;

/// Why bytes are not a message, or a message cannot be written as one. Lengths are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The input ends before the field does.
    #[error("{field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field that is cut off.
        field: &'static str,
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that there are.
        left: usize,
    },
    /// Neither a V1 nor a V2 record starts here.
    #[error("magic {found:#010x} is that of no message")]
    Magic {
        /// The number in the magic's place.
        found: u32,
    },
    /// A length field holds a number that no writer produces.
    #[error("{field} cannot have the length {value}")]
    Length {
        /// The field whose length it is.
        field: &'static str,
        /// The length read.
        value: i32,
    },
    /// The fields do not add up to the record's size.
    #[error("the record says it has {declared} bytes, its fields take {actual}")]
    Size {
        /// Value of the size field.
        declared: usize,
        /// Sum of the fields.
        actual: usize,
    },
    /// Text that is not UTF-8.
    #[error("{field} is not UTF-8")]
    Text {
        /// The field that holds it.
        field: &'static str,
        /// Where it stops being UTF-8.
        #[source]
        source: Utf8Error,
    },
    /// A value is longer than the format can say.
    #[error("{field} has {len} bytes, the limit is {limit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The longest possible.
        limit: usize,
    },
    /// A property whose name is empty, or whose name or value holds a separator (0x01 or 0x02).
    #[error("property {name:?} has an empty name, or 0x01 or 0x02 in its name or value")]
    Property {
        /// Its name.
        name: String,
    },
    /// Text that is not an offset message id.
    #[error("{text:?} is not an offset message id: 32 or 56 hex digits of address, port and position")]
    MessageId {
        /// The text.
        text: String,
    },
    /// Text that is not a recall handle.
    #[error("{text:?} is not a recall handle: base64 of `v1 <topic> <broker> <due ms> <unique key>`")]
    RecallHandle {
        /// The text, cut at 256 characters.
        text: String,
    },
}
