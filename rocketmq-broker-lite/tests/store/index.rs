//! Finding messages by key: limits, times, kills, full disks, writers and readers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use rocketmq_broker_lite::store::{IndexKey, KeyQuery, Store, StoreError, StoreOptions};
use rocketmq_protocol::message::{StoredMessageRef, SysFlag};

use super::records::{Q0, copy_folder, record};

fn options(root: &std::path::Path) -> StoreOptions {
    let mut options = super::records::options(root);
    (options.index_slots, options.index_items) = (50, 100);
    options
}

fn send(store: &Store, properties: &str, body: &[u8]) -> i64 {
    let mut record = record("t", Q0, body, properties, SysFlag::default());
    store.append("t", Q0, &mut record).unwrap().position.get()
}

fn by_key(key: &str) -> KeyQuery<'_> {
    KeyQuery {
        topic: "t",
        key: IndexKey::Key(key),
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        max_messages: 64,
        max_bytes: usize::MAX,
    }
}

fn found(store: &Store, query: KeyQuery<'_>) -> Vec<i64> {
    let records = store.query(query).unwrap().records;
    records.iter().map(|record| StoredMessageRef::parse(record).unwrap().physical_offset().get()).collect()
}

#[test]
fn a_message_is_found_by_its_unique_key_its_keys_and_its_tag_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let at = send(&store, "UNIQ_KEY\u{1}u\u{2}KEYS\u{1}red  green red\u{2}TAGS\u{1}a || b\u{2}", b"");
    for key in ["u", "red", "green"] {
        assert_eq!(found(&store, by_key(key)), [at], "{key}");
    }
    assert_eq!(found(&store, KeyQuery { key: IndexKey::Tag("a || b"), ..by_key("") }), [at]);
    for key in ["a || b", "", "blue", "red green"] {
        assert!(found(&store, by_key(key)).is_empty(), "{key}");
    }
    assert!(found(&store, KeyQuery { key: IndexKey::Tag("a"), ..by_key("") }).is_empty());
    assert!(found(&store, KeyQuery { topic: "other", ..by_key("u") }).is_empty());
}

#[test]
fn another_key_of_the_same_hash_is_not_returned() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let (first, second) = (send(&store, "KEYS\u{1}AaAa\u{2}", b""), send(&store, "KEYS\u{1}BBBB\u{2}", b""));
    assert_eq!((found(&store, by_key("AaAa")), found(&store, by_key("BBBB"))), (vec![first], vec![second]));
}

#[test]
fn a_query_returns_the_newest_messages_within_its_limits_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let sent: Vec<_> = (0..300).map(|_| send(&store, "KEYS\u{1}k\u{2}", &[5; 100])).collect();
    assert_eq!(found(&store, by_key("k")), sent[236..]);
    assert!(found(&store, KeyQuery { max_messages: 0, ..by_key("k") }).is_empty());
    assert_eq!(found(&store, KeyQuery { max_messages: usize::MAX, ..by_key("k") }), sent);
    assert_eq!(found(&store, KeyQuery { max_bytes: 0, ..by_key("k") }), sent[299..]);
    assert_eq!(found(&store, KeyQuery { max_bytes: 598, ..by_key("k") }), sent[297..]);
}

#[test]
fn times_are_exact_to_the_millisecond_and_both_ends_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let time = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&time);
    options.clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let store = Store::open(options).unwrap();
    let mut sent = Vec::new();
    for i in 0..400_i64 {
        let now = 1_000_000 + i * 700 + if i > 150 { 10_000_000 } else { 0 };
        time.store(now, Ordering::Relaxed);
        sent.push((now, send(&store, "KEYS\u{1}k\u{2}", b"")));
    }
    let range = |begin: i64, end: i64| {
        let within = sent.iter().filter(|(time, _)| (begin..=end).contains(time));
        let expected: Vec<_> = within.map(|(_, at)| *at).collect();
        let query =
            KeyQuery { begin_timestamp: begin, end_timestamp: end, max_messages: 1000, ..by_key("k") };
        assert_eq!(found(&store, query), expected, "{begin} to {end}");
    };
    for i in 0..400 {
        let (time, later) = (sent[i].0, sent[(i + 37).min(399)].0);
        range(time, time);
        range(time + 1, later);
        range(time, later - 1);
    }
    range(i64::MIN, i64::MAX);
    range(5, 4);
}

