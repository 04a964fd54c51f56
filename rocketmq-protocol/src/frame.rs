//! Frames: one request or response on the wire.
//!
//! Total length `u32` (of all that follows), then the encoding (8 bits) and the header length (24 bits), header, body.
//! Java: `protocol/RemotingCommand.java`, `netty/NettyDecoder.java`.

use bytes::{Buf, Bytes, BytesMut};

use crate::fields::{Fields, FieldsBuffer};
use crate::header::{self, Encoding, Head, HeaderError, HeaderFields};
use crate::{ByteString, Language, Opaque, RequestCode, ResponseCode, Version};

/// Longest frame, its length word included, that peers accept unless told otherwise: 16 MiB.
/// Java: `NettySystemConfig`, `com.rocketmq.remoting.frameMaxLength`.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

const RESPONSE_BIT: i32 = 1;
const ONEWAY_BIT: i32 = 2;

/// One request or response, its header fields and body sharing the buffer they were read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Request or response code.
    pub code: i32,
    /// Language of the sender.
    pub language: Language,
    /// Release of the sender.
    pub version: Version,
    /// Pairs request and response.
    pub opaque: Opaque,
    /// Bit 0: response; bit 1: one-way, the receiver must not answer.
    pub flag: i32,
    /// Text for humans, on errors mostly. It may be there on success too.
    pub remark: Option<ByteString>,
    /// Header fields.
    pub fields: Fields,
    /// Body; empty when there is none.
    pub body: Bytes,
    /// How the header was, or is to be, written.
    pub encoding: Encoding,
}

impl Frame {
    /// Whether this answers a request.
    pub fn is_response(&self) -> bool {
        self.flag & RESPONSE_BIT != 0
    }

    /// Whether nobody waits for an answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & ONEWAY_BIT != 0
    }

    /// The code of a request.
    pub fn request_code(&self) -> RequestCode {
        RequestCode::new(self.code)
    }

    /// The code of a response.
    pub fn response_code(&self) -> ResponseCode {
        ResponseCode::new(self.code)
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// When it is longer than `max_frame`; `out` is as before then.
    pub fn encode(&self, out: &mut Vec<u8>, max_frame: usize) -> Result<(), FrameTooLong> {
        let head = Head {
            code: self.code,
            language: self.language,
            version: self.version,
            opaque: self.opaque,
            flag: self.flag,
            remark: self.remark.clone(),
        };
        encode_head(out, self.encoding, &head, self.body.len(), max_frame, &self.fields)?;
        out.extend_from_slice(&self.body);
        Ok(())
    }
}

/// Flag word of a request.
pub(crate) fn request_flag(oneway: bool) -> i32 {
    if oneway { ONEWAY_BIT } else { 0 }
}

/// Flag word of a response.
pub(crate) const RESPONSE_FLAG: i32 = RESPONSE_BIT;

/// Appends everything before the body.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    encoding: Encoding,
    head: &Head,
    body_len: usize,
    max_frame: usize,
    fields: &dyn HeaderFields,
) -> Result<(), FrameTooLong> {
    let start = out.len();
    header::encode(out, encoding, head, body_len, fields);
    let len = (out.len() - start).saturating_add(body_len);
    if len > max_frame {
        out.truncate(start);
        return Err(FrameTooLong { len, limit: max_frame });
    }
    Ok(())
}

/// A frame that no peer would accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {len} bytes is longer than the limit of {limit} bytes")]
pub struct FrameTooLong {
    /// Bytes of the frame, its length word included.
    pub len: usize,
    /// The limit.
    pub limit: usize,
}

