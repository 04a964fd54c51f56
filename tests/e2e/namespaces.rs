//! Clients with a namespace: brokers see its prefix, users never do, and clients without it see nothing of theirs.

use std::collections::BTreeSet;
use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Ack, Client, ConsumeFrom, Filter, LitePullConsumer, Message, Producer, PullConsumer, PullRequest,
    PushConsumer, QueueOffset, SeekTo, StreamConsumer,
};
use tokio::sync::mpsc;

use crate::collector::LONG;

async fn client(cluster: &Standalone, namespace: &str) -> Client {
    let builder = Client::builder().name_servers([cluster.name_server_addr()]);
    builder.namespace(namespace).start().await.unwrap()
}

/// A client of namespace `NS` that has sent the message `mine` to `orders`; another client has sent one there without.
async fn client_of_two(cluster: &Standalone) -> Client {
    let client = client(cluster, "NS").await;
    for (namespace, body) in [("NS", "mine"), ("", "theirs")] {
        let client = self::client(cluster, namespace).await;
        let producer = Producer::builder("p").client(&client).start().await.unwrap();
        producer.send(Message::new("orders", body)).await.unwrap();
    }
    client
}

/// The offset that the broker has for all queues of a topic.
async fn stored(cluster: &Standalone, group: &str, topic: &str) -> i64 {
    let reader = PullConsumer::builder(group).name_servers([cluster.name_server_addr()]);
    let reader = reader.start().await.unwrap();
    let mut sum = 0;
    for queue in reader.queues(topic).await.unwrap() {
        sum += reader.committed(&queue).await.unwrap().map_or(0, QueueOffset::get);
    }
    reader.shutdown().await;
    sum
}

#[tokio::test]
async fn a_push_consumer_sees_bare_names_also_of_what_comes_again() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client_of_two(&cluster).await;
    let (got, mut handled) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("g")
        .client(&client)
        .subscribe("orders", Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |batch| {
            let message = batch[0].clone();
            let again = message.reconsume_times() > 0;
            got.send(message).ok();
            std::future::ready(Ok(if again { Ack::All } else { Ack::RetryAfter(1) }))
        })
        .start()
        .await
        .unwrap();
    assert_eq!(consumer.group(), "NS%g");
    let first = tokio::time::timeout(LONG, handled.recv()).await.unwrap().unwrap();
    assert_eq!((first.topic(), &*first.queue().topic), ("orders", "orders"));
    let again = loop {
        tokio::select! {
            again = handled.recv() => break again.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(10)) => cluster.clock().advance(Duration::from_secs(1)),
        }
    };
    assert_eq!((again.topic(), &*again.queue().topic), ("orders", "%RETRY%g"));
    assert_eq!((again.body().unwrap(), again.property("RETRY_TOPIC")), (&"mine".into(), Some("NS%orders")));
    let topics: BTreeSet<_> = consumer.assigned_queues().into_iter().map(|queue| queue.topic).collect();
    assert_eq!(topics, ["%RETRY%g".into(), "orders".into()].into());
    assert!(consumer.lag().await.unwrap().iter().all(|lag| topics.contains(&lag.queue.topic)));
    assert!(consumer.stats().keys().all(|topic| topics.contains(topic.as_str())));
    consumer.shutdown(LONG).await.unwrap();
    assert_eq!(stored(&cluster, "NS%g", "NS%orders").await, 1);
    assert_eq!(stored(&cluster, "NS%g", "%RETRY%NS%g").await, 1);
}

#[tokio::test]
async fn a_stream_sees_bare_names() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client_of_two(&cluster).await;
    let builder = StreamConsumer::builder("g").client(&client).subscribe("orders", Filter::All);
    let consumer = builder.from(ConsumeFrom::Earliest).start().await.unwrap();
    let delivery = tokio::time::timeout(LONG, consumer.next()).await.unwrap().unwrap();
    assert_eq!((delivery.topic(), delivery.body().unwrap()), ("orders", &"mine".into()));
    delivery.ack();
    consumer.shutdown(LONG).await.unwrap();
    assert_eq!(stored(&cluster, "NS%g", "NS%orders").await, 1);
}

#[tokio::test]
async fn a_lite_pull_consumer_takes_and_gives_bare_queues() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client_of_two(&cluster).await;
    let queues = client.queues("orders").await.unwrap();
    assert!(queues.iter().all(|queue| queue.topic == "orders"));
    let builder = LitePullConsumer::builder("g").client(&client).assign(queues.clone());
    let mut consumer = builder.from(ConsumeFrom::Earliest).start().await.unwrap();
    let messages = consumer.poll(LONG).await.unwrap();
    assert_eq!((messages[0].topic(), messages[0].body().unwrap()), ("orders", &"mine".into()));
    let queue = messages[0].queue();
    consumer.seek(&queue, SeekTo::Begin).await.unwrap();
    assert_eq!(consumer.poll(LONG).await.unwrap()[0].queue(), queue, "again");
    consumer.commit().await.unwrap();
    assert_eq!(consumer.committed(&queue).await.unwrap(), Some(QueueOffset::new(1)));
    consumer.assign([queue.clone()]).unwrap();
    consumer.pause([queue.clone()]);
    consumer.resume([&queue]);
    assert_eq!(consumer.queues("orders").await.unwrap(), queues);
    consumer.shutdown().await.unwrap();
    assert_eq!(stored(&cluster, "NS%g", "NS%orders").await, 1);
}

#[tokio::test]
async fn a_pull_consumer_takes_and_gives_bare_queues() {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = client_of_two(&cluster).await;
    let consumer = PullConsumer::builder("g").client(&client).start().await.unwrap();
    let mut found = Vec::new();
    for queue in consumer.queues("orders").await.unwrap() {
        let next = consumer.min_offset(&queue).await.unwrap();
        let messages = consumer.pull(&queue, PullRequest::new(next)).await.unwrap().into_messages();
        consumer.commit(&queue, consumer.max_offset(&queue).await.unwrap()).await.unwrap();
        found.extend(messages);
    }
    assert_eq!((found.len(), found[0].topic(), found[0].body().unwrap()), (1, "orders", &"mine".into()));
    consumer.send_back(&found[0], -1).await.unwrap();
    consumer.shutdown().await;
    assert_eq!(stored(&cluster, "NS%g", "NS%orders").await, 1);
    let without = self::client(&cluster, "").await;
    let dead = without.queues("%DLQ%NS%g").await.unwrap();
    assert_eq!(dead.len(), 1);
}
