//! [`DelayOffsets`]: how far each delay level is delivered, kept in `config/delayOffset.json`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::DelayOffsetWrapper;
use rocketmq_protocol::transport::Clock;

use super::config_table::ConfigTable;
use crate::store::ConfigFileError;

/// The next offset to deliver, by delay level.
pub(super) struct DelayOffsets {
    /// Held to look an offset up or change it.
    table: Mutex<BTreeMap<i32, QueueOffset>>,
    /// What the file has.
    saved: Mutex<BTreeMap<i32, QueueOffset>>,
    file: ConfigTable,
    clock: Clock,
}

impl DelayOffsets {
    pub(super) fn open(file: ConfigTable, clock: Clock) -> Result<Self, ConfigFileError> {
        let stored: DelayOffsetWrapper = file.load()?;
        file.set_version(stored.data_version);
        let saved = Mutex::new(stored.offset_table.clone());
        Ok(Self { table: Mutex::new(stored.offset_table), saved, file, clock })
    }

    pub(super) fn get(&self, level: i32) -> QueueOffset {
        lock(&self.table).get(&level).copied().unwrap_or(QueueOffset::ZERO)
    }

    pub(super) fn set(&self, level: i32, offset: QueueOffset) {
        lock(&self.table).insert(level, offset);
    }

    /// What [`DelayOffsets::save`] takes, if the file lacks something.
    pub(super) fn unsaved(&self) -> Option<BTreeMap<i32, QueueOffset>> {
        let table = lock(&self.table).clone();
        (table != *lock(&self.saved)).then_some(table)
    }

    /// Writes the file.
    pub(super) async fn save(&self, table: BTreeMap<i32, QueueOffset>) -> Result<(), ConfigFileError> {
        self.file.advance(self.clock.now_ms());
        let wrapper =
            || DelayOffsetWrapper { data_version: self.file.version(), offset_table: table.clone() };
        self.file.save(wrapper).await?;
        *lock(&self.saved) = table;
        Ok(())
    }
}

fn lock(table: &Mutex<BTreeMap<i32, QueueOffset>>) -> MutexGuard<'_, BTreeMap<i32, QueueOffset>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> DelayOffsets {
        DelayOffsets::open(ConfigTable::new(dir.path(), "delayOffset.json"), Clock::system()).unwrap()
    }

    #[tokio::test]
    async fn offsets_survive_a_restart_in_javas_shape() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = open(&dir);
        assert_eq!(offsets.get(3), QueueOffset::ZERO);
        offsets.set(3, QueueOffset::new(7));
        offsets.set(18, QueueOffset::new(1));
        offsets.save(offsets.unsaved().unwrap()).await.unwrap();
        assert_eq!(offsets.unsaved(), None);
        let text = std::fs::read_to_string(dir.path().join("config/delayOffset.json")).unwrap();
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(text.contains(r#""offsetTable":{3:7,18:1}"#), "{text}");
        assert_eq!(open(&dir).get(18), QueueOffset::new(1));
    }
}
