//! Delay levels, messages sent back, and dead letters.

use std::path::Path;
use std::time::Duration;

use rocketmq_broker_lite::{Standalone, StandaloneBuilder};
use rocketmq_protocol::body::{LockBatchRequest, MessageQueue, SubscriptionGroupConfig};
use rocketmq_protocol::message::{Properties, StoredMessage, property};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Connection, Connector, RequestError};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset, ResponseCode};
use tokio::sync::mpsc;

use crate::support::{LONG, Process, comes_true, connector, message};

const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";

struct Fixture {
    cluster: Standalone,
    connection: Connection,
    _connector: Connector,
    /// Topic, queue and position of each message that became readable.
    arrivals: mpsc::UnboundedReceiver<(String, i32, LogPosition)>,
}

async fn start() -> Fixture {
    start_with(Standalone::builder()).await
}

async fn start_with(builder: StandaloneBuilder) -> Fixture {
    let cluster = builder.start().await.unwrap();
    let (arrived, arrivals) = mpsc::unbounded_channel();
    cluster.broker().store().on_arrival(move |arrival| {
        arrived.send((arrival.topic.to_owned(), arrival.queue_id.get(), arrival.position)).ok();
    });
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    Fixture { cluster, connection, _connector: connector, arrivals }
}

fn with(request: SendMessage, properties: &[(&str, &str)]) -> SendMessage {
    let built = properties.iter().fold(Properties::builder(), |all, (name, value)| all.set(name, value));
    SendMessage { properties: Some(built.build().unwrap().encoded().clone()), ..request }
}

fn delayed(level: &str, body: &str) -> SendMessage {
    with(message("orders", 2, body.to_owned()), &[("DELAY", level), ("UNIQ_KEY", body), ("TAGS", "A")])
}

fn send_back(position: LogPosition, delay_level: i32) -> SendMessageBack {
    SendMessageBack {
        position,
        group: "g".into(),
        delay_level,
        origin_message_id: None,
        origin_topic: None,
        unit_mode: false,
        max_reconsume_times: None,
        broker_name: None,
    }
}

impl Fixture {
    /// The next message that becomes readable in `topic`, and its queue.
    async fn next_in(&mut self, topic: &str) -> (i32, StoredMessage) {
        let next = async {
            loop {
                let (arrived, queue_id, position) = self.arrivals.recv().await.unwrap();
                if arrived == topic {
                    return (queue_id, position);
                }
            }
        };
        let (queue_id, position) = tokio::time::timeout(LONG, next).await.unwrap();
        let mut record = self.cluster.broker().store().message_at(position).unwrap();
        (queue_id, StoredMessage::decode(&mut record).unwrap().unwrap())
    }

    fn count(&self, topic: &str, queue_id: i32) -> i64 {
        self.cluster.broker().store().max_offset(topic, QueueId::new(queue_id)).get()
    }

