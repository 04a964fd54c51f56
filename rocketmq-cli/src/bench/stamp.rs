//! [`Stamp`]: what a verified body says of itself.
//!
//! Big-endian: `magic: u32`, `producer: u64`, `sequence: u64`, `crc: u32` of everything but itself, padding.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const MAGIC: u32 = 0x726d_7162;

/// Which message of which producer this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Told apart from every other one by chance.
    pub(crate) producer: u64,
    /// From 0, in the order in which the producer sends.
    pub(crate) sequence: u64,
}

/// Why a body has no stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStamp {
    /// It was never stamped.
    Foreign,
    /// It was, and is not what was sent.
    Corrupt,
}

impl Stamp {
    /// Bytes that a stamped body has at least.
    pub(crate) const LEN: usize = 24;

    /// A body of `size` bytes, padded with the bytes of `filler`.
    pub(crate) fn body(self, size: usize, filler: &[u8]) -> Bytes {
        let mut body = BytesMut::with_capacity(size.max(Self::LEN));
        body.put_u32(MAGIC);
        body.put_u64(self.producer);
        body.put_u64(self.sequence);
        let padding = filler.get(Self::LEN..size).unwrap_or_default();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&body);
        crc.update(padding);
        body.put_u32(crc.finalize());
        body.put_slice(padding);
        body.freeze()
    }

    pub(crate) fn read(body: &[u8]) -> Result<Self, NoStamp> {
        let Some((stamp, padding)) = body.split_at_checked(Self::LEN) else { return Err(NoStamp::Foreign) };
        let (told, mut crc) = stamp.split_at(Self::LEN - 4);
        let mut fields = told;
        if fields.get_u32() != MAGIC {
            return Err(NoStamp::Foreign);
        }
        let (producer, sequence) = (fields.get_u64(), fields.get_u64());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(told);
        hasher.update(padding);
        if hasher.finalize() == crc.get_u32() {
            Ok(Self { producer, sequence })
        } else {
            Err(NoStamp::Corrupt)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_any_changed_byte_is_seen() {
        let stamp = Stamp { producer: 7, sequence: 1 << 40 };
        let body = stamp.body(64, &[b'x'; 64]);
        assert_eq!((body.len(), Stamp::read(&body)), (64, Ok(stamp)));
        for at in 4..64 {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            assert_eq!(Stamp::read(&changed), Err(NoStamp::Corrupt), "byte {at}");
        }
    }

    #[test]
    fn the_shortest_body_is_the_stamp_alone() {
        let stamp = Stamp { producer: 1, sequence: 2 };
        let body = stamp.body(Stamp::LEN, b"");
        assert_eq!((body.len(), Stamp::read(&body)), (Stamp::LEN, Ok(stamp)));
    }

    #[test]
    fn other_bodies_are_foreign() {
        for body in [&b""[..], b"short", &[0; 100]] {
            assert_eq!(Stamp::read(body), Err(NoStamp::Foreign));
        }
    }
}
