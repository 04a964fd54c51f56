//! What a handler fails comes again, later each time, and ends with the dead letters.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rocketmq_broker_lite::{RequestCode, ResponseCode, Standalone};
use rocketmq_client::{Message, PullConsumer, PullRequest, QueueOffset};
use tokio::sync::mpsc;

use crate::collector::{LONG, consumer, producer};

const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";

/// The queue of each message that comes into one of these topics.
fn arrivals(
    cluster: &Standalone,
    topics: &'static [&'static str],
) -> mpsc::UnboundedReceiver<(&'static str, i32)> {
    let (arrived, arrivals) = mpsc::unbounded_channel();
    cluster.broker().store().on_arrival(move |arrival| {
        if let Some(topic) = topics.iter().find(|topic| **topic == arrival.topic) {
            arrived.send((*topic, arrival.queue_id.get())).ok();
        }
    });
    arrivals
}

#[tokio::test]
async fn the_sixteenth_retry_goes_to_the_dead_letters_in_under_a_second() {
    let cluster = Standalone::builder().start().await.unwrap();
    let mut arrivals = arrivals(&cluster, &[SCHEDULE, "%DLQ%g"]);
    let producer = producer(&cluster).await;
    let sent = producer.send(Message::new("orders", "poison")).await.unwrap();
    let began = Instant::now();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tries);
    let consumer = consumer(&cluster, "g", "orders")
        .handler(move |batch| {
            let message = &batch[0];
            let told =
                (message.topic().to_owned(), message.message_id().to_string(), message.reconsume_times());
            seen.lock().unwrap().push(told);
            std::future::ready(Err("cannot handle it".into()))
        })
        .start()
        .await
        .unwrap();

    let delays: Vec<Duration> = cluster.broker().config().delay_levels().unwrap();
    let mut levels = Vec::new();
    loop {
        let arrived = tokio::time::timeout(LONG, arrivals.recv()).await;
        let arrived = arrived.unwrap_or_else(|_| panic!("stuck after {} tries", tries.lock().unwrap().len()));
        let (topic, queue_id) = arrived.unwrap();
        if topic != SCHEDULE {
            break;
        }
        levels.push(queue_id + 1);
        cluster.clock().advance(delays[queue_id as usize]);
    }
    let took = began.elapsed();
    assert_eq!(levels, (3..=18).collect::<Vec<_>>());
    let expected: Vec<_> =
        (0..=16).map(|times| ("orders".to_owned(), sent.message_id.to_string(), times)).collect();
    assert_eq!(*tries.lock().unwrap(), expected);
    consumer.shutdown(LONG).await.unwrap();

    let reader = PullConsumer::builder("dead-letters").name_servers([cluster.name_server_addr()]);
    let reader = reader.start().await.unwrap();
    let queues = reader.queues("%DLQ%g").await.unwrap();
    let dead = reader.pull(&queues[0], PullRequest::new(QueueOffset::ZERO)).await.unwrap().into_messages();
    assert_eq!((dead.len(), &dead[0].body().unwrap()[..]), (1, b"poison".as_slice()));
    assert_eq!((dead[0].reconsume_times(), dead[0].property("RETRY_TOPIC")), (17, Some("orders")));
    println!("16 retries over {:?} took {took:?}", delays[2..].iter().sum::<Duration>());
    assert!(took < Duration::from_secs(2), "{took:?}: one second, and one for a busy machine");
}

#[tokio::test]
async fn a_refused_send_back_loses_nothing() {
    let cluster = Standalone::builder().start().await.unwrap();
    let mut arrivals = arrivals(&cluster, &[SCHEDULE]);
    let producer = producer(&cluster).await;
    producer.send(Message::new("orders", "x")).await.unwrap();
    cluster.broker().fail_next(RequestCode::CONSUMER_SEND_MSG_BACK, ResponseCode::SYSTEM_ERROR, 1);
    let (failed, mut tries) = mpsc::unbounded_channel();
    let _consumer = consumer(&cluster, "g", "orders")
        .handler(move |batch| {
            failed.send(batch[0].reconsume_times()).ok();
            std::future::ready(Err("cannot handle it".into()))
        })
        .start()
        .await
        .unwrap();
    tokio::time::timeout(LONG, tries.recv()).await.unwrap().unwrap();
    // Tried again in memory, or sent to the retry topic: either way it waits at the broker in the end.
    tokio::time::timeout(LONG, arrivals.recv()).await.unwrap().unwrap();
}
