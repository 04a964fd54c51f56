//! Opening what a stop, a kill or a power cut left.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rocketmq_broker_lite::store::{Store, StoreError, StoreOptions};
use rocketmq_protocol::message::SysFlag;
use rocketmq_protocol::{LogPosition, QueueId};

use super::records::{Q0, copy_folder, drain, options, put, record};

/// Bodies of a queue, which must have offsets from 0 without gaps.
fn bodies(store: &Store, topic: &str, queue_id: QueueId) -> Vec<Vec<u8>> {
    let messages = drain(store, topic, queue_id);
    assert!(messages.iter().map(|message| message.queue_offset.get()).eq(0..messages.len() as i64));
    messages.into_iter().map(|message| message.body.to_vec()).collect()
}

/// Opens a copy of the store's folder, as if the machine had stopped now.
fn reopen_copy(options: &StoreOptions, to: &Path) -> Store {
    copy_folder(&options.root, to);
    let mut copy = super::records::options(to);
    copy.commit_log_file_size = options.commit_log_file_size;
    copy.consume_queue_file_size = options.consume_queue_file_size;
    Store::open(copy).unwrap()
}

#[test]
fn a_closed_store_opens_with_everything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    for round in 0..3 {
        let store = Store::open(options.clone()).unwrap();
        assert_eq!(store.max_offset("t", Q0).get(), round * 200);
        for _ in 0..200 {
            put(&store, "t", Q0, &[5; 500]);
        }
        store.close().unwrap();
    }
    let store = Store::open(options).unwrap();
    assert_eq!(bodies(&store, "t", Q0).len(), 600);
}

#[test]
fn a_killed_store_has_every_appended_message() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    for i in 0..500 {
        put(&store, "t", QueueId::new(i % 2), &[5; 500]);
    }
    drop(store); // not closed: what was only in memory is lost
    assert!(!dir.path().join("consumequeue/t").exists());
    let store = Store::open(options).unwrap();
    assert_eq!(bodies(&store, "t", Q0).len(), 250);
    assert_eq!(store.next_offset("t", QueueId::new(1)).get(), 250);
    assert_eq!(put(&store, "t", Q0, b"next").queue_offset.get(), 250);
}

#[test]
fn an_empty_file_made_ahead_is_neither_end_nor_start() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    let end = put(&store, "t", Q0, &[5; 500]).end;
    drop(store);
    fs::write(dir.path().join("commitlog/00000000000000065536"), vec![0; 65_536]).unwrap();
    let store = Store::open(options.clone()).unwrap();
    assert_eq!(store.max_position(), end);
    assert!(!dir.path().join("commitlog/00000000000000065536").exists());
    drop(store);
    fs::write(dir.path().join("commitlog/00000000000000065536"), b"").unwrap();
    assert_eq!(Store::open(options).unwrap().max_position(), end);
}

#[test]
fn files_of_another_size_or_with_a_hole_between_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    while put(&store, "t", Q0, &[5; 5000]).position.get() < 140_000 {}
    store.close().unwrap();
    drop(store);
    let mut other = options.clone();
    other.commit_log_file_size *= 2;
    let refused = Store::open(other).unwrap_err();
    assert!(matches!(refused, StoreError::FileSize { found: 65_536, expected: 131_072, .. }), "{refused}");
    let mut other = options.clone();
    other.consume_queue_file_size *= 2;
    assert!(matches!(
        Store::open(other).unwrap_err(),
        StoreError::FileSize { found: 2000, expected: 4000, .. }
    ));
    fs::remove_file(dir.path().join("commitlog/00000000000000065536")).unwrap();
    let refused = Store::open(options).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Gap { path, .. } if path.ends_with("00000000000000131072")),
        "{refused}"
    );
}

#[test]
fn a_second_store_in_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let refused = Store::open(options(dir.path())).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    drop(store);
    Store::open(options(dir.path())).unwrap();
}

