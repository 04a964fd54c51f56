//! Messages for any time, and taking them back.

use std::path::Path;
use std::time::Duration;

use rocketmq_broker_lite::{BrokerConfig, Standalone, StandaloneBuilder};
use rocketmq_protocol::message::{Properties, StoredMessage};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Connection, Connector, RequestError};
use rocketmq_protocol::{LogPosition, QueueId, ResponseCode};
use tokio::sync::mpsc;

use crate::support::{LONG, Process, comes_true, connector, message};

struct Fixture {
    cluster: Standalone,
    connection: Connection,
    _connector: Connector,
    /// Position of each message that became readable in `orders`.
    arrivals: mpsc::UnboundedReceiver<LogPosition>,
}

async fn start_with(builder: StandaloneBuilder) -> Fixture {
    let cluster = builder.set("recallMessageEnable", "true").unwrap().start().await.unwrap();
    let (arrived, arrivals) = mpsc::unbounded_channel();
    cluster.broker().store().on_arrival(move |arrival| {
        if arrival.topic == "orders" {
            arrived.send(arrival.position).ok();
        }
    });
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    Fixture { cluster, connection, _connector: connector, arrivals }
}

async fn start() -> Fixture {
    start_with(Standalone::builder()).await
}

fn timed(property: &str, value: impl ToString, body: &str) -> SendMessage {
    let properties = Properties::builder().set(property, &value.to_string()).set("UNIQ_KEY", body);
    let properties = Some(properties.build().unwrap().encoded().clone());
    SendMessage { properties, ..message("orders", 2, body.to_owned()) }
}

impl Fixture {
    async fn send(&self, request: SendMessage) -> SendReply {
        self.connection.call(&request, LONG).await.unwrap()
    }

    async fn next(&mut self) -> StoredMessage {
        let position = tokio::time::timeout(LONG, self.arrivals.recv()).await.unwrap().unwrap();
        let mut record = self.cluster.broker().store().message_at(position).unwrap();
        StoredMessage::decode(&mut record).unwrap().unwrap()
    }

    fn now(&self) -> i64 {
        self.cluster.clock().now_ms()
    }

    /// Waits until the timers know of this many messages: the third word of the file says so.
    async fn taken_in(&self, count: i64) {
        let path = self.cluster.broker().config().store_root.join("config").join("timercheck");
        let known = || {
            let bytes = std::fs::read(&path).ok()?;
            Some(i64::from_be_bytes(bytes.get(16..24)?.try_into().ok()?))
        };
        assert!(comes_true(|| known().is_some_and(|known| known >= count)).await);
    }

    fn advance(&self, seconds: u64) {
        self.cluster.clock().advance(Duration::from_secs(seconds));
    }

    async fn recall(&self, handle: &str) -> Result<RecallMessageReply, RequestError> {
        let request = RecallMessage {
            producer_group: Some("p".into()),
            topic: "orders".into(),
            recall_handle: handle.into(),
            broker_name: None,
        };
        self.connection.call(&request, LONG).await
    }
}

