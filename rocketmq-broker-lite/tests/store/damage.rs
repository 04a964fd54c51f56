//! Every record, every unit and every byte of the checkpoint damaged in turn: what is whole is served.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use rocketmq_broker_lite::store::{IndexKey, KeyQuery, Store, StoreError, StoreOptions};
use rocketmq_protocol::QueueId;
use rocketmq_protocol::message::SysFlag;

use super::records::{Q0, copy_folder, decode, drain, options, put, record};

const LOG_FILE: i64 = 4096;
const UNITS_PER_FILE: usize = 10;
const RECORDS: usize = 54;

/// A store of two queues in three log files, and where its records are.
struct Original {
    dir: tempfile::TempDir,
    /// Start and end.
    places: Vec<(i64, i64)>,
}

fn small(root: &Path) -> StoreOptions {
    let mut options = options(root);
    options.commit_log_file_size = LOG_FILE as u64;
    options.consume_queue_file_size = UNITS_PER_FILE as u64 * 20;
    // A second for each message: recovery has no need to go far back behind the checkpoint.
    let time = AtomicI64::new(1_000_000);
    options.clock = Arc::new(move || time.fetch_add(1000, Ordering::Relaxed));
    options
}

fn body(record: usize) -> Vec<u8> {
    vec![b'a' + (record % 26) as u8; 40 + record * 37 % 120]
}

impl Original {
    /// With the queues on disk or not; the last run did not end in order either way.
    fn new(queues_on_disk: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(small(&dir.path().join("original"))).unwrap();
        let places = (0..RECORDS)
            .map(|record| put(&store, "t", QueueId::new((record % 2) as i32), &body(record)))
            .map(|appended| (appended.position.get(), appended.end.get()))
            .collect();
        if queues_on_disk {
            store.close().unwrap();
            fs::write(dir.path().join("original/abort"), "1").unwrap();
        }
        drop(store);
        Self { dir, places }
    }

    fn copy(&self) -> PathBuf {
        let copy = self.dir.path().join("copy");
        fs::remove_dir_all(&copy).ok();
        copy_folder(&self.dir.path().join("original"), &copy);
        copy
    }
}

/// Writes over bytes of a log, or of a queue, which are files of `size` bytes.
fn damage(folder: &Path, size: i64, at: i64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(folder.join(format!("{:020}", at / size * size))).unwrap();
    file.write_all_at(bytes, (at % size) as u64).unwrap();
}

fn flip(folder: &Path, size: i64, at: i64) {
    let path = folder.join(format!("{:020}", at / size * size));
    let byte = fs::read(path).unwrap()[(at % size) as usize];
    damage(folder, size, at, &[byte ^ 0x55]);
}

