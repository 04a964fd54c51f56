//! Folders that a Java broker wrote, against what Java's own classes read in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use rocketmq_broker_lite::store::{Store, StoreOptions};
use rocketmq_protocol::message::{StoredMessageRef, stored};
use rocketmq_protocol::{LogPosition, QueueId};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Expected {
    end: i64,
    #[serde(default)]
    checkpoint: Vec<i64>,
    #[serde(default)]
    pub(crate) records: Vec<Record>,
    #[serde(default)]
    pub(crate) index: Vec<IndexHeader>,
    #[serde(default)]
    pub(crate) batch_units: BTreeMap<String, Vec<BatchUnit>>,
    #[serde(default)]
    pub(crate) key_queries: BTreeMap<String, Vec<i64>>,
    #[serde(default)]
    queues: BTreeMap<String, Vec<(i64, i64, i32, i64)>>,
    ranges: BTreeMap<String, (i64, i64)>,
}

/// position, size, topic, queue id, queue offset, store timestamp, system flag, body CRC, tag hash
pub(crate) type Record = (i64, usize, String, i32, i64, i64, i32, u32, i64);

/// file name, begin timestamp, end timestamp, begin position, end position, slots in use, number of the next item
pub(crate) type IndexHeader = (String, i64, i64, i64, i64, i32, i32);

/// position, size, tag hash, store timestamp, offset of the first message, messages
pub(crate) type BatchUnit = (i64, usize, i64, i64, i64, i64);

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub(crate) fn expected() -> BTreeMap<String, Expected> {
    serde_json::from_reader(File::open(golden().join("expected.json")).unwrap()).unwrap()
}

/// Unpacks what the store reads of one folder.
pub(crate) fn unpack(name: &str, target: &Path) -> StoreOptions {
    let archive = File::open(golden().join("store.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let part = path.strip_prefix(name).ok().and_then(|path| path.components().next());
        let part = part.and_then(|part| part.as_os_str().to_str().map(str::to_owned));
        let parts = [
            "commitlog",
            "consumequeue",
            "batchconsumequeue",
            "index",
            "checkpoint",
            "abort",
            "abort.bak",
            "lock",
        ];
        if part.is_some_and(|part| parts.contains(&part.as_str())) {
            entry.unpack_in(target).unwrap();
        }
    }
    let mut options = StoreOptions::new(target.join(name));
    options.commit_log_file_size = 131_072;
    options.consume_queue_file_size = 1000;
    options.batch_queue_file_size = 4600;
    (options.index_slots, options.index_items) = (100, 200);
    options
}

fn check_ranges(store: &Store, expected: &Expected) {
    for (queue, (min, max)) in &expected.ranges {
        let (topic, queue_id) = queue.rsplit_once('/').unwrap();
        let queue_id = QueueId::new(queue_id.parse().unwrap());
        // The broker that ranges were read from went on to give up pending transactions.
        if topic != "TRANS_CHECK_MAX_TIME_TOPIC" {
            let range = (store.min_offset(topic, queue_id).get(), store.max_offset(topic, queue_id).get());
            assert_eq!(range, (*min, *max), "{queue}");
        }
    }
    assert_eq!(store.max_position().get(), expected.end);
}

fn check_records(store: &Store, records: &[Record]) {
    for (position, size, topic, queue_id, queue_offset, store_timestamp, sys_flag, body_crc, tag_hash) in
        records
    {
        let bytes = store.message_at(LogPosition::new(*position)).unwrap();
        let message = StoredMessageRef::parse(&bytes).unwrap();
        assert_eq!((bytes.len(), message.topic()), (*size, topic.as_str()));
        assert_eq!((message.queue_id().get(), message.queue_offset().get()), (*queue_id, *queue_offset));
        assert_eq!((message.store_timestamp(), message.sys_flag().get()), (*store_timestamp, *sys_flag));
        assert_eq!((message.body_crc(), message.crc_matches()), (*body_crc, true));
        assert_eq!(message.tag_hash().get(), *tag_hash);
    }
}

fn check_queues(store: &Store, expected: &Expected) {
    for (queue, units) in &expected.queues {
        let (topic, queue_id) = queue.rsplit_once('/').unwrap();
        let queue_id = QueueId::new(queue_id.parse().unwrap());
        for (offset, position, size, tag_hash) in units {
            let mut seen = None;
            let limits = rocketmq_broker_lite::store::ReadLimits { max_messages: 1, max_bytes: 0 };
            let offset = super::records::offset(*offset);
            let outcome = store
                .read(topic, queue_id, offset, limits, |tag_hash| {
                    seen.get_or_insert(tag_hash.get());
                    true
                })
                .unwrap();
            let message = &super::records::decode(outcome.records.first().unwrap().clone())[0];
            assert_eq!((seen, outcome.bytes as i32), (Some(*tag_hash), *size), "{queue} {offset}");
            assert_eq!((message.physical_offset.get(), message.queue_offset), (*position, offset));
        }
    }
}

/// The queue files below `root`, by path.
fn queue_files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_below(root, "consumequeue")
}

