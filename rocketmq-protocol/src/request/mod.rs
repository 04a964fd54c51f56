//! Requests: each is declared once, in `requests!`, and encoder, decoder, client call and server dispatch come
//! from that declaration.

mod declare;
#[cfg(test)]
pub(crate) mod sample;

use std::fmt::Debug;

use bytes::Bytes;

use crate::fields::FieldValue;
use crate::frame::{Frame, FrameTooLong, RESPONSE_FLAG, encode_head, request_flag};
use crate::header::{Encoding, FieldWriter, Head, HeaderFields};
use crate::json::JsonError;
use crate::{
    ByteString, Language, LogPosition, Opaque, QueueId, QueueOffset, RequestCode, ResponseCode, TagHash,
    Version,
};
pub(crate) use declare::{absent, payload, read_field, requests, same_shape, unreadable};

/// What one direction of an exchange carries: header fields and a body.
pub trait Payload: HeaderFields + Sized + Debug + Send + Sync + 'static {
    /// The body as it goes onto the wire.
    fn body(&self) -> Segments;

    /// Reads fields and body of a frame.
    ///
    /// # Errors
    /// A field that is missing or malformed, or a body that does not parse.
    fn read(frame: &Frame) -> Result<Self, PayloadError>;
}

/// A request and the reply it gets.
pub trait Request: Payload {
    /// Its code.
    const CODE: RequestCode;
    /// Codes of answers that carry a [`Request::Reply`]; any other one is a refusal.
    const ACCEPTS: &'static [ResponseCode];
    /// What an accepted answer carries.
    type Reply: Payload;
}

/// Why a request or reply could not be read from its frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// A required header field is absent.
    #[error("header field {field:?} is missing")]
    Missing {
        /// Wire name of the field.
        field: &'static str,
    },
    /// A header field has a value of another type.
    #[error("header field {field:?} has the value {value:?}, expected {expected}")]
    Malformed {
        /// Wire name of the field.
        field: &'static str,
        /// What stood there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// The body is not what the code says.
    #[error("body of {len} bytes does not parse")]
    Body {
        /// Bytes of the body.
        len: usize,
        /// What is wrong with it.
        #[source]
        source: JsonError,
    },
}

/// A body as a list of slices that follow one another on the wire, so that stored messages are sent from where they
/// lie.
#[derive(Clone, Debug, Default)]
pub enum Segments {
    /// No body.
    #[default]
    Empty,
    /// One slice.
    One(Bytes),
    /// Several.
    Many(Vec<Bytes>),
}

impl Segments {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        match self {
            Self::Empty => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many.as_slice(),
        }
        .iter()
    }

    /// All bytes in one slice; copies only when there are several.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(one) => one,
            Self::Many(many) => many.concat().into(),
        }
    }
}

impl PartialEq for Segments {
    /// Equal when the bytes are, however they are cut.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().flatten().eq(other.iter().flatten())
    }
}

impl Eq for Segments {}

impl From<Bytes> for Segments {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::One(bytes) }
    }
}

/// Appends a request without its body to `out`; the body, of `body_len` bytes, must follow.
///
/// # Errors
/// The whole frame would be longer than the limit; `out` is as before then.
pub fn encode_request<R: Request>(
    out: &mut Vec<u8>,
    request: &R,
    shape: &RequestShape,
    body_len: usize,
) -> Result<(), FrameTooLong> {
    encode_request_head(out, R::CODE, shape, body_len, request)
}

/// [`encode_request`], compiled once for all types.
pub(crate) fn encode_request_head(
    out: &mut Vec<u8>,
    code: RequestCode,
    shape: &RequestShape,
    body_len: usize,
    fields: &dyn HeaderFields,
) -> Result<(), FrameTooLong> {
    let head = Head {
        code: code.get(),
        language: Language::RUST,
        version: Version::CURRENT,
        opaque: shape.opaque,
        flag: request_flag(shape.oneway),
        remark: None,
    };
    encode_head(out, shape.encoding, &head, body_len, shape.max_frame, fields)
}

/// What a request needs beside its own fields to become a frame.
#[derive(Clone, Copy, Debug)]
pub struct RequestShape {
    /// Pairs the answer with it.
    pub opaque: Opaque,
    /// Nobody waits for an answer.
    pub oneway: bool,
    /// How the header is written.
    pub encoding: Encoding,
    /// Longest frame in bytes, its length word included.
    pub max_frame: usize,
}

/// What an answer echoes of its request, and how it goes.
#[derive(Clone, Debug)]
pub struct ReplyShape {
    /// How it went.
    pub code: ResponseCode,
    /// Text for humans.
    pub remark: Option<ByteString>,
    /// That of the request.
    pub opaque: Opaque,
    /// That of the request.
    pub encoding: Encoding,
    /// Longest frame in bytes, its length word included.
    pub max_frame: usize,
}

