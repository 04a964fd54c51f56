//! The broker filters by SQL92 conditions on message properties.

use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Ack, ConsumeFrom, Error, Filter, Message, Producer, PullConsumer, PullOutcome, PullRequest, PushConsumer,
    PushConsumerBuilder, QueueOffset, ResponseCode, SendOptions,
};

use crate::collector::{Collector, LONG, collect, producer};

const CONDITION: &str = "amount > 10 AND region = 'eu' OR TAGS = 'always'";

fn consumer(cluster: &Standalone, group: &str, condition: &str) -> PushConsumerBuilder {
    PushConsumer::builder(group)
        .name_servers([cluster.name_server_addr()])
        .subscribe("orders", Filter::sql(condition))
        .from(ConsumeFrom::Earliest)
}

async fn send(producer: &Producer, body: &str, properties: &[(&str, &str)]) {
    let message = Message::builder("orders").body(body.to_owned());
    let message = properties.iter().fold(message, |message, (name, value)| match *name {
        "TAGS" => message.tag(value),
        name => message.property(name, value),
    });
    let to_first = SendOptions::new().choose(|queues, _| queues.first());
    producer.send_with(message.build().unwrap(), to_first).await.unwrap();
}

/// Five messages, of which the second and the last satisfy [`CONDITION`].
async fn send_some(producer: &Producer, round: &str) {
    send(producer, &format!("{round} no amount"), &[("region", "eu")]).await;
    send(producer, &format!("{round} all right"), &[("region", "eu"), ("amount", "11")]).await;
    send(producer, &format!("{round} elsewhere"), &[("region", "us"), ("amount", "11")]).await;
    send(producer, &format!("{round} no number"), &[("region", "eu"), ("amount", "many")]).await;
    send(producer, &format!("{round} tagged"), &[("TAGS", "always")]).await;
}

#[tokio::test]
async fn only_messages_that_satisfy_the_condition_arrive_now_and_later() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    send_some(&producer, "1").await;
    let collector = Collector::new();
    let consumer = collect(consumer(&cluster, "g", CONDITION), &collector).await;
    collector.wait_for(2).await;
    // The consumer's pull is held at the broker now, and woken by what it wants only.
    send_some(&producer, "2").await;
    collector.wait_for(4).await;
    consumer.shutdown(LONG).await.unwrap();
    assert_eq!(collector.bodies(), ["1 all right", "1 tagged", "2 all right", "2 tagged"]);
}

#[tokio::test]
async fn a_pull_carries_its_condition_and_goes_on_behind_what_it_left_out() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    for _ in 0..300 {
        send_some(&producer, "x").await; // more than one read examines, so that it is read apart
    }
    let consumer =
        PullConsumer::builder("g").name_servers([cluster.name_server_addr()]).start().await.unwrap();
    let queue = consumer.queues("orders").await.unwrap().remove(0);
    let (mut next, mut found, mut unmatched) = (QueueOffset::ZERO, 0, 0);
    loop {
        let pull = PullRequest::new(next).filter(Filter::sql("amount > 10 AND region = 'us'"));
        let outcome = consumer.pull(&queue, pull).await.unwrap();
        next = outcome.next();
        match outcome {
            PullOutcome::Found { messages, .. } => found += messages.len(),
            PullOutcome::NoMatch { .. } => unmatched += 1,
            PullOutcome::NoNewMessage { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((next.get(), found), (1500, 300));
    assert!(unmatched <= 1);
    let nobody = PullRequest::new(QueueOffset::ZERO).filter(Filter::sql("amount > 99"));
    let outcome = consumer.pull(&queue, nobody).await.unwrap();
    assert!(matches!(outcome, PullOutcome::NoMatch { next } if next.get() == 800), "{outcome:?}");
}

#[tokio::test]
async fn a_wrong_condition_is_refused_where_it_is_told_with_the_place_of_the_error() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    send_some(&producer, "1").await;
    let refused = |error: Error| {
        assert_eq!(error.response_code(), Some(ResponseCode::SUBSCRIPTION_PARSE_FAILED));
        assert!(error.to_string().contains("at character 11: expected a value"), "{error}");
    };
    let subscribing = consumer(&cluster, "g", "amount >  >").handler(|_| async { Ok(Ack::All) });
    refused(subscribing.start().await.err().unwrap());
    let puller = PullConsumer::builder("g").name_servers([cluster.name_server_addr()]).start().await.unwrap();
    let queue = puller.queues("orders").await.unwrap().remove(0);
    let pull = PullRequest::new(QueueOffset::ZERO).filter(Filter::sql("amount >  AND"));
    refused(puller.pull(&queue, pull).await.unwrap_err());
}

#[tokio::test]
async fn a_broker_that_does_not_filter_by_properties_says_which_setting_would() {
    let cluster = Standalone::builder().set("enablePropertyFilter", "false").unwrap().start().await.unwrap();
    let producer = producer(&cluster).await;
    send_some(&producer, "1").await;
    let subscribing = consumer(&cluster, "g", CONDITION).handler(|_| async { Ok(Ack::All) });
    let error = subscribing.start().await.err().unwrap();
    assert!(error.to_string().contains("enablePropertyFilter=true"), "{error}");
    tokio::time::timeout(Duration::from_secs(10), cluster.shutdown()).await.unwrap().unwrap();
}
