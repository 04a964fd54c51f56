//! Deleting topics over the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocketmq_broker_lite::Standalone;
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Connection, RequestError};
use rocketmq_protocol::{QueueId, QueueOffset, ResponseCode};

use crate::support::{LONG, connector, message};

async fn refused<R: Request>(connection: &Connection, request: &R) -> ResponseCode {
    match connection.call(request, LONG).await {
        Err(RequestError::Refused { code, .. }) => code,
        _ => panic!("not refused"),
    }
}

#[tokio::test]
async fn a_deleted_topic_is_gone_with_its_messages_and_offsets() {
    let cluster = Standalone::builder().start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    for _ in 0..3 {
        connection.call(&message("orders", 0, "old"), LONG).await.unwrap();
        connection.call(&message("others", 0, "kept"), LONG).await.unwrap();
    }
    let commit = UpdateConsumerOffset {
        consumer_group: "readers".into(),
        topic: "orders".into(),
        queue_id: QueueId::ZERO,
        commit_offset: QueueOffset::new(2),
    };
    connection.call(&commit, LONG).await.unwrap();
    connection.call(&DeleteTopic { topic: "orders".into() }, LONG).await.unwrap();

    let config = GetTopicConfig { topic: "orders".into() };
    assert_eq!(refused(&connection, &config).await, ResponseCode::TOPIC_NOT_EXIST);
    let file =
        std::fs::read_to_string(cluster.broker().config().store_root.join("config/topics.json")).unwrap();
    assert!(!file.contains("orders") && file.contains("others"), "{file}");
    let position = QueryConsumerOffset {
        consumer_group: "readers".into(),
        topic: "orders".into(),
        queue_id: QueueId::ZERO,
        set_zero_if_not_found: None,
    };
    assert_eq!(refused(&connection, &position).await, ResponseCode::QUERY_NOT_FOUND);
    // Sent to again, it comes back empty, and its numbers go on.
    let sent = connection.call(&message("orders", 0, "new"), LONG).await.unwrap();
    assert_eq!(sent.queue_offset.get(), 3);
    let first = GetMinOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
    assert_eq!(connection.call(&first, LONG).await.unwrap().offset.get(), 3);
    let kept = GetMinOffset { topic: "others".into(), queue_id: QueueId::ZERO };
    assert_eq!(connection.call(&kept, LONG).await.unwrap().offset.get(), 0);

    connection.call(&DeleteTopic { topic: "never-was".into() }, LONG).await.unwrap();
    for topic in ["", "TBW102", "SCHEDULE_TOPIC_XXXX"] {
        let delete = DeleteTopic { topic: topic.into() };
        assert_eq!(refused(&connection, &delete).await, ResponseCode::INVALID_PARAMETER, "{topic:?}");
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_can_be_deleted_while_it_is_written() {
    let cluster = Standalone::builder().start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (connection, stop) = (connection.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut offsets = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let sent = connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
                    offsets.push(sent.queue_offset);
                }
                offsets
            })
        })
        .collect();
    for _ in 0..10 {
        connection.call(&DeleteTopic { topic: "orders".into() }, LONG).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut offsets = Vec::new();
    for sender in senders {
        offsets.extend(sender.await.unwrap());
    }
    offsets.sort_unstable();
    assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "an offset was given twice");
    let end = GetMaxOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
    let end = connection.call(&end, LONG).await.unwrap().offset;
    assert_eq!(Some(end), offsets.last().map(|last| last.plus(1)));
    cluster.shutdown().await.unwrap();
}
