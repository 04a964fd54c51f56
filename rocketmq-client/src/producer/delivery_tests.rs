//! Which broker gets a message, and what stands between the caller and the wire.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use rocketmq_protocol::message::{Properties, property};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{GetMaxOffset, SendBatchMessage, SendMessage};
use rocketmq_protocol::{FrameDecoder, MAX_FRAME_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::test_support::*;
use crate::{
    Client, Delay, Error, HandlerError, LatencyFault, Message, Producer, ResponseCode, SendEvent,
    SendInterceptor, SendOptions, SendStatus, Version,
};

const SEND: rocketmq_protocol::RequestCode = SendMessage::CODE;

fn order() -> Message {
    Message::new("orders", "hello")
}

#[tokio::test]
async fn a_broker_that_failed_is_not_sent_to_for_a_while() {
    let (name_server, a, b) = two_brokers().await;
    let rules = LatencyFault::default().detect_every(Duration::from_millis(20));
    let producer = producer(&name_server).latency_fault(rules).start().await.unwrap();
    a.script.answer(SEND, [Answer::HangUp]);
    while a.script.count(SEND) == 0 {
        producer.send(order()).await.unwrap();
    }
    let before = b.sent();
    for _ in 0..20 {
        producer.send(order()).await.unwrap();
    }
    assert_eq!((a.sent(), b.sent()), (0, before + 20));
    // The detector finds it; it is kept from messages for the table's time all the same.
    a.script.await_count(GetMaxOffset::CODE, 1).await;
}

#[tokio::test]
async fn where_every_broker_failed_one_is_tried_all_the_same() {
    let (name_server, a) = one_broker().await;
    let rules = LatencyFault::default().detect_every(None);
    let producer = producer(&name_server).latency_fault(rules).start().await.unwrap();
    a.script.answer(SEND, [Answer::Refuse(ResponseCode::SYSTEM_ERROR)]);
    producer.send(order()).await.unwrap();
    producer.send(order()).await.unwrap();
    assert_eq!(a.sent(), 2);
}

#[tokio::test]
async fn a_status_short_of_ok_can_be_tried_elsewhere_or_be_an_error() {
    let (name_server, a, b) = two_brokers().await;
    let client = client(&name_server).start().await.unwrap();
    let again = Producer::builder("again").client(&client).retry_not_ok(true).start().await.unwrap();
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Accept(ResponseCode::FLUSH_DISK_TIMEOUT)]);
    }
    // The third attempt is the first broker's second.
    let receipt = again.send(order()).await.unwrap();
    assert_eq!((receipt.status, receipt.may_be_duplicate), (SendStatus::Ok, true));
    assert_eq!(a.sent() + b.sent(), 3);
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Accept(ResponseCode::FLUSH_DISK_TIMEOUT); 2]);
    }
    assert_eq!(again.send(order()).await.unwrap().status, SendStatus::FlushDiskTimeout);

    let strict = Producer::builder("strict").client(&client).require_ok(true).start().await.unwrap();
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Accept(ResponseCode::SLAVE_NOT_AVAILABLE)]);
        broker.script.answer(SendBatchMessage::CODE, [Answer::Accept(ResponseCode::SLAVE_NOT_AVAILABLE)]);
    }
    let error = strict.send(order()).await.unwrap_err();
    assert!(matches!(&error, Error::NotSafelyStored { .. }) && error.may_have_been_stored(), "{error}");
    assert!(strict.send_batch([order(), order()]).await.is_err());
}

#[tokio::test]
async fn an_unanswered_attempt_shows_in_the_receipt() {
    let (name_server, a, b) = two_brokers().await;
    let limit = Duration::from_millis(100);
    let producer = producer(&name_server).attempt_timeout(limit).start().await.unwrap();
    assert!(!producer.send(order()).await.unwrap().may_be_duplicate);
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Silence]);
    }
    assert!(producer.send(order()).await.unwrap().may_be_duplicate);
}

#[tokio::test]
async fn codes_of_the_users_own_are_tried_elsewhere() {
    let (name_server, a, b) = two_brokers().await;
    let code = ResponseCode::new(4711);
    let client = client(&name_server).start().await.unwrap();
    for (group, codes, expected) in [("plain", vec![], 1), ("listed", vec![code], 2)] {
        let producer = Producer::builder(group).client(&client).retry_codes(codes).max_attempts(2);
        let producer = producer.start().await.unwrap();
        for broker in [&a, &b] {
            broker.script.answer(SEND, [Answer::Refuse(code)]);
        }
        let before = a.script.count(SEND) + b.script.count(SEND);
        let error = producer.send(order()).await.unwrap_err();
        assert_eq!(error.response_code(), Some(code));
        assert_eq!(a.script.count(SEND) + b.script.count(SEND) - before, expected, "{group}");
        a.script.clear();
        b.script.clear();
    }
}

