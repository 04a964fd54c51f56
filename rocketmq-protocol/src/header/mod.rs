//! The header of a frame in its two encodings, JSON and the compact binary one (Java calls it `ROCKETMQ`).

mod compact;
mod json;

use bytes::Bytes;

use crate::fields::{Fields, FieldsBuffer};
use crate::{ByteString, Language, Opaque, Version};

/// How a header is written. Java: `protocol/SerializeType.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A JSON object; what Java sends unless told otherwise.
    Json,
    /// The compact binary layout. It has 16 bits for the code, so the POP family cannot use it: such a request is
    /// written as JSON instead.
    #[default]
    Compact,
}

impl Encoding {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Json),
            1 => Some(Self::Compact),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Json => 0,
            Self::Compact => 1,
        }
    }

    /// This encoding where it can carry `code`, JSON otherwise.
    fn able_to_carry(self, code: i32) -> Self {
        if i16::try_from(code).is_ok() { self } else { Self::Json }
    }
}

/// The part of a header that every frame has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) code: i32,
    pub(crate) language: Language,
    pub(crate) version: Version,
    pub(crate) opaque: Opaque,
    pub(crate) flag: i32,
    pub(crate) remark: Option<ByteString>,
}

/// Why a header could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The JSON text is not an object with the members of a header.
    #[error("header is not a JSON object of the protocol: {0}")]
    Json(String),
    /// A compact header that ends before its fields do.
    #[error("compact header of {len} bytes is cut short or has a length beyond its end")]
    Compact {
        /// Bytes of the header.
        len: usize,
    },
    /// Text that is not UTF-8.
    #[error("header text is not UTF-8")]
    Utf8,
}

pub(crate) fn decode(
    encoding: Encoding,
    header: Bytes,
    scratch: &mut FieldsBuffer,
) -> Result<(Head, Fields), HeaderError> {
    match encoding {
        Encoding::Json => json::decode(&header, scratch),
        Encoding::Compact => compact::decode(header),
    }
}

/// Appends length words and header of a frame whose body of `body_len` bytes follows.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    encoding: Encoding,
    head: &Head,
    body_len: usize,
    fields: &dyn HeaderFields,
) {
    let encoding = encoding.able_to_carry(head.code);
    let start = out.len();
    out.extend_from_slice(&[0; 8]); // both length words, known at the end
    match encoding {
        Encoding::Json => json::encode(out, head, fields),
        Encoding::Compact => compact::encode(out, head, fields),
    }
    let header_len = out.len() - start - 8;
    let total = u32::try_from(4 + header_len + body_len).unwrap_or(u32::MAX);
    let header_word = u32::from(encoding.byte()) << 24 | u32::try_from(header_len).unwrap_or(0) & 0x00ff_ffff;
    let words = u64::from(total) << 32 | u64::from(header_word);
    if let Some(slot) = out.get_mut(start..start + 8) {
        slot.copy_from_slice(&words.to_be_bytes());
    }
}

/// Has header fields to write: a [`Payload`](crate::request::Payload) of whatever type, so that frames are encoded by
/// code that is compiled once.
pub trait HeaderFields {
    /// Writes them.
    fn write_fields(&self, out: &mut FieldWriter<'_>);
}

/// As they came.
impl HeaderFields for Fields {
    fn write_fields(&self, out: &mut FieldWriter<'_>) {
        out.copy(self);
    }
}

/// Writes header fields straight into the frame that is being encoded.
pub struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    encoding: Encoding,
    first: bool,
}

impl<'a> FieldWriter<'a> {
    fn new(out: &'a mut Vec<u8>, encoding: Encoding) -> Self {
        Self { out, encoding, first: true }
    }

    /// Writes a text field.
    pub fn text(&mut self, name: &str, value: &str) {
        match self.encoding {
            Encoding::Json => {
                json::begin_field(self.out, name, self.first);
                json::put_string(self.out, value);
                self.first = false;
            }
            Encoding::Compact => compact::put_field(self.out, name, value.as_bytes()),
        }
    }

    /// Writes a field of decimal digits or of letters that need no escape.
    fn plain(&mut self, name: &str, value: &str) {
        match self.encoding {
            Encoding::Json => {
                json::begin_field(self.out, name, self.first);
                self.out.push(b'"');
                self.out.extend_from_slice(value.as_bytes());
                self.out.push(b'"');
                self.first = false;
            }
            Encoding::Compact => compact::put_field(self.out, name, value.as_bytes()),
        }
    }

    /// Writes an integer field as decimal text.
    pub fn integer(&mut self, name: &str, value: i64) {
        self.plain(name, itoa::Buffer::new().format(value));
    }

    /// Writes a boolean field as `true` or `false`.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.plain(name, if value { "true" } else { "false" });
    }

    fn copy(&mut self, fields: &Fields) {
        if self.encoding == Encoding::Compact {
            self.out.extend_from_slice(fields.as_bytes());
        } else {
            for (name, value) in fields.iter() {
                self.text(name, &String::from_utf8_lossy(value.as_bytes()));
            }
        }
    }
}