/// Why bytes are not a frame. Nothing behind it can be read: the connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A length below zero.
    #[error("frame announces a negative length, {0}")]
    NegativeLength(i32),
    /// Longer than the limit.
    #[error("frame announces {len} bytes, the limit is {limit} bytes")]
    TooLong {
        /// Announced bytes, the length word included.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Too short to hold the header-length word.
    #[error("frame announces {len} bytes after its length word, at least 4 are needed")]
    TooShort {
        /// Announced bytes.
        len: usize,
    },
    /// The header would end behind the frame.
    #[error("header of {header} bytes in a frame of {frame} bytes")]
    HeaderBeyondFrame {
        /// Bytes of the header.
        header: usize,
        /// Bytes after the length word.
        frame: usize,
    },
    /// Neither JSON (0) nor compact (1).
    #[error("unknown header encoding {0}")]
    UnknownEncoding(u8),
    /// The header itself is malformed.
    #[error("frame of {frame} bytes has a malformed header")]
    Header {
        /// Bytes after the length word.
        frame: usize,
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
}

/// Bytes that are reserved for a frame ahead of what has come, if it is that long.
const RESERVE: usize = 1 << 20;

/// Cuts a byte stream into frames.
pub struct FrameDecoder {
    max_frame: usize,
    scratch: FieldsBuffer,
}

impl FrameDecoder {
    /// A decoder that refuses frames longer than `max_frame` bytes, their length word included.
    pub fn new(max_frame: usize) -> Self {
        Self { max_frame, scratch: FieldsBuffer::default() }
    }

    /// Takes the next frame off the front of `buffer`; `None` when more bytes must arrive first. Memory is bounded
    /// by the limit, and grows with what has arrived, not with what was announced.
    ///
    /// # Errors
    /// The bytes are no frame; see [`FrameError`].
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(word) = buffer.first_chunk::<4>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*word);
        let frame_len = usize::try_from(announced).map_err(|_| FrameError::NegativeLength(announced))?;
        if frame_len + 4 > self.max_frame {
            return Err(FrameError::TooLong { len: frame_len + 4, limit: self.max_frame });
        }
        if frame_len < 4 {
            return Err(FrameError::TooShort { len: frame_len });
        }
        if let Some(&[encoding, a, b, c]) = buffer.get(4..).and_then(|rest| rest.first_chunk::<4>()) {
            // Said before the rest arrives: a peer that talks another protocol is told at once.
            let header = u32::from_be_bytes([0, a, b, c]);
            check_header_word(encoding, header, frame_len)?;
        }
        if buffer.len() < 4 + frame_len {
            // No more than has come already, or it would cost a peer nothing to have much reserved.
            let missing = 4 + frame_len - buffer.len();
            buffer.reserve(missing.min(buffer.len().max(RESERVE)));
            return Ok(None);
        }
        buffer.advance(4);
        let mut frame = buffer.split_to(frame_len).freeze();
        let word = frame.get_u32();
        let [encoding, ..] = word.to_be_bytes();
        let (encoding, header_len) = check_header_word(encoding, word & 0x00ff_ffff, frame_len)?;
        let header = frame.split_to(header_len);
        let (head, fields) = header::decode(encoding, header, &mut self.scratch)
            .map_err(|source| FrameError::Header { frame: frame_len, source })?;
        let Head { code, language, version, opaque, flag, remark } = head;
        Ok(Some(Frame { code, language, version, opaque, flag, remark, fields, body: frame, encoding }))
    }
}