    async fn refusal(&self, request: SendMessage) -> ResponseCode {
        match self.connection.call(&request, LONG).await {
            Err(RequestError::Refused { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_delayed_message_comes_when_its_level_is_over_and_as_java_delivers_it() {
    let mut at = start().await;
    let sent = at.connection.call(&delayed("4", "late"), LONG).await.unwrap();
    assert_eq!((sent.queue_id.get(), sent.queue_offset.get()), (2, 0));
    let (level, waiting) = at.next_in(SCHEDULE).await;
    assert_eq!(level, 3);
    for (name, value) in [("DELAY", "4"), ("REAL_TOPIC", "orders"), ("REAL_QID", "2"), ("TAGS", "A")] {
        assert_eq!(waiting.properties.get(name), Some(value), "{name}");
    }
    at.connection.call(&delayed("1", "first"), LONG).await.unwrap();
    at.cluster.clock().advance(Duration::from_secs(1));
    assert_eq!(at.next_in("orders").await.1.body, "first");
    assert_eq!(at.count("orders", 2), 1);
    at.cluster.clock().advance(Duration::from_secs(29));
    let (queue_id, delivered) = at.next_in("orders").await;
    assert_eq!((queue_id, &*delivered.body), (2, b"late".as_slice()));
    assert!(delivered.store_timestamp >= waiting.store_timestamp + 30_000, "early");
    assert_eq!(delivered.properties, waiting.properties);
    assert_eq!(
        (delivered.born_timestamp, delivered.born_host, delivered.store_host),
        (waiting.born_timestamp, waiting.born_host, waiting.store_host)
    );
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn levels_can_be_chosen_and_no_level_is_no_delay() {
    let builder = Standalone::builder().set("messageDelayLevel", "1h 2d").unwrap();
    let mut at = start_with(builder).await;
    for (level, body) in [("0", "a"), ("-1", "b"), ("x", "c")] {
        at.connection.call(&delayed(level, body), LONG).await.unwrap();
        assert_eq!(at.next_in("orders").await.1.body, body);
    }
    at.connection.call(&delayed("7", "two days"), LONG).await.unwrap();
    assert_eq!(at.next_in(SCHEDULE).await.0, 1);
    at.cluster.clock().advance(Duration::from_secs(2 * 24 * 3600));
    assert_eq!(at.next_in("orders").await.1.body, "two days");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_due_messages_come_in_order_and_once_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let at = start_with(Standalone::builder().store(folder.path())).await;
    for number in 0..1500 {
        at.connection.call(&delayed("3", &number.to_string()), LONG).await.unwrap();
    }
    at.cluster.shutdown().await.unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    at.cluster.clock().advance(Duration::from_secs(10));
    for number in 0..1500 {
        assert_eq!(at.next_in("orders").await.1.body, number.to_string());
    }
    at.cluster.shutdown().await.unwrap();
    let at = start_with(Standalone::builder().store(folder.path())).await;
    at.cluster.clock().advance(Duration::from_secs(3600));
    assert_eq!(at.count("orders", 2), 1500);
    at.cluster.shutdown().await.unwrap();
    let text = std::fs::read_to_string(folder.path().join("config/delayOffset.json")).unwrap();
    assert!(text.replace(char::is_whitespace, "").contains(r#""offsetTable":{3:1500}"#), "{text}");
}

#[tokio::test]
async fn messages_that_wait_while_the_process_is_killed_still_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &["messageDelayLevel=1s 2s"]);
    let connector = connector();
    let connection = connector.connect(&process.broker).await.unwrap();
    for number in 0..20 {
        connection.call(&delayed("2", &number.to_string()), LONG).await.unwrap();
    }
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let at = start_on(folder.path()).await;
    at.cluster.clock().advance(Duration::from_secs(2));
    assert!(comes_true(|| at.count("orders", 2) >= 20).await);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_delivered_and_not_noted_is_not_delivered_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    for number in 0..600 {
        at.connection.call(&delayed("3", &number.to_string()), LONG).await.unwrap();
    }
    at.cluster.clock().advance(Duration::from_secs(10));
    for number in 0..600 {
        assert_eq!(at.next_in("orders").await.1.body, number.to_string());
    }
    for number in 600..700 {
        at.connection.call(&delayed("3", &number.to_string()), LONG).await.unwrap();
    }
    at.cluster.shutdown().await.unwrap();
    // As if it had been killed before it noted anything.
    std::fs::remove_file(folder.path().join("config/delayOffset.json")).unwrap();
    std::fs::remove_file(folder.path().join("config/delayOffset.json.bak")).ok();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    at.cluster.clock().advance(Duration::from_secs(10));
    for number in 600..700 {
        assert_eq!(at.next_in("orders").await.1.body, number.to_string());
    }
    assert_eq!(at.count("orders", 2), 700);
    at.cluster.shutdown().await.unwrap();
}

/// A cluster on a folder that the program made: its files have the program's sizes.
async fn start_on(folder: &Path) -> Fixture {
    let config = rocketmq_broker_lite::BrokerConfig::default();
    let builder = Standalone::builder().config(config).set("messageDelayLevel", "1s 2s").unwrap();
    start_with(builder.store(folder)).await
}

#[tokio::test]
async fn a_message_sent_back_waits_longer_each_time_and_keeps_its_origin() {
    let mut at = start().await;
    at.connection.call(&with(message("orders", 0, "x"), &[("UNIQ_KEY", "k")]), LONG).await.unwrap();
    let (_, first) = at.next_in("orders").await;
    let mut position = first.physical_offset;
    for times in 1..=3 {
        at.connection.call(&send_back(position, 0), LONG).await.unwrap();
        let (level, _) = at.next_in(SCHEDULE).await;
        assert_eq!(level + 1, times + 2);
        at.cluster.clock().advance(Duration::from_secs(3600));
        let (queue_id, again) = at.next_in("%RETRY%g").await;
        assert_eq!((queue_id, again.reconsume_times), (0, times));
        let origin = first.offset_message_id().to_string();
        for (name, value) in [
            (property::RETRY_TOPIC, "orders"),
            (property::ORIGIN_MESSAGE_ID, &*origin),
            (property::WAIT, "false"),
            (property::UNIQ_KEY, "k"),
            (property::REAL_TOPIC, "%RETRY%g"),
        ] {
            assert_eq!(again.properties.get(name), Some(value), "{name}");
        }
        assert_eq!((again.born_timestamp, &again.body), (first.born_timestamp, &first.body));
        position = again.physical_offset;
    }
    // A level of its own, then the dead letters at once.
    at.connection.call(&send_back(position, 7), LONG).await.unwrap();
    assert_eq!(at.next_in(SCHEDULE).await.0, 6);
    at.connection.call(&send_back(position, -1), LONG).await.unwrap();
    let (_, dead) = at.next_in("%DLQ%g").await;
    assert_eq!((dead.reconsume_times, dead.properties.get(property::DELAY)), (4, Some("0")));
    // As Java leaves it, from the message's life in the retry topic.
    assert_eq!(dead.properties.get(property::REAL_TOPIC), Some("%RETRY%g"));
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_groups_settings_count_when_a_message_is_sent_back() {
    let mut at = start().await;
    at.connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
    let position = at.next_in("orders").await.1.physical_offset;
    let group = SubscriptionGroupConfig {
        retry_max_times: 0,
        retry_queue_nums: 3,
        ..SubscriptionGroupConfig::new("g")
    };
    at.connection.call(&UpdateGroup { config: group.clone() }, LONG).await.unwrap();
    let told = at.connection.call(&GetGroupConfig { group: "g".into() }, LONG).await.unwrap();
    assert_eq!(told.config, group);
    at.connection.call(&send_back(position, 0), LONG).await.unwrap();
    assert_eq!(at.next_in("%DLQ%g").await.1.reconsume_times, 1);
    let retry = GetTopicConfig { topic: "%RETRY%g".into() };
    assert_eq!(at.connection.call(&retry, LONG).await.unwrap().config.write_queue_nums, 3);

    // Without retry queues a failed message is forgotten.
    let forgetful = SubscriptionGroupConfig { retry_queue_nums: 0, ..group };
    at.connection.call(&UpdateGroup { config: forgetful }, LONG).await.unwrap();
    at.connection.call(&send_back(position, 0), LONG).await.unwrap();
    assert_eq!(at.count("%DLQ%g", 0), 1);

    let error = at.connection.call(&send_back(LogPosition::new(7), 0), LONG).await;
    assert!(error.is_ok(), "nothing is looked up for a group that forgets");
    let other = SendMessageBack { group: "h".into(), ..send_back(LogPosition::new(7), 0) };
    let error = at.connection.call(&other, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::SYSTEM_ERROR));
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_to_the_retry_topic_itself_ends_with_the_dead_letters_too() {
    let mut at = start().await;
    let retry = |times: i32| SendMessage {
        reconsume_times: times,
        max_reconsume_times: Some(2),
        ..with(message("%RETRY%g", 0, "x"), &[("DELAY", "3"), ("RETRY_TOPIC", "orders")])
    };
    at.connection.call(&retry(2), LONG).await.unwrap();
    assert_eq!(at.next_in(SCHEDULE).await.0, 2);
    at.connection.call(&retry(3), LONG).await.unwrap();
    let (_, dead) = at.next_in("%DLQ%g").await;
    assert_eq!((dead.reconsume_times, dead.properties.get("DELAY")), (3, Some("0")));

    // An ordered group, which holds locks, sends only what it gives up.
    let queues = LockBatchRequest {
        client_id: "c".to_owned(),
        consumer_group: "g".to_owned(),
        mq_set: vec![MessageQueue::new("orders", "broker", 0)],
        only_this_broker: false,
    };
    let locked = at.connection.call(&LockBatch { queues }, LONG).await.unwrap().locked;
    assert_eq!(locked.lock_ok_mq_set.len(), 1);
    at.connection.call(&retry(0), LONG).await.unwrap();
    assert_eq!(at.next_in("%DLQ%g").await.1.reconsume_times, 0);
    at.cluster.clock().advance(Duration::from_secs(61));
    at.connection.call(&retry(0), LONG).await.unwrap();
    assert_eq!(at.next_in(SCHEDULE).await.0, 2);
    let batch = SendMessage { batch: true, ..retry(0) };
    assert_eq!(at.refusal(batch).await, ResponseCode::MESSAGE_ILLEGAL);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn faults_happen_as_often_and_as_late_as_they_were_asked_for() {
    let at = start().await;
    let broker = at.cluster.broker();
    broker.fail_next(SendMessage::CODE, ResponseCode::SYSTEM_BUSY, 2);
    for _ in 0..2 {
        assert_eq!(at.refusal(message("orders", 0, "x")).await, ResponseCode::SYSTEM_BUSY);
    }
    at.connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
    broker.delay(GetMaxOffset::CODE, Duration::from_secs(3600));
    let ask = GetMaxOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
    let asking = tokio::spawn({
        let connection = at.connection.clone();
        async move { connection.call(&ask, LONG).await.unwrap().offset }
    });
    // It is on its way before this is answered, on the same connection.
    tokio::task::yield_now().await;
    at.connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
    assert!(!asking.is_finished());
    at.cluster.clock().advance(Duration::from_secs(3600));
    assert_eq!(asking.await.unwrap(), QueueOffset::new(2));
    at.cluster.shutdown().await.unwrap();
}
