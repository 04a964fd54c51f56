//! [`Checkpoint`]: up to when the store's files are known to be on disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::error::StoreError;

/// Bytes of the file; all but the first five numbers are zero.
const FILE_SIZE: usize = 4096;
/// Messages of one instant may have been flushed apart; recovery goes this much further back.
const MARGIN_MS: i64 = 3000;

/// The file `checkpoint`: five big-endian i64, of which the times are store timestamps in ms. Java: `store/StoreCheckpoint.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The commit log is on disk up to the message of this time.
    pub(super) log_timestamp: i64,
    /// So are the consume queues.
    pub(super) queue_timestamp: i64,
    /// So are the index files: after a kill, both brokers drop those that end later.
    pub(super) index_timestamp: i64,
    /// Where the master's disk ends, on a slave. Kept as found.
    pub(super) master_flushed_offset: i64,
    /// Start of the last message that recovery found.
    pub(super) confirm_position: i64,
}

impl Checkpoint {
    /// Reads the file; without one, or with less than one, the checkpoint of an empty store: everything is recovered.
    pub(super) fn load(path: &Path) -> Result<Self, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StoreError::io("read", path)(source)),
        };
        let mut numbers =
            bytes.chunks_exact(8).filter_map(|eight| eight.try_into().ok()).map(i64::from_be_bytes);
        let mut next = || numbers.next().unwrap_or(0);
        Ok(Self {
            log_timestamp: next(),
            queue_timestamp: next(),
            index_timestamp: next(),
            master_flushed_offset: next(),
            confirm_position: next(),
        })
    }

    /// Messages stored before this time, in ms, need no recovery.
    pub(super) fn recovered_until(&self) -> i64 {
        self.log_timestamp.min(self.queue_timestamp).saturating_sub(MARGIN_MS).max(0)
    }

    /// Replaces the file, so that a crash leaves the old or the new one.
    pub(super) fn store(&self, path: &Path) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(FILE_SIZE);
        for number in [
            self.log_timestamp,
            self.queue_timestamp,
            self.index_timestamp,
            self.master_flushed_offset,
            self.confirm_position,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.resize(FILE_SIZE, 0);
        let new = path.with_extension("tmp");
        File::create(&new)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .map_err(StoreError::io("write", &new))?;
        fs::rename(&new, path).map_err(StoreError::io("replace", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_checkpoint_reads_back_and_has_javas_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let checkpoint = Checkpoint {
            log_timestamp: 9000,
            queue_timestamp: 8000,
            index_timestamp: 3,
            master_flushed_offset: 4,
            confirm_position: 5,
        };
        checkpoint.store(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint);
        assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
        assert_eq!(checkpoint.recovered_until(), 5000);
    }

    #[test]
    fn a_missing_or_torn_checkpoint_recovers_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert_eq!(Checkpoint::load(&path).unwrap().recovered_until(), 0);
        fs::write(&path, [0, 0, 0, 0, 0, 0, 1]).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), Checkpoint::default());
    }
}
