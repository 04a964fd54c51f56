//! Messages that come later.

use std::time::{Duration, SystemTime};

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{Delay, Message};

use crate::collector::{Collector, collect, consumer, producer};

#[tokio::test]
async fn delayed_messages_come_when_the_clock_says_so() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    let collector = Collector::new();
    // Before anything waits: a consumer may need a second of the real clock to hear of a new topic.
    producer.send(Message::new("orders", "at once")).await.unwrap();
    let _consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(1).await;
    for (delay, body) in [
        (Delay::Level(18), "two hours"),
        (Delay::At(SystemTime::now() + Duration::from_secs(3600)), "an hour"),
        (Delay::After(Duration::from_secs(45)), "45 s"),
        (Delay::Level(5), "a minute"),
        (Delay::Level(4), "30 s"),
    ] {
        let message = Message::builder("orders").body(body).delay(delay).build().unwrap();
        producer.send(message).await.unwrap();
    }
    let mut count = 1;
    for seconds in [30, 15, 15, 3600 - 60, 3600] {
        cluster.clock().advance(Duration::from_secs(seconds));
        count += 1;
        collector.wait_for(count).await;
    }
    let messages = collector.messages();
    let bodies: Vec<_> = messages.iter().map(|message| &message.body().unwrap()[..]).collect();
    let expected = ["at once", "30 s", "45 s", "a minute", "an hour", "two hours"];
    assert_eq!(bodies, expected.map(str::as_bytes));
}
