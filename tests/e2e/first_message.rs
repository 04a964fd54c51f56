//! A consumer gets its first message soon after its start.

use std::time::{Duration, Instant};

use rocketmq_broker_lite::Standalone;
use rocketmq_client::Message;

use crate::collector::{Collector, LONG, collect, consumer, producer};

#[tokio::test]
async fn the_first_message_comes_within_a_second_of_start_in_a_new_group_and_in_one_that_exists() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    for group in ["new", "exists"] {
        for run in 0..2 {
            producer.send(Message::new("orders", "x")).await.unwrap();
            let collector = Collector::new();
            let start = Instant::now();
            let consumer = collect(consumer(&cluster, group, "orders"), &collector).await;
            collector.wait_for(1).await;
            let took = start.elapsed();
            println!("group {group}, run {run}: first message after {took:?}");
            assert!(took < Duration::from_secs(1), "{took:?}");
            consumer.shutdown(LONG).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_message_to_a_topic_that_the_consumer_waits_for_arrives() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    producer.send(Message::new("orders", "first")).await.unwrap();
    let collector = Collector::new();
    let _consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(1).await;
    for number in 0..50 {
        let start = Instant::now();
        producer.send(Message::new("orders", "next")).await.unwrap();
        collector.wait_for(number + 2).await;
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
