//! Ways to send, and finding what was sent.

use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Accumulate, Client, Filter, Message, MessageQuery, Producer, PullConsumer, PullRequest, QueueOffset,
    ReceivedMessage, SendOptions, Trace,
};
use tokio::task::JoinSet;

use crate::collector::{Collector, LONG, collect, consumer, producer};

/// The index of a broker follows its log with a short delay.
async fn find(client: &Client, topic: &str, query: MessageQuery, count: usize) -> Vec<ReceivedMessage> {
    let found = async {
        loop {
            let found = client.query_messages(topic, query.clone()).await.unwrap();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, found).await.unwrap()
}

async fn client(cluster: &Standalone) -> Client {
    Client::builder().name_servers([cluster.name_server_addr()]).start().await.unwrap()
}

#[tokio::test]
async fn a_message_is_found_by_id_by_key_and_by_place() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client(&cluster).await;
    let producer = Producer::builder("p").client(&client).start().await.unwrap();
    let order =
        |body: &str| Message::builder("orders").body(body.to_owned()).key("k").key("other").build().unwrap();
    let first = producer.send(order("1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await; // stored in another millisecond
    let second = producer.send(order("2")).await.unwrap();
    producer.send(Message::new("orders", "no key")).await.unwrap();

    let query = || MessageQuery::key("k");
    let found = find(&client, "orders", query(), 2).await;
    assert_eq!(
        found.iter().map(|message| message.body().unwrap().to_vec()).collect::<Vec<_>>(),
        [b"1", b"2"]
    );
    let (later, before_that) = (found[1].store_time(), found[0].store_time());
    let found = client.message_by_id("orders", &first.message_id).await.unwrap().unwrap();
    assert_eq!((&found.body().unwrap()[..], found.queue()), (&b"1"[..], first.queue.clone()));
    let found = client.message_at(&second.offset_message_id).await.unwrap().unwrap();
    assert_eq!((&found.body().unwrap()[..], found.queue()), (&b"2"[..], second.queue));

    assert_eq!(client.query_messages("orders", query().max(1)).await.unwrap().len(), 1);
    assert_eq!(client.query_messages("orders", query().stored(later..)).await.unwrap().len(), 1);
    assert_eq!(client.query_messages("orders", query().stored(before_that..later)).await.unwrap().len(), 1);
    assert_eq!(client.query_messages("orders", MessageQuery::key("K")).await.unwrap().len(), 0);

    assert!(client.message_by_id("orders", "no such id").await.unwrap().is_none());
    let nowhere = format!("{}{:016X}", &second.offset_message_id[..16], 1_000_000);
    assert!(client.message_at(&nowhere).await.unwrap().is_none());
    assert!(client.message_at("no place").await.is_err());
    assert!(client.query_messages("unheard-of", query()).await.is_err());
}

#[tokio::test]
async fn gathered_sends_are_stored_each_with_its_own_place() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client(&cluster).await;
    let gather = Accumulate::default().linger(Duration::from_millis(2));
    let producer = Producer::builder("p").client(&client).accumulate(gather).start().await.unwrap();
    let mut sends = JoinSet::new();
    for number in 0..500 {
        let producer = producer.clone();
        sends.spawn(async move {
            let body = number.to_string();
            (body.clone(), producer.send(Message::new("orders", body)).await.unwrap())
        });
    }
    for (body, receipt) in sends.join_all().await {
        let message = client.message_at(&receipt.offset_message_id).await.unwrap().unwrap();
        assert_eq!(message.body().unwrap(), body.as_bytes());
        assert_eq!(message.message_id(), &*receipt.message_id);
        assert_eq!((message.queue(), message.queue_offset()), (receipt.queue, receipt.queue_offset));
    }
}

#[tokio::test]
async fn what_is_sent_is_told_to_the_trace_topic() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client(&cluster).await;
    let trace = Trace::default().topic("traces");
    let producer = Producer::builder("p").client(&client).trace(trace).start().await.unwrap();
    let order = Message::builder("orders").body("12345").tag("created").key("k").build().unwrap();
    let receipt = producer.send(order).await.unwrap();
    producer.shutdown().await; // sends what is left

    let found = find(&client, "traces", MessageQuery::key(&*receipt.message_id), 1).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].keys().any(|key| key == "k"));
    let text = String::from_utf8(found[0].body().unwrap().to_vec()).unwrap();
    let fields: Vec<_> = text.trim_end_matches('\u{2}').split('\u{1}').collect();
    assert_eq!(fields[0], "Pub");
    assert_eq!(fields[3..8], ["p", "orders", &*receipt.message_id, "created", "k"]);
    assert_eq!((fields[9], fields[11], fields[12]), ("5", "0", &*receipt.offset_message_id));
    assert_eq!(fields[13], "true");
}

