//! [`Compression`]: how bodies are compressed, with a cap on what comes out.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

/// A kind of compression that bodies can have. Java: `common/compression/CompressionType.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// zlib stream (RFC 1950): what every version reads.
    Zlib,
    /// LZ4 frame.
    Lz4,
    /// Zstandard frame; needs the feature `zstd`.
    Zstd,
}

/// Why a body cannot be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// The system flag names a kind that is not defined.
    #[error("compression kind {kind} is not defined")]
    Unknown {
        /// The number in the flag.
        kind: i32,
    },
    /// Zstandard without the feature for it.
    #[error(
        "the body is or should be compressed with Zstandard: build rocketmq-protocol with the feature `zstd`"
    )]
    NoZstd,
    /// The body is not what its flag says, or is cut off.
    #[error("the body cannot be decompressed as {compression:?}")]
    Corrupt {
        /// What the flag says.
        compression: Compression,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// More comes out than the caller takes.
    #[error("the body takes more than {limit} bytes when decompressed")]
    TooLarge {
        /// What the caller takes, in bytes.
        limit: usize,
    },
    /// The encoder failed.
    #[error("the body cannot be compressed as {compression:?}")]
    Compress {
        /// The kind asked for.
        compression: Compression,
        /// What the encoder says.
        #[source]
        source: io::Error,
    },
}

impl Compression {
    /// Compresses `body`. Levels are zlib's, 1 (fast) to 9 (small), and the others' encoders have just one.
    ///
    /// # Errors
    /// [`CompressionError::NoZstd`] without the feature; otherwise only when the encoder is broken.
    pub fn compress(self, body: &[u8], level: u32) -> Result<Bytes, CompressionError> {
        match self {
            Self::Zlib => deflate(body, level),
            Self::Lz4 => compress_lz4(body),
            Self::Zstd => zstd::compress(body),
        }
        .map(Bytes::from)
    }

    /// Decompresses `body` into at most `max_len` bytes.
    ///
    /// # Errors
    /// [`CompressionError::Corrupt`] when it is something else or cut off, [`CompressionError::TooLarge`] when it holds
    /// more than `max_len` bytes, [`CompressionError::NoZstd`] without the feature.
    pub fn decompress(self, body: &[u8], max_len: usize) -> Result<Bytes, CompressionError> {
        match self {
            Self::Zlib => inflate(body, max_len),
            Self::Lz4 => decompress_lz4(body, max_len),
            Self::Zstd => zstd::decompress(body, max_len),
        }
        .map(Bytes::from)
    }

    fn corrupt(self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CompressionError {
        CompressionError::Corrupt {
            compression: self,
            source: io::Error::new(io::ErrorKind::InvalidData, why),
        }
    }
}

const CUT_OFF: &str = "it is cut off";

fn deflate(body: &[u8], level: u32) -> Result<Vec<u8>, CompressionError> {
    let mut encoder = flate2::write::ZlibEncoder::new(
        Vec::with_capacity(body.len() / 2),
        flate2::Compression::new(level.clamp(1, 9)),
    );
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.map_err(|source| CompressionError::Compress { compression: Compression::Zlib, source })
}

/// By hand, because flate2's reader takes the end of the input for the end of the stream.
fn inflate(body: &[u8], max_len: usize) -> Result<Vec<u8>, CompressionError> {
    let mut stream = Decompress::new(true);
    // One byte more than may come out tells a body that fits from one that does not.
    let room = max_len.saturating_add(1);
    let mut out = Vec::with_capacity(body.len().saturating_mul(4).clamp(256, 1 << 20).min(room));
    loop {
        let read = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let left = body.get(read..).unwrap_or_default();
        let status = stream.decompress_vec(left, &mut out, FlushDecompress::None);
        let status = status.map_err(|error| Compression::Zlib.corrupt(error))?;
        if out.len() > max_len {
            return Err(CompressionError::TooLarge { limit: max_len });
        }
        if status == Status::StreamEnd {
            return Ok(out);
        }
        if out.len() < out.capacity() {
            return Err(Compression::Zlib.corrupt(CUT_OFF)); // there was room, so it was input that ran out
        }
        out.reserve_exact(out.len().min(room - out.len()));
    }
}

fn compress_lz4(body: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut encoder = FrameEncoder::new(Vec::with_capacity(body.len() / 2));
    encoder
        .write_all(body)
        .map_err(lz4_flex::frame::Error::from)
        .and_then(|()| encoder.finish())
        .map_err(|error| CompressionError::Compress { compression: Compression::Lz4, source: error.into() })
}

fn decompress_lz4(body: &[u8], max_len: usize) -> Result<Vec<u8>, CompressionError> {
    // The decoder takes the end of the input between two blocks for the end of the frame. It reads on to learn of it: a
    // byte after the body is still there only when the frame's own end mark was met.
    let mut decoder = FrameDecoder::new(body.chain(&[0_u8][..]));
    let mut out = Vec::new();
    let room = u64::try_from(max_len).unwrap_or(u64::MAX).saturating_add(1);
    let read = decoder.by_ref().take(room).read_to_end(&mut out);
    read.map_err(|error| Compression::Lz4.corrupt(error))?;
    if out.len() > max_len {
        return Err(CompressionError::TooLarge { limit: max_len });
    }
    let (_, after_body) = decoder.get_ref().get_ref();
    if after_body.is_empty() {
        return Err(Compression::Lz4.corrupt(CUT_OFF));
    }
    Ok(out)
}

#[cfg(feature = "zstd")]
mod zstd {
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::{CUT_OFF, Compression, CompressionError};

    pub(super) fn compress(body: &[u8]) -> Result<Vec<u8>, CompressionError> {
        Ok(compress_to_vec(body, CompressionLevel::Fastest))
    }

    pub(super) fn decompress(mut body: &[u8], max_len: usize) -> Result<Vec<u8>, CompressionError> {
        let corrupt = |error| Compression::Zstd.corrupt(error);
        let too_large = CompressionError::TooLarge { limit: max_len };
        let mut decoder = FrameDecoder::new();
        decoder.init(&mut body).map_err(corrupt)?;
        // Not as a reader: that holds back a window of a size that the frame chooses.
        let enough = BlockDecodingStrategy::UptoBytes(max_len.saturating_add(1));
        if !decoder.decode_blocks(&mut body, enough).map_err(corrupt)? {
            return Err(too_large);
        }
        let out = decoder.collect().ok_or_else(|| Compression::Zstd.corrupt(CUT_OFF))?;
        if out.len() > max_len {
            return Err(too_large);
        }
        if decoder
            .get_checksum_from_data()
            .is_some_and(|stored| decoder.get_calculated_checksum() != Some(stored))
        {
            return Err(Compression::Zstd.corrupt("its checksum does not match"));
        }
        Ok(out)
    }
}

#[cfg(not(feature = "zstd"))]
mod zstd {
    use super::CompressionError;

    pub(super) const fn compress(_: &[u8]) -> Result<Vec<u8>, CompressionError> {
        Err(CompressionError::NoZstd)
    }

    pub(super) const fn decompress(_: &[u8], _: usize) -> Result<Vec<u8>, CompressionError> {
        Err(CompressionError::NoZstd)
    }
}