fn check_header_word(encoding: u8, header: u32, frame: usize) -> Result<(Encoding, usize), FrameError> {
    let encoding = Encoding::from_byte(encoding).ok_or(FrameError::UnknownEncoding(encoding))?;
    match usize::try_from(header) {
        Ok(header) if header <= frame - 4 => Ok((encoding, header)),
        _ => Err(FrameError::HeaderBeyondFrame { header: header as usize, frame }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![".{0,12}", "[a-zA-Z0-9%|_-]{1,20}", Just("KEYS\u{1}k\u{2}".to_owned())]
    }

    prop_compose! {
        fn any_frame()(
            code in prop_oneof![0i32..400, Just(200_050), any::<i16>().prop_map(i32::from)],
            language in 0u8..=13,
            version in 0i32..600,
            opaque in any::<i32>(),
            flag in 0i32..4,
            remark in proptest::option::of(".{1,20}"),
            fields in proptest::collection::vec((any_text(), any_text()), 0..8),
            body in proptest::collection::vec(any::<u8>(), 0..64),
            json in any::<bool>(),
        ) -> Frame {
            let encoding = if json { Encoding::Json } else { Encoding::Compact };
            Frame {
                code,
                language: Language::new(language),
                version: Version::new(version),
                opaque: Opaque::new(opaque),
                flag,
                remark: remark.map(ByteString::from),
                fields: fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
                body: body.into(),
                encoding: if i16::try_from(code).is_ok() { encoding } else { Encoding::Json },
            }
        }
    }

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut out = Vec::new();
        for frame in frames {
            frame.encode(&mut out, MAX_FRAME_BYTES).unwrap();
        }
        BytesMut::from(&*out)
    }

    proptest! {
        #[test]
        fn frames_survive_any_split_of_the_stream(
            frames in proptest::collection::vec(any_frame(), 1..4),
            cuts in proptest::collection::vec(1usize..97, 1..8),
        ) {
            let bytes = encoded(&frames);
            let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
            let (mut buffer, mut seen, mut rest) = (BytesMut::new(), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
                while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn arbitrary_bytes_give_a_frame_or_a_typed_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let _ = FrameDecoder::new(4096).decode(&mut buffer);
            prop_assert!(buffer.capacity() <= 2 * 4096);
        }

        #[test]
        fn a_damaged_frame_gives_a_frame_or_a_typed_error(
            frame in any_frame(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = encoded(&[frame]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut bytes);
        }
    }

    fn refused(bytes: &[u8]) -> FrameError {
        FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut BytesMut::from(bytes)).unwrap_err()
    }

    #[test]
    fn a_frame_beyond_16_mib_is_refused_before_its_bytes_arrive() {
        assert_eq!(
            refused(&(MAX_FRAME_BYTES as u32 - 3).to_be_bytes()),
            FrameError::TooLong { len: MAX_FRAME_BYTES + 1, limit: MAX_FRAME_BYTES }
        );
        assert!(
            FrameDecoder::new(MAX_FRAME_BYTES)
                .decode(&mut BytesMut::from(&[0, 0xff, 0xff, 0xfc][..]))
                .is_ok()
        );
    }

    #[test]
    fn a_negative_length_is_refused() {
        assert!(matches!(refused(&[0xff, 0xff, 0xff, 0xff]), FrameError::NegativeLength(-1)));
        assert!(matches!(refused(&[0, 0, 0, 3]), FrameError::TooShort { len: 3 }));
    }

    #[test]
    fn a_header_longer_than_its_frame_is_refused_before_the_frame_is_complete() {
        assert_eq!(
            refused(&[0, 0, 0, 100, 0, 0, 0, 97]),
            FrameError::HeaderBeyondFrame { header: 97, frame: 100 }
        );
    }

    #[test]
    fn a_peer_of_another_protocol_is_refused_by_its_second_word() {
        assert_eq!(refused(&[0, 0, 0, 100, b'H', 0, 0, 1]), FrameError::UnknownEncoding(b'H'));
    }

    #[test]
    fn garbage_json_is_refused() {
        let error = refused(b"\0\0\0\x0a\0\0\0\x06{code}");
        assert!(matches!(error, FrameError::Header { source: HeaderError::Json(_), .. }), "{error}");
    }

    #[test]
    fn a_frame_longer_than_the_limit_is_not_encoded() {
        let frame = Frame {
            body: vec![0; 100].into(),
            ..FrameDecoder::new(1024).decode(&mut encoded(&[small()])).unwrap().unwrap()
        };
        let mut out = b"before".to_vec();
        let error = frame.encode(&mut out, 100).unwrap_err();
        assert_eq!((error.limit, &out[..]), (100, &b"before"[..]));
    }

    fn small() -> Frame {
        Frame {
            code: 105,
            language: Language::RUST,
            version: Version::CURRENT,
            opaque: Opaque::new(1),
            flag: 0,
            remark: None,
            fields: [("topic", "T")].into_iter().collect(),
            body: Bytes::new(),
            encoding: Encoding::Compact,
        }
    }
}