#[test]
fn remains_of_a_cut_record_never_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    let ends: Vec<_> = (0..10).map(|i| put(&store, "t", Q0, &[i; 100]).end.get() as usize).collect();
    drop(store);
    // Damage the body of the sixth: it and the four whole ones behind it go.
    let path = dir.path().join("commitlog/00000000000000000000");
    let mut log = fs::read(&path).unwrap();
    log[ends[4] + 100] ^= 0xff;
    fs::write(&path, log).unwrap();
    let store = Store::open(options.clone()).unwrap();
    assert_eq!(store.max_position(), LogPosition::new(ends[4] as i64));
    // One of the same length in its place: its successor's old bytes would fit exactly behind it.
    assert_eq!(put(&store, "t", Q0, &[99; 100]).end.get() as usize, ends[5]);
    drop(store);
    let store = Store::open(options).unwrap();
    let found: Vec<_> = bodies(&store, "t", Q0).iter().map(|body| body[0]).collect();
    assert_eq!(found, [0, 1, 2, 3, 4, 99]);
}

#[test]
fn an_orderly_stop_makes_the_next_start_read_the_last_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    for _ in 0..10 {
        put(&store, "t", Q0, &[1; 100]);
    }
    store.close().unwrap();
    drop(store);
    let path = dir.path().join("commitlog/00000000000000000000");
    let mut log = fs::read(&path).unwrap();
    log[100] ^= 0xff; // in the first record's body: a scan would end there
    fs::write(&path, log).unwrap();
    assert_eq!(Store::open(options).unwrap().max_offset("t", Q0).get(), 10);
}

#[test]
fn recovery_after_a_kill_reads_the_log_from_the_checkpoint_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let time = AtomicI64::new(1_000_000);
    options.clock = Arc::new(move || time.fetch_add(1000, Ordering::Relaxed));
    let store = Store::open(options.clone()).unwrap();
    while put(&store, "t", Q0, &[1; 5000]).position.get() < 140_000 {}
    store.close().unwrap();
    let synced = store.max_offset("t", Q0);
    let store = Store::open(options.clone()).unwrap();
    put(&store, "t", Q0, b"after the checkpoint");
    drop(store);
    let path = dir.path().join("commitlog/00000000000000000000");
    let mut log = fs::read(&path).unwrap();
    log[100] ^= 0xff; // in the first record's body: a scan would end there
    fs::write(&path, log).unwrap();
    let store = Store::open(options).unwrap();
    assert_eq!(store.max_offset("t", Q0), synced.plus(1));
}