/// Appends an answer without its body to `out`; the body, of `body_len` bytes, must follow.
///
/// # Errors
/// The whole frame would be longer than the limit; `out` is as before then.
pub fn encode_reply(
    out: &mut Vec<u8>,
    shape: &ReplyShape,
    body_len: usize,
    fields: &dyn HeaderFields,
) -> Result<(), FrameTooLong> {
    let head = Head {
        code: shape.code.get(),
        // Java brokers say JAVA whatever the request had, and old clients know no other name.
        language: Language::JAVA,
        version: Version::CURRENT,
        opaque: shape.opaque,
        flag: RESPONSE_FLAG,
        remark: shape.remark.clone(),
    };
    encode_head(out, shape.encoding, &head, body_len, shape.max_frame, fields)
}

/// A type that a header field can have. All travel as text.
pub trait Field: Sized {
    /// What a value must look like, for errors.
    const EXPECTED: &'static str;

    /// Writes the field under its wire name; an absent option writes nothing.
    fn write(&self, name: &'static str, out: &mut FieldWriter<'_>);

    /// Reads a value; `None` when it is malformed.
    fn read(value: FieldValue<'_>) -> Option<Self>;

    /// What an absent field means; `None` where it is required.
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! integer_fields {
    ($($type:ty as $repr:ty, $wrap:expr, $get:expr;)*) => {$(
        impl Field for $type {
            const EXPECTED: &'static str = concat!("a decimal ", stringify!($repr));

            fn write(&self, name: &'static str, out: &mut FieldWriter<'_>) {
                out.integer(name, i64::from($get(*self)));
            }

            fn read(value: FieldValue<'_>) -> Option<Self> {
                value.to_integer().and_then(|number| <$repr>::try_from(number).ok()).map($wrap)
            }
        }
    )*};
}

integer_fields! {
    i32 as i32, std::convert::identity, std::convert::identity;
    i64 as i64, std::convert::identity, std::convert::identity;
    u32 as u32, std::convert::identity, std::convert::identity;
    QueueId as i32, QueueId::new, QueueId::get;
    QueueOffset as i64, QueueOffset::new, QueueOffset::get;
    LogPosition as i64, LogPosition::new, LogPosition::get;
    TagHash as i64, TagHash::new, TagHash::get;
}

impl Field for bool {
    const EXPECTED: &'static str = "true or false";

    fn write(&self, name: &'static str, out: &mut FieldWriter<'_>) {
        out.boolean(name, *self);
    }

    /// As Java reads it: anything but `true`, in any case, is false.
    fn read(value: FieldValue<'_>) -> Option<Self> {
        Some(value.as_bytes().eq_ignore_ascii_case(b"true"))
    }
}

impl Field for ByteString {
    const EXPECTED: &'static str = "text in UTF-8";

    fn write(&self, name: &'static str, out: &mut FieldWriter<'_>) {
        out.text(name, self);
    }

    fn read(value: FieldValue<'_>) -> Option<Self> {
        value.to_byte_string()
    }
}

impl<T: Field> Field for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn write(&self, name: &'static str, out: &mut FieldWriter<'_>) {
        if let Some(value) = self {
            value.write(name, out);
        }
    }

    fn read(value: FieldValue<'_>) -> Option<Self> {
        T::read(value).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A type that a body can have.
pub trait Body: Sized + Debug + Send + 'static {
    /// The bytes for the wire.
    fn to_segments(&self) -> Segments;

    /// Reads the bytes of a frame.
    ///
    /// # Errors
    /// They are not this body.
    fn from_bytes(bytes: Bytes) -> Result<Self, JsonError>;
}

impl Body for Bytes {
    fn to_segments(&self) -> Segments {
        self.clone().into()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, JsonError> {
        Ok(bytes)
    }
}

impl Body for Segments {
    fn to_segments(&self) -> Segments {
        self.clone()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, JsonError> {
        Ok(bytes.into())
    }
}

impl<T: Body> Body for Option<T> {
    fn to_segments(&self) -> Segments {
        self.as_ref().map(T::to_segments).unwrap_or_default()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, JsonError> {
        if bytes.is_empty() { Ok(None) } else { T::from_bytes(bytes).map(Some) }
    }
}

/// Makes types of `body` the JSON bodies of requests. A peer that sends no body at all means the empty object.
macro_rules! json_bodies {
    ($($type:ty),* $(,)?) => {$(
        impl $crate::request::Body for $type {
            fn to_segments(&self) -> $crate::request::Segments {
                $crate::json::to_bytes(self, $crate::json::JsonStyle::Fastjson)
                    .expect("bodies are text, numbers and maps")
                    .into()
            }

            fn from_bytes(bytes: bytes::Bytes) -> Result<Self, $crate::json::JsonError> {
                $crate::json::from_slice(if bytes.is_empty() { b"{}" } else { &bytes })
            }
        }

        #[cfg(test)]
        impl $crate::request::sample::Sample for $type {
            /// The text of bodies is tested where they are; here just their place in the frame.
            fn sample(_: &mut $crate::request::sample::Source) -> Self {
                Self::default()
            }
        }
    )*};
}
pub(crate) use json_bodies;

crate::request::payload! {
    /// An answer that carries nothing but its code.
    Done {}
}
