//! Deleting topics, and making them again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rocketmq_broker_lite::store::{IndexKey, KeyQuery, ReadStatus, Store, StoreOptions};
use rocketmq_protocol::QueueId;
use rocketmq_protocol::message::SysFlag;

use super::records::{ALL, Q0, copy_folder, decode, drain, offset, options, put, record};

fn bodies(store: &Store, topic: &str, queue_id: QueueId) -> Vec<Vec<u8>> {
    drain(store, topic, queue_id).into_iter().map(|message| message.body.to_vec()).collect()
}

/// The store as it would be found had the machine stopped now.
fn killed(options: &StoreOptions, to: &Path) -> Store {
    copy_folder(&options.root, to);
    let mut copy = options.clone();
    (copy.root, copy.commit_log_dir) = (to.to_owned(), to.join("commitlog"));
    Store::open(copy).unwrap()
}

#[test]
fn deleted_messages_stay_deleted_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir.path().join("store"));
    let store = Store::open(options.clone()).unwrap();
    for i in 0..250 {
        put(&store, "t", Q0, format!("old {i}").as_bytes());
        put(&store, "other", Q0, format!("kept {i}").as_bytes());
    }
    store.delete_topic("t").unwrap();
    let after = killed(&options, &dir.path().join("copy"));
    for store in [&store, &after] {
        assert_eq!((store.min_offset("t", Q0), store.max_offset("t", Q0)), (offset(250), offset(250)));
        let gone = store.read("t", Q0, offset(3), ALL, |_| true).unwrap();
        assert_eq!((gone.status, gone.next_offset), (ReadStatus::OffsetTooSmall, offset(250)));
        assert_eq!(bodies(store, "other", Q0).len(), 250);
        assert_eq!(put(store, "t", Q0, b"new").queue_offset, offset(250));
        assert_eq!(bodies(store, "t", Q0), [b"new"]);
    }
    let files = std::fs::read_dir(options.root.join("consumequeue/t/0")).unwrap().count();
    assert_eq!(files, 1, "of three, the one that holds the number");
}

#[test]
fn neither_a_key_nor_a_position_finds_a_deleted_message() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir.path().join("store"));
    let store = Store::open(options.clone()).unwrap();
    let send = |topic: &str| {
        let mut record = record(topic, Q0, b"", "KEYS\u{1}k\u{2}", SysFlag::default());
        store.append(topic, Q0, &mut record).unwrap().position
    };
    let (old, kept) = (send("t"), send("other"));
    let found = |store: &Store, topic| {
        let key = IndexKey::Key("k");
        let (begin_timestamp, end_timestamp) = (0, i64::MAX);
        let query =
            KeyQuery { topic, key, begin_timestamp, end_timestamp, max_messages: 9, max_bytes: usize::MAX };
        let records = store.query(query).unwrap().records.into_iter();
        records.map(|record| decode(record)[0].physical_offset).collect::<Vec<_>>()
    };
    assert_eq!(found(&store, "t"), [old]);
    store.delete_topic("t").unwrap();
    let new = send("t");
    let after = killed(&options, &dir.path().join("copy"));
    for store in [&store, &after] {
        assert_eq!((found(store, "t"), found(store, "other")), (vec![new], vec![kept]));
        assert!(store.message_at(old).is_none());
        assert!(store.message_at(new).is_some() && store.message_at(kept).is_some());
    }
}

#[test]
fn a_topic_made_again_loses_nothing_whenever_the_machine_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&dir.path().join("store"));
    options.queue_flush_interval = Duration::from_millis(1);
    let store = Store::open(options.clone()).unwrap();
    let mut copies = 0;
    for round in 0..4 {
        let mut new = Vec::new();
        for i in 0..(30 + 60 * round) {
            new.push(format!("round {round} {i}").into_bytes());
            put(&store, "t", Q0, new.last().unwrap());
            if i % 29 == 0 {
                copies += 1;
                let copy = killed(&options, &dir.path().join(format!("copy{copies}")));
                assert_eq!(bodies(&copy, "t", Q0), new);
                let next = copy.max_offset("t", Q0);
                assert_eq!(put(&copy, "t", Q0, b"next").queue_offset, next);
            }
        }
        assert_eq!(bodies(&store, "t", Q0), new);
        store.delete_topic("t").unwrap();
    }
}

