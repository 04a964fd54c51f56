//! Reading: every status, limits, filters, neighbours as one slice, time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rocketmq_broker_lite::store::{ReadLimits, ReadStatus, Store, TimeBoundary};
use rocketmq_protocol::message::{SysFlag, tag_hash};
use rocketmq_protocol::{LogPosition, QueueId};

use super::records::{ALL, Q0, decode, offset, options, put, record};

fn status(store: &Store, topic: &str, at: i64) -> (ReadStatus, i64) {
    let outcome = store.read(topic, Q0, offset(at), ALL, |_| true).unwrap();
    (outcome.status, outcome.next_offset.get())
}

#[test]
fn each_place_outside_of_the_messages_has_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    assert_eq!(status(&store, "t", 5), (ReadStatus::NoMatchedLogicQueue, 0));
    for _ in 0..3 {
        put(&store, "t", Q0, b"body");
    }
    assert_eq!(status(&store, "t", -1), (ReadStatus::OffsetTooSmall, 0));
    assert_eq!(status(&store, "t", 0), (ReadStatus::Found, 3));
    assert_eq!(status(&store, "t", 2), (ReadStatus::Found, 3));
    assert_eq!(status(&store, "t", 3), (ReadStatus::OffsetOverflowOne, 3));
    assert_eq!(status(&store, "t", 4), (ReadStatus::OffsetOverflowBadly, 3));
    store.append("half", Q0, &mut record("half", Q0, b"", "", SysFlag::TRANSACTION_PREPARED)).unwrap();
    assert_eq!(status(&store, "half", 0), (ReadStatus::NoMessageInQueue, 0));
}

#[test]
fn a_queue_file_that_is_gone_sends_the_reader_to_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.open_queue_files = 1;
    let store = Store::open(options.clone()).unwrap();
    for _ in 0..150 {
        put(&store, "t", Q0, b"body");
    }
    store.close().unwrap();
    let store = Store::open(options).unwrap();
    assert_eq!(status(&store, "t", 120), (ReadStatus::Found, 150)); // closes the first file
    std::fs::remove_file(dir.path().join("consumequeue/t/0/00000000000000000000")).unwrap();
    assert_eq!(status(&store, "t", 7), (ReadStatus::OffsetFoundNull, 100));
    assert_eq!(status(&store, "t", 100), (ReadStatus::Found, 150));
}

#[test]
fn messages_whose_log_file_is_gone_are_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    while put(&store, "t", Q0, &[0; 1000]).position.get() < 70_000 {}
    let in_first = 65_528 / 1096; // 1096 bytes each
    store.close().unwrap();
    std::fs::remove_file(dir.path().join("commitlog/00000000000000000000")).unwrap();
    let store = Store::open(options).unwrap();
    let min = store.min_offset("t", Q0);
    assert!((min.get() - in_first).abs() <= 1, "{min}");
    assert_eq!(store.min_position(), LogPosition::new(65_536));
    assert_eq!(status(&store, "t", 0), (ReadStatus::OffsetTooSmall, min.get()));
    assert_eq!(status(&store, "t", min.get()).0, ReadStatus::Found);
}

#[test]
fn limits_end_a_read_but_the_first_message_always_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    for _ in 0..10 {
        put(&store, "t", Q0, &[0; 100]);
    }
    let read = |max_messages, max_bytes| {
        let limits = ReadLimits { max_messages, max_bytes };
        let outcome = store.read("t", Q0, offset(2), limits, |_| true).unwrap();
        (outcome.messages, outcome.next_offset.get())
    };
    assert_eq!(read(3, usize::MAX), (3, 5));
    assert_eq!(read(100, 500), (2, 4));
    assert_eq!(read(100, 1), (1, 3));
    assert_eq!(read(100, usize::MAX), (8, 10));
}

#[test]
fn neighbours_in_the_log_come_as_one_slice() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    for queue in [0, 0, 0, 1, 0, 0] {
        put(&store, "t", QueueId::new(queue), b"body");
    }
    let outcome = store.read("t", Q0, offset(0), ALL, |_| true).unwrap();
    assert_eq!((outcome.messages, outcome.records.len()), (5, 2));
    assert_eq!(outcome.records.iter().map(|run| decode(run.clone()).len()).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(outcome.bytes, outcome.records.iter().map(bytes::Bytes::len).sum::<usize>());
}