#[test]
fn a_queue_that_starts_in_the_middle_keeps_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    let mut first_in_second_file = None;
    for _ in 0..20 {
        let appended = put(&store, "t", Q0, &[1; 5000]);
        if appended.position.get() >= 65_536 {
            first_in_second_file.get_or_insert(appended.queue_offset);
        }
    }
    drop(store);
    fs::remove_file(dir.path().join("commitlog/00000000000000000000")).unwrap();
    for _ in 0..2 {
        let store = Store::open(options.clone()).unwrap();
        assert_eq!(Some(store.min_offset("t", Q0)), first_in_second_file);
        assert_eq!(drain(&store, "t", Q0).first().map(|message| message.queue_offset), first_in_second_file);
        assert_eq!(store.max_offset("t", Q0).get(), 20);
        store.close().unwrap();
    }
    let units = fs::read(dir.path().join("consumequeue/t/0/00000000000000000000")).unwrap();
    assert_eq!(units[..20], [0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_copy_taken_at_any_moment_has_what_was_acknowledged_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&dir.path().join("store"));
    options.queue_flush_interval = Duration::from_millis(1);
    options.thorough_queue_flush_interval = Duration::from_millis(3);
    let store = Store::open(options.clone()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut i = 0_u32;
            while !stop.load(Ordering::Relaxed) && i < 200_000 {
                put(&store, "t", QueueId::new((i % 5) as i32), &i.to_be_bytes().repeat(25));
                i += 1;
            }
        });
        for round in 0..5 {
            let acknowledged: Vec<_> =
                (0..5).map(|id| store.max_offset("t", QueueId::new(id)).get()).collect();
            let copy = reopen_copy(&options, &dir.path().join(format!("copy{round}")));
            for (id, acknowledged) in (0..5).zip(acknowledged) {
                assert!(bodies(&copy, "t", QueueId::new(id)).len() as i64 >= acknowledged);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_record_whose_topic_was_damaged_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    let damaged = put(&store, "t", Q0, b"first").end.get() as usize;
    put(&store, "t", Q0, b"second");
    drop(store);
    let path = dir.path().join("commitlog/00000000000000000000");
    let mut log = fs::read(&path).unwrap();
    log[damaged - 3] = b'/'; // no checksum covers it
    fs::write(&path, log).unwrap();
    let store = Store::open(options).unwrap();
    assert_eq!(store.min_offset("t", Q0).get(), 1);
    assert_eq!(drain(&store, "t", Q0)[0].body, &b"second"[..]);
    assert_eq!(store.queues().len(), 1);
    store.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_log_cut_anywhere_opens_with_the_messages_before_the_cut(
        sizes in proptest::collection::vec((0_usize..3000, 0_i32..3), 1..120),
        cut in 0.0..1.0_f64,
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        queues_on_disk in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let store = Store::open(options.clone()).unwrap();
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (i, (size, queue)) in sizes.iter().enumerate() {
            let appended = put(&store, "t", QueueId::new(*queue), &vec![i as u8 | 1; *size]);
            starts.push(appended.position.get());
            ends.push(appended.end.get());
        }
        if queues_on_disk {
            store.close().unwrap();
            fs::write(dir.path().join("abort"), "1").unwrap();
        }
        drop(store);

        let cut = (*ends.last().unwrap() as f64 * cut) as i64;
        // The topic's one letter and the properties' length, which is zero anyway, have no checksum: damage the length of the topic too.
        let cut = ends.iter().find(|end| (**end - 3..**end).contains(&cut)).map_or(cut, |end| end - 4);
        let (file, at) = (cut / 65_536 * 65_536, (cut % 65_536) as usize);
        let path = dir.path().join(format!("commitlog/{file:020}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[at..].fill(0);
        let n = garbage.len().min(bytes.len() - at);
        bytes[at..at + n].copy_from_slice(&garbage[..n]);
        fs::write(&path, bytes).unwrap();

        let before = ends.iter().take_while(|end| **end <= cut).count();
        let last_end = before.checked_sub(1).map_or(0, |last| ends[last]);
        // Behind the header that ends a file, damage is no damage.
        let in_filler = cut >= last_end + 8 && starts.get(before).is_some_and(|next| cut < *next);
        let kept = if in_filler { sizes.len() } else { before };
        for _ in 0..2 {
            let store = Store::open(options.clone()).unwrap();
            for queue in 0..3 {
                let expected: Vec<_> = sizes[..kept].iter().enumerate().filter(|(_, (_, of))| *of == queue)
                    .map(|(i, (size, _))| vec![i as u8 | 1; *size]).collect();
                let found = bodies(&store, "t", QueueId::new(queue));
                prop_assert!(found == expected, "queue {queue}: {} messages, not {}", found.len(), expected.len());
                prop_assert_eq!(store.next_offset("t", QueueId::new(queue)), store.max_offset("t", QueueId::new(queue)));
            }
        }
        let store = Store::open(options.clone()).unwrap();
        let before = store.max_offset("t", Q0);
        prop_assert_eq!(put(&store, "t", Q0, b"next").queue_offset, before);
        store.close().unwrap();
        let store = Store::open(options).unwrap();
        prop_assert_eq!(bodies(&store, "t", Q0).pop(), Some(b"next".to_vec()));
    }

    #[test]
    fn any_bytes_in_a_log_file_open_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        with_record in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        fs::create_dir_all(dir.path().join("commitlog")).unwrap();
        let mut file = if with_record { record("t", Q0, b"body", "", SysFlag::default()).to_vec() } else { Vec::new() };
        file.extend(bytes);
        file.resize(65_536, 0);
        fs::write(dir.path().join("commitlog/00000000000000000000"), file).unwrap();
        let store = Store::open(options).unwrap();
        prop_assert!(store.max_offset("t", Q0).get() >= i64::from(with_record));
    }
}
