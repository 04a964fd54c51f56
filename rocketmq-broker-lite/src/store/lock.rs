//! [`FolderLock`]: one broker per store folder, ours or Java's.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::StoreError;

/// Holds the file `lock` of a store folder until dropped.
///
/// Twice: with a POSIX record lock, which is what Java's `FileChannel.lock` takes (on the first byte; ours covers the file), and with `flock`,
/// because a POSIX lock does not keep out a second store in the same process. Java: `store/DefaultMessageStore.java`.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked and has not started its program yet still has the file open.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl FolderLock {
    pub(super) fn acquire(root: &Path) -> Result<Self, StoreError> {
        let path = root.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(StoreError::io("open", &path))?;
        let outcome = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive));
        match outcome {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(StoreError::InUse { root: root.to_owned() }),
            Err(errno) => return Err(StoreError::io("lock", &path)(errno.into())),
        }
        file.write_all(b"lock").map_err(StoreError::io("write", &path))?;
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_is_told_that_the_folder_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(dir.path()).unwrap();
        let refused = FolderLock::acquire(dir.path()).unwrap_err();
        assert!(refused.to_string().contains(&dir.path().display().to_string()), "{refused}");
        drop(first);
        FolderLock::acquire(dir.path()).unwrap();
        assert_eq!(std::fs::read(dir.path().join("lock")).unwrap(), b"lock");
    }
}
