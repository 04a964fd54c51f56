//! Finding messages by key over the socket.

use bytes::Bytes;
use rocketmq_broker_lite::Standalone;
use rocketmq_protocol::message::{OffsetMessageId, Properties, StoredMessage, StoredMessages, property};
use rocketmq_protocol::requests::{QueryMessage, SendMessage, ViewMessage};
use rocketmq_protocol::transport::{Connection, Connector, RequestError};
use rocketmq_protocol::{QueueId, ResponseCode};

use crate::support::{self, LONG, connector};

/// The connection lives as long as its connector.
async fn start() -> (Standalone, Connection, Connector) {
    let cluster = Standalone::builder().start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    (cluster, connection, connector)
}

fn message(unique_key: &str, keys: &str, body: impl Into<Bytes>) -> SendMessage {
    let properties = Properties::builder()
        .set(property::UNIQ_KEY, unique_key)
        .set(property::KEYS, keys)
        .set(property::TAGS, "A");
    let properties = Some(properties.build().unwrap().encoded().clone());
    SendMessage { properties, ..support::message("orders", 0, body) }
}

fn by_key(key: &str) -> QueryMessage {
    QueryMessage {
        topic: "orders".into(),
        key: key.into(),
        max_messages: 64,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        index_type: None,
        unique_key_query: Some(false),
    }
}

async fn query(connection: &Connection, request: &QueryMessage) -> Vec<StoredMessage> {
    let reply = connection.call(request, LONG).await.unwrap();
    StoredMessages::new(reply.messages.into_bytes()).collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_sent_message_is_found_by_key_unique_key_tag_and_message_id() {
    let (cluster, connection, _connector) = start().await;
    connection.call(&message("other", "other", "other"), LONG).await.unwrap();
    let sent = connection.call(&message("unique", "red green", "hello"), LONG).await.unwrap();
    for key in ["unique", "red", "green"] {
        let [found] = &query(&connection, &by_key(key)).await[..] else { panic!("one message") };
        assert_eq!((&found.body[..], found.queue_id), (&b"hello"[..], QueueId::ZERO));
    }
    let tag = QueryMessage { index_type: Some("T".into()), ..by_key("A") };
    assert_eq!(query(&connection, &tag).await.len(), 2);
    let id: OffsetMessageId = sent.message_id.parse().unwrap();
    let viewed = connection.call(&ViewMessage { position: id.position, topic: None }, LONG).await.unwrap();
    assert_eq!(
        query(&connection, &by_key("red")).await,
        StoredMessages::new(viewed.message).collect::<Result<Vec<_>, _>>().unwrap()
    );
    let reply = connection.call(&by_key("other"), LONG).await.unwrap();
    assert_eq!(reply.index_last_position, id.position);
    assert!(reply.index_last_timestamp > 0);
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_found_is_told_by_its_own_code_with_what_was_asked_for() {
    let (cluster, connection, _connector) = start().await;
    let sent = connection.call(&message("unique", "red", "hello"), LONG).await.unwrap();
    let id: OffsetMessageId = sent.message_id.parse().unwrap();
    let viewed = connection.call(&ViewMessage { position: id.position, topic: None }, LONG).await.unwrap();
    let stored = StoredMessage::decode(&mut viewed.message.clone()).unwrap().unwrap().store_timestamp;
    for request in [
        by_key("blue"),
        QueryMessage { topic: "nothing".into(), ..by_key("red") },
        QueryMessage { index_type: Some("T".into()), ..by_key("red") },
        QueryMessage { end_timestamp: stored - 1, ..by_key("red") },
        QueryMessage { begin_timestamp: stored + 1, ..by_key("red") },
        QueryMessage { max_messages: -1, ..by_key("red") },
    ] {
        let Err(RequestError::Refused { code, remark, .. }) = connection.call(&request, LONG).await else {
            panic!("found: {request:?}")
        };
        assert_eq!(code, ResponseCode::QUERY_NOT_FOUND);
        let remark = remark.unwrap();
        assert!(remark.contains(&*request.key) && remark.contains(&*request.topic), "{remark}");
    }
    let exactly = QueryMessage { begin_timestamp: stored, end_timestamp: stored, ..by_key("red") };
    assert_eq!(query(&connection, &exactly).await.len(), 1);
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_absurd_count_costs_no_more_than_the_limit() {
    let (cluster, connection, _connector) = start().await;
    for i in 0..100 {
        connection.call(&message("same", "k", i.to_string()), LONG).await.unwrap();
    }
    let huge = QueryMessage { max_messages: i32::MAX, ..by_key("k") };
    let found = query(&connection, &huge).await;
    assert_eq!(found.len(), 64);
    assert!(found.iter().map(|message| message.queue_offset.get()).eq(36..100));
    let unique = QueryMessage { unique_key_query: Some(true), ..huge };
    assert_eq!(query(&connection, &unique).await.len(), 32);
    // A frame holds the answer, however big the messages are.
    for _ in 0..6 {
        connection.call(&message("same", "big", vec![7; 3 << 20]), LONG).await.unwrap();
    }
    assert_eq!(query(&connection, &by_key("big")).await.len(), 2);
    cluster.shutdown().await.unwrap();
}
