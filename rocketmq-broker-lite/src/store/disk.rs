//! [`Disk`]: where the store's bytes go, and how full it is; a test can make it as full as it likes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::error::StoreError;

/// The file system below the store. Cloned handles are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pretended: Arc<Pretended>,
}

/// What a test wants the disk to look like.
#[derive(Debug, Default)]
struct Pretended {
    full: AtomicBool,
    /// One more than the percentage; 0: what the file system says.
    used: AtomicU16,
}

impl Disk {
    /// Makes every allocation and every write of a consume queue fail as on a full disk, until it is set back.
    /// What is allocated already stays writable.
    pub fn set_full(&self, full: bool) {
        self.pretended.full.store(full, Ordering::Relaxed);
    }

    /// Makes it look used to `percent`; `None`: as much as it is.
    pub fn set_used_percent(&self, percent: Option<u8>) {
        let used = percent.map_or(0, |percent| u16::from(percent) + 1);
        self.pretended.used.store(used, Ordering::Relaxed);
    }

    /// How much of the file system that `path` is on is used, in percent rounded up. What is kept for root does not count as there.
    /// Java: `common/UtilAll.java`, `getDiskPartitionSpaceUsedPercent`.
    pub(super) fn used_percent(&self, path: &Path) -> Result<u8, StoreError> {
        if let Some(percent) = self.pretended.used.load(Ordering::Relaxed).checked_sub(1) {
            return Ok(u8::try_from(percent).unwrap_or(u8::MAX));
        }
        let fs = rustix::fs::statvfs(path)
            .map_err(|errno| StoreError::io("ask for the disk usage of", path)(errno.into()))?;
        let used = u128::from(fs.f_blocks.saturating_sub(fs.f_bfree));
        let usable = used + u128::from(fs.f_bavail);
        Ok(u8::try_from((used * 100).div_ceil(usable.max(1))).unwrap_or(100))
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
        if self.pretended.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, offset)
    }

    fn available(&self, file: &File) -> u64 {
        if self.pretended.full.load(Ordering::Relaxed) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_that_of_the_file_system_unless_a_test_says_otherwise() {
        let disk = Disk::default();
        assert!(disk.used_percent(Path::new("/")).unwrap() <= 100);
        disk.set_used_percent(Some(91));
        assert_eq!(disk.clone().used_percent(Path::new("/")).unwrap(), 91);
        disk.set_used_percent(None);
        let missing = disk.used_percent(Path::new("/nonexistent/folder")).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/folder"), "{missing}");
    }
}
