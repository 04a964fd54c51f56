//! Cleaning: which files go, which stay, and who may still read them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rocketmq_broker_lite::store::{AppendError, ReadStatus, Store, StoreOptions};
use rocketmq_protocol::message::SysFlag;
use rocketmq_protocol::{LogPosition, QueueId};

use super::records::{ALL, Q0, drain, offset, options, put, record};

const HOUR_MS: i64 = 3_600_000;

/// A store whose clock stands still until it is told.
fn timed(root: &Path) -> (StoreOptions, Arc<AtomicI64>) {
    let mut options = options(root);
    let now = Arc::new(AtomicI64::new(1_000_000 * HOUR_MS));
    let clock = Arc::clone(&now);
    options.clock = Arc::new(move || clock.load(Ordering::Relaxed));
    options.disk.set_used_percent(Some(10));
    (options, now)
}

/// Appends until the log has `files` files; returns the first offset in the last of them.
fn fill(store: &Store, topic: &str, files: i64) -> i64 {
    loop {
        let appended = put(store, topic, Q0, &[7; 1000]);
        if appended.position.get() >= (files - 1) * 65_536 {
            return appended.queue_offset.get();
        }
    }
}

fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn expired_files_go_in_their_hour_and_the_last_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, now) = timed(dir.path());
    options.cleaning.hours = Vec::new();
    let store = Store::open(options.clone()).unwrap();
    fill(&store, "t", 3);
    now.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
    let kept_from = fill(&store, "t", 4);
    now.fetch_add(71 * HOUR_MS, Ordering::Relaxed);
    store.clean().unwrap();
    assert_eq!(store.min_position(), LogPosition::ZERO, "not in this hour");
    store.close().unwrap();
    drop(store);

    options.cleaning.hours = (0..24).collect();
    let store = Store::open(options.clone()).unwrap();
    store.clean().unwrap();
    // The third file has messages that are two hours younger than the rest of it.
    assert_eq!(store.min_position().get(), 2 * 65_536);
    assert_eq!(files_in(&dir.path().join("commitlog"))[0], "00000000000000131072");
    now.fetch_add(1000 * HOUR_MS, Ordering::Relaxed);
    store.clean().unwrap();
    assert_eq!(store.min_position().get(), 3 * 65_536);
    assert_eq!(store.min_offset("t", Q0).get(), kept_from);
    assert_eq!(drain(&store, "t", Q0).first().map(|message| message.queue_offset.get()), Some(kept_from));
}

#[test]
fn expired_files_go_in_one_hour_of_the_day_or_when_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, now) = timed(dir.path());
    options.cleaning.hours = vec![4];
    options.cleaning.keep = std::time::Duration::ZERO;
    let store = Store::open(options).unwrap();
    // Half past, so that zones which are off by half an hour have one hour of the name, too.
    now.fetch_add(HOUR_MS / 2, Ordering::Relaxed);
    let mut cleaned_at = Vec::new();
    for hour in 0..48 {
        let start = store.min_position();
        while put(&store, "t", Q0, &[7; 30_000]).position.get() < start.get() + 2 * 65_536 {}
        store.clean().unwrap();
        if store.min_position() > start {
            cleaned_at.push(hour);
        } else {
            store.clean_at_any_hour().unwrap();
            assert!(store.min_position() > start);
        }
        now.fetch_add(HOUR_MS, Ordering::Relaxed);
    }
    assert_eq!(cleaned_at.len(), 2);
    assert_eq!(cleaned_at[0] + 24, cleaned_at[1]);
}

#[test]
fn queue_files_follow_the_log_and_reads_say_where_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, _) = timed(dir.path());
    options.cleaning.keep = std::time::Duration::ZERO;
    options.cleaning.hours = (0..24).collect();
    let store = Store::open(options.clone()).unwrap();
    let first = fill(&store, "t", 5);
    put(&store, "idle", Q0, b"in the last file");
    let folder = dir.path().join("consumequeue/t/0");
    store.clean().unwrap();
    // 100 units to a file.
    let oldest = format!("{:020}", first / 100 * 2000);
    assert_eq!(files_in(&folder).first(), Some(&oldest));
    let early = store.read("t", Q0, offset(3), ALL, |_| true).unwrap();
    assert_eq!((early.status, early.next_offset.get()), (ReadStatus::OffsetTooSmall, first));
    assert_eq!(store.min_offset("idle", Q0).get(), 0);
    drop(store); // as if killed
    let store = Store::open(options).unwrap();
    assert_eq!(store.min_offset("t", Q0).get(), first);
    assert_eq!(files_in(&folder).first(), Some(&oldest));
}