#[test]
fn a_killed_store_finds_every_message_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let mut sent = Vec::new();
    for round in 0..4 {
        let store = Store::open(options.clone()).unwrap();
        for i in 0..130 {
            sent.push(send(&store, &format!("UNIQ_KEY\u{1}{}\u{2}KEYS\u{1}k\u{2}", round * 130 + i), b""));
        }
        if round == 1 {
            store.close().unwrap();
        }
    }
    let store = Store::open(options.clone()).unwrap();
    assert_eq!(found(&store, KeyQuery { max_messages: 1000, ..by_key("k") }), sent);
    for (i, at) in sent.iter().enumerate() {
        assert_eq!(found(&store, by_key(&i.to_string())), [*at]);
    }
    store.close().unwrap();
    // Each key is in once: 99 items to a file.
    assert_eq!(
        std::fs::read_dir(dir.path().join("index")).unwrap().count(),
        (2 * 4 * 130_usize).div_ceil(99)
    );
}

#[test]
fn a_store_copied_while_it_is_written_to_finds_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&dir.path().join("store"));
    (options.index_slots, options.index_items) = (300, 500);
    options.queue_flush_interval = std::time::Duration::from_millis(1);
    options.thorough_queue_flush_interval = std::time::Duration::from_millis(3);
    let store = Store::open(options.clone()).unwrap();
    let sent = AtomicI64::new(0);
    let copies = AtomicI64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while copies.load(Ordering::Relaxed) < 4 && sent.load(Ordering::Relaxed) < 5000 {
                send(&store, &format!("UNIQ_KEY\u{1}{}\u{2}", sent.load(Ordering::Relaxed)), b"");
                sent.fetch_add(1, Ordering::Release);
            }
        });
        for round in 0..4 {
            while sent.load(Ordering::Acquire) < 200 * (round + 1) {
                std::thread::yield_now();
            }
            // Readers at the same time, of the file that is being filled too.
            let there = sent.load(Ordering::Acquire);
            for number in (0..there).step_by(97).chain((there > 0).then_some(there - 1)) {
                assert_eq!(found(&store, by_key(&number.to_string())).len(), 1, "{number} of {there}");
            }
            let mut copy = options.clone();
            copy.root = dir.path().join(format!("copy{round}"));
            copy.commit_log_dir = copy.root.join("commitlog");
            copy_folder(&options.root, &copy.root);
            let copy = Store::open(copy).unwrap();
            for number in (0..there).step_by(13).chain((there > 0).then_some(there - 1)) {
                assert_eq!(found(&copy, by_key(&number.to_string())).len(), 1, "{number} of {there}");
            }
            copies.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[test]
fn a_kill_leaves_index_files_that_java_keeps_up_to_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&dir.path().join("store"));
    options.queue_flush_interval = std::time::Duration::from_millis(1);
    options.thorough_queue_flush_interval = std::time::Duration::ZERO;
    let store = Store::open(options.clone()).unwrap();
    let number = |bytes: &[u8], at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    for round in 1..=3 {
        let sent: Vec<_> = (0..70).map(|_| send(&store, "KEYS\u{1}k\u{2}", b"")).collect();
        // Java deletes files that end later than the checkpoint says, and relies on what the others count.
        let (copy, files) = loop {
            let copy = tempfile::tempdir_in(dir.path()).unwrap();
            copy_folder(&options.root, copy.path());
            let checkpoint = std::fs::read(copy.path().join("checkpoint")).unwrap_or(vec![0; 4096]);
            let index = std::fs::read_dir(copy.path().join("index")).into_iter().flatten();
            let paths: Vec<_> = index.map(|entry| entry.unwrap().path()).collect();
            let (mut kept, mut last) = (0, 0);
            for path in &paths {
                let file = std::fs::read(path).unwrap();
                if number(&file, 8) <= number(&checkpoint, 16) {
                    kept += number(&file, 32) as i32 - 1;
                    last = last.max(number(&file, 24));
                }
            }
            if kept == 70 * round && last == sent[69] {
                break (copy, paths);
            }
        };
        let mut copied = options.clone();
        (copied.root, copied.commit_log_dir) = (copy.path().to_owned(), copy.path().join("commitlog"));
        let copied = Store::open(copied).unwrap();
        let everything = KeyQuery { max_messages: 1000, ..by_key("k") };
        assert_eq!(found(&copied, everything).len() as i32, 70 * round);
        assert!(files.iter().all(|path| path.exists()), "none is built again");
    }
}

