//! A broker process killed in the middle of its work keeps what it acknowledged.
//!
//! `KILL_ROUNDS=100` kills that often in each flush mode.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocketmq_protocol::message::{StoredMessage, StoredMessageRef, StoredMessages};
use rocketmq_protocol::requests::{GetMaxOffset, PullFlag, PullMessage, UpdateConsumerOffset};
use rocketmq_protocol::transport::Connection;
use rocketmq_protocol::{QueueId, QueueOffset};

use crate::support::{LONG, Process, connector, message};

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
async fn kills_during_sends_lose_and_corrupt_nothing() {
    kill_again_and_again("ASYNC_FLUSH", rounds(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_sends_that_wait_for_the_disk_lose_and_corrupt_nothing() {
    kill_again_and_again("SYNC_FLUSH", rounds(5)).await;
}

fn rounds(default: u64) -> u64 {
    std::env::var("KILL_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap())
}

async fn kill_again_and_again(flush: &str, rounds: u64) {
    let store = tempfile::tempdir().unwrap();
    let flush = format!("flushDiskType={flush}");
    // Small files, so that roll-overs are among what is cut short; and queues and offsets are written all the time.
    let settings = [
        &*flush,
        "mappedFileSizeCommitLog=262144",
        "flushConsumerOffsetInterval=50",
        "flushIntervalConsumeQueue=10",
        "flushConsumeQueueThoroughInterval=100",
    ];
    let mut all = Acknowledged::new();
    let mut committed = 0;
    for round in 0..=rounds {
        let mut process = Process::start(store.path(), &settings);
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
        if round == rounds {
            break;
        }

        let acknowledged = Arc::new(AtomicU64::new(0));
        let sending: Vec<_> = (0..SENDERS)
            .map(|sender| {
                tokio::spawn(send_all(connection.clone(), sender, round, Arc::clone(&acknowledged)))
            })
            .collect();
        // Somewhere in the middle: after a number of messages that differs from round to round.
        let enough = 20 + round * 37 % 400;
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
        assert!(store.path().join("abort").exists(), "it was killed");
        for sender in sending {
            for (place, body) in sender.await.unwrap() {
                let known = all.insert(place, body);
                assert_eq!(known, None, "offset {place:?} was given before the kill, too");
            }
        }
    }
    let expected = usize::try_from(rounds * 20).unwrap();
    assert!(all.len() >= expected, "{} messages are too few to mean anything", all.len());
    eprintln!("{flush}: {rounds} kills, {} acknowledged messages", all.len());
}
