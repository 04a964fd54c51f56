//! Stores and messages for the tests.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rocketmq_broker_lite::store::{Appended, ReadLimits, Store, StoreOptions};
use rocketmq_protocol::message::{NewMessage, StoredMessage, StoredMessages, SysFlag};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};

pub(crate) const Q0: QueueId = QueueId::new(0);
pub(crate) const ALL: ReadLimits = ReadLimits { max_messages: usize::MAX, max_bytes: usize::MAX };

/// Small files; background flushing that does not come by itself.
pub(crate) fn options(root: &Path) -> StoreOptions {
    let mut options = StoreOptions::new(root);
    options.commit_log_file_size = 64 * 1024;
    options.consume_queue_file_size = 2000;
    options.flush_interval = Duration::from_secs(3600);
    options.queue_flush_interval = Duration::from_secs(3600);
    options
}

pub(crate) fn record(
    topic: &str,
    queue_id: QueueId,
    body: &[u8],
    properties: &str,
    sys_flag: SysFlag,
) -> Vec<u8> {
    let host = "127.0.0.1:10911".parse().unwrap();
    let mut record = Vec::new();
    NewMessage {
        topic,
        queue_id,
        flag: 0,
        sys_flag,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: LogPosition::ZERO,
        body,
        properties: &[properties.into()],
    }
    .encode(&mut record)
    .unwrap();
    record
}

/// Appends one message.
pub(crate) fn put(store: &Store, topic: &str, queue_id: QueueId, body: &[u8]) -> Appended {
    store.append(topic, queue_id, &mut record(topic, queue_id, body, "", SysFlag::default())).unwrap()
}

/// Everything in a queue, following the offsets that reads return.
pub(crate) fn drain(store: &Store, topic: &str, queue_id: QueueId) -> Vec<StoredMessage> {
    let mut messages = Vec::new();
    let mut offset = store.min_offset(topic, queue_id);
    while offset < store.max_offset(topic, queue_id) {
        let outcome = store.read(topic, queue_id, offset, ALL, |_| true).unwrap();
        assert!(outcome.next_offset > offset, "{outcome:?}");
        messages.extend(outcome.records.into_iter().flat_map(decode));
        offset = outcome.next_offset;
    }
    messages
}

pub(crate) fn decode(records: Bytes) -> Vec<StoredMessage> {
    StoredMessages::new(records).collect::<Result<_, _>>().unwrap()
}

pub(crate) fn offset(value: i64) -> QueueOffset {
    QueueOffset::new(value)
}

/// Copies a folder that may be in use. The checkpoint goes first, so that it promises no more than what follows holds.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = std::fs::read_dir(from).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.path().extension().is_none() {
            if from.ends_with("index") {
                std::fs::write(target, read_at_once(&entry.path())).unwrap();
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

/// A file as it was at one moment: a copy that goes on while it is written to would have later slots than the header.
fn read_at_once(path: &Path) -> Vec<u8> {
    let mut before = std::fs::read(path).unwrap();
    loop {
        let after = std::fs::read(path).unwrap();
        if before == after {
            return after;
        }
        before = after;
    }
}
