//! A topic of a Java store whose records stand for several messages each.

use std::path::Path;

use rocketmq_broker_lite::store::{AppendError, ReadLimits, ReadStatus, Store, StoreOptions, TimeBoundary};
use rocketmq_protocol::QueueId;
use rocketmq_protocol::message::SysFlag;

use super::golden::{BatchUnit, expected, files_below, unpack};
use super::records::{ALL, Q0, decode, drain, offset, put, record};

const TOPIC: &str = "BcqTopic";

fn units() -> Vec<BatchUnit> {
    expected()["clean"].batch_units["BcqTopic/0"].clone()
}

/// Every message of the topic comes, once, from whatever offset it is asked for.
fn check_messages(store: &Store) {
    assert_eq!((store.min_offset(TOPIC, Q0).get(), store.max_offset(TOPIC, Q0).get()), (0, 26));
    let messages: Vec<_> = drain(store, TOPIC, Q0).into_iter().flat_map(|batch| batch.unwrapped()).collect();
    assert!(messages.iter().map(|message| message.as_ref().unwrap().queue_offset.get()).eq(0..26));
    let one = ReadLimits { max_messages: 1, max_bytes: usize::MAX };
    for (position, size, tag_hash, store_timestamp, first, count) in units() {
        for at in first..first + count {
            let mut seen = None;
            let outcome = store
                .read(TOPIC, Q0, offset(at), one, |hash| {
                    seen.get_or_insert(hash);
                    true
                })
                .unwrap();
            assert_eq!((outcome.status, outcome.messages), (ReadStatus::Found, count as usize), "{at}");
            assert_eq!((outcome.next_offset.get(), seen.unwrap().get()), (first + count, tag_hash));
            let record = &decode(outcome.records[0].clone())[0];
            assert_eq!((record.physical_offset.get(), outcome.bytes), (position, size));
            assert_eq!(store.store_time(TOPIC, Q0, offset(at)).unwrap(), Some(store_timestamp));
        }
    }
}

#[test]
fn batches_are_read_from_any_offset_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(unpack("clean", dir.path())).unwrap();
    check_messages(&store);
    let range = store.queues().into_iter().find(|queue| &*queue.topic == TOPIC).unwrap();
    assert_eq!((range.queue_id, range.min_offset.get(), range.max_offset.get()), (Q0, 0, 26));
    let read = |at| store.read(TOPIC, Q0, offset(at), ALL, |_| true).unwrap();
    assert_eq!((read(0).messages, read(0).next_offset.get()), (26, 26));
    assert_eq!(read(26).status, ReadStatus::OffsetOverflowOne);
    assert_eq!((read(27).status, read(27).next_offset.get()), (ReadStatus::OffsetOverflowBadly, 26));
    assert_eq!(read(-1).status, ReadStatus::OffsetTooSmall);
    let nothing = store.read(TOPIC, Q0, offset(3), ALL, |_| false).unwrap();
    assert_eq!((nothing.status, nothing.next_offset.get()), (ReadStatus::NoMatchedMessage, 26));
    assert_eq!(
        store.read(TOPIC, QueueId::new(1), offset(0), ALL, |_| true).unwrap().status,
        ReadStatus::NoMatchedLogicQueue
    );
}

#[test]
fn times_lead_to_the_first_message_of_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(unpack("clean", dir.path())).unwrap();
    let find = |time, boundary| store.offset_by_time(TOPIC, Q0, time, boundary).unwrap().get();
    let (first, second) = (units()[0].3, units()[1].3);
    assert_eq!(store.earliest_store_time(TOPIC, Q0).unwrap(), Some(first));
    for (time, lower, upper) in
        [(0, 0, 0), (first, 0, 0), (first + 1, 5, 0), (second, 5, 5), (i64::MAX, 26, 18)]
    {
        assert_eq!(
            (find(time, TimeBoundary::Lower), find(time, TimeBoundary::Upper)),
            (lower, upper),
            "{time}"
        );
    }
}

#[test]
fn batch_queues_rebuilt_from_the_log_are_those_that_java_built() {
    for name in ["clean", "killed"] {
        let dir = tempfile::tempdir().unwrap();
        let options = unpack(name, dir.path());
        let java = files_below(&options.root, "batchconsumequeue");
        for folder in ["batchconsumequeue", "consumequeue"] {
            std::fs::remove_dir_all(options.root.join(folder)).unwrap();
        }
        let store = Store::open(options.clone()).unwrap();
        check_messages(&store);
        store.close().unwrap();
        assert!(java == files_below(&options.root, "batchconsumequeue"), "{name}");
    }
}

#[test]
fn lost_units_of_a_killed_store_come_back_and_those_without_a_record_go() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    std::fs::write(options.root.join("abort"), "1").unwrap();
    std::fs::write(options.root.join("checkpoint"), [0; 4096]).unwrap();
    let path = options.root.join("batchconsumequeue/BcqTopic/0/00000000000000000000");
    let java = std::fs::read(&path).unwrap();
    let mut damaged = java.clone();
    damaged[46..].fill(0);
    std::fs::write(&path, &damaged).unwrap();
    let store = Store::open(options.clone()).unwrap();
    check_messages(&store);
    assert!(std::fs::read(&path).unwrap() == java);
    drop(store);
    let mut damaged = java.clone();
    damaged.copy_within(138..184, 184); // a fifth unit,
    damaged[184..192].copy_from_slice(&(1_i64 << 40).to_be_bytes()); // behind the end of the log
    std::fs::write(&path, &damaged).unwrap();
    let store = Store::open(options).unwrap();
    check_messages(&store);
    assert!(std::fs::read(&path).unwrap() == java);
}

