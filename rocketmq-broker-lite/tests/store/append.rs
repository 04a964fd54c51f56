//! Appending: places, limits, full disks, flushing, many threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocketmq_broker_lite::store::{AppendError, FlushError, FlushMode, Store};
use rocketmq_protocol::message::SysFlag;
use rocketmq_protocol::{LogPosition, QueueId};

use super::records::{Q0, drain, offset, options, put, record};

#[test]
fn an_appended_message_can_be_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let first = put(&store, "orders", Q0, b"one");
    let second = put(&store, "orders", Q0, b"two");
    assert_eq!((first.position, first.queue_offset), (LogPosition::ZERO, offset(0)));
    assert_eq!((second.position, second.queue_offset), (first.end, offset(1)));
    let bodies: Vec<_> = drain(&store, "orders", Q0).into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [&b"one"[..], b"two"]);
}

#[test]
fn a_batch_takes_neighbouring_places_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    put(&store, "orders", Q0, &[0; 40_000]);
    let mut batch = record("orders", Q0, &[1; 15_000], "", SysFlag::default());
    batch.extend_from_slice(&record("orders", Q0, &[2; 15_000], "", SysFlag::default()));
    let appended = store.append("orders", Q0, &mut batch).unwrap();
    assert_eq!((appended.position.get(), appended.queue_offset, appended.count), (65_536, offset(1), 2));
    let messages = drain(&store, "orders", Q0);
    assert_eq!(messages.iter().map(|message| message.queue_offset.get()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(messages[2].physical_offset.get(), 65_536 + batch.len() as i64 / 2);
}

#[test]
fn a_file_is_filled_up_to_the_blank_header_and_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let around_body = record("t", Q0, b"", "", SysFlag::default()).len();
    let exact = 65_536 - 8 - around_body;
    assert_eq!(put(&store, "t", Q0, &vec![1; exact]).end.get(), 65_528);
    assert_eq!(put(&store, "t", Q0, b"next").position.get(), 65_536);
    let blank = std::fs::read(dir.path().join("commitlog/00000000000000000000")).unwrap();
    assert_eq!(blank[65_528..], [0, 0, 0, 8, 0xcb, 0xd4, 0x31, 0x94]);
    let refused = store.append("t", Q0, &mut record("t", Q0, &vec![1; exact + 1], "", SysFlag::default()));
    assert!(matches!(refused, Err(AppendError::TooLarge { size: 65_529, limit: 65_528 })), "{refused:?}");
    assert_eq!(drain(&store, "t", Q0).len(), 2);
}

#[test]
fn what_is_not_a_whole_record_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let good = record("t", Q0, b"body", "", SysFlag::default());
    let mut cut = good.clone();
    cut.extend_from_slice(&good[..good.len() - 1]);
    let other_queue = record("t", QueueId::new(1), b"body", "", SysFlag::default());
    for bytes in [&b""[..], b"x", &[0; 200], &cut, &other_queue] {
        let refused = store.append("t", Q0, &mut bytes.to_vec());
        assert!(matches!(refused, Err(AppendError::Malformed { .. })), "{refused:?}");
    }
    assert_eq!(store.max_position(), LogPosition::ZERO);
}

#[test]
fn a_topic_that_would_leave_its_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    for topic in ["", "..", "a/b", "a\0b", &"x".repeat(256)] {
        let refused = store.append(topic, Q0, &mut record("t", Q0, b"", "", SysFlag::default()));
        assert!(matches!(refused, Err(AppendError::Topic { .. })), "{topic:?}: {refused:?}");
    }
}

#[test]
fn prepared_messages_take_no_place_in_their_queue() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let prepared =
        store.append("t", Q0, &mut record("t", Q0, b"half", "", SysFlag::TRANSACTION_PREPARED)).unwrap();
    let committed =
        store.append("t", Q0, &mut record("t", Q0, b"whole", "", SysFlag::TRANSACTION_COMMIT)).unwrap();
    assert_eq!(committed.queue_offset, offset(0));
    assert_eq!(drain(&store, "t", Q0).len(), 1);
    assert!(store.message_at(prepared.position).is_some());
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room_and_never_reads() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    put(&store, "t", Q0, b"first");
    options.disk.set_full(true);
    let mut fitting = 1;
    let refused = loop {
        match store.append("t", Q0, &mut record("t", Q0, &[7; 4000], "", SysFlag::default())) {
            Ok(_) => fitting += 1,
            Err(refused) => break refused,
        }
    };
    let AppendError::DiskFull { path, needed: 65_536, available: 0 } = &refused else {
        panic!("{refused:?}")
    };
    assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    assert_eq!(drain(&store, "t", Q0).len(), fitting);
    options.disk.set_full(false);
    assert_eq!(put(&store, "t", Q0, b"again").queue_offset.get(), fitting as i64);
    assert_eq!(drain(&store, "t", Q0).len(), fitting + 1);
}

