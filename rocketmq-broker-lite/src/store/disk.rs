//! [`Disk`]: where the store's bytes go; a test can make it full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::error::StoreError;

/// The file system below the store. Cloned handles are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    full: Arc<AtomicBool>,
}

impl Disk {
    /// Makes every allocation and every write of a consume queue fail as on a full disk, until it is set back.
    /// What is allocated already stays writable.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Gives the first `len` bytes of `file` room on disk and makes it that long. Bytes that were there stay.
    pub(super) fn allocate(&self, file: &File, path: &Path, len: u64) -> Result<(), StoreError> {
        let available = self.available(file);
        let full = || StoreError::DiskFull { path: path.to_owned(), needed: len, available };
        let held = file.metadata().map_err(StoreError::io("inspect", path))?;
        // A file system that takes a file until it overflows would leave nothing for the queues and configuration.
        let missing = len.saturating_sub(std::os::unix::fs::MetadataExt::blocks(&held).saturating_mul(512));
        if missing > available {
            return Err(full());
        }
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(file, held.len(), len)
                .map_err(|source| match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(),
                    _ => StoreError::io("allocate", path)(source),
                }),
            Err(Errno::NOSPC | Errno::DQUOT) => Err(full()),
            Err(errno) => Err(StoreError::io("allocate", path)(errno.into())),
        }
    }

    /// Makes the bytes from `start` to `end` zero and keeps them allocated.
    pub(super) fn zero(&self, file: &File, path: &Path, start: u64, end: u64) -> Result<(), StoreError> {
        if start >= end {
            return Ok(());
        }
        match rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, start, end - start) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                write_zeros(file, start, end).map_err(StoreError::io("clear the tail of", path))
            }
            Err(errno) => Err(StoreError::io("clear the tail of", path)(errno.into())),
        }
    }

    /// Writes all of `bytes` at `offset`.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, offset)
    }

    fn available(&self, file: &File) -> u64 {
        if self.full.load(Ordering::Relaxed) {
            return 0;
        }
        // Unknown is not full: the allocation itself will tell.
        rustix::fs::fstatvfs(file).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut at = start;
    while at < end {
        let n = usize::try_from(end - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
        let chunk = ZEROS.get(..n).unwrap_or(&ZEROS);
        file.write_all_at(chunk, at)?;
        at += chunk.len() as u64;
    }
    Ok(())
}