/// Opens the store, which must have the `kept` first messages and take another; returns what it said.
fn check(root: &Path, kept: usize, case: &str) -> String {
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let store = tracing::subscriber::with_default(subscriber, || Store::open(small(root)).unwrap());
    for queue in 0..2 {
        let queue_id = QueueId::new(queue as i32);
        let expected: Vec<_> = (0..kept).filter(|record| record % 2 == queue).map(body).collect();
        let found: Vec<_> =
            drain(&store, "t", queue_id).iter().map(|message| message.body.to_vec()).collect();
        assert!(
            found == expected,
            "{case}: queue {queue} has {} messages, not {}",
            found.len(),
            expected.len()
        );
        assert_eq!(put(&store, "t", queue_id, b"next").queue_offset.get() as usize, expected.len(), "{case}");
    }
    String::from_utf8(said.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_log_damaged_in_any_record_has_all_before_it() {
    for queues_on_disk in [false, true] {
        let original = Original::new(queues_on_disk);
        // A checkpoint says that what is before it is good: that is not looked at again.
        let first = if queues_on_disk { RECORDS - 4 } else { 0 };
        for record in first..RECORDS {
            let (start, end) = original.places[record];
            let body_at = start + 88 + (end - start - 91 - 1) / 2;
            // Size, magic number, own position, body: one kind for each record.
            for at in [start + 3, start + 4, start + 35, body_at].into_iter().skip(record % 4).take(1) {
                let copy = original.copy();
                flip(&copy.join("commitlog"), LOG_FILE, at);
                let case = format!("byte {} of record {record} flipped", at - start);
                let said = check(&copy, record, &case);
                let dropped = said.contains("dropping it and what follows")
                    && said.contains(&format!("position={start}"));
                assert!(dropped, "{case}: {said}");
            }
            // Nothing from there on, as if it had never been written.
            let inside = [start + 1, start + 20, body_at, end - 4][record % 4];
            for at in [start, inside] {
                let copy = original.copy();
                let in_file = at % LOG_FILE;
                damage(&copy.join("commitlog"), LOG_FILE, at, &vec![0; (LOG_FILE - in_file) as usize]);
                let case = format!("log ends {} bytes into record {record}", at - start);
                let said = check(&copy, record, &case);
                let something_left = at > start + 3; // the size begins with zeros
                assert!(!something_left || said.contains("damaged record"), "{case}: {said}");
            }
        }
    }
}

#[test]
fn queues_damaged_in_any_unit_are_taken_from_the_log() {
    let original = Original::new(true);
    for unit in 0..RECORDS / 2 {
        let at = unit as i64 * 20;
        let file_size = UNITS_PER_FILE as i64 * 20;
        let to_file_end = (file_size - at % file_size) as usize;
        for (what, bytes) in
            [("unit zeroed", 20), ("file zeroed from unit", to_file_end), ("half of unit zeroed", 12)]
        {
            let copy = original.copy();
            damage(&copy.join("consumequeue/t/1"), file_size, at, &vec![0; bytes]);
            check(&copy, RECORDS, &format!("{what} {unit}"));
        }
    }
    let copy = original.copy();
    flip(&copy.join("consumequeue/t/1"), UNITS_PER_FILE as i64 * 20, (RECORDS as i64 / 2 - 1) * 20 + 1);
    check(&copy, RECORDS, "last unit points nowhere");
    for gone in
        ["consumequeue/t/1/00000000000000000400", "consumequeue/t/1", "consumequeue/t", "consumequeue"]
    {
        let copy = original.copy();
        let path = copy.join(gone);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        check(&copy, RECORDS, &format!("{gone} deleted"));
    }
}

#[test]
fn a_unit_that_points_elsewhere_costs_its_own_message_at_most() {
    let original = Original::new(true);
    for unit in 0..RECORDS / 2 - 1 {
        for byte in [7, 11] {
            let copy = original.copy();
            flip(&copy.join("consumequeue/t/1"), UNITS_PER_FILE as i64 * 20, unit as i64 * 20 + byte);
            let store = Store::open(small(&copy)).unwrap();
            let found = drain(&store, "t", QueueId::new(1));
            let offsets: Vec<_> = found.iter().map(|message| message.queue_offset.get() as usize).collect();
            let others: Vec<_> =
                (0..RECORDS / 2).filter(|other| *other != unit || offsets.contains(&unit)).collect();
            assert_eq!(offsets, others, "byte {byte} of unit {unit}");
        }
    }
}

#[test]
fn a_checkpoint_cut_or_damaged_anywhere_loses_nothing() {
    for queues_on_disk in [false, true] {
        let original = Original::new(queues_on_disk);
        let whole =
            fs::read(original.dir.path().join("original/checkpoint")).unwrap_or_else(|_| vec![0; 4096]);
        let cut = (0..=40).step_by(4).map(|len| whole[..len].to_vec());
        let flipped = (0..40).step_by(3).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            bytes
        });
        for (case, bytes) in
            cut.chain(flipped).chain([vec![0; 4096], vec![0xff; 4096], vec![0x7f; 4096]]).enumerate()
        {
            let copy = original.copy();
            fs::write(copy.join("checkpoint"), bytes).unwrap();
            check(&copy, RECORDS, &format!("checkpoint {case}"));
        }
    }
}

