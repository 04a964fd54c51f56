//! Pulls against a scripted broker.

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::message::{Compression, SysFlag};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{GetMaxOffset, Heartbeat, PullMessage, QueryConsumerOffset};

use crate::test_support::*;
use crate::{Error, Filter, PullConsumer, PullOutcome, PullRequest, QueueOffset};

async fn consumer() -> (FakeNameServer, FakeBroker, PullConsumer, crate::MessageQueue) {
    let (name_server, a) = one_broker().await;
    let consumer = PullConsumer::builder("c").name_servers([&name_server.addr]).start().await.unwrap();
    let queue = consumer.queues("orders").await.unwrap().remove(0);
    (name_server, a, consumer, queue)
}

fn from(offset: i64) -> PullRequest {
    PullRequest::new(QueueOffset::new(offset))
}

#[tokio::test]
async fn messages_come_in_order_and_those_with_other_tags_are_left_out() {
    let (_name_server, a, consumer, queue) = consumer().await;
    // "Aa" and "BB" have the same hash: the broker lets both through.
    let records = [("Aa", 5), ("BB", 6), ("Aa", 7)].map(|(tag, at)| record(at, SysFlag::NONE, tag, b"x"));
    *a.records.lock().unwrap() = records.concat().into();
    let outcome = consumer.pull(&queue, from(5).filter(Filter::tags(["Aa"]))).await.unwrap();
    assert_eq!(outcome.next().get(), 37);
    let offsets: Vec<_> =
        outcome.into_messages().iter().map(|message| message.queue_offset().get()).collect();
    assert_eq!(offsets, [5, 7]);
}

#[tokio::test]
async fn every_answer_of_the_broker_has_its_outcome() {
    let (_name_server, a, consumer, queue) = consumer().await;
    a.script.answer(
        PullMessage::CODE,
        [
            Answer::Accept(ResponseCode::PULL_NOT_FOUND),
            Answer::Accept(ResponseCode::PULL_RETRY_IMMEDIATELY),
            Answer::Accept(ResponseCode::PULL_OFFSET_MOVED),
            Answer::Refuse(ResponseCode::SUBSCRIPTION_NOT_LATEST),
        ],
    );
    assert!(matches!(consumer.pull(&queue, from(1)).await, Ok(PullOutcome::NoNewMessage { .. })));
    assert!(matches!(consumer.pull(&queue, from(1)).await, Ok(PullOutcome::NoMatch { .. })));
    let moved = consumer.pull(&queue, from(1)).await.unwrap();
    assert!(matches!(moved, PullOutcome::OutOfRange { max, .. } if max.get() == 32));
    let refused = consumer.pull(&queue, from(1)).await.unwrap_err();
    assert_eq!(refused.response_code(), Some(ResponseCode::SUBSCRIPTION_NOT_LATEST));
    let negative = consumer.pull(&queue, from(-1)).await.unwrap_err();
    assert_eq!(negative.to_string(), "offset: -1 is negative");
}

#[tokio::test]
async fn a_body_that_cannot_be_decompressed_is_delivered_as_an_error() {
    let (_name_server, a, consumer, queue) = consumer().await;
    let corrupt = record(3, SysFlag::NONE.with_compression(Compression::Zlib), "t", b"not zlib");
    *a.records.lock().unwrap() = corrupt;
    let messages = consumer.pull(&queue, from(3)).await.unwrap().into_messages();
    assert!(messages[0].body().is_err());
    assert_eq!(messages[0].queue_offset().get(), 3);
}

#[tokio::test]
async fn a_record_that_is_none_is_neither_skipped_nor_in_the_way_of_those_before_it() {
    let (_name_server, a, consumer, queue) = consumer().await;
    let good = record(3, SysFlag::NONE, "t", b"x");
    *a.records.lock().unwrap() = [&good[..], b"garbage that is no record"].concat().into();
    let outcome = consumer.pull(&queue, from(3)).await.unwrap();
    assert_eq!((outcome.next().get(), outcome.into_messages().len()), (4, 1));
    *a.records.lock().unwrap() = b"garbage that is no record".as_slice().into();
    let error = consumer.pull(&queue, from(4)).await.unwrap_err();
    assert!(matches!(error, Error::Undecodable { offset: 4, .. }), "{error}");
}

#[tokio::test]
async fn no_offset_and_not_able_to_ask_are_different() {
    let (_name_server, a, consumer, queue) = consumer().await;
    assert_eq!(consumer.committed(&queue).await.unwrap(), None);
    a.script.answer(QueryConsumerOffset::CODE, [Answer::Refuse(ResponseCode::SYSTEM_ERROR), Answer::HangUp]);
    assert!(consumer.committed(&queue).await.is_err());
    assert!(consumer.committed(&queue).await.is_err());
    consumer.commit(&queue, QueueOffset::new(9)).await.unwrap();
    assert_eq!(consumer.committed(&queue).await.unwrap(), Some(QueueOffset::new(9)));
    a.offsets.lock().unwrap().insert(0, -1);
    assert_eq!(consumer.committed(&queue).await.unwrap(), None);
    let unsupported = consumer.max_offset(&queue).await.unwrap_err();
    assert!(unsupported.to_string().contains(GetMaxOffset::CODE.name().unwrap()), "{unsupported}");
}

#[tokio::test]
async fn the_group_is_known_to_the_broker_as_one_that_pulls() {
    let (_name_server, a, consumer, _) = consumer().await;
    a.script.await_count(Heartbeat::CODE, 1).await;
    let text = format!("{:?}", a.heartbeats.lock().unwrap()[0].data);
    assert!(text.contains("Actively") && text.contains("\"c\""), "{text}");
    consumer.shutdown().await;
    assert!(consumer.queues("elsewhere").await.is_err());
}
