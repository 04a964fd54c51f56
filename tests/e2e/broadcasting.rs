//! Every member of a broadcasting group gets every message.

use std::path::Path;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Client, Message, PullConsumer, PullRequest, PushConsumer, PushConsumerBuilder, QueueOffset,
};

use crate::collector::{Collector, LONG, collect, consumer, numbers, producer};

/// A client with an id that its offsets are found by again, and what is to become its member of the group.
async fn member(cluster: &Standalone, id: &str, folder: &Path) -> (Client, PushConsumerBuilder) {
    let client = Client::builder().client_id(id).name_servers([cluster.name_server_addr()]);
    let client = client.start().await.unwrap();
    let builder = consumer(cluster, "g", "prices").client(&client).broadcasting().offsets_folder(folder);
    (client, builder)
}

async fn stop(client: Client, member: PushConsumer) {
    member.shutdown(LONG).await.unwrap();
    client.shutdown().await;
}

#[tokio::test]
async fn every_member_gets_every_message_and_none_again_after_a_restart() {
    let cluster = Standalone::builder().start().await.unwrap();
    let (producer, folder) = (producer(&cluster).await, tempfile::tempdir().unwrap());
    for number in 0..20 {
        producer.send(Message::new("prices", number.to_string())).await.unwrap();
    }
    let mut members = Vec::new();
    for id in ["one", "two"] {
        let (collector, (client, builder)) = (Collector::new(), member(&cluster, id, folder.path()).await);
        let consumer = collect(builder, &collector).await;
        members.push((client, consumer, collector));
    }
    for number in 20..30 {
        producer.send(Message::new("prices", number.to_string())).await.unwrap();
    }
    for (client, consumer, collector) in members {
        collector.wait_for(30).await;
        stop(client, consumer).await;
        assert_eq!(collector.bodies(), numbers(30));
    }
    producer.send(Message::new("prices", "new")).await.unwrap();
    for id in ["two", "one"] {
        let (again, (client, builder)) = (Collector::new(), member(&cluster, id, folder.path()).await);
        let consumer = collect(builder, &again).await;
        again.wait_for(1).await;
        stop(client, consumer).await;
        assert_eq!(again.bodies(), ["new"]);
    }
}

#[tokio::test]
async fn what_a_member_fails_to_handle_is_passed_and_comes_again_to_nobody() {
    let cluster = Standalone::builder().start().await.unwrap();
    let (producer, folder) = (producer(&cluster).await, tempfile::tempdir().unwrap());
    producer.send(Message::new("prices", "bad")).await.unwrap();
    let (collector, (client, builder)) = (Collector::new(), member(&cluster, "one", folder.path()).await);
    let seen = collector.clone();
    let handler = move |batch: rocketmq_client::Batch| {
        let taken = seen.take(&batch);
        let is_bad = batch[0].body().is_ok_and(|body| body == "bad");
        std::future::ready(if is_bad { Err("cannot".into()) } else { taken })
    };
    let consumer = builder.handler(handler).start().await.unwrap();
    collector.wait_for(1).await;
    producer.send(Message::new("prices", "good")).await.unwrap();
    collector.wait_for(2).await;
    stop(client, consumer).await;
    assert_eq!(collector.bodies(), ["bad", "good"]);

    let reader = PullConsumer::builder("reader").name_servers([cluster.name_server_addr()]);
    let reader = reader.start().await.unwrap();
    for topic in ["%RETRY%g", "SCHEDULE_TOPIC_XXXX"] {
        for queue in reader.queues(topic).await.unwrap_or_default() {
            let pulled = reader.pull(&queue, PullRequest::new(QueueOffset::ZERO)).await.unwrap();
            assert!(pulled.into_messages().is_empty(), "{queue}");
        }
    }
    let (again, (client, builder)) = (Collector::new(), member(&cluster, "one", folder.path()).await);
    let consumer = collect(builder, &again).await;
    producer.send(Message::new("prices", "new")).await.unwrap();
    again.wait_for(1).await;
    stop(client, consumer).await;
    assert_eq!(again.bodies(), ["new"]);
}
