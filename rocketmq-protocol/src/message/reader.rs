//! [`Reader`]: takes big-endian fields off the front of a slice and names the field that is missing.

use super::MessageError;

/// The bytes not read yet.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], MessageError> {
        self.array_ref(field).copied()
    }

    pub(super) fn array_ref<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<&'a [u8; N], MessageError> {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(MessageError::Truncated { field, needed: N, left: self.0.len() });
        };
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn bytes(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], MessageError> {
        let Some((head, rest)) = self.0.split_at_checked(needed) else {
            return Err(MessageError::Truncated { field, needed, left: self.0.len() });
        };
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn i16(&mut self, field: &'static str) -> Result<i16, MessageError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, MessageError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, MessageError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// Bytes whose length stands before them as an `i32`.
    pub(super) fn sized32(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let value = self.i32(field)?;
        let needed = usize::try_from(value).map_err(|_| MessageError::Length { field, value })?;
        self.bytes(field, needed)
    }

    /// Bytes whose length stands before them as an `i16`.
    pub(super) fn sized16(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let value = self.i16(field)?;
        let needed =
            usize::try_from(value).map_err(|_| MessageError::Length { field, value: value.into() })?;
        self.bytes(field, needed)
    }

    /// Bytes whose length stands before them as an `i8`.
    pub(super) fn sized8(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let value = i8::from_be_bytes(self.array(field)?);
        let needed =
            usize::try_from(value).map_err(|_| MessageError::Length { field, value: value.into() })?;
        self.bytes(field, needed)
    }
}