#[test]
fn a_queue_deleted_at_the_end_of_a_file_leaves_that_file_until_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir.path().join("store"));
    let store = Store::open(options.clone()).unwrap();
    for (round, count) in [200, 100, 350, 50].into_iter().enumerate() {
        let mut end = offset(0);
        for _ in 0..count {
            end = put(&store, "t", Q0, b"x").queue_offset.plus(1);
        }
        store.delete_topic("t").unwrap();
        let files = std::fs::read_dir(options.root.join("consumequeue/t/0")).unwrap().count();
        assert_eq!(files, 1, "round {round}");
        let copy = killed(&options, &dir.path().join(format!("copy{round}")));
        assert_eq!((copy.min_offset("t", Q0), copy.max_offset("t", Q0)), (end, end));
    }
}

#[test]
fn a_deleted_queue_is_forgotten_once_the_log_has_nothing_left_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.cleaning.keep = Duration::ZERO;
    options.cleaning.hours = (0..24).collect();
    options.disk.set_used_percent(Some(10));
    let store = Store::open(options.clone()).unwrap();
    put(&store, "t", Q0, b"old");
    store.delete_topic("t").unwrap();
    while put(&store, "other", Q0, &[1; 5000]).position.get() < 65_536 {}
    store.close().unwrap();
    drop(store);
    let store = Store::open(options.clone()).unwrap();
    assert_eq!(store.next_offset("t", Q0), offset(1), "the log still has the record");
    store.clean().unwrap();
    store.close().unwrap();
    drop(store);
    let store = Store::open(options).unwrap();
    assert_eq!(store.next_offset("t", Q0), offset(0));
    assert!(!dir.path().join("consumequeue/t").exists());
    assert_eq!(put(&store, "t", Q0, b"new").queue_offset, offset(0));
}

#[test]
fn topics_are_deleted_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&dir.path().join("store"));
    options.queue_flush_interval = Duration::from_millis(1);
    options.thorough_queue_flush_interval = Duration::from_millis(50);
    let store = Store::open(options.clone()).unwrap();
    let stop = AtomicBool::new(false);
    // Messages that may be there by now: the load must not outrun the deletions.
    let allowed = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = -1;
                while !stop.load(Ordering::Relaxed) {
                    if last > allowed.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                        continue;
                    }
                    let offset = put(&store, "t", Q0, &[7; 300]).queue_offset.get();
                    assert!(offset > last, "{offset} after {last}");
                    last = offset;
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let from = store.min_offset("t", Q0);
                let outcome = store.read("t", Q0, from, ALL, |_| true).unwrap();
                for message in outcome.records.into_iter().flat_map(super::records::decode) {
                    assert!(message.queue_offset >= from && message.body == [7; 300][..]);
                }
            }
        });
        for _ in 0..20 {
            let before = store.max_offset("t", Q0);
            allowed.store(before.get() + 300, Ordering::Relaxed);
            while store.max_offset("t", Q0).get() < before.get() + 100 {
                std::thread::yield_now();
            }
            store.delete_topic("t").unwrap();
            assert!(store.min_offset("t", Q0) >= before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    store.delete_topic("t").unwrap();
    let first = put(&store, "t", Q0, b"first").queue_offset;
    let copy = killed(&options, &dir.path().join("copy"));
    assert_eq!(copy.min_offset("t", Q0), first);
    assert_eq!(bodies(&copy, "t", Q0), [b"first"]);
}
