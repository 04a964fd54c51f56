//! [`SysFlag`]: the bits that say how a record is laid out and what kind of message it holds.

use std::fmt;

use super::{Compression, CompressionError};

/// System flag of a message. Bits nobody knows yet survive decoding and encoding.
/// Java: `common/sysflag/MessageSysFlag.java`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SysFlag(i32);

impl SysFlag {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// The body is compressed; [`SysFlag::compression`] says how.
    pub const COMPRESSED: Self = Self(0x1);
    /// The message has several tags.
    pub const MULTI_TAGS: Self = Self(0x2);
    /// The bits that hold the transaction state, to be compared as a whole: [`SysFlag::transaction`].
    pub const TRANSACTION_MASK: Self = Self(0xc);
    /// No part of a transaction.
    pub const TRANSACTION_NONE: Self = Self(0);
    /// Half message: waits for commit or rollback.
    pub const TRANSACTION_PREPARED: Self = Self(0x4);
    /// Committed.
    pub const TRANSACTION_COMMIT: Self = Self(0x8);
    /// Rolled back.
    pub const TRANSACTION_ROLLBACK: Self = Self(0xc);
    /// The born host is an IPv6 address.
    pub const BORN_HOST_V6: Self = Self(0x10);
    /// The store host is an IPv6 address.
    pub const STORE_HOST_V6: Self = Self(0x20);
    /// The body holds several messages that the client takes apart.
    pub const NEED_UNWRAP: Self = Self(0x40);
    /// The record stands for several messages.
    pub const INNER_BATCH: Self = Self(0x80);
    /// The bits that hold the kind of compression.
    pub const COMPRESSION_MASK: Self = Self(0x700);
    /// LZ4 frame.
    pub const COMPRESSION_LZ4: Self = Self(0x100);
    /// Zstandard frame.
    pub const COMPRESSION_ZSTD: Self = Self(0x200);
    /// zlib stream. 4.x clients and Go leave the bits 0 instead.
    pub const COMPRESSION_ZLIB: Self = Self(0x300);

    /// Takes the number on the wire.
    pub const fn new(bits: i32) -> Self {
        Self(bits)
    }

    /// The number on the wire.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// Whether every bit of `bits` is set.
    pub const fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// With the bits of `bits` set.
    #[must_use]
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// With the bits of `bits` cleared.
    #[must_use]
    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }

    /// The transaction bits alone: one of the four `TRANSACTION_` values.
    #[must_use]
    pub const fn transaction(self) -> Self {
        Self(self.0 & Self::TRANSACTION_MASK.0)
    }

    /// How the body is compressed; `None` when it is not.
    ///
    /// # Errors
    /// [`CompressionError::Unknown`] when the bits name a kind that is not defined.
    pub const fn compression(self) -> Result<Option<Compression>, CompressionError> {
        if !self.contains(Self::COMPRESSED) {
            return Ok(None);
        }
        match Self(self.0 & Self::COMPRESSION_MASK.0) {
            Self::NONE | Self::COMPRESSION_ZLIB => Ok(Some(Compression::Zlib)),
            Self::COMPRESSION_LZ4 => Ok(Some(Compression::Lz4)),
            Self::COMPRESSION_ZSTD => Ok(Some(Compression::Zstd)),
            other => Err(CompressionError::Unknown { kind: other.0 >> 8 }),
        }
    }

    /// Marks the body as compressed with `compression`.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        self.without(Self::COMPRESSION_MASK).with(Self::COMPRESSED).with(match compression {
            Compression::Zlib => Self::COMPRESSION_ZLIB,
            Compression::Lz4 => Self::COMPRESSION_LZ4,
            Compression::Zstd => Self::COMPRESSION_ZSTD,
        })
    }
}

impl From<i32> for SysFlag {
    fn from(bits: i32) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for SysFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysFlag({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_without_kind_is_zlib_and_undefined_kinds_are_refused() {
        assert_eq!(SysFlag::COMPRESSED.compression().unwrap(), Some(Compression::Zlib));
        assert_eq!(SysFlag::COMPRESSION_LZ4.compression().unwrap(), None);
        for compression in [Compression::Zlib, Compression::Lz4, Compression::Zstd] {
            let flag = SysFlag::COMPRESSION_MASK.with_compression(compression);
            assert_eq!(flag.compression().unwrap(), Some(compression));
        }
        let error = SysFlag::new(0x501).compression().unwrap_err();
        assert_eq!(error.to_string(), "compression kind 5 is not defined");
    }

    #[test]
    fn a_rollback_is_not_taken_for_a_commit() {
        let flag = SysFlag::TRANSACTION_ROLLBACK.with(SysFlag::MULTI_TAGS);
        assert_eq!(flag.transaction(), SysFlag::TRANSACTION_ROLLBACK);
        assert_ne!(flag.transaction(), SysFlag::TRANSACTION_COMMIT);
    }
}
