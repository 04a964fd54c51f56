//! A request is answered by whoever consumes it, through the broker.

use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{Ack, Batch, Error, Message, Producer, PushConsumer, QueueId};

use crate::collector::{LONG, consumer, producer};

/// Replies with twice the number that it is asked.
async fn replier(cluster: &Standalone) -> PushConsumer {
    let replier =
        Producer::builder("repliers").name_servers([cluster.name_server_addr()]).start().await.unwrap();
    let builder = consumer(cluster, "g", "questions").handler(move |batch: Batch| {
        let replier = replier.clone();
        async move {
            for question in batch.iter() {
                let number: u32 = String::from_utf8_lossy(question.body()?).parse()?;
                replier.reply(question, (number * 2).to_string()).await?;
            }
            Ok(Ack::All)
        }
    });
    builder.start().await.unwrap()
}

#[tokio::test]
async fn every_request_gets_its_own_reply() {
    let cluster = Standalone::builder().start().await.unwrap();
    let consumer = replier(&cluster).await;
    let asker = producer(&cluster).await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..30_u32 {
        let asker = asker.clone();
        asking.spawn(async move {
            let reply = asker.request(Message::new("questions", number.to_string()), LONG).await.unwrap();
            (number, String::from_utf8(reply.body().unwrap().to_vec()).unwrap())
        });
    }
    while let Some(asked) = asking.join_next().await {
        let (number, reply) = asked.unwrap();
        assert_eq!(reply, (number * 2).to_string());
    }
    consumer.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn a_reply_need_not_be_stored_to_arrive() {
    for (stored, replies) in [("true", 1), ("false", 0)] {
        let builder = Standalone::builder().set("storeReplyMessageEnable", stored).unwrap();
        let cluster = builder.start().await.unwrap();
        let consumer = replier(&cluster).await;
        let reply = producer(&cluster).await.request(Message::new("questions", "4"), LONG).await.unwrap();
        assert_eq!(reply.body().unwrap(), b"8".as_slice());
        consumer.shutdown(LONG).await.unwrap();
        let topic = format!("{}_REPLY_TOPIC", cluster.broker().config().cluster_name);
        let ends =
            (0..16).map(|queue| cluster.broker().store().max_offset(&topic, QueueId::new(queue)).get());
        assert_eq!(ends.sum::<i64>(), replies, "stored: {stored}");
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_ends_after_its_time() {
    let cluster = Standalone::builder().start().await.unwrap();
    let asker = producer(&cluster).await;
    asker.send(Message::new("questions", "x")).await.unwrap();
    let error = asker.request(Message::new("questions", "?"), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, Error::NoReply { .. }), "{error}");
}
