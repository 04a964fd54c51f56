//! [`Compression`]: how bodies are compressed, with a cap on what comes out.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use lz4_flex::frame::FrameEncoder;

use super::lz4_frame;

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
            Self::Lz4 => lz4_frame::decompress(body, max_len),
            Self::Zstd => zstd::decompress(body, max_len),
        }
        .map(Bytes::from)
    }

    pub(super) fn corrupt(
        self,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> CompressionError {
        CompressionError::Corrupt {
            compression: self,
            source: io::Error::new(io::ErrorKind::InvalidData, why),
        }
    }
}

pub(super) const CUT_OFF: &str = "it is cut off";

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUILT: &[Compression] = if cfg!(feature = "zstd") {
        &[Compression::Zlib, Compression::Lz4, Compression::Zstd]
    } else {
        &[Compression::Zlib, Compression::Lz4]
    };

    fn any_compression() -> impl Strategy<Value = Compression> {
        prop::sample::select(BUILT)
    }

    /// Something of which parts repeat.
    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        (prop::collection::vec(any::<u8>(), 0..300), 1_usize..100)
            .prop_map(|(body, times)| body.repeat(times))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bodies_survive_compression(compression in any_compression(), body in any_body(), level in 0_u32..12) {
            let compressed = compression.compress(&body, level).unwrap();
            prop_assert_eq!(&compression.decompress(&compressed, body.len()).unwrap(), &body);
            prop_assert_eq!(&compression.decompress(&compressed, usize::MAX).unwrap(), &body);
            if let Some(less) = body.len().checked_sub(1) {
                let refused = compression.decompress(&compressed, less).unwrap_err();
                let is_too_large = matches!(refused, CompressionError::TooLarge { limit } if limit == less);
                prop_assert!(is_too_large, "{refused:?}");
            }
        }

        #[test]
        fn a_body_cut_anywhere_is_an_error(
            compression in any_compression(),
            body in any_body(),
            cut in any::<prop::sample::Index>(),
        ) {
            let compressed = compression.compress(&body, 5).unwrap();
            let cut = &compressed[..cut.index(compressed.len())];
            let refused = compression.decompress(cut, usize::MAX).unwrap_err();
            let is_corrupt = matches!(refused, CompressionError::Corrupt { .. });
            prop_assert!(is_corrupt, "{refused:?}");
        }

        #[test]
        fn any_bytes_decompress_within_the_limit_or_fail(
            compression in any_compression(),
            body in any_body(),
            junk in prop::collection::vec(any::<u8>(), 0..60),
            at in any::<prop::sample::Index>(),
        ) {
            let compressed = compression.compress(&body, 5).unwrap();
            let at = at.index(compressed.len());
            let spoilt = [&compressed[..at], &junk, compressed.get(at + junk.len()..).unwrap_or_default()].concat();
            for bytes in [junk, spoilt] {
                if let Ok(out) = compression.decompress(&bytes, 5_000) {
                    prop_assert!(out.len() <= 5_000);
                }
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for &compression in BUILT {
            let bomb = compression.compress(&zeros, 9).unwrap();
            let refused = compression.decompress(&bomb, 1 << 20).unwrap_err();
            assert!(matches!(refused, CompressionError::TooLarge { limit: 1_048_576 }), "{refused:?}");
        }
    }

    #[test]
    fn zlib_never_holds_more_than_the_limit() {
        let bomb = Compression::Zlib.compress(&vec![0; 1 << 20], 9).unwrap();
        assert!(inflate(&bomb, 1 << 20).unwrap().capacity() <= (1 << 20) + 1);
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn zstandard_without_the_feature_says_so() {
        let refused = Compression::Zstd.decompress(b"", 1).unwrap_err();
        assert!(refused.to_string().contains("feature `zstd`"));
    }
}
