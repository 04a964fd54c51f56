//! The index files of folders that a Java broker wrote.

use std::collections::BTreeMap;
use std::path::Path;

use rocketmq_broker_lite::store::{IndexKey, KeyQuery, Store};
use rocketmq_protocol::message::StoredMessageRef;

use super::golden::{Expected, IndexHeader, expected, files_below, unpack};

/// Everything with a key.
fn query<'a>(topic: &'a str, key: IndexKey<'a>) -> KeyQuery<'a> {
    KeyQuery {
        topic,
        key,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        max_messages: 64,
        max_bytes: usize::MAX,
    }
}

fn positions(store: &Store, topic: &str, key: IndexKey<'_>) -> Vec<i64> {
    let records = store.query(query(topic, key)).unwrap().records;
    records.iter().map(|record| StoredMessageRef::parse(record).unwrap().physical_offset().get()).collect()
}

fn check_key_queries(store: &Store, expected: &Expected) {
    assert!(!expected.key_queries.is_empty());
    for (query, positions_of_java) in &expected.key_queries {
        let (topic, key) = query.split_once('#').unwrap();
        assert_eq!(positions(store, topic, IndexKey::Key(key)), *positions_of_java, "{query}");
    }
}

/// The headers of the index files below `root`.
fn headers(root: &Path) -> Vec<IndexHeader> {
    let header = |(path, bytes): (std::path::PathBuf, Vec<u8>)| {
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, long(0), long(8), long(16), long(24), (long(32) >> 32) as i32, long(32) as i32)
    };
    files_below(root, "index").into_iter().map(header).collect()
}

/// Headers without the names, which are times of creation.
fn unnamed(headers: &[IndexHeader]) -> Vec<(i64, i64, i64, i64, i32, i32)> {
    headers.iter().map(|(_, a, b, c, d, e, f)| (*a, *b, *c, *d, *e, *f)).collect()
}

fn contents(files: BTreeMap<std::path::PathBuf, Vec<u8>>) -> Vec<Vec<u8>> {
    files.into_values().collect()
}

#[test]
fn an_index_that_java_closed_is_searched_and_kept_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    let expected = &expected()["clean"];
    let java = files_below(&options.root, "index");
    assert_eq!(headers(&options.root), expected.index);
    let store = Store::open(options.clone()).unwrap();
    check_key_queries(&store, expected);
    store.close().unwrap();
    assert!(java == files_below(&options.root, "index"));
}

#[test]
fn an_index_rebuilt_from_the_log_is_javas_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let options = unpack("clean", dir.path());
    let expected = &expected()["clean"];
    let java = contents(files_below(&options.root, "index"));
    for kept in 0..7 {
        // Messages whose keys are in two files lose the second part of them.
        for (name, ..) in headers(&options.root).drain(kept..) {
            std::fs::remove_file(options.root.join("index").join(name)).unwrap();
        }
        let store = Store::open(options.clone()).unwrap();
        check_key_queries(&store, expected);
        store.close().unwrap();
        assert_eq!(unnamed(&headers(&options.root)), unnamed(&expected.index));
        assert!(java == contents(files_below(&options.root, "index")), "from file {kept} on");
    }
    std::fs::remove_dir_all(options.root.join("index")).unwrap();
    let store = Store::open(options.clone()).unwrap();
    store.close().unwrap();
    assert!(java == contents(files_below(&options.root, "index")));
}

#[test]
fn every_indexed_message_is_found_by_each_of_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(unpack("clean", dir.path())).unwrap();
    for (position, _, topic, ..) in &expected()["clean"].records {
        let record = store.message_at((*position).into()).unwrap();
        let message = StoredMessageRef::parse(&record).unwrap();
        let properties = message.properties();
        for key in properties.get("UNIQ_KEY").into_iter().chain(properties.get("KEYS")) {
            for word in key.split(' ').filter(|word| !word.is_empty()) {
                let at = message.store_timestamp();
                let exactly =
                    KeyQuery { begin_timestamp: at, end_timestamp: at, ..query(topic, IndexKey::Key(word)) };
                assert!(store.query(exactly).unwrap().records.contains(&record), "{topic} {word} {position}");
            }
        }
        if let Some(tag) = properties.get("TAGS") {
            let at = message.store_timestamp();
            let exactly =
                KeyQuery { begin_timestamp: at, end_timestamp: at, ..query(topic, IndexKey::Tag(tag)) };
            assert!(store.query(exactly).unwrap().records.contains(&record), "{topic} {tag} {position}");
        }
    }
}

#[test]
fn what_java_was_killed_over_is_dropped_and_built_again() {
    for name in ["killed", "torn-half", "torn-garbage"] {
        let dir = tempfile::tempdir().unwrap();
        let options = unpack(name, dir.path());
        let expected = expected();
        let before = headers(&options.root);
        assert_eq!(before, expected["killed"].index);
        let java = contents(files_below(&options.root, "index"));
        let store = Store::open(options.clone()).unwrap();
        // The last one ends behind the checkpoint.
        assert_eq!(headers(&options.root)[..7], before[..7]);
        check_key_queries(&store, &expected[name]);
        store.close().unwrap();
        let after = headers(&options.root);
        assert_ne!(after.last().unwrap().0, before.last().unwrap().0);
        assert_eq!(unnamed(&after), unnamed(&before));
        assert!(java == contents(files_below(&options.root, "index")), "{name}");
    }
}
