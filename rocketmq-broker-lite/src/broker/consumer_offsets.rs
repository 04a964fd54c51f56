//! [`ConsumerOffsets`]: where each group stands in each queue, kept in `config/consumerOffset.json`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::body::ConsumerOffsetWrapper;
use rocketmq_protocol::transport::Clock;
use rocketmq_protocol::{QueueId, QueueOffset};

use super::config_table::ConfigTable;
use crate::store::ConfigFileError;

type ByQueue = BTreeMap<QueueId, QueueOffset>;
type ByGroup = HashMap<String, HashMap<String, ByQueue>>;

/// Offset of the next message to consume, by group, topic and queue.
pub(super) struct ConsumerOffsets {
    /// Held to look an offset up or change it.
    table: Mutex<Table>,
    /// Offsets in `resets`: lets a pull pass that need not look.
    resets: AtomicUsize,
    changed: AtomicBool,
    file: ConfigTable,
    clock: Clock,
}

#[derive(Default)]
struct Table {
    offsets: ByGroup,
    /// Offsets that were set from outside and that the consumer has not been told yet.
    resets: ByGroup,
}

impl ConsumerOffsets {
    pub(super) fn open(file: ConfigTable, clock: Clock) -> Result<Self, ConfigFileError> {
        let stored: ConsumerOffsetWrapper = file.load()?;
        let mut table = Table::default();
        for (key, queues) in stored.offset_table {
            // Neither name can have an `@`.
            if let Some((topic, group)) = key.split_once('@') {
                table.offsets.entry(group.to_owned()).or_default().insert(topic.to_owned(), queues);
            }
        }
        file.set_version(stored.data_version);
        let resets = AtomicUsize::new(0);
        Ok(Self { table: Mutex::new(table), resets, changed: AtomicBool::new(false), file, clock })
    }

    pub(super) fn get(&self, group: &str, topic: &str, queue_id: QueueId) -> Option<QueueOffset> {
        self.table().offsets.get(group)?.get(topic)?.get(&queue_id).copied()
    }

    /// Sets an offset; a smaller one is taken as well, since consumers go back on purpose. One from a consumer that does not know yet
    /// that it was reset is not taken.
    pub(super) fn set(&self, group: &str, topic: &str, queue_id: QueueId, offset: QueueOffset) {
        let mut table = self.table();
        if self.resets.load(Ordering::Acquire) > 0 && table.is_reset(group, topic, queue_id) {
            return;
        }
        let table = &mut table.offsets;
        if let Some(known) = table.get_mut(group).and_then(|topics| topics.get_mut(topic)) {
            if known.insert(queue_id, offset) == Some(offset) {
                return;
            }
        } else {
            insert(table, group, topic, queue_id, offset);
        }
        self.changed.store(true, Ordering::Release);
    }

    /// Sets an offset from outside: the consumer learns it at its next pull.
    pub(super) fn reset(&self, group: &str, topic: &str, queue_id: QueueId, offset: QueueOffset) {
        let mut table = self.table();
        insert(&mut table.offsets, group, topic, queue_id, offset);
        if insert(&mut table.resets, group, topic, queue_id, offset).is_none() {
            self.resets.fetch_add(1, Ordering::AcqRel);
        }
        self.changed.store(true, Ordering::Release);
    }

    /// The offset that a consumer must be told, which it is then.
    pub(super) fn take_reset(&self, group: &str, topic: &str, queue_id: QueueId) -> Option<QueueOffset> {
        if self.resets.load(Ordering::Acquire) == 0 {
            return None;
        }
        let taken = self.table().resets.get_mut(group)?.get_mut(topic)?.remove(&queue_id);
        if taken.is_some() {
            self.resets.fetch_sub(1, Ordering::AcqRel);
        }
        taken
    }

    /// Whether the consumer must be told where to go on.
    pub(super) fn is_reset(&self, group: &str, topic: &str, queue_id: QueueId) -> bool {
        self.resets.load(Ordering::Acquire) > 0 && self.table().is_reset(group, topic, queue_id)
    }

    /// The topics in which a group stands somewhere.
    pub(super) fn topics(&self, group: &str) -> Vec<String> {
        self.table().offsets.get(group).into_iter().flat_map(HashMap::keys).cloned().collect()
    }

    /// The groups that stand somewhere in a topic.
    pub(super) fn groups_of(&self, topic: &str) -> Vec<String> {
        let table = self.table();
        let groups = table.offsets.iter().filter(|(_, topics)| topics.contains_key(topic));
        groups.map(|(group, _)| group.clone()).collect()
    }

    /// Forgets where a group stands.
    pub(super) fn forget_group(&self, group: &str) {
        if self.table().offsets.remove(group).is_some() {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Forgets where everybody stands in a topic.
    pub(super) fn forget(&self, topic: &str) {
        let mut table = self.table();
        let mut known = false;
        table.offsets.retain(|_, topics| {
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
            .offsets
            .iter()
            .flat_map(|(group, topics)| topics.iter().map(move |(topic, queues)| (group, topic, queues)));
        let offset_table =
            topics.map(|(group, topic, queues)| (format!("{topic}@{group}"), queues.clone())).collect();
        ConsumerOffsetWrapper { data_version, offset_table }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn is_reset(&self, group: &str, topic: &str, queue_id: QueueId) -> bool {
        let topics = self.resets.get(group);
        topics.and_then(|topics| topics.get(topic)).is_some_and(|queues| queues.contains_key(&queue_id))
    }
}

fn insert(
    groups: &mut ByGroup,
    group: &str,
    topic: &str,
    queue_id: QueueId,
    offset: QueueOffset,
) -> Option<QueueOffset> {
    let topics = groups.entry(group.to_owned()).or_default();
    topics.entry(topic.to_owned()).or_default().insert(queue_id, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> ConsumerOffsets {
        ConsumerOffsets::open(ConfigTable::new(dir.path(), "consumerOffset.json"), Clock::system()).unwrap()
    }

    #[test]
    fn a_reset_stands_against_late_commits_until_the_consumer_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = open(&dir);
        let queue = QueueId::new(3);
        offsets.set("g", "orders", queue, QueueOffset::new(7));
        offsets.reset("g", "orders", queue, QueueOffset::new(2));
        offsets.reset("g", "orders", queue, QueueOffset::new(3));
        offsets.set("g", "orders", queue, QueueOffset::new(8));
        assert_eq!(offsets.get("g", "orders", queue), Some(QueueOffset::new(3)));
        assert_eq!(offsets.take_reset("h", "orders", queue), None);
        assert_eq!(offsets.take_reset("g", "orders", queue), Some(QueueOffset::new(3)));
        assert_eq!(offsets.take_reset("g", "orders", queue), None);
        offsets.set("g", "orders", queue, QueueOffset::new(4));
        assert_eq!(offsets.get("g", "orders", queue), Some(QueueOffset::new(4)));
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
