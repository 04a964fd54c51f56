//! Starting, stopping, and servers that come and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rocketmq_broker_lite::{Broker, BrokerConfig, Standalone};
use rocketmq_client::{Ack, Client, Message, Producer, PushConsumer};
use rocketmq_namesrv_lite::NameServer;
use tokio::sync::Semaphore;

use crate::collector::{Collector, LONG, collect, consumer, numbers, producer};

#[tokio::test]
async fn a_cluster_is_up_and_down_in_milliseconds() {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let cluster = Standalone::builder().start().await.unwrap();
        let up = start.elapsed();
        cluster.shutdown().await.unwrap();
        println!("cluster up in {up:?}, up and down in {:?}", start.elapsed());
        best = best.min(start.elapsed());
    }
    // The best of five: the machine may be busy with other tests.
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn graceful_shutdowns_in_the_middle_cause_no_duplicates() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    for number in 0..300 {
        producer.send(Message::new("orders", number.to_string())).await.unwrap();
    }
    let collector = Collector::new();
    // Each member handles some 50 and is shut down while handlers are at work.
    for round in 1..=5 {
        let slots = Arc::new(Semaphore::new(50));
        let (gate, seen) = (Arc::clone(&slots), collector.clone());
        let member = consumer(&cluster, "g", "orders")
            .concurrency(8)
            .handler(move |batch| {
                let (gate, seen) = (Arc::clone(&gate), seen.clone());
                async move {
                    gate.acquire().await?.forget();
                    tokio::task::yield_now().await;
                    seen.take(&batch)
                }
            })
            .start()
            .await
            .unwrap();
        collector.wait_for(round * 50).await;
        slots.add_permits(1000);
        member.shutdown(LONG).await.unwrap();
        if collector.bodies().len() >= 300 {
            break;
        }
    }
    let _last = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(300).await;
    assert_eq!(collector.bodies(), numbers(300));
}

#[tokio::test]
async fn a_handler_that_panics_or_fails_does_not_stop_the_others() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    for number in 0..20 {
        producer.send(Message::new("orders", number.to_string())).await.unwrap();
    }
    let collector = Collector::new();
    let seen = collector.clone();
    let _consumer = consumer(&cluster, "g", "orders")
        .handler(move |batch| {
            let seen = seen.clone();
            async move {
                match &batch[0].body()?[..] {
                    b"3" => panic!("three is too much"),
                    b"5" => Err("five is refused".into()),
                    _ => seen.take(&batch),
                }
            }
        })
        .start()
        .await
        .unwrap();
    collector.wait_for(18).await;
    assert!(!collector.bodies().contains(&"3".to_owned()));
}

/// Fixed names, so that what comes back is the same broker.
fn config(store: &std::path::Path) -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.store_root = store.to_owned();
    config.commit_log_file_size = 1 << 20;
    config
}

async fn start_broker(store: &std::path::Path, name_server: &str) -> Broker {
    Broker::builder()
        .config(config(store))
        .listen(([127, 0, 0, 1], 0).into())
        .name_servers([name_server])
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn clients_follow_a_broker_to_its_new_address() {
    let store = tempfile::tempdir().unwrap();
    let names = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await.unwrap();
    let name_server = names.local_addr().to_string();
    let broker = start_broker(store.path(), &name_server).await;
    let before = broker.local_addr();
    let producer =
        Producer::builder("p").name_servers([&name_server]).send_timeout(LONG).start().await.unwrap();
    producer.send(Message::new("orders", "0")).await.unwrap();
    let collector = Collector::new();
    let builder = PushConsumer::builder("g")
        .name_servers([&name_server])
        .subscribe("orders", rocketmq_client::Filter::All)
        .from(rocketmq_client::ConsumeFrom::Earliest);
    let _consumer = collect(builder, &collector).await;
    collector.wait_for(1).await;

    broker.shutdown().await.unwrap();
    let broker = start_broker(store.path(), &name_server).await;
    assert_ne!(broker.local_addr(), before);
    producer.send(Message::new("orders", "1")).await.unwrap();
    collector.wait_for(2).await;
    assert_eq!(collector.bodies(), ["0", "1"]);
}

#[tokio::test]
async fn sending_and_consuming_go_on_without_name_servers() {
    let store = tempfile::tempdir().unwrap();
    let names = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await.unwrap();
    let name_server = names.local_addr().to_string();
    let _broker = start_broker(store.path(), &name_server).await;
    let producer = Producer::builder("p").name_servers([&name_server]).start().await.unwrap();
    producer.send(Message::new("orders", "0")).await.unwrap();
    let collector = Collector::new();
    let builder = PushConsumer::builder("g")
        .name_servers([&name_server])
        .subscribe("orders", rocketmq_client::Filter::All)
        .from(rocketmq_client::ConsumeFrom::Earliest);
    let _consumer = collect(builder, &collector).await;
    collector.wait_for(1).await;
    names.shutdown().await;
    for number in 1..50 {
        producer.send(Message::new("orders", number.to_string())).await.unwrap();
    }
    collector.wait_for(50).await;
    assert_eq!(collector.bodies(), numbers(50));
}

#[tokio::test]
async fn a_name_server_that_comes_back_learns_of_its_brokers_within_seconds() {
    let store = tempfile::tempdir().unwrap();
    let names = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await.unwrap();
    let addr = names.local_addr();
    let broker = start_broker(store.path(), &addr.to_string()).await;
    let producer = Producer::builder("p").name_servers([addr.to_string()]).start().await.unwrap();
    producer.send(Message::new("orders", "0")).await.unwrap();
    names.shutdown().await;

    let _names = NameServer::builder().listen(addr).start().await.unwrap();
    let client = Client::builder().name_servers([addr.to_string()]).start().await.unwrap();
    let mut waited = Duration::ZERO; // by the clock of the broker, which registers every 30 s in any case
    while client.queues("orders").await.is_err() {
        assert!(waited < Duration::from_secs(15), "the name server knows nothing");
        waited += Duration::from_secs(1);
        broker.clock().advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(50)).await; // nothing tells when a name server is told
    }
}

#[test]
fn nothing_runs_on_after_everything_was_shut_down() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = Standalone::builder().start().await.unwrap();
        let producer = producer(&cluster).await;
        producer.send(Message::new("orders", "0")).await.unwrap();
        let collector = Collector::new();
        let consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
        collector.wait_for(1).await;
        consumer.shutdown(LONG).await.unwrap();
        producer.shutdown().await;
        cluster.shutdown().await.unwrap();
    });
    // A task that has just ended may still be counted for a moment.
    let deadline = Instant::now() + LONG;
    while runtime.metrics().num_alive_tasks() > 0 {
        assert!(Instant::now() < deadline, "{} tasks are left", runtime.metrics().num_alive_tasks());
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_dropped_consumer_leaves_its_messages_to_the_next() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    producer.send(Message::new("orders", "0")).await.unwrap();
    let stuck = Arc::new(Semaphore::new(0));
    let started = Arc::new(Semaphore::new(0));
    let (hold, begun) = (Arc::clone(&stuck), Arc::clone(&started));
    let member = consumer(&cluster, "g", "orders")
        .handler(move |_| {
            let (hold, begun) = (Arc::clone(&hold), Arc::clone(&begun));
            async move {
                begun.add_permits(1);
                hold.acquire().await?.forget();
                Ok(Ack::All)
            }
        })
        .start()
        .await
        .unwrap();
    started.acquire().await.unwrap().forget();
    drop(member);
    let collector = Collector::new();
    let _next = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(1).await;
    assert_eq!(collector.bodies(), ["0"]);
}
