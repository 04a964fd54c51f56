//! A broker on a folder that a Java broker wrote, over the socket.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rocketmq_broker_lite::{BrokerConfig, Clock, Standalone};
use rocketmq_protocol::QueueId;
use rocketmq_protocol::message::{StoredMessage, StoredMessages};
use rocketmq_protocol::requests::{QueryConsumerOffset, QueryMessage};
use rocketmq_protocol::transport::{Connection, RequestError};
use rocketmq_protocol::{QueueOffset, ResponseCode};
use serde::Deserialize;

use crate::support::{LONG, comes_true, connector};

#[derive(Deserialize)]
struct Expected {
    key_queries: BTreeMap<String, Vec<i64>>,
    group_offsets: BTreeMap<String, i64>,
}

fn golden(file: &str) -> File {
    File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)).unwrap()
}

/// Unpacks a folder without the large files that only Java's timer reads.
fn unpack(name: &str, target: &Path) {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(golden("store.tar.gz")));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().starts_with(name) && entry.size() <= 131_072 {
            entry.unpack_in(target).unwrap();
        }
    }
}

async fn check_group_offsets(connection: &Connection, offsets: &BTreeMap<String, i64>) {
    for (name, offset) in offsets {
        let (group, queue) = name.split_once('@').unwrap();
        let (topic, queue_id) = queue.rsplit_once('/').unwrap();
        let request = QueryConsumerOffset {
            consumer_group: group.into(),
            topic: topic.into(),
            queue_id: QueueId::new(queue_id.parse().unwrap()),
            set_zero_if_not_found: Some(false),
        };
        let reply = connection.call(&request, LONG).await.unwrap();
        assert_eq!(reply.offset, QueueOffset::new(*offset), "{name}");
        let unknown = QueryConsumerOffset { consumer_group: "another".into(), ..request };
        let refused = connection.call(&unknown, LONG).await.unwrap_err();
        assert!(matches!(refused, RequestError::Refused { code: ResponseCode::QUERY_NOT_FOUND, .. }));
    }
}

async fn check_key_queries(connection: &Connection, queries: &BTreeMap<String, Vec<i64>>) {
    // Messages that waited in the folder are delivered while this looks; those are newer.
    let now = Clock::system().now_ms();
    for (query, positions) in queries {
        let (topic, key) = query.split_once('#').unwrap();
        let request = QueryMessage {
            topic: topic.into(),
            key: key.into(),
            max_messages: 64,
            begin_timestamp: 0,
            end_timestamp: now - 60_000,
            index_type: None,
            unique_key_query: Some(false),
        };
        let found = match connection.call(&request, LONG).await {
            Ok(reply) => StoredMessages::new(reply.messages.into_bytes())
                .map(|message| message.unwrap().physical_offset.get())
                .collect(),
            Err(RequestError::Refused { code: ResponseCode::QUERY_NOT_FOUND, .. }) => Vec::new(),
            Err(error) => panic!("{query}: {error}"),
        };
        assert_eq!(found, *positions, "{query}");
    }
}

/// The file sizes that the folders were written with; and nothing is deleted or refused where the disk of the tests is full.
fn golden_config() -> BrokerConfig {
    let mut config = BrokerConfig::default();
    for (key, value) in [
        ("mappedFileSizeCommitLog", "131072"),
        ("mappedFileSizeConsumeQueue", "1000"),
        ("mapperFileSizeBatchConsumeQueue", "4600"),
        ("maxHashSlotNum", "100"),
        ("maxIndexNum", "200"),
        ("diskMaxUsedSpaceRatio", "100"),
        ("diskSpaceCleanForciblyRatio", "100"),
        ("diskSpaceWarningLevelRatio", "100"),
    ] {
        config.set(key, value).unwrap();
    }
    config
}

#[tokio::test]
async fn messages_that_wait_in_a_java_store_are_delivered_once() {
    let dir = tempfile::tempdir().unwrap();
    unpack("clean", dir.path());
    let store = dir.path().join("clean");
    let delivered =
        |cluster: &Standalone| cluster.broker().store().max_offset("DelayTopic", QueueId::ZERO).get();
    let mut before = None;
    for _ in 0..2 {
        let builder = Standalone::builder().config(golden_config()).store(&store);
        let cluster = builder.start().await.unwrap();
        // Six that Java delivered; one of the levels 16 and 17 each and two of 18 waited.
        assert!(comes_true(|| delivered(&cluster) >= 10).await);
        let entries =
            cluster.broker().store().entries("DelayTopic", QueueId::ZERO, QueueOffset::new(6), 4).unwrap();
        let mut levels: Vec<_> = entries
            .iter()
            .map(|entry| {
                let mut record = cluster.broker().store().message_at(entry.position).unwrap();
                let message = StoredMessage::decode(&mut record).unwrap().unwrap();
                message.properties.get("DELAY").unwrap().to_owned()
            })
            .collect();
        levels.sort();
        assert_eq!(levels, ["16", "17", "18", "18"]);
        cluster.shutdown().await.unwrap();
        let told = std::fs::read(store.join("config/delayOffset.json")).unwrap();
        let told: serde_json::Value = rocketmq_protocol::json::from_slice(&told).unwrap();
        let table = told["offsetTable"].clone();
        assert_eq!((&table["16"], &table["17"], &table["18"]), (&1.into(), &1.into(), &2.into()));
        assert_eq!(before.replace(table.clone()).unwrap_or(table.clone()), table);
    }
}

#[tokio::test]
async fn a_broker_on_a_java_store_serves_javas_group_offsets_and_keys() {
    let expected: BTreeMap<String, Expected> = serde_json::from_reader(golden("expected.json")).unwrap();
    for (name, expected) in expected {
        let dir = tempfile::tempdir().unwrap();
        unpack(&name, dir.path());
        let config = golden_config();
        for _ in 0..2 {
            let builder = Standalone::builder().config(config.clone()).store(dir.path().join(&name));
            let cluster = builder.start().await.unwrap();
            let connector = connector();
            let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
            check_group_offsets(&connection, &expected.group_offsets).await;
            check_key_queries(&connection, &expected.key_queries).await;
            cluster.shutdown().await.unwrap();
        }
    }
}