#[test]
fn a_full_disk_makes_the_index_late_but_stops_no_append_and_loses_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let disk = options.disk.clone();
    let store = Store::open(options).unwrap();
    send(&store, "KEYS\u{1}k\u{2}", b"");
    assert_eq!(found(&store, by_key("k")).len(), 1);
    disk.set_full(true);
    for _ in 0..150 {
        send(&store, "KEYS\u{1}k\u{2}", b"");
    }
    let all = || found(&store, KeyQuery { max_messages: 1000, ..by_key("k") }).len();
    assert!(all() < 151);
    disk.set_full(false);
    assert_eq!(all(), 151);
    store.close().unwrap();
}

#[test]
fn a_switched_off_index_is_caught_up_when_it_is_switched_on_again() {
    let dir = tempfile::tempdir().unwrap();
    let on = options(dir.path());
    let mut off = on.clone();
    off.index = false;
    let mut sent = Vec::new();
    for options in [&on, &off, &on] {
        let store = Store::open(options.clone()).unwrap();
        let before = found(&store, by_key("k"));
        assert_eq!(before, sent);
        sent.push(send(&store, "KEYS\u{1}k\u{2}", b""));
        if options.index {
            assert_eq!(found(&store, by_key("k")), sent);
        } else {
            assert_eq!(found(&store, by_key("k")), before);
        }
        store.close().unwrap();
    }
}

#[test]
fn files_of_another_layout_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    send(&store, "KEYS\u{1}k\u{2}", b"");
    store.close().unwrap();
    options.index_items += 1;
    let refused = Store::open(options.clone()).unwrap_err();
    assert!(matches!(refused, StoreError::FileSize { found: 2240, expected: 2260, .. }), "{refused}");
    options.index_slots = 0;
    assert!(matches!(Store::open(options).unwrap_err(), StoreError::Option { value: 0, .. }));
}

#[test]
fn index_files_go_with_the_log_files_they_point_into() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let store = Store::open(options.clone()).unwrap();
    let mut sent = Vec::new();
    while sent.last().is_none_or(|at| *at < 140_000) {
        sent.push(send(&store, "KEYS\u{1}k\u{2}", &[5; 100]));
    }
    store.close().unwrap();
    std::fs::remove_file(dir.path().join("commitlog/00000000000000000000")).unwrap();
    let files = || std::fs::read_dir(dir.path().join("index")).unwrap().count();
    let before = files();
    let store = Store::open(options).unwrap();
    sent.retain(|at| *at >= 65_536);
    assert_eq!(found(&store, KeyQuery { max_messages: 1000, ..by_key("k") }), sent);
    assert!(files() < before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_an_index_file_are_searched_and_lose_no_later_message(
        numbers in proptest::collection::vec(prop_oneof![4 => 0_i32..120, 1 => any::<i32>()], 560),
        in_header in any::<bool>(),
        killed in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let store = Store::open(options.clone()).unwrap();
        for _ in 0..70 {
            send(&store, "UNIQ_KEY\u{1}u\u{2}KEYS\u{1}k\u{2}", b"");
        }
        store.close().unwrap();
        if killed {
            std::fs::write(dir.path().join("abort"), "1").unwrap();
        }
        for file in std::fs::read_dir(dir.path().join("index")).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            for (at, (number, bytes)) in numbers.iter().zip(bytes.chunks_mut(4)).enumerate() {
                if in_header || at >= 10 {
                    bytes.copy_from_slice(&number.to_be_bytes());
                }
            }
            std::fs::write(&path, bytes).unwrap();
        }
        let store = Store::open(options).unwrap();
        for key in ["u", "k", "new"] {
            let query = KeyQuery { max_messages: 1000, ..by_key(key) };
            prop_assert!(found(&store, query).len() <= 70);
        }
        let sent: Vec<_> = (0..70).map(|_| send(&store, "KEYS\u{1}new\u{2}", b"")).collect();
        prop_assert_eq!(found(&store, KeyQuery { max_messages: 1000, ..by_key("new") }), sent);
        store.close().unwrap();
    }
}
