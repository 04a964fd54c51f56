//! [`ConsumerOffsets`]: where each group stands in each queue, kept in `config/consumerOffset.json`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::body::ConsumerOffsetWrapper;
use rocketmq_protocol::transport::Clock;
use rocketmq_protocol::{QueueId, QueueOffset};

use super::config_table::ConfigTable;
use crate::store::ConfigFileError;

type ByQueue = BTreeMap<QueueId, QueueOffset>;

/// Offset of the next message to consume, by group, topic and queue.
pub(super) struct ConsumerOffsets {
    /// Held to look an offset up or change it.
    table: Mutex<HashMap<String, HashMap<String, ByQueue>>>,
    changed: AtomicBool,
    file: ConfigTable,
    clock: Clock,
}

impl ConsumerOffsets {
    pub(super) fn open(file: ConfigTable, clock: Clock) -> Result<Self, ConfigFileError> {
        let stored: ConsumerOffsetWrapper = file.load()?;
        let mut table: HashMap<String, HashMap<String, ByQueue>> = HashMap::new();
        for (key, queues) in stored.offset_table {
            // Neither name can have an `@`.
            if let Some((topic, group)) = key.split_once('@') {
                table.entry(group.to_owned()).or_default().insert(topic.to_owned(), queues);
            }
        }
        file.set_version(stored.data_version);
        Ok(Self { table: Mutex::new(table), changed: AtomicBool::new(false), file, clock })
    }

    pub(super) fn get(&self, group: &str, topic: &str, queue_id: QueueId) -> Option<QueueOffset> {
        self.table().get(group)?.get(topic)?.get(&queue_id).copied()
    }

    /// Sets an offset; a smaller one is taken as well, since consumers go back on purpose.
    pub(super) fn set(&self, group: &str, topic: &str, queue_id: QueueId, offset: QueueOffset) {
        let mut table = self.table();
        if let Some(known) = table.get_mut(group).and_then(|topics| topics.get_mut(topic)) {
            if known.insert(queue_id, offset) == Some(offset) {
                return;
            }
        } else {
            let topics = table.entry(group.to_owned()).or_default();
            topics.entry(topic.to_owned()).or_default().insert(queue_id, offset);
        }
        self.changed.store(true, Ordering::Release);
    }

    /// Forgets where everybody stands in a topic.
    pub(super) fn forget(&self, topic: &str) {
        let mut table = self.table();
        let mut known = false;
        table.retain(|_, topics| {
            known |= topics.remove(topic).is_some();
            !topics.is_empty()
        });
        if known {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Writes the file if something changed since it was written last.
    pub(super) async fn save(&self) -> Result<(), ConfigFileError> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.file.advance(self.clock.now_ms());
        let saved = self.file.save(|| self.snapshot()).await;
        if saved.is_err() {
            self.changed.store(true, Ordering::Release);
        }
        saved
    }

    fn snapshot(&self) -> ConsumerOffsetWrapper {
        let data_version = self.file.version();
        let table = self.table();
        let topics = table
            .iter()
            .flat_map(|(group, topics)| topics.iter().map(move |(topic, queues)| (group, topic, queues)));
        let offset_table =
            topics.map(|(group, topic, queues)| (format!("{topic}@{group}"), queues.clone())).collect();
        ConsumerOffsetWrapper { data_version, offset_table }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, ByQueue>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> ConsumerOffsets {
        ConsumerOffsets::open(ConfigTable::new(dir.path(), "consumerOffset.json"), Clock::system()).unwrap()
    }

    #[tokio::test]
    async fn offsets_survive_a_restart_in_javas_shape() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = open(&dir);
        let queue = QueueId::new(3);
        assert_eq!(offsets.get("g", "orders", queue), None);
        offsets.set("g", "orders", queue, QueueOffset::new(7));
        offsets.set("g", "orders", queue, QueueOffset::new(5));
        offsets.save().await.unwrap();
        let text = std::fs::read_to_string(dir.path().join("config/consumerOffset.json")).unwrap();
        assert!(text.contains(r#""offsetTable":{"orders@g":{3:5}}"#), "{text}");
        assert_eq!(open(&dir).get("g", "orders", queue), Some(QueueOffset::new(5)));
    }
}
