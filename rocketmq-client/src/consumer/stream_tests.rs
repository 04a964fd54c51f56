//! Stream consumers against a [`FakeCluster`].

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use rocketmq_protocol::{QueueOffset, RequestCode, ResponseCode};

use super::fake_cluster::FakeCluster;
use crate::{ConsumeFrom, Delivery, Filter, StreamConsumer, StreamConsumerBuilder};

const TOPIC: &str = "T";
const GROUP: &str = "g";
const GRACE: Duration = Duration::from_secs(10);

/// A cluster with a queue that holds these.
async fn cluster(bodies: &[&str]) -> FakeCluster {
    let cluster = FakeCluster::start().await;
    cluster.create_topic(TOPIC, 1);
    bodies.iter().for_each(|body| cluster.put(TOPIC, 0, body));
    cluster
}

fn consumer(cluster: &FakeCluster) -> StreamConsumerBuilder {
    StreamConsumer::builder(GROUP)
        .name_servers([cluster.addr()])
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Earliest)
}

async fn next(consumer: &StreamConsumer) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await;
    next.expect("a message within 10 s").expect("a consumer that lives")
}

fn body(delivery: &Delivery) -> &[u8] {
    delivery.body().unwrap()
}

async fn is_pending(future: impl Future) -> bool {
    let mut future = pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn the_offset_waits_for_the_first_message_that_is_not_acknowledged() {
    let cluster = cluster(&["a", "b", "c"]).await;
    let consumer = consumer(&cluster).start().await.unwrap();
    let (a, b) = (next(&consumer).await, next(&consumer).await);
    assert_eq!((body(&a), body(&b), b.queue_offset()), (&b"a"[..], &b"b"[..], QueueOffset::new(1)));
    b.ack();
    {
        let mut stopping = pin!(consumer.shutdown(GRACE));
        assert!(is_pending(stopping.as_mut()).await, "a is out");
        assert_eq!(cluster.see().offset(TOPIC, 0), Some(0), "where it began");
        a.ack();
        stopping.await.unwrap();
    }
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(2), "c was not given out");
    assert!(cluster.see().members.is_empty(), "it has left the group");
}

#[tokio::test]
async fn every_verdict_reaches_the_broker_before_the_offset_passes() {
    let cluster = cluster(&["later", "minute", "dead", "dropped", "done"]).await;
    let consumer = consumer(&cluster).start().await.unwrap();
    for _ in 0..5 {
        let delivery = next(&consumer).await;
        match body(&delivery) {
            b"later" => delivery.retry_later(),
            b"minute" => delivery.retry_after(5),
            b"dead" => delivery.dead_letter(),
            b"done" => delivery.ack(),
            _ => drop(delivery),
        }
    }
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    let mut sent_back: Vec<_> =
        seen.sent_back.iter().map(|back| (back.position.get(), back.delay_level)).collect();
    sent_back.sort_unstable();
    assert_eq!(sent_back, [(0, 0), (1000, 5), (2000, -1), (3000, 0)]);
    assert_eq!(seen.offset(TOPIC, 0), Some(5));
}

#[tokio::test]
async fn a_dropped_delivery_that_cannot_be_sent_back_is_never_passed_and_comes_again() {
    let cluster = cluster(&["a", "b"]).await;
    cluster.refuse(RequestCode::CONSUMER_SEND_MSG_BACK, ResponseCode::SYSTEM_ERROR);
    let consumer = consumer(&cluster).start().await.unwrap();
    let sent_back = |seen: &super::fake_cluster::Seen| seen.count(RequestCode::CONSUMER_SEND_MSG_BACK);
    drop(next(&consumer).await);
    next(&consumer).await.ack();
    cluster.until("a send-back", |seen| sent_back(seen) == 1).await;
    let again = next(&consumer).await; // after 5 s
    assert_eq!((body(&again), again.reconsume_times()), (&b"a"[..], 1));
    assert_eq!(cluster.see().offset(TOPIC, 0).unwrap_or_default(), 0);
    again.ack();
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    assert_eq!((sent_back(&seen), seen.offset(TOPIC, 0)), (1, Some(2)));
}

#[tokio::test]
async fn giving_up_to_wait_for_a_message_loses_none() {
    let cluster = cluster(&[]).await;
    let consumer = consumer(&cluster).start().await.unwrap();
    let wanted: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let mut got = Vec::new();
    for body in &wanted {
        assert!(is_pending(consumer.next()).await);
        cluster.put(TOPIC, 0, body);
        tokio::task::yield_now().await;
        while let Ok(next) = tokio::time::timeout(Duration::from_micros(50), consumer.next()).await {
            let next = next.unwrap();
            got.push(String::from_utf8(next.body().unwrap().to_vec()).unwrap());
            next.ack();
        }
    }
    while got.len() < wanted.len() {
        let next = next(&consumer).await;
        got.push(String::from_utf8(next.body().unwrap().to_vec()).unwrap());
        next.ack();
    }
    assert_eq!(got, wanted);
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(50));
}

#[tokio::test]
async fn who_takes_nothing_gets_no_more_than_the_limit() {
    let cluster = cluster(&["x"; 10]).await;
    let consumer = consumer(&cluster).pull_batch_size(2).queue_limit(4, 1 << 20).start().await.unwrap();
    let mut out = Vec::new();
    for _ in 0..4 {
        out.push(next(&consumer).await);
    }
    assert!(is_pending(consumer.next()).await);
    assert_eq!(cluster.see().pulled[&(TOPIC.to_owned(), 0)], 2, "two pulls of two messages");
    out.into_iter().for_each(Delivery::ack);
    for _ in 4..10 {
        next(&consumer).await.ack();
    }
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(10));
}

#[tokio::test]
async fn a_delivery_that_nobody_settles_does_not_hold_up_the_shutdown_for_ever() {
    let cluster = cluster(&["a"]).await;
    let consumer = consumer(&cluster).start().await.unwrap();
    let kept = next(&consumer).await;
    let error = consumer.shutdown(Duration::from_millis(20)).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    kept.ack();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(0));
    assert!(cluster.see().sent_back.is_empty());
}

#[tokio::test]
async fn a_stream_of_deliveries_gives_what_next_gives() {
    let cluster = cluster(&["a", "b", "c"]).await;
    let consumer = consumer(&cluster).start().await.unwrap();
    {
        let mut stream = pin!(consumer.stream());
        for body in ["a", "b"] {
            let delivery = poll_fn(|context| stream.as_mut().poll_next(context)).await.unwrap();
            assert_eq!(delivery.body().unwrap(), body);
            delivery.ack();
        }
    }
    next(&consumer).await.ack();
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(3));
}

#[tokio::test]
async fn waiting_ends_when_the_client_is_shut_down() {
    let cluster = cluster(&[]).await;
    let client = crate::Client::builder().name_servers([cluster.addr()]).start().await.unwrap();
    let consumer = consumer(&cluster).client(&client).start().await.unwrap();
    let mut waiting = pin!(consumer.next());
    assert!(is_pending(waiting.as_mut()).await);
    client.shutdown().await;
    assert!(waiting.await.is_none());
}