pub(crate) fn files_below(root: &Path, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn a_store_that_java_closed_opens_with_all_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    let expected = &expected()["clean"];
    let before = queue_files(&options.root);
    let store = Store::open(options.clone()).unwrap();
    check_ranges(&store, expected);
    check_records(&store, &expected.records);
    check_queues(&store, expected);
    store.close().unwrap();
    assert_eq!(before, queue_files(&options.root));
    let checkpoint = std::fs::read(options.root.join("checkpoint")).unwrap();
    let numbers: Vec<_> =
        checkpoint.chunks(8).map(|eight| i64::from_be_bytes(eight.try_into().unwrap())).collect();
    assert_eq!(numbers[2..4], expected.checkpoint[2..4]);
    assert_eq!(numbers[0], expected.records.last().unwrap().5);
}

#[test]
fn a_store_that_java_was_killed_over_recovers_every_message() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("killed", dir.path());
    let expected = expected();
    let store = Store::open(options).unwrap();
    check_ranges(&store, &expected["killed"]);
    check_records(&store, &expected["clean"].records);
    check_records(&store, &expected["killed"].records);
    check_queues(&store, &expected["killed"]);
}

#[test]
fn damaged_tails_are_cut_where_java_cuts_them() {
    for name in ["torn-half", "torn-garbage"] {
        let dir = tempfile::tempdir().unwrap();
        let options = unpack(name, dir.path());
        let expected = expected();
        let store = Store::open(options.clone()).unwrap();
        check_ranges(&store, &expected[name]);
        check_records(&store, &expected["killed"].records);
        store.close().unwrap();
        let last = std::fs::read(options.root.join("commitlog/00000000000000262144")).unwrap();
        let end = (expected[name].end - 262_144) as usize;
        assert!(last[end..].iter().all(|byte| *byte == 0), "{name}: bytes are left behind the end");
    }
}

#[test]
fn queues_rebuilt_from_the_log_are_those_that_java_built() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    let java = queue_files(&options.root);
    std::fs::remove_dir_all(options.root.join("consumequeue")).unwrap();
    let store = Store::open(options.clone()).unwrap();
    check_queues(&store, &expected()["clean"]);
    store.close().unwrap();
    assert_eq!(java, queue_files(&options.root));
}

#[test]
fn messages_appended_to_a_java_store_follow_javas() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    let store = Store::open(options.clone()).unwrap();
    let appended = super::records::put(&store, "NormalTopic", QueueId::new(0), b"ours");
    assert_eq!((appended.position.get(), appended.queue_offset.get()), (283_356, 61));
    store.close().unwrap();
    let store = Store::open(options).unwrap();
    assert_eq!(super::records::drain(&store, "NormalTopic", QueueId::new(0)).len(), 62);
}

#[test]
fn a_java_record_keeps_its_bytes_when_it_gets_its_own_place_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(unpack("clean", dir.path())).unwrap();
    for (position, _, _, _, queue_offset, store_timestamp, ..) in &expected()["clean"].records {
        let java = store.message_at(LogPosition::new(*position)).unwrap();
        let mut ours = java.to_vec();
        stored::patch(
            &mut ours,
            super::records::offset(*queue_offset),
            LogPosition::new(*position),
            *store_timestamp,
        );
        assert_eq!(ours, java);
    }
}
