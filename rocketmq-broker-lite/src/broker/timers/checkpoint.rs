//! [`TimerCheckpoint`]: how far the timers are, in the file `config/timercheck`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the file, of which 56 are used.
const LEN: u64 = 4096;

/// Big-endian i64 each: see the fields; then the three of a data version. Java: `TimerCheckpoint.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimerCheckpoint {
    /// Seconds before this are done, in ms.
    pub(super) read_time_ms: i64,
    /// Units before this are on disk, and so are their seconds in the wheel.
    pub(super) log_position: i64,
    /// Next message of the timer topic.
    pub(super) queue_offset: i64,
    /// The same on the master.
    pub(super) master_queue_offset: i64,
    /// State, time and counter.
    pub(super) version: [i64; 3],
}

pub(super) struct TimerCheckFile(File);

impl TimerCheckFile {
    /// Opens or makes the file; the checkpoint when it has one.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<TimerCheckpoint>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut words = [[0; 8]; 7];
        let there = file.metadata()?.len() >= LEN;
        if there {
            for word in &mut words {
                file.read_exact(word)?;
            }
        } else {
            file.set_len(LEN)?;
        }
        let [read_time_ms, log_position, queue_offset, master_queue_offset, state, time, counter] =
            words.map(i64::from_be_bytes);
        let version = [state, time, counter];
        let found =
            TimerCheckpoint { read_time_ms, log_position, queue_offset, master_queue_offset, version };
        Ok((Self(file), there.then_some(found)))
    }

    pub(super) fn write(&self, checkpoint: &TimerCheckpoint) -> io::Result<()> {
        let TimerCheckpoint { read_time_ms, log_position, queue_offset, master_queue_offset, version } =
            checkpoint;
        let words =
            [read_time_ms, log_position, queue_offset, master_queue_offset].map(|word| word.to_be_bytes());
        let bytes = [words.concat(), version.map(i64::to_be_bytes).concat()].concat();
        self.0.write_all_at(&bytes, 0)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("timercheck");
        let (file, none) = TimerCheckFile::open(&path).unwrap();
        assert_eq!(none, None);
        let written = TimerCheckpoint {
            read_time_ms: 1_795_258_082_000,
            log_position: 780,
            queue_offset: 15,
            master_queue_offset: 15,
            version: [0, 1_795_258_082_345, 191],
        };
        file.write(&written).unwrap();
        assert_eq!(TimerCheckFile::open(&path).unwrap().1, Some(written));
        assert_eq!(std::fs::read(&path).unwrap().len(), 4096);
    }
}