#[test]
fn queue_files_that_cannot_be_written_stop_appends_until_they_can() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.queue_flush_interval = Duration::from_millis(1);
    options.thorough_queue_flush_interval = Duration::ZERO;
    let store = Store::open(options.clone()).unwrap();
    put(&store, "t", Q0, b"first");
    options.disk.set_full(true);
    put(&store, "u", Q0, b"first");
    while store.writable().is_ok() {
        std::thread::yield_now();
    }
    let refused = store.append("t", Q0, &mut record("t", Q0, b"", "", SysFlag::default())).unwrap_err();
    assert!(
        matches!(&refused, AppendError::NotWritable { reason } if reason.contains("consumequeue")),
        "{refused}"
    );
    assert_eq!(drain(&store, "u", Q0).len(), 1);
    options.disk.set_full(false);
    while store.writable().is_err() {
        std::thread::yield_now();
    }
    put(&store, "t", Q0, b"second");
    assert_eq!(drain(&store, "t", Q0).len(), 2);
}

#[tokio::test]
async fn one_flush_answers_everybody_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.flush_mode = FlushMode::Sync;
    let store = Store::open(options).unwrap();
    let ends: Vec<_> = (0..100).map(|_| put(&store, "t", Q0, &[0; 1000]).end).collect();
    let waits = ends.iter().map(|end| store.flushed(*end));
    for wait in waits {
        wait.await.unwrap();
    }
    store.close().unwrap();
    store.flushed(ends[99]).await.unwrap();
    assert!(matches!(store.flushed(ends[99].plus(1)).await, Err(FlushError::Closed)));
}

#[tokio::test]
async fn an_async_store_flushes_at_once_for_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    store.flushed(put(&store, "t", Q0, b"body").end).await.unwrap();
}

#[test]
fn a_closed_store_refuses_appends_and_still_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    put(&store, "t", Q0, b"body");
    assert!(dir.path().join("abort").exists());
    store.close().unwrap();
    assert!(!dir.path().join("abort").exists());
    let refused = store.append("t", Q0, &mut record("t", Q0, b"", "", SysFlag::default()));
    assert!(matches!(refused, Err(AppendError::Closed)), "{refused:?}");
    assert_eq!(drain(&store, "t", Q0).len(), 1);
    assert_eq!(
        std::fs::read_dir(dir.path().join("commitlog")).unwrap().count(),
        1,
        "no file made ahead is left"
    );
}

#[test]
fn many_threads_get_offsets_without_gap_or_repetition() {
    const THREADS: usize = 8;
    const EACH: usize = 2000;
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.queue_flush_interval = Duration::from_millis(1);
    options.flush_interval = Duration::from_millis(1);
    let store = Store::open(options).unwrap();
    let arrived = Arc::new(Mutex::new(HashMap::<_, Vec<i64>>::new()));
    let arrivals = Arc::clone(&arrived);
    store.on_arrival(move |arrival| {
        let queue = (arrival.topic.to_owned(), arrival.queue_id);
        arrivals.lock().unwrap().entry(queue).or_default().push(arrival.queue_offset.get());
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for i in 0..EACH {
                    let queue_id = QueueId::new(((thread + i) % 3) as i32);
                    put(
                        store,
                        if i % 2 == 0 { "even" } else { "odd" },
                        queue_id,
                        format!("{thread} {i}").as_bytes(),
                    );
                }
            });
        }
    });
    let arrived = arrived.lock().unwrap();
    assert_eq!(arrived.len(), 6);
    let mut total = 0;
    for ((topic, queue_id), offsets) in arrived.iter() {
        assert!(offsets.iter().copied().eq(0..offsets.len() as i64), "{topic} {queue_id}");
        let messages = drain(&store, topic, *queue_id);
        assert!(messages.iter().map(|message| message.queue_offset.get()).eq(0..offsets.len() as i64));
        assert!(messages.is_sorted_by_key(|message| message.physical_offset));
        total += messages.len();
    }
    assert_eq!(total, THREADS * EACH);
}