#[test]
fn an_index_damaged_anywhere_costs_keys_of_a_chain_and_no_message() {
    let (slots, items) = (10, 60);
    let dir = tempfile::tempdir().unwrap();
    let open = |root: &Path| {
        let mut options = small(root);
        (options.index_slots, options.index_items) = (slots, items);
        Store::open(options)
    };
    let send = |store: &Store, key: usize| {
        let keys = format!("KEYS\u{1}k{key}\u{2}");
        store.append("t", Q0, &mut record("t", Q0, &body(key), &keys, SysFlag::default())).unwrap().position
    };
    let found = |store: &Store, key: usize| {
        let key = format!("k{key}");
        let key = IndexKey::Key(&key);
        let (begin_timestamp, end_timestamp, max_messages) = (0, i64::MAX, 9);
        let query =
            KeyQuery { topic: "t", key, begin_timestamp, end_timestamp, max_messages, max_bytes: usize::MAX };
        let records = store.query(query).unwrap().records.into_iter().flat_map(decode);
        records.map(|message| message.physical_offset).collect::<Vec<_>>()
    };
    let store = open(&dir.path().join("original")).unwrap();
    let places: Vec<_> = (0..RECORDS).map(|key| send(&store, key)).collect();
    store.close().unwrap();
    drop(store);
    fs::write(dir.path().join("original/abort"), "1").unwrap();
    let name = fs::read_dir(dir.path().join("original/index")).unwrap().next().unwrap().unwrap().file_name();
    let whole = fs::read(dir.path().join("original/index").join(&name)).unwrap();

    let copied = || {
        let copy = dir.path().join("copy");
        fs::remove_dir_all(&copy).ok();
        copy_folder(&dir.path().join("original"), &copy);
        copy
    };
    // Each number of header, slots and items, in one of two ways; from there on; all.
    let numbers = (0..whole.len()).step_by(4);
    for (case, at) in numbers.enumerate() {
        let copy = copied();
        let mut bytes = whole.clone();
        match case % 3 {
            0 => bytes[at + 3] ^= 0x55,
            1 => bytes[at..at + 4].fill(0),
            _ => bytes[at..].fill(0),
        }
        fs::write(copy.join("index").join(&name), bytes).unwrap();
        let store = open(&copy).unwrap();
        assert_eq!(drain(&store, "t", Q0).len(), RECORDS, "byte {at}");
        let lost = places.iter().enumerate().filter(|(key, at)| {
            let found = found(&store, *key);
            assert!(found.is_empty() || found == [**at], "key {key}: {found:?}");
            found.is_empty()
        });
        let (lost, in_items) = (lost.count(), at >= 40 + slots as usize * 4);
        // A damaged item ends the chain of its slot, a damaged slot hides it.
        assert!(case % 3 == 2 || at < 40 || lost <= 20, "byte {at} costs {lost} keys");
        assert!(case % 3 != 1 || !in_items || lost <= 10, "byte {at} costs {lost} keys");
        let new = send(&store, RECORDS);
        assert_eq!(found(&store, RECORDS), [new], "byte {at}");
    }
    let copy = copied();
    fs::write(copy.join("index").join(&name), &whole[..100]).unwrap();
    let refused = open(&copy).unwrap_err();
    assert!(
        matches!(&refused, StoreError::FileSize { path, found: 100, .. } if path.ends_with(&name)),
        "{refused}"
    );
    for gone in [copy.join("index").join(&name), copy.join("index")] {
        if gone.is_dir() { fs::remove_dir_all(&gone) } else { fs::remove_file(&gone) }.unwrap();
        let store = open(&copy).unwrap();
        assert!(
            (0..RECORDS).all(|key| found(&store, key) == [places[key]]),
            "{} is made again",
            gone.display()
        );
    }
}

#[test]
fn a_file_that_is_too_short_is_named() {
    let original = Original::new(true);
    for name in ["commitlog/00000000000000004096", "consumequeue/t/1/00000000000000000200"] {
        let copy = original.copy();
        OpenOptions::new().write(true).open(copy.join(name)).unwrap().set_len(100).unwrap();
        let refused = Store::open(small(&copy)).unwrap_err();
        assert!(
            matches!(&refused, StoreError::FileSize { path, found: 100, .. } if path.ends_with(name)),
            "{refused}"
        );
    }
}