#[test]
fn a_filter_that_nothing_passes_moves_on_by_800_messages_or_to_the_next_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.consume_queue_file_size = 20 * 1000;
    let store = Store::open(options).unwrap();
    for i in 0..1500 {
        let tag = if i == 1200 { "TAGS\u{1}rare\u{2}" } else { "TAGS\u{1}common\u{2}" };
        store.append("t", Q0, &mut record("t", Q0, b"", tag, SysFlag::default())).unwrap();
    }
    let read = |at| {
        let outcome = store.read("t", Q0, offset(at), ALL_BUT_FEW, |hash| hash == tag_hash("rare")).unwrap();
        (outcome.status, outcome.messages, outcome.next_offset.get())
    };
    const ALL_BUT_FEW: ReadLimits = ReadLimits { max_messages: 32, max_bytes: usize::MAX };
    assert_eq!(read(0), (ReadStatus::NoMatchedMessage, 0, 800));
    assert_eq!(read(800), (ReadStatus::NoMatchedMessage, 0, 1000));
    assert_eq!(read(1000), (ReadStatus::Found, 1, 1500));
}

#[test]
fn a_slice_stays_readable_after_the_store_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    put(&store, "t", Q0, b"body");
    let outcome = store.read("t", Q0, offset(0), ALL, |_| true).unwrap();
    drop(store);
    drop(dir);
    assert_eq!(decode(outcome.records[0].clone())[0].body, &b"body"[..]);
}

#[test]
fn positions_from_strangers_find_nothing_unless_a_record_starts_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let inner = record("t", Q0, b"a record within a record", "", SysFlag::default());
    let appended = put(&store, "t", Q0, &inner);
    assert!(store.message_at(appended.position).is_some());
    for position in (i64::MIN..0).step_by(1 << 60).chain(1..appended.end.get() + 10).chain([i64::MAX]) {
        assert_eq!(store.message_at(LogPosition::new(position)), None, "{position}");
    }
}

#[test]
fn times_find_the_messages_around_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    options.clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let store = Store::open(options).unwrap();
    for time in [10, 20, 20, 20, 30] {
        now.store(time, Ordering::SeqCst);
        put(&store, "t", Q0, b"body");
    }
    let lower = |time| store.offset_by_time("t", Q0, time, TimeBoundary::Lower).unwrap().get();
    let upper = |time| store.offset_by_time("t", Q0, time, TimeBoundary::Upper).unwrap().get();
    assert_eq!([5, 10, 15, 20, 25, 30, 31].map(lower), [0, 0, 1, 1, 4, 4, 5]);
    assert_eq!([5, 10, 15, 20, 25, 30, 31].map(upper), [0, 0, 0, 3, 3, 4, 4]);
    assert_eq!(store.earliest_store_time("t", Q0).unwrap(), Some(10));
    assert_eq!(store.store_time("t", Q0, offset(4)).unwrap(), Some(30));
    assert_eq!(store.store_time("t", Q0, offset(5)).unwrap(), None);
}

#[test]
fn a_delayed_message_carries_its_due_time_in_place_of_a_tag() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.clock = Arc::new(|| 1_000_000);
    options.delay_levels = vec![Duration::from_secs(1), Duration::from_secs(5)];
    let store = Store::open(options).unwrap();
    let topic = "SCHEDULE_TOPIC_XXXX";
    for level in ["1", "2", "9", "0"] {
        let properties = format!("TAGS\u{1}tag\u{2}DELAY\u{1}{level}\u{2}");
        store.append(topic, Q0, &mut record(topic, Q0, b"", &properties, SysFlag::default())).unwrap();
    }
    let mut seen = Vec::new();
    store
        .read(topic, Q0, offset(0), ALL, |hash| {
            seen.push(hash.get());
            true
        })
        .unwrap();
    assert_eq!(seen, [1_001_000, 1_005_000, 1_005_000, tag_hash("tag").get()]);
}

#[test]
fn queues_are_listed_with_their_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    put(&store, "a", QueueId::new(3), b"");
    put(&store, "a", QueueId::new(1), b"");
    put(&store, "a", QueueId::new(1), b"");
    let mut queues = store.queues();
    queues.sort_by_key(|queue| queue.queue_id);
    let ranges: Vec<_> =
        queues.iter().map(|queue| (&*queue.topic, queue.queue_id.get(), queue.max_offset.get())).collect();
    assert_eq!(ranges, [("a", 1, 2), ("a", 3, 1)]);
}
