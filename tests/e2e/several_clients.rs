//! Several clients side by side: in one process, in one group.

use std::sync::Arc;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{Client, Message, Perm, Producer, TopicConfig};

use crate::collector::{Collector, LONG, collect, consumer, numbers, producer};

#[tokio::test]
async fn two_clusters_in_one_process_do_not_mix() {
    let (one, two) =
        (Standalone::builder().start().await.unwrap(), Standalone::builder().start().await.unwrap());
    for (cluster, body) in [(&one, "one"), (&two, "two")] {
        producer(cluster).await.send(Message::new("orders", body)).await.unwrap();
    }
    for (cluster, body) in [(&one, "one"), (&two, "two")] {
        let collector = Collector::new();
        let consumer = collect(consumer(cluster, "g", "orders"), &collector).await;
        collector.wait_for(1).await;
        consumer.shutdown(LONG).await.unwrap();
        assert_eq!(collector.bodies(), [body]);
    }
}

#[tokio::test]
async fn two_groups_get_everything_each() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    for number in 0..20 {
        producer.send(Message::new("orders", number.to_string())).await.unwrap();
    }
    let (one, two) = (Collector::new(), Collector::new());
    let _one = collect(consumer(&cluster, "one", "orders"), &one).await;
    let _two = collect(consumer(&cluster, "two", "orders"), &two).await;
    one.wait_for(20).await;
    two.wait_for(20).await;
    assert_eq!((one.bodies(), two.bodies()), (numbers(20), numbers(20)));
}

#[tokio::test]
async fn members_of_a_group_share_its_queues_and_take_over_when_one_leaves() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = Client::builder().name_servers([cluster.name_server_addr()]).start().await.unwrap();
    client.create_topic(&TopicConfig::new("orders", 4, Perm::READ_WRITE)).await.unwrap();
    let producer = Producer::builder("producers").client(&client).start().await.unwrap();
    let (one, two) = (Collector::new(), Collector::new());
    let first = collect(consumer(&cluster, "g", "orders"), &one).await;
    let second = collect(consumer(&cluster, "g", "orders"), &two).await;

    // Until both have something, the queues are still moving.
    let producer = Arc::new(producer);
    let mut sent = 0;
    while one.messages().is_empty() || two.messages().is_empty() {
        producer.send(Message::new("orders", sent.to_string())).await.unwrap();
        sent += 1;
        assert!(sent < 100_000, "one of two members got nothing");
    }
    first.shutdown(LONG).await.unwrap();
    for _ in 0..8 {
        producer.send(Message::new("orders", sent.to_string())).await.unwrap();
        sent += 1;
    }
    let both = || {
        let mut all = [one.bodies(), two.bodies()].concat();
        all.sort();
        all.dedup();
        all
    };
    let deadline = tokio::time::Instant::now() + LONG;
    while both().len() < sent {
        assert!(tokio::time::Instant::now() < deadline, "{} of {sent}", both().len());
        tokio::task::yield_now().await;
    }
    assert_eq!(both(), numbers(sent));
    second.shutdown(LONG).await.unwrap();
}
