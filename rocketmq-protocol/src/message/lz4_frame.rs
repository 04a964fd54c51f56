//! Reads LZ4 frames.
//!
//! Java's writer announces blocks of up to 4 MiB whatever the body's size, and lz4_flex's own frame reader clears that
//! much memory for each body: milliseconds for a small one. This one takes as much as comes out.
//! Format: `lz4_Frame_format.md` 1.6.4 of the LZ4 project.

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::CompressionError;
use super::compression::{CUT_OFF, Compression};

const MAGIC: u32 = 0x184d_2204;
/// How far back a block may refer to those before it.
const WINDOW: usize = 64 << 10;

pub(super) fn decompress(frame: &[u8], max_len: usize) -> Result<Vec<u8>, CompressionError> {
    let mut frame = Fields(frame);
    if frame.u32()? != MAGIC {
        return Err(corrupt("it does not start with the magic"));
    }
    let header = Header::read(&mut frame)?;
    let mut out = Vec::new();
    loop {
        let block = frame.u32()?;
        if block == 0 {
            break;
        }
        let is_plain = block >> 31 == 1;
        let len = usize::try_from(block & 0x7fff_ffff).unwrap_or(usize::MAX);
        if len > header.max_block_len {
            return Err(corrupt("a block is longer than announced"));
        }
        let data = frame.take(len)?;
        if header.has_block_checksums && frame.u32()? != checksum(data) {
            return Err(corrupt("the checksum of a block does not match"));
        }
        if is_plain {
            if data.len() > max_len - out.len() {
                return Err(CompressionError::TooLarge { limit: max_len });
            }
            out.extend_from_slice(data);
        } else {
            decompress_block(data, &header, &mut out, max_len)?;
        }
    }
    if header.has_content_checksum && frame.u32()? != checksum(&out) {
        return Err(corrupt("its checksum does not match"));
    }
    if header.content_len.is_some_and(|announced| announced != out.len() as u64) {
        return Err(corrupt("it is not as long as announced"));
    }
    Ok(out)
}

/// Appends what `data` holds to `out`, of which `max_len` bytes are never exceeded.
fn decompress_block(
    data: &[u8],
    header: &Header,
    out: &mut Vec<u8>,
    max_len: usize,
) -> Result<(), CompressionError> {
    let start = out.len();
    let limit = header.max_block_len.min(max_len - start);
    // What bodies usually come to; the few that need more are tried again.
    let mut room = data.len().saturating_mul(4).min(limit);
    loop {
        out.resize(start + room, 0);
        let (before, block) = out.split_at_mut(start);
        let written = if header.are_blocks_linked && start > 0 {
            decompress_into_with_dict(data, block, &before[start.saturating_sub(WINDOW)..])
        } else {
            decompress_into(data, block)
        };
        match written {
            Ok(len) => {
                out.truncate(start + len);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < limit => {
                room = room.saturating_mul(8).min(limit)
            }
            Err(DecompressError::OutputTooSmall { .. }) if limit < header.max_block_len => {
                return Err(CompressionError::TooLarge { limit: max_len });
            }
            Err(error) => return Err(corrupt(error)),
        }
    }
}

/// What the frame says of its blocks.
struct Header {
    are_blocks_linked: bool,
    has_block_checksums: bool,
    has_content_checksum: bool,
    content_len: Option<u64>,
    max_block_len: usize,
}

impl Header {
    fn read(frame: &mut Fields<'_>) -> Result<Self, CompressionError> {
        let start = frame.0;
        let [flags, sizes] = frame.array()?;
        let has = |bit: u8| flags & 1 << bit != 0;
        if flags >> 6 != 1 {
            return Err(corrupt("its version is not 1"));
        }
        if has(0) {
            return Err(corrupt("it needs a dictionary"));
        }
        let max_block_len = match sizes >> 4 & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(corrupt("it announces blocks of no known size")),
        };
        let content_len = if has(3) { Some(frame.u64()?) } else { None };
        let described = start.get(..start.len() - frame.0.len()).unwrap_or_default();
        let [sum] = frame.array()?;
        if (checksum(described) >> 8) as u8 != sum {
            return Err(corrupt("the checksum of its header does not match"));
        }
        Ok(Self {
            are_blocks_linked: !has(5),
            has_block_checksums: has(4),
            has_content_checksum: has(2),
            content_len,
            max_block_len,
        })
    }
}

/// The bytes not read yet; numbers are little-endian.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CompressionError> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(|| corrupt(CUT_OFF))?;
        self.0 = rest;
        Ok(*head)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CompressionError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(|| corrupt(CUT_OFF))?;
        self.0 = rest;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32, CompressionError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CompressionError> {
        self.array().map(u64::from_le_bytes)
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

fn corrupt(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CompressionError {
    Compression::Lz4.corrupt(why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    /// Text of which parts repeat, over several blocks of 64 KiB.
    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        (prop::collection::vec(any::<u8>(), 0..2_000), 1_usize..100)
            .prop_map(|(body, times)| body.repeat(times))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn frames_of_every_layout_are_read(
            body in any_body(),
            linked: bool,
            block_checksums: bool,
            content_checksum: bool,
            has_length: bool,
            cut in any::<prop::sample::Index>(),
        ) {
            let info = FrameInfo::new()
                .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
                .block_size(BlockSize::Max64KB)
                .block_checksums(block_checksums)
                .content_checksum(content_checksum)
                .content_size(has_length.then_some(body.len() as u64));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&body).unwrap();
            let frame = encoder.finish().unwrap();
            prop_assert!(decompress(&frame, body.len()).unwrap() == body);
            let cut = decompress(&frame[..cut.index(frame.len())], usize::MAX);
            let is_corrupt = matches!(cut, Err(CompressionError::Corrupt { .. }));
            prop_assert!(is_corrupt, "{cut:?}");
            if let Some(less) = body.len().checked_sub(1) {
                let refused = decompress(&frame, less);
                let is_too_large = matches!(refused, Err(CompressionError::TooLarge { .. }));
                prop_assert!(is_too_large, "{:?}", refused.err());
            }
        }
    }

    #[test]
    fn a_small_body_in_a_frame_of_large_blocks_takes_little_memory() {
        let info = FrameInfo::new().block_size(BlockSize::Max4MB);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&[7; 100]).unwrap();
        let frame = encoder.finish().unwrap();
        assert!(decompress(&frame, 4 << 20).unwrap().capacity() < 4_096);
    }
}