#[tokio::test]
async fn messages_come_at_their_millisecond_and_as_java_delivers_them() {
    let mut at = start().await;
    let sent_at = at.now();
    let due = [("TIMER_DELAY_SEC", 7200, 7_200_000), ("TIMER_DELAY_MS", 90_500, 90_500)];
    for (property, value, _) in due {
        assert!(at.send(timed(property, value, property)).await.recall_handle.is_some());
    }
    let absolute = sent_at + 10_250;
    at.send(timed("TIMER_DELIVER_MS", absolute, "absolute")).await;
    at.send(timed("TIMER_DELIVER_MS", sent_at - 5, "past")).await;
    assert_eq!(at.next().await.body, "past");
    at.advance(11);
    let message = at.next().await;
    assert_eq!(message.body, "absolute");
    assert!(message.store_timestamp >= absolute);
    for (name, value) in
        [("REAL_TOPIC", "orders"), ("REAL_QID", "2"), ("TIMER_DELIVER_MS", &*absolute.to_string())]
    {
        assert_eq!(message.properties.get(name), Some(value), "{name}");
    }
    for name in ["TIMER_OUT_MS", "TIMER_ENQUEUE_MS", "TIMER_DEQUEUE_MS"] {
        assert!(message.properties.get(name).is_some(), "{name}");
    }
    for ((_, _, delay), step) in due.into_iter().rev().zip([80, 7200]) {
        at.advance(step);
        let message = at.next().await;
        assert!(message.store_timestamp >= sent_at + delay, "{:?} early", message.body);
    }
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn by_the_real_clock_messages_come_within_a_tenth_of_a_second() {
    let mut at = start().await;
    let began = at.now();
    let mut late = Vec::new();
    let mut sleeps = tokio::task::JoinSet::new();
    for number in 0..50 {
        let due = began + 300 + number * 20;
        at.send(timed("TIMER_DELIVER_MS", due, &due.to_string())).await;
        let clock = at.cluster.clock().clone();
        sleeps.spawn(async move {
            clock.sleep_until(due).await;
            clock.now_ms() - due
        });
    }
    for _ in 0..50 {
        let message = at.next().await;
        let due: i64 = std::str::from_utf8(&message.body).unwrap().parse().unwrap();
        late.push(message.store_timestamp - due);
    }
    let mut machine = sleeps.join_all().await;
    for (what, late) in [("messages", &mut late), ("bare sleeps", &mut machine)] {
        late.sort_unstable();
        println!("{what} late by ms: median {}, 90th of 100 {}, most {}", late[25], late[45], late[49]);
    }
    assert!(late[0] >= 0, "early");
    // The median, and beyond what the machine takes to wake anybody: it may be busy with other tests.
    assert!(late[25] - machine[25] <= 100, "{late:?}, of which the machine {machine:?}");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_that_was_taken_back_never_comes() {
    let mut at = start().await;
    let handle = at.send(timed("TIMER_DELAY_SEC", 3600, "unwanted")).await.recall_handle.unwrap();
    at.send(timed("TIMER_DELAY_SEC", 3600, "wanted")).await;
    let reply = at.recall(&handle).await.unwrap();
    assert_eq!(&*reply.message_id, "unwanted");
    at.advance(3602);
    assert_eq!(at.next().await.body, "wanted");
    let error = at.recall(&handle).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::ILLEGAL_OPERATION));
    let error = at.recall("nonsense").await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::ILLEGAL_OPERATION));
    at.send(message("orders", 2, "last")).await;
    assert_eq!(at.next().await.body, "last");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn recall_is_off_unless_it_is_switched_on() {
    let cluster = Standalone::builder().start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    let request = RecallMessage {
        producer_group: None,
        topic: "orders".into(),
        recall_handle: "x".into(),
        broker_name: None,
    };
    let error = connection.call(&request, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::NO_PERMISSION));
    assert!(!cluster.broker().config().store_root.join("timerwheel").exists(), "no files without timers");
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn restarts_deliver_each_message_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = start_with(Standalone::builder().store(folder.path())).await;
    let began = at.now();
    for number in 0..10 {
        at.send(timed("TIMER_DELIVER_MS", began + 3_600_000 + number, &number.to_string())).await;
    }
    at.cluster.shutdown().await.unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    at.cluster.clock().advance(Duration::from_millis(u64::try_from(began + 3_600_100 - at.now()).unwrap()));
    for number in 0..10 {
        assert_eq!(at.next().await.body, number.to_string());
    }
    at.cluster.shutdown().await.unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    at.advance(7200);
    at.send(timed("TIMER_DELAY_MS", 1500, "after")).await;
    at.advance(3);
    assert_eq!(at.next().await.body, "after");
    assert_eq!(at.cluster.broker().store().max_offset("orders", QueueId::new(2)).get(), 11);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn messages_that_wait_while_the_process_is_killed_still_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &[]);
    let connector = connector();
    let connection = connector.connect(&process.broker).await.unwrap();
    for number in 0..20 {
        connection.call(&timed("TIMER_DELAY_SEC", 60 + number, &number.to_string()), LONG).await.unwrap();
    }
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let mut at = start_on(folder.path()).await;
    at.advance(100);
    for number in 0..20 {
        assert_eq!(at.next().await.body, number.to_string());
    }
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_delivered_and_not_noted_is_not_delivered_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    for number in 0..100 {
        at.send(timed("TIMER_DELAY_MS", 60_000 + number * 50, &number.to_string())).await;
    }
    at.taken_in(100).await;
    at.advance(62);
    for number in 0..40 {
        assert_eq!(at.next().await.body, number.to_string());
    }
    let (cluster, count) = (at.cluster, at.arrivals);
    cluster.shutdown().await.unwrap();
    let delivered = 40 + i64::try_from(count.len()).unwrap();
    // As if it had been killed before it noted anything.
    std::fs::remove_file(folder.path().join("config/timercheck")).unwrap();
    std::fs::remove_file(folder.path().join("timerwheel")).unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    at.advance(70);
    for number in delivered..100 {
        assert_eq!(at.next().await.body, number.to_string());
    }
    assert_eq!(at.cluster.broker().store().max_offset("orders", QueueId::new(2)).get(), 100);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_power_cut_took_from_the_timer_files_is_taken_in_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = start_with(Standalone::builder().store(folder.path())).await;
    for number in 0..6 {
        at.send(timed("TIMER_DELAY_SEC", 3600 + number / 3, &number.to_string())).await;
    }
    let root = at.cluster.broker().config().store_root.clone();
    at.cluster.shutdown().await.unwrap();
    // Four of six units are gone; the wheel and the checkpoint still speak of them.
    let log =
        std::fs::OpenOptions::new().write(true).open(root.join("timerlog/00000000000000000000")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&log, &[0; 4 * 52], 2 * 52).unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    at.taken_in(6).await;
    at.advance(3602);
    let mut bodies = Vec::new();
    for _ in 0..6 {
        bodies.push(at.next().await.body);
    }
    bodies.sort();
    assert_eq!(bodies, ["0", "1", "2", "3", "4", "5"]);
    at.cluster.shutdown().await.unwrap();

    // Without its wheel the log still tells which messages wait.
    let at = start_with(Standalone::builder().store(folder.path())).await;
    for number in 6..9 {
        at.send(timed("TIMER_DELAY_SEC", 7200, &number.to_string())).await;
    }
    at.cluster.shutdown().await.unwrap();
    std::fs::remove_file(root.join("timerwheel")).unwrap();
    let mut at = start_with(Standalone::builder().store(folder.path())).await;
    at.advance(3602 + 7200);
    for number in 6..9 {
        assert_eq!(at.next().await.body, number.to_string());
    }
    assert_eq!(at.cluster.broker().store().max_offset("orders", QueueId::new(2)).get(), 9);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn timer_log_files_go_when_no_message_of_theirs_waits() {
    // 78 units to a file.
    let mut at = start_with(Standalone::builder().set("mappedFileSizeTimerLog", "4096").unwrap()).await;
    let folder = at.cluster.broker().config().store_root.join("timerlog");
    let files = || std::fs::read_dir(&folder).unwrap().count();
    for number in 0..160 {
        let seconds = if number == 0 { 7200 } else { 3600 };
        at.send(timed("TIMER_DELAY_SEC", seconds, &number.to_string())).await;
    }
    at.taken_in(160).await;
    at.advance(3601);
    for _ in 1..160 {
        at.next().await;
    }
    assert_eq!(files(), 3, "the first message waits in the first file");
    at.advance(3600);
    assert_eq!(at.next().await.body, "0");
    let gone = || {
        at.advance(1);
        files() <= 1
    };
    assert!(comes_true(gone).await);
    at.cluster.shutdown().await.unwrap();
}

/// A cluster on a folder that the program made: its files have the program's sizes.
async fn start_on(folder: &Path) -> Fixture {
    start_with(Standalone::builder().config(BrokerConfig::default()).store(folder)).await
}

#[tokio::test]
async fn times_too_far_ahead_are_refused_and_far_ones_take_several_turns() {
    let mut at = start_with(Standalone::builder().set("timerRollWindowSlot", "60").unwrap()).await;
    let far = timed("TIMER_DELAY_SEC", 3 * 24 * 3600 + 1, "never");
    let error = at.connection.call(&far, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::MESSAGE_ILLEGAL));
    let began = at.now();
    at.send(timed("TIMER_DELIVER_MS", began + 200_000, "far")).await;
    // 60 s three times, as 20 s more are a third of that; then the rest.
    for turn in 1..=3 {
        at.taken_in(turn).await;
        at.advance(60);
    }
    at.taken_in(4).await;
    at.advance(20);
    let message = at.next().await;
    assert!(message.store_timestamp >= began + 200_000);
    assert_eq!(message.properties.get("TIMER_ROLL_TIMES"), Some("3"));
    at.cluster.shutdown().await.unwrap();
}