#[tokio::test]
async fn what_is_consumed_is_told_to_the_trace_topic() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client(&cluster).await;
    let receipt = producer(&cluster).await.send(Message::new("orders", "x")).await.unwrap();
    let collector = Collector::new();
    let traced = consumer(&cluster, "g", "orders").trace(Trace::default().topic("traces"));
    let traced = collect(traced, &collector).await;
    collector.wait_for(1).await;
    traced.shutdown(LONG).await.unwrap(); // sends what is left

    let found = find(&client, "traces", MessageQuery::key(&*receipt.message_id), 1).await;
    let text = String::from_utf8(found[0].body().unwrap().to_vec()).unwrap();
    let records: Vec<Vec<_>> =
        text.split_terminator('\u{2}').map(|record| record.split('\u{1}').collect()).collect();
    assert_eq!((records[0][0], records[1][0]), ("SubBefore", "SubAfter"));
    assert_eq!((records[0][3], records[0][5]), ("g", &*receipt.message_id));
    assert_eq!(records[0][4], records[1][1], "one request id ties them");
    assert_eq!((records[1][2], records[1][4], records[1][6]), (&*receipt.message_id, "true", "0"));
}

#[tokio::test]
async fn a_message_tells_which_groups_have_consumed_it() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client(&cluster).await;
    let order = Message::builder("orders").body("x").tag("a").build().unwrap();
    let receipt = producer(&cluster).await.send(order).await.unwrap();
    let message = client.message_at(&receipt.offset_message_id).await.unwrap().unwrap();
    assert!(client.message_track(&message).await.unwrap().is_empty());

    let collector = Collector::new();
    let done = collect(consumer(&cluster, "done", "orders"), &collector).await;
    let other = consumer(&cluster, "other", "orders").subscribe("orders", Filter::tags(["b"]));
    let other = collect(other, &collector).await;
    let gone = collect(consumer(&cluster, "gone", "orders"), &collector).await;
    collector.wait_for(2).await;
    gone.shutdown(LONG).await.unwrap();
    let tracks = || async {
        let tracks = client.message_track(&message).await.unwrap();
        let mut tracks: Vec<_> =
            tracks.into_iter().map(|track| format!("{} {:?}", track.group, track.status)).collect();
        tracks.sort();
        tracks
    };
    let expected = ["done Consumed", "gone NotOnline", "other Filtered"];
    // Consumers commit every 5 s.
    let agreed = async {
        while tracks().await != expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(LONG, agreed).await.is_err() {
        panic!("{:?}", tracks().await);
    }
    done.shutdown(LONG).await.unwrap();
    other.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn a_namespace_keeps_topics_of_the_same_name_apart() {
    let cluster = Standalone::builder().start().await.unwrap();
    let plain = client(&cluster).await;
    let inside =
        Client::builder().name_servers([cluster.name_server_addr()]).namespace("NS").start().await.unwrap();
    let mut places = Vec::new();
    for (client, body) in [(&plain, "outside"), (&inside, "inside")] {
        let producer = Producer::builder("p").client(client).start().await.unwrap();
        let options = SendOptions::new().choose(|queues, _| queues.first());
        places.push(producer.send_with(Message::new("orders", body), options).await.unwrap());
    }
    assert_eq!(places[0].queue, places[1].queue); // by name
    assert_eq!((places[0].queue_offset, places[1].queue_offset), (QueueOffset::ZERO, QueueOffset::ZERO));
    let consumer = PullConsumer::builder("c").client(&plain).start().await.unwrap();
    for (topic, body) in [("orders", "outside"), ("NS%orders", "inside")] {
        let mut queue = places[0].queue.clone();
        queue.topic = topic.into();
        let found = consumer.pull(&queue, PullRequest::new(QueueOffset::ZERO)).await.unwrap().into_messages();
        assert_eq!(found[0].body().unwrap(), body.as_bytes());
    }
}
