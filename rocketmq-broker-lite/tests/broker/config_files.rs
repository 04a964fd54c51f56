//! The files of `config/`, as a Java broker wrote them and as it finds them again.

use std::fs::{self, File};
use std::path::Path;

use rocketmq_broker_lite::Standalone;
use rocketmq_protocol::json;
use rocketmq_protocol::requests::*;
use rocketmq_protocol::{QueueId, QueueOffset};
use serde_json::Value;

use crate::support::{LONG, Process, connector, message};

/// Puts `config/` of the store that a Java broker closed into `store`.
fn unpack(store: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store.tar.gz");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(golden).unwrap()));
    fs::create_dir_all(store.join("config")).unwrap();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if path.starts_with("clean/config") && entry.header().entry_type().is_file() {
            entry.unpack(store.join("config").join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn read(store: &Path, name: &str) -> Value {
    json::from_slice(&fs::read(store.join("config").join(name)).unwrap()).unwrap()
}

#[tokio::test]
async fn javas_files_are_written_back_with_all_that_was_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    unpack(store);
    // What a later version of Java's broker may add.
    let mut topics = read(store, "topics.json");
    topics["topicConfigTable"]["NormalTopic"]["color"] = "red".into();
    topics["topicConfigTable"]["TagTopic"]["color"] = "blue".into();
    topics["anew"] = vec![1, 2].into();
    fs::write(store.join("config/topics.json"), topics.to_string()).unwrap();
    let groups = read(store, "subscriptionGroup.json");
    let offsets = read(store, "consumerOffset.json");
    let others = ["consumerOrderInfo.json", "timercheck"];
    let before = others.map(|name| fs::read(store.join("config").join(name)).unwrap());

    let cluster = Standalone::builder().store(store).start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    let position = QueryConsumerOffset {
        consumer_group: "GID_B".into(),
        topic: "NormalTopic".into(),
        queue_id: QueueId::new(1),
        set_zero_if_not_found: None,
    };
    assert_eq!(connection.call(&position, LONG).await.unwrap().offset.get(), 17);
    let commit = UpdateConsumerOffset {
        consumer_group: "GID_B".into(),
        topic: "NormalTopic".into(),
        queue_id: QueueId::new(1),
        commit_offset: QueueOffset::new(18),
    };
    connection.call(&commit, LONG).await.unwrap();
    connection.call(&message("created-here", 0, "x"), LONG).await.unwrap();
    connection.call(&DeleteTopic { topic: "TagTopic".into() }, LONG).await.unwrap();
    cluster.shutdown().await.unwrap();

    let mut written = read(store, "topics.json");
    assert_eq!(written["topicConfigTable"]["created-here"]["writeQueueNums"], 4);
    let table = topics["topicConfigTable"].as_object_mut().unwrap();
    table.remove("TagTopic").unwrap();
    for (topic, settings) in &*table {
        assert_eq!(written["topicConfigTable"][topic], *settings);
    }
    assert_eq!(written["topicConfigTable"].get("TagTopic"), None);
    assert_eq!(written["anew"].take(), topics["anew"]);
    assert!(written["dataVersion"]["counter"].as_i64() > topics["dataVersion"]["counter"].as_i64());
    assert_eq!(read(store, "subscriptionGroup.json"), groups);
    let mut expected = offsets["offsetTable"].clone();
    expected["NormalTopic@GID_B"]["1"] = 18.into();
    expected.as_object_mut().unwrap().retain(|key, _| !key.starts_with("TagTopic@"));
    assert_eq!(read(store, "consumerOffset.json")["offsetTable"], expected);
    assert_eq!(others.map(|name| fs::read(store.join("config").join(name)).unwrap()), before);
}

#[tokio::test]
async fn a_torn_file_falls_back_to_its_bak_and_says_so() {
    for torn in [&b""[..], b"{\"dataVersion\":{\"counter\":1,", &[0; 300]] {
        let store = tempfile::tempdir().unwrap();
        unpack(store.path());
        for name in ["topics.json", "subscriptionGroup.json", "consumerOffset.json"] {
            let path = store.path().join("config").join(name);
            fs::copy(&path, path.with_extension("json.bak")).unwrap();
            fs::write(path, torn).unwrap();
        }
        let process = Process::start(store.path(), &["autoCreateTopicEnable=false"]);
        let warnings = process.start_log.lines().filter(|line| line.contains("using its .bak")).count();
        assert_eq!(warnings, 3, "{}", process.start_log);
        let connector = connector();
        let connection = connector.connect(&process.broker).await.unwrap();
        connection.call(&message("NormalTopic", 0, "x"), LONG).await.unwrap();
        let position = QueryConsumerOffset {
            consumer_group: "GID_B".into(),
            topic: "NormalTopic".into(),
            queue_id: QueueId::new(1),
            set_zero_if_not_found: None,
        };
        assert_eq!(connection.call(&position, LONG).await.unwrap().offset.get(), 17);
    }
}

#[test]
fn a_file_that_is_torn_like_its_bak_ends_the_start_and_stays() {
    let store = tempfile::tempdir().unwrap();
    unpack(store.path());
    for name in ["topics.json", "topics.json.bak"] {
        fs::write(store.path().join("config").join(name), "{\"dataVersion\":").unwrap();
    }
    let output = crate::support::program()
        .args(["--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0", "--store"])
        .arg(store.path())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && log.contains("config/topics.json cannot be understood"), "{log}");
    assert_eq!(fs::read(store.path().join("config/topics.json")).unwrap(), b"{\"dataVersion\":");
}
