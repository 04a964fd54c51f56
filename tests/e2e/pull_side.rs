//! Consuming at one's own pace: streams, polls, and going back in time.

use std::collections::BTreeSet;
use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Client, ConsumeFrom, Filter, LitePullConsumer, Message, Perm, Producer, PullConsumer, PullRequest,
    QueueOffset, SeekTo, SendOptions, StreamConsumer, StreamConsumerBuilder, TopicConfig,
};

use crate::collector::{LONG, numbers, producer};

fn stream(cluster: &Standalone) -> StreamConsumerBuilder {
    StreamConsumer::builder("g")
        .name_servers([cluster.name_server_addr()])
        .subscribe("orders", Filter::All)
        .from(ConsumeFrom::Earliest)
}

async fn lite(cluster: &Standalone) -> LitePullConsumer {
    let builder = LitePullConsumer::builder("g").name_servers([cluster.name_server_addr()]);
    builder.subscribe("orders", Filter::All).from(ConsumeFrom::Earliest).start().await.unwrap()
}

/// Acknowledges the next messages; their bodies, sorted.
async fn take(consumer: &StreamConsumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let next = tokio::time::timeout(LONG, consumer.next()).await;
        let delivery = next.unwrap_or_else(|_| panic!("{} of {count} came", bodies.len())).unwrap();
        bodies.push(String::from_utf8(delivery.body().unwrap().to_vec()).unwrap());
        delivery.ack();
    }
    bodies.sort();
    bodies
}