/// A broker of 4.9 that answers whatever it is asked with success.
async fn old_broker() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut decoder, mut buffer) = (FrameDecoder::new(MAX_FRAME_BYTES), BytesMut::new());
                while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                    while let Ok(Some(mut frame)) = decoder.decode(&mut buffer) {
                        frame.code = 0;
                        frame.flag = 1;
                        frame.version = Version::V4_9_3;
                        let mut out = Vec::new();
                        frame.encode(&mut out, MAX_FRAME_BYTES).unwrap();
                        stream.write_all(&out).await.unwrap();
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_message_for_later_is_not_given_to_a_broker_that_would_deliver_it_now() {
    let (name_server, a) = one_broker().await;
    let old = old_broker().await;
    name_server.routes.set("orders", &[("broker-old", &old), a.place()]);
    name_server.routes.set("old", &[("broker-old", &old)]);
    let producer = producer(&name_server).start().await.unwrap();
    let later = |topic: &str| {
        Message::builder(topic).body("x").delay(Delay::After(Duration::from_secs(9))).build().unwrap()
    };
    for _ in 0..4 {
        assert_eq!(producer.send(later("orders")).await.unwrap().queue.broker_name, "broker-a");
    }
    let error = producer.send(later("old")).await.unwrap_err();
    assert!(error.to_string().contains("cannot deliver a message at a given time"), "{error}");
    let level = Message::builder("old").body("x").delay(Delay::Level(1)).build().unwrap();
    let error = producer.send(level).await.unwrap_err(); // got through: the answer is no answer to a send
    assert!(error.may_have_been_stored(), "{error}");
}

#[tokio::test]
async fn names_are_wrapped_in_the_namespace_for_brokers_and_bare_for_the_user() {
    let (name_server, a) = one_broker().await;
    name_server.routes.set("NS%orders", &[a.place()]);
    let client = Client::builder().name_servers([&name_server.addr]).namespace("NS").start().await.unwrap();
    let producer = Producer::builder("g").client(&client).start().await.unwrap();
    let receipt = producer.send(order()).await.unwrap();
    assert_eq!(receipt.queue.topic, "orders");
    let queue = producer.queues("orders").await.unwrap().remove(0);
    assert_eq!(queue.topic, "orders");
    assert_eq!(
        producer.send_with(order(), SendOptions::new().queue(queue.clone())).await.unwrap().queue,
        queue
    );
    producer.send_with(order(), SendOptions::new().sharding_key("k")).await.unwrap();
    assert_eq!(producer.send_batch([order()]).await.unwrap().queue.topic, "orders");
    for sent in &*a.sent.lock().unwrap() {
        assert_eq!((&*sent.topic, &*sent.producer_group), ("NS%orders", "NS%g"));
        if !sent.batch {
            let properties = Properties::new(sent.properties.clone().unwrap());
            assert_eq!(properties.get(property::INSTANCE_ID), Some("NS"));
        }
    }
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl SendInterceptor for Recorder {
    async fn before_send(&self, message: &mut Message) -> Result<(), HandlerError> {
        if message.body() == "stop" {
            return Err("not today".into());
        }
        Ok(message.set_property("stamp", "here")?)
    }

    async fn after_send(&self, event: &SendEvent<'_>) {
        let result = event.result.map_or("failed", |_| "stored");
        let line = format!("{:?} x{} {result}", event.kind, event.messages.len());
        self.0.lock().unwrap().push(line);
        assert_eq!(event.messages.len(), event.message_ids.len());
    }
}

#[tokio::test]
async fn interceptors_change_stop_and_watch_messages() {
    let (name_server, a) = one_broker().await;
    let recorder = Recorder::default();
    let producer = producer(&name_server).interceptor(recorder.clone()).start().await.unwrap();
    producer.send(order()).await.unwrap();
    let sent = a.sent.lock().unwrap()[0].clone();
    assert_eq!(Properties::new(sent.properties.unwrap()).get("stamp"), Some("here"));
    let error = producer.send(Message::new("orders", "stop")).await.unwrap_err();
    assert_eq!(error.to_string(), "the message to orders was stopped by an interceptor: not today");
    producer.send_batch([order(), order()]).await.unwrap();
    producer
        .send(Message::builder("orders").body("x").delay(Delay::Level(2)).build().unwrap())
        .await
        .unwrap();
    a.script.answer(SEND, [Answer::Refuse(ResponseCode::MESSAGE_ILLEGAL)]);
    producer.send(order()).await.unwrap_err();
    let lines = recorder.0.lock().unwrap().clone();
    assert_eq!(lines, ["Normal x1 stored", "Normal x2 stored", "Delayed x1 stored", "Normal x1 failed"]);
}

#[tokio::test]
async fn a_recall_goes_to_the_broker_of_the_handle_and_only_for_its_topic() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    let handle = rocketmq_protocol::message::RecallHandle {
        topic: "orders".into(),
        broker_name: "broker-a".into(),
        deliver_ms: 1,
        unique_key: "KEY".into(),
    };
    let handle = handle.to_string();
    assert_eq!(producer.recall("orders", &handle).await.unwrap(), "KEY");
    assert_eq!(a.script.count(rocketmq_protocol::requests::RecallMessage::CODE), 1);
    let error = producer.recall("others", &handle).await.unwrap_err().to_string();
    assert!(error.contains("of topic orders, not of others"), "{error}");
    let error = producer.recall("orders", "x").await.unwrap_err().to_string();
    assert!(error.contains("not a recall handle"), "{error}");
    assert!(producer.recall("%RETRY%g", &handle).await.is_err());
}
