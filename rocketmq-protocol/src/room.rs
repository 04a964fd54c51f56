//! [`room`]: the end of a buffer as a slice. Each write to a `BytesMut` looks for room again; one to a slice is a copy.

use bytes::BytesMut;

/// Appends `len` zeros to `out`, for the caller to write over.
pub(crate) fn room(out: &mut BytesMut, len: usize) -> &mut [u8] {
    let start = out.len();
    out.resize(start + len, 0);
    out.get_mut(start..).unwrap_or_default()
}
