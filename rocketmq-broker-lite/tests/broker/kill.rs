//! A broker process killed in the middle of its work keeps what it acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocketmq_protocol::message::{StoredMessage, StoredMessageRef, StoredMessages};
use rocketmq_protocol::requests::{GetMaxOffset, PullFlag, PullMessage, UpdateConsumerOffset};
use rocketmq_protocol::transport::Connection;
use rocketmq_protocol::{QueueId, QueueOffset};

use crate::support::{LONG, Process, connector, message};

const ROUNDS: u64 = 20;
const SENDERS: i32 = 8;
const QUEUES: i32 = 4;
const TOPIC: &str = "orders";

/// What was acknowledged: body by queue and offset.
type Acknowledged = BTreeMap<(i32, i64), String>;

/// Sends until the connection is lost.
async fn send_all(
    connection: Connection,
    sender: i32,
    round: u64,
    acknowledged: Arc<AtomicU64>,
) -> Acknowledged {
    let mut mine = Acknowledged::new();
    for number in 0.. {
        let body = format!("round {round} sender {sender} number {number} {}", "x".repeat(number % 700));
        match connection.call(&message(TOPIC, sender % QUEUES, body.clone()), LONG).await {
            Ok(reply) => {
                let known = mine.insert((reply.queue_id.get(), reply.queue_offset.get()), body);
                assert_eq!(known, None, "offset given twice");
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => break,
        }
    }
    mine
}

/// Every message of a queue, checked one by one.
async fn read_all(connection: &Connection, queue_id: i32) -> Vec<StoredMessage> {
    let queue_id = QueueId::new(queue_id);
    let end = connection.call(&GetMaxOffset { topic: TOPIC.into(), queue_id }, LONG).await.unwrap().offset;
    let mut read = Vec::new();
    let mut offset = QueueOffset::ZERO;
    while offset < end {
        let pull = PullMessage {
            consumer_group: "readers".into(),
            topic: TOPIC.into(),
            queue_id,
            queue_offset: offset,
            max_messages: 32,
            sys_flag: PullFlag::SUBSCRIPTION.get(),
            commit_offset: QueueOffset::ZERO,
            suspend_timeout_ms: 0,
            subscription: Some("*".into()),
            subscription_version: 0,
            expression_type: None,
            max_bytes: None,
        };
        let reply = connection.call(&pull, LONG).await.unwrap();
        let bytes = reply.messages.into_bytes();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let record = StoredMessageRef::parse(rest).unwrap();
            assert!(record.crc_matches(), "corrupt record at {}", record.physical_offset());
            rest = &rest[record.total_size()..];
        }
        read.extend(StoredMessages::new(bytes).map(Result::unwrap));
        assert!(reply.next_begin_offset > offset);
        offset = reply.next_begin_offset;
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_during_sends_lose_and_corrupt_nothing() {
    let store = tempfile::tempdir().unwrap();
    let mut all = Acknowledged::new();
    let mut committed = 0;
    for round in 0..=ROUNDS {
        // Small files, so that roll-overs are among what is cut short.
        let mut process = Process::start(
            store.path(),
            &["mappedFileSizeCommitLog=262144", "flushConsumerOffsetInterval=50"],
        );
        let connector = connector();
        let connection = connector.connect(&process.broker).await.unwrap();

        let mut seen = 0;
        for queue in 0..QUEUES {
            for (expected, message) in read_all(&connection, queue).await.into_iter().enumerate() {
                assert_eq!(
                    message.queue_offset.get(),
                    i64::try_from(expected).unwrap(),
                    "gap or repetition in queue {queue}"
                );
                if let Some(body) = all.get(&(queue, message.queue_offset.get())) {
                    assert_eq!(
                        message.body,
                        body.as_bytes(),
                        "queue {queue} offset {}",
                        message.queue_offset
                    );
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, all.len(), "acknowledged messages after kill {round}");
        if round == ROUNDS {
            break;
        }

        let acknowledged = Arc::new(AtomicU64::new(0));
        let sending: Vec<_> = (0..SENDERS)
            .map(|sender| {
                tokio::spawn(send_all(connection.clone(), sender, round, Arc::clone(&acknowledged)))
            })
            .collect();
        // Somewhere in the middle: after a number of messages that differs from round to round.
        let enough = 100 + round * 37 % 400;
        while acknowledged.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
        committed += 1;
        let commit = UpdateConsumerOffset {
            consumer_group: "readers".into(),
            topic: TOPIC.into(),
            queue_id: QueueId::ZERO,
            commit_offset: QueueOffset::new(committed),
        };
        connection.call(&commit, LONG).await.unwrap();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        for sender in sending {
            for (place, body) in sender.await.unwrap() {
                let known = all.insert(place, body);
                assert_eq!(known, None, "offset {place:?} was given before the kill, too");
            }
        }
    }
    assert!(all.len() >= 2000, "{} messages are too few to mean anything", all.len());
}