#[test]
fn a_queue_that_expired_whole_goes_on_with_its_numbers_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, _) = timed(dir.path());
    options.cleaning.keep = std::time::Duration::ZERO;
    options.cleaning.hours = (0..24).collect();
    let store = Store::open(options.clone()).unwrap();
    for _ in 0..7 {
        put(&store, "old", Q0, b"soon gone");
    }
    fill(&store, "t", 3);
    store.clean().unwrap();
    assert!(store.min_position().get() > 0);
    assert_eq!((store.min_offset("old", Q0), store.max_offset("old", Q0)), (offset(7), offset(7)));
    drop(store); // as if killed: what was in memory only is lost
    let store = Store::open(options).unwrap();
    assert_eq!((store.min_offset("old", Q0), store.max_offset("old", Q0)), (offset(7), offset(7)));
    assert_eq!(put(&store, "old", Q0, b"next").queue_offset, offset(7));
}

#[test]
fn a_disk_above_its_limits_deletes_before_time_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = timed(dir.path());
    let store = Store::open(options.clone()).unwrap();
    fill(&store, "t", 14);
    for (used, start) in [(75, 0), (85, 0), (86, 10), (91, 13)] {
        options.disk.set_used_percent(Some(used));
        store.clean().unwrap();
        assert_eq!(store.min_position().get(), start * 65_536, "{used} % used");
    }
    let refused = store.append("t", Q0, &mut record("t", Q0, b"", "", SysFlag::default())).unwrap_err();
    assert!(
        matches!(refused, AppendError::DiskUsage { used_percent: 91, limit_percent: 90, .. }),
        "{refused:?}"
    );
    let text = refused.to_string();
    assert!(
        text.contains(dir.path().to_str().unwrap()) && text.contains("91 %") && text.contains("90 %"),
        "{text}"
    );
    assert!(!drain(&store, "t", Q0).is_empty());
    options.disk.set_used_percent(Some(90));
    store.clean().unwrap();
    put(&store, "t", Q0, b"taken again");
}

#[test]
fn nothing_goes_before_its_time_where_that_is_forbidden() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, _) = timed(dir.path());
    options.cleaning.forcibly_above = None;
    let store = Store::open(options.clone()).unwrap();
    fill(&store, "t", 3);
    options.disk.set_used_percent(Some(99));
    store.clean().unwrap();
    assert_eq!(store.min_position(), LogPosition::ZERO);
    assert!(matches!(store.writable(), Err(AppendError::DiskUsage { .. })));
}

#[test]
fn readers_of_a_deleted_file_finish_and_later_ones_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, _) = timed(dir.path());
    options.cleaning.keep = std::time::Duration::ZERO;
    options.cleaning.hours = (0..24).collect();
    let store = Store::open(options).unwrap();
    fill(&store, "t", 2);
    let held = store.read("t", Q0, offset(0), ALL, |_| true).unwrap();
    let message = store.message_at(LogPosition::ZERO).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Readers at both ends while files come and go.
        for ahead in [0, 1] {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut read = 0;
                while !stop.load(Ordering::Relaxed) || read == 0 {
                    let from = if ahead == 0 {
                        store.min_offset("t", Q0)
                    } else {
                        store.max_offset("t", Q0).plus(-1)
                    };
                    let outcome = store.read("t", Q0, from, ALL, |_| true).unwrap();
                    for messages in outcome.records {
                        for message in super::records::decode(messages) {
                            assert_eq!(message.body, [7; 1000][..]);
                            read += 1;
                        }
                    }
                }
            });
        }
        for files in 3..20 {
            fill(&store, "t", files);
            store.clean().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(files_in(&dir.path().join("commitlog")).len() <= 2, "the current file and the next");
    assert_eq!(store.message_at(LogPosition::ZERO), None);
    let first = super::records::decode(message);
    assert_eq!(first[0].body, [7; 1000][..]);
    let held: Vec<_> = held.records.into_iter().flat_map(super::records::decode).collect();
    assert!(!held.is_empty() && held.iter().all(|message| message.body == [7; 1000][..]));
    assert!(store.store_time("t", QueueId::new(0), offset(0)).unwrap().is_none());
}