#[test]
fn a_log_that_lost_its_start_moves_the_first_offset_of_batches_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    for file in ["00000000000000000000", "00000000000000131072"] {
        std::fs::remove_file(options.root.join("commitlog").join(file)).unwrap();
    }
    let store = Store::open(options).unwrap();
    assert_eq!((store.min_offset(TOPIC, Q0).get(), store.max_offset(TOPIC, Q0).get()), (26, 26));
    assert_eq!(store.earliest_store_time(TOPIC, Q0).unwrap(), None);
}

#[test]
fn a_lost_folder_of_batch_queues_is_made_again_after_an_orderly_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = unpack("clean", dir.path());
    let java = files_below(&options.root, "batchconsumequeue");
    std::fs::remove_dir_all(options.root.join("batchconsumequeue")).unwrap();
    options.batch_topics = vec!["NormalTopic".into(), TOPIC.into(), "NeverUsed".into(), "no/folder".into()];
    for _ in 0..2 {
        let store = Store::open(options.clone()).unwrap();
        check_messages(&store);
        put(&store, "NormalTopic", Q0, b"its queues are there, and are none of batches");
        store.close().unwrap();
    }
    let rebuilt = files_below(&options.root, "batchconsumequeue");
    assert!(java.iter().all(|(name, bytes)| rebuilt.get(name) == Some(bytes)));
}

/// The golden store, small batch queue files, and more log files behind the batches.
fn store_that_went_on(dir: &Path) -> (StoreOptions, Store) {
    let mut options = unpack("clean", dir);
    std::fs::remove_dir_all(options.root.join("batchconsumequeue")).unwrap();
    options.batch_topics = vec![TOPIC.into()];
    options.batch_queue_file_size = 2 * 46;
    options.cleaning.keep = std::time::Duration::ZERO;
    options.cleaning.hours = (0..24).collect();
    options.disk.set_used_percent(Some(10));
    let store = Store::open(options.clone()).unwrap();
    check_messages(&store);
    let end = store.max_position().get();
    while put(&store, "other", Q0, &[1; 60_000]).position.get() < end + 400_000 {}
    (options, store)
}

fn files(options: &StoreOptions) -> usize {
    std::fs::read_dir(options.root.join("batchconsumequeue/BcqTopic/0")).map_or(0, Iterator::count)
}

#[test]
fn batch_queues_follow_the_log_when_it_is_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let (options, store) = store_that_went_on(dir.path());
    assert_eq!(files(&options), units().len().div_ceil(2));
    store.clean().unwrap();
    assert!(store.min_position().get() > units().last().unwrap().0);
    let range = |store: &Store| (store.min_offset(TOPIC, Q0).get(), store.max_offset(TOPIC, Q0).get());
    assert_eq!((range(&store), files(&options)), ((26, 26), 1));
    let gone = store.read(TOPIC, Q0, offset(3), ALL, |_| true).unwrap();
    assert_eq!((gone.status, gone.next_offset.get()), (ReadStatus::OffsetTooSmall, 26));
    drop(store); // as if killed
    assert_eq!(range(&Store::open(options).unwrap()), (26, 26));
}

#[test]
fn deleted_batches_stay_deleted_until_the_log_has_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (options, store) = store_that_went_on(dir.path());
    store.delete_topic(TOPIC).unwrap();
    let range = |store: &Store| (store.min_offset(TOPIC, Q0).get(), store.max_offset(TOPIC, Q0).get());
    assert_eq!((range(&store), files(&options)), ((26, 26), 1));
    drop(store); // as if killed, and all of the log is read
    std::fs::write(options.root.join("checkpoint"), [0; 4096]).unwrap();
    let store = Store::open(options.clone()).unwrap();
    assert_eq!((range(&store), files(&options)), ((26, 26), 1));
    assert!(drain(&store, TOPIC, Q0).is_empty());
    while put(&store, "other", Q0, &[1; 60_000]).position.get() < store.min_position().get() + 131_072 {
        store.clean().unwrap();
    }
    store.clean().unwrap();
    store.close().unwrap();
    drop(store);
    let mut options = options;
    options.batch_topics = Vec::new(); // the configuration forgot it with the deletion
    let store = Store::open(options.clone()).unwrap();
    assert!(!options.root.join("batchconsumequeue/BcqTopic").exists());
    assert_eq!(put(&store, TOPIC, Q0, b"one of the ordinary kind").queue_offset.get(), 0);
}

#[test]
fn appends_go_to_other_topics_only() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    let store = Store::open(options.clone()).unwrap();
    let mut batch = record(TOPIC, Q0, b"", "", SysFlag::default());
    assert!(matches!(store.append(TOPIC, Q0, &mut batch), Err(AppendError::BatchQueue { .. })));
    put(&store, "NormalTopic", Q0, b"ours");
    store.close().unwrap();
    let store = Store::open(options).unwrap();
    check_messages(&store);
    assert_eq!(store.max_offset("NormalTopic", Q0).get(), 62);
}