async fn send(cluster: &Standalone, numbers: std::ops::Range<usize>) {
    let producer = producer(cluster).await;
    for number in numbers {
        producer.send(Message::new("orders", number.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_gives_every_message_once_and_a_restart_none_again() {
    let cluster = Standalone::builder().start().await.unwrap();
    send(&cluster, 0..300).await;
    let consumer = stream(&cluster).start().await.unwrap();
    let mut first = take(&consumer, 120).await;
    consumer.shutdown(LONG).await.unwrap();
    let consumer = stream(&cluster).start().await.unwrap();
    first.extend(take(&consumer, 180).await);
    first.sort();
    assert_eq!(first, numbers(300));
    let lag = consumer.lag().await.unwrap();
    assert!(lag.iter().all(|lag| lag.messages() == 0), "{lag:?}");
    assert_eq!(consumer.stats()["orders"].consume_ok_tps, 3.0, "180 in a minute");
    consumer.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn a_running_group_goes_back_in_time_to_the_millisecond() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = Client::builder().name_servers([cluster.name_server_addr()]).start().await.unwrap();
    client.create_topic(&TopicConfig::new("orders", 1, Perm::READ_WRITE)).await.unwrap();
    let producer = producer(&cluster).await;
    for number in 0..10 {
        producer.send(Message::new("orders", number.to_string())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await; // so that no two share a millisecond
    }
    let consumer = stream(&cluster).client(&client).start().await.unwrap();
    let mut sixth = None;
    for _ in 0..10 {
        let delivery = consumer.next().await.unwrap();
        if delivery.body().unwrap() == "6" {
            sixth = Some(delivery.store_time());
        }
        delivery.ack();
    }
    let sixth = sixth.unwrap();
    consumer.reset_to_time(sixth).await.unwrap();
    assert_eq!(take(&consumer, 4).await, ["6", "7", "8", "9"]);
    consumer.reset_to_time(sixth + Duration::from_millis(1)).await.unwrap();
    assert_eq!(take(&consumer, 3).await, ["7", "8", "9"]);
    consumer.shutdown(LONG).await.unwrap();

    // A new group may begin there, too.
    let builder = StreamConsumer::builder("late").client(&client).subscribe("orders", Filter::All);
    let late = builder.from(ConsumeFrom::Time(sixth)).start().await.unwrap();
    assert!(
        ["6", "0"].contains(&&*take(&late, 1).await[0]),
        "0 where the broker takes the group for a first one"
    );
    drop(late);

    let mut polled = LitePullConsumer::builder("polled");
    polled = polled.client(&client).assign(client.queues("orders").await.unwrap());
    let mut polled = polled.start().await.unwrap();
    let queue = client.queues("orders").await.unwrap().remove(0);
    polled.seek(&queue, SeekTo::Time(sixth)).await.unwrap();
    assert_eq!(polled.poll(LONG).await.unwrap()[0].body().unwrap(), "6");
    assert_eq!(polled.offset_at(&queue, sixth).await.unwrap(), QueueOffset::new(6));
    polled.shutdown().await.unwrap();
}

/// Rows 2, 3 and 4 of what users of other clients suffered from.
#[tokio::test]
async fn polls_lose_nothing_while_members_come_and_go() {
    let cluster = Standalone::builder().start().await.unwrap();
    const MESSAGES: usize = 600;
    let sending = async {
        for part in 0..6 {
            send(&cluster, part * 100..(part + 1) * 100).await;
        }
    };
    let mut polled = BTreeSet::new();
    let polling = async {
        let mut members = vec![lite(&cluster).await];
        let mut rounds = 0;
        while polled.len() < MESSAGES {
            rounds += 1;
            match rounds {
                5 | 25 => members.push(lite(&cluster).await),
                15 => members.remove(0).shutdown().await.unwrap(),
                35 => drop(members.remove(0)), // without a word: what it polled last comes again
                _ => {}
            }
            for member in &mut members {
                for message in &member.poll(Duration::from_millis(10)).await.unwrap() {
                    polled.insert(String::from_utf8(message.body().unwrap().to_vec()).unwrap());
                }
            }
        }
        for member in members {
            member.shutdown().await.unwrap();
        }
    };
    let both = async { tokio::join!(sending, polling) };
    let done = tokio::time::timeout(LONG, both).await.is_ok();
    assert!(done, "{} of {MESSAGES} were polled", polled.len());
}

#[tokio::test]
async fn queues_that_appear_are_polled_from_their_beginning() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = Client::builder()
        .name_servers([cluster.name_server_addr()])
        .route_interval(Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    client.create_topic(&TopicConfig::new("orders", 1, Perm::READ_WRITE)).await.unwrap();
    let producer = Producer::builder("producers").client(&client).start().await.unwrap();
    producer.send(Message::new("orders", "first")).await.unwrap();
    let builder = LitePullConsumer::builder("g").client(&client).subscribe("orders", Filter::All);
    let mut consumer = builder.from(ConsumeFrom::Latest).start().await.unwrap();
    while consumer.assigned_queues().is_empty() {
        consumer.poll(Duration::from_millis(5)).await.unwrap();
    }
    client.create_topic(&TopicConfig::new("orders", 2, Perm::READ_WRITE)).await.unwrap();
    let sent = loop {
        let newest = SendOptions::new().choose(|queues, _| queues.iter().max());
        let sent = producer.send_with(Message::new("orders", "in the new queue"), newest).await.unwrap();
        if sent.queue.queue_id.get() == 1 {
            break sent;
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // the client's route is old still
    };
    // Somebody joins and leaves, which makes the group look at its queues.
    let other = lite(&cluster).await;
    other.shutdown().await.unwrap();
    let found = async {
        loop {
            let messages = consumer.poll(Duration::from_secs(1)).await.unwrap();
            if messages.iter().any(|message| message.queue() == sent.queue) {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, found).await.expect("the message of the new queue");
    consumer.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pull_consumer_keeps_offsets_where_its_user_says() {
    let cluster = Standalone::builder().start().await.unwrap();
    send(&cluster, 0..40).await;
    let consumer =
        PullConsumer::builder("g").name_servers([cluster.name_server_addr()]).start().await.unwrap();
    let mut bodies = Vec::new();
    for queue in consumer.queues("orders").await.unwrap() {
        let mut next = consumer.committed(&queue).await.unwrap().unwrap_or(QueueOffset::ZERO);
        while next < consumer.max_offset(&queue).await.unwrap() {
            let found = consumer.pull(&queue, PullRequest::new(next).max(7)).await.unwrap();
            next = found.next();
            let messages = found.into_messages();
            bodies.extend(
                messages.iter().map(|found| String::from_utf8(found.body().unwrap().to_vec()).unwrap()),
            );
        }
        consumer.commit(&queue, next).await.unwrap();
        assert_eq!(consumer.committed(&queue).await.unwrap(), Some(next));
    }
    bodies.sort();
    assert_eq!(bodies, numbers(40));
    consumer.shutdown().await;
}
