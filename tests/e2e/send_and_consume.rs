//! What is sent is consumed, whole and once.

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    BatchSplitter, Compression, Error, Filter, Message, Producer, PushConsumer, ResponseCode, SendOptions,
    SendStatus,
};

use crate::collector::{Collector, collect, consumer, numbers, producer};

#[tokio::test]
async fn every_way_of_sending_arrives_once() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    let mut number = 0..;
    let mut next = || Message::new("orders", number.next().unwrap().to_string());

    assert_eq!(producer.send(next()).await.unwrap().status, SendStatus::Ok);
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (producer, message) = (producer.clone(), next());
        sends.spawn(async move { producer.send(message).await });
    }
    while let Some(sent) = sends.join_next().await {
        sent.unwrap().unwrap();
    }
    for _ in 0..20 {
        producer.send_oneway(next()).await.unwrap();
    }
    let batch = producer.send_batch((0..50).map(|_| next()).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(batch.status, SendStatus::Ok);
    for _ in 0..30 {
        producer.send_with(next(), SendOptions::new().choose(|queues, _| queues.last())).await.unwrap();
    }

    let collector = Collector::new();
    let consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(201).await;
    consumer.shutdown(crate::collector::LONG).await.unwrap();
    assert_eq!(collector.bodies(), numbers(201));
}

#[tokio::test]
async fn a_message_keeps_tag_keys_properties_and_ids() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    let message = Message::builder("orders")
        .body("x")
        .tag("paid")
        .key("k1")
        .key("k2")
        .property("região", "são paulo 🚀")
        .build()
        .unwrap();
    let sent = producer.send(message).await.unwrap();
    let collector = Collector::new();
    let _consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(1).await;
    let got = &collector.messages()[0];
    assert_eq!((got.tag(), got.property("região")), (Some("paid"), Some("são paulo 🚀")));
    assert!(got.keys().eq(["k1", "k2"]));
    assert_eq!((got.message_id().as_ref(), got.queue_offset()), (&*sent.message_id, sent.queue_offset));
    assert_eq!((got.queue(), got.reconsume_times()), (sent.queue, 0));
}

#[tokio::test]
async fn only_subscribed_tags_arrive_even_where_their_hashes_are_equal() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    // Java's hash cannot tell the first two apart, so the broker lets both through.
    for tag in ["AaAa", "BBBB", "other", "AaAa"] {
        producer.send(Message::builder("orders").body(tag).tag(tag).build().unwrap()).await.unwrap();
    }
    let collector = Collector::new();
    let builder = PushConsumer::builder("g")
        .name_servers([cluster.name_server_addr()])
        .subscribe("orders", Filter::tags(["AaAa"]))
        .from(rocketmq_client::ConsumeFrom::Earliest);
    let consumer = collect(builder, &collector).await;
    collector.wait_for(2).await;
    consumer.shutdown(crate::collector::LONG).await.unwrap();
    assert_eq!(collector.bodies(), ["AaAa", "AaAa"]);
}

#[tokio::test]
async fn large_and_compressed_bodies_arrive_whole() {
    let cluster = Standalone::builder().start().await.unwrap();
    let text = "compressible ".repeat(100_000);
    let noise: Vec<u8> = (0..4u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for compression in [Compression::Zlib, Compression::Lz4] {
        let producer = Producer::builder(format!("producers-{compression:?}"))
            .name_servers([cluster.name_server_addr()])
            .compression(compression)
            .start()
            .await
            .unwrap();
        producer.send(Message::new("orders", text.clone())).await.unwrap();
    }
    let producer = producer(&cluster).await;
    producer.send(Message::new("orders", noise.clone())).await.unwrap();
    let collector = Collector::new();
    let _consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(3).await;
    let mut bodies: Vec<_> =
        collector.messages().iter().map(|message| message.body().unwrap().to_vec()).collect();
    bodies.sort_by_key(Vec::len);
    assert!(bodies[0] == text.as_bytes() && bodies[1] == text.as_bytes() && bodies[2] == noise);
}

#[tokio::test]
async fn a_split_batch_arrives_once() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    let messages: Vec<_> = (0..500).map(|number: u32| Message::new("orders", number.to_string())).collect();
    let mut batches = 0;
    for batch in BatchSplitter::new(messages, 8 * 1024) {
        producer.send_batch(batch).await.unwrap();
        batches += 1;
    }
    assert!(batches > 1);
    let collector = Collector::new();
    let _consumer = collect(consumer(&cluster, "g", "orders").batch_size(16), &collector).await;
    collector.wait_for(500).await;
    assert_eq!(collector.bodies(), numbers(500));
}

#[tokio::test]
async fn the_same_key_goes_to_the_same_queue_in_order() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = producer(&cluster).await;
    for number in 0..40 {
        let order = format!("order-{}", number % 4);
        let message = Message::builder("orders").body(number.to_string()).key(&order).build().unwrap();
        producer.send_with(message, SendOptions::new().sharding_key(&order)).await.unwrap();
    }
    let collector = Collector::new();
    let _consumer = collect(consumer(&cluster, "g", "orders").concurrency(1), &collector).await;
    collector.wait_for(40).await;
    for order in 0..4 {
        let key = format!("order-{order}");
        let of_order: Vec<_> =
            collector.messages().into_iter().filter(|message| message.keys().eq([key.as_str()])).collect();
        let bodies: Vec<usize> = of_order
            .iter()
            .map(|message| std::str::from_utf8(message.body().unwrap()).unwrap().parse().unwrap())
            .collect();
        assert_eq!(bodies, (0..10).map(|step| order + 4 * step).collect::<Vec<_>>());
        assert!(of_order.windows(2).all(|pair| pair[0].queue() == pair[1].queue()));
    }
}

#[tokio::test]
async fn an_unknown_topic_is_an_error_that_says_whom_was_asked_and_what_to_do() {
    let cluster = Standalone::builder().set("autoCreateTopicEnable", "false").unwrap().start().await.unwrap();
    let producer = producer(&cluster).await;
    let error = producer.send(Message::new("orders", "x")).await.unwrap_err();
    assert!(matches!(error, Error::TopicNotFound { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("orders") && text.contains(&cluster.name_server_addr()), "{text}");
}

#[tokio::test]
async fn a_refusal_of_the_broker_carries_its_code_and_remark() {
    let cluster = Standalone::builder().set("maxMessageSize", "1000").unwrap().start().await.unwrap();
    let producer = producer(&cluster).await;
    let error = producer.send(Message::new("orders", vec![b'x'; 2000])).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::MESSAGE_ILLEGAL), "{error:?}");
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    assert!(text.contains("2000") && text.contains("1000"), "{text}");
}
