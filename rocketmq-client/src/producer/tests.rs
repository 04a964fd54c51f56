//! Sends against scripted brokers.

use std::time::Duration;

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::message::property;
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{GetRouteInfo, SendBatchMessage, SendMessage, UnregisterClient};
use tokio::time::Instant;

use crate::test_support::*;
use crate::{Client, Error, Message, MessageQueue, Producer, Retry, SendOptions, SendStatus};

const SEND: rocketmq_protocol::RequestCode = SendMessage::CODE;

fn order() -> Message {
    Message::new("orders", "hello")
}

#[tokio::test]
async fn what_one_broker_refuses_is_tried_on_another_under_the_same_id() {
    let (name_server, a, b) = two_brokers().await;
    let producer = producer(&name_server).start().await.unwrap();
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Refuse(ResponseCode::SYSTEM_ERROR)]);
    }
    // Both refuse once: the third attempt is the first broker's second.
    let receipt = producer.send(order()).await.unwrap();
    assert_eq!((a.script.count(SEND) + b.script.count(SEND), a.sent() + b.sent()), (3, 1));
    assert!(a.script.count(SEND) >= 1 && b.script.count(SEND) >= 1);

    let stored = if a.sent() == 1 { &a } else { &b };
    assert_eq!(receipt.queue.broker_name, stored.name);
    let header = stored.sent.lock().unwrap()[0].clone();
    assert_eq!(header.broker_name.unwrap(), stored.name);
    let properties = rocketmq_protocol::message::Properties::new(header.properties.unwrap());
    assert_eq!(properties.get(property::UNIQ_KEY), Some(&*receipt.message_id));
    producer.shutdown().await;
}

#[tokio::test]
async fn a_dead_broker_is_passed_over() {
    let (name_server, a) = one_broker().await;
    let dead = dead_address().await;
    name_server.routes.set("orders", &[a.place(), ("broker-dead", &dead)]);
    let producer = producer(&name_server).start().await.unwrap();
    for _ in 0..8 {
        assert_eq!(producer.send(order()).await.unwrap().queue.broker_name, "broker-a");
        producer.send_oneway(order()).await.unwrap();
    }
    a.script.await_count(SEND, 16).await;
    producer.shutdown().await;
}

#[tokio::test]
async fn attempts_end_and_the_error_tells_them_all() {
    let (name_server, a, b) = two_brokers().await;
    let producer = producer(&name_server).max_attempts(2).start().await.unwrap();
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Refuse(ResponseCode::SYSTEM_ERROR); 2]);
    }
    let error = producer.send(order()).await.unwrap_err();
    let Error::SendFailed { attempts, .. } = &error else { panic!("{error}") };
    assert_eq!(attempts.len(), 2);
    assert_ne!(attempts[0].broker, attempts[1].broker);
    assert_eq!(error.response_code(), Some(ResponseCode::SYSTEM_ERROR));
    assert!(!error.may_have_been_stored());
    let text = error.to_string();
    assert!(
        text.contains("broker-a") && text.contains("broker-b") && text.contains("as the test says"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refusal_for_good_is_not_repeated() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    a.script.answer(SEND, [Answer::Refuse(ResponseCode::MESSAGE_ILLEGAL)]);
    let error = producer.send(order()).await.unwrap_err();
    assert_eq!((error.response_code(), error.retry()), (Some(ResponseCode::MESSAGE_ILLEGAL), Retry::No));
    assert_eq!(a.script.count(SEND), 1);
}

#[tokio::test]
async fn a_busy_broker_is_asked_again_after_pauses_that_do_not_use_up_the_attempts() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).max_attempts(2).start().await.unwrap();
    a.script.answer(SEND, [Answer::Refuse(ResponseCode::SYSTEM_BUSY); 4]);
    let began = Instant::now();
    producer.send(order()).await.unwrap();
    assert_eq!(a.script.count(SEND), 5);
    // At least half of 10, 20, 40 and 80 ms.
    assert!(began.elapsed() >= Duration::from_millis(75), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_busy_broker_is_given_up_at_the_deadline_and_at_once_where_one_attempt_is_wanted() {
    let (name_server, a) = one_broker().await;
    a.script.answer(SEND, [Answer::Refuse(ResponseCode::SYSTEM_BUSY); 100]);
    let client = client(&name_server).start().await.unwrap();
    let patient = Producer::builder("patient").client(&client).start().await.unwrap();
    let once = Producer::builder("once").client(&client).max_attempts(1).start().await.unwrap();
    let options = SendOptions::new().timeout(Duration::from_millis(200));
    let began = Instant::now();
    let error = patient.send_with(order(), options).await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_millis(250), "{:?}", began.elapsed());
    assert_eq!(error.response_code(), Some(ResponseCode::SYSTEM_BUSY));
    assert!(once.send(order()).await.is_err());
    let counted = a.script.count(SEND);
    assert!((4..20).contains(&counted), "{counted}");
}

#[tokio::test]
async fn one_deadline_covers_every_attempt() {
    let (name_server, a, b) = two_brokers().await;
    let producer = producer(&name_server).send_timeout(Duration::from_millis(300)).start().await.unwrap();
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Silence; 10]);
    }
    let began = Instant::now();
    let error = producer.send(order()).await.unwrap_err();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(600), "{took:?}");
    assert!(error.is_timeout() && error.may_have_been_stored());
    assert_eq!(error.retry(), Retry::MayDuplicate);
}

#[tokio::test]
async fn a_limit_per_attempt_leaves_time_for_another_broker() {
    let (name_server, a, b) = two_brokers().await;
    let producer = producer(&name_server).attempt_timeout(Duration::from_millis(100)).start().await.unwrap();
    for broker in [&a, &b] {
        broker.script.answer(SEND, [Answer::Silence]);
    }
    producer.send(order()).await.unwrap();
    assert_eq!(a.script.count(SEND) + b.script.count(SEND), 3);
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    producer.send(order()).await.unwrap();
    a.script.answer(SEND, [Answer::HangUp]);
    producer.send(order()).await.unwrap();
    assert_eq!(a.sent(), 2);
}

#[tokio::test]
async fn a_broker_that_has_moved_is_found_without_waiting_for_the_timer() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    producer.send(order()).await.unwrap();
    let moved = FakeBroker::start("broker-a").await;
    name_server.routes.set("orders", &[moved.place()]);
    a.stop().await;
    producer.send(order()).await.unwrap();
    assert_eq!(moved.sent(), 1);

    // To a queue of the caller's choice, too.
    let moved_again = FakeBroker::start("broker-a").await;
    name_server.routes.set("orders", &[moved_again.place()]);
    let connection = producer.client().core().connections.get(&moved.addr).unwrap();
    moved.stop().await;
    connection.closed().await;
    let queue = MessageQueue::new("orders", "broker-a", 1);
    producer.send_with(order(), SendOptions::new().queue(queue)).await.unwrap();
    assert_eq!(moved_again.sent(), 1);
}

#[tokio::test]
async fn a_broker_that_no_longer_has_the_topic_causes_a_new_look_at_the_route() {
    let (name_server, a) = one_broker().await;
    let b = FakeBroker::start("broker-b").await;
    let producer = producer(&name_server).start().await.unwrap();
    producer.send(order()).await.unwrap();
    name_server.routes.set("orders", &[b.place()]);
    a.script.answer(SEND, [Answer::Refuse(ResponseCode::TOPIC_NOT_EXIST)]);
    producer.send(order()).await.unwrap();
    assert_eq!((a.sent(), b.sent()), (1, 1));
}

#[tokio::test]
async fn to_a_chosen_queue_nothing_is_repeated_that_could_be_stored_twice_or_elsewhere() {
    let (name_server, a, b) = two_brokers().await;
    let producer = producer(&name_server).start().await.unwrap();
    let queue = MessageQueue::new("orders", "broker-a", 1);
    let to_queue = || SendOptions::new().queue(queue.clone());
    a.script.answer(
        SEND,
        [
            Answer::Refuse(ResponseCode::SYSTEM_BUSY),
            Answer::Accept(ResponseCode::SUCCESS),
            Answer::Refuse(ResponseCode::SYSTEM_ERROR),
            Answer::HangUp,
        ],
    );
    assert_eq!(producer.send_with(order(), to_queue()).await.unwrap().queue, queue);
    for _ in 0..2 {
        let error = producer.send_with(order(), to_queue()).await.unwrap_err();
        assert!(matches!(&error, Error::SendFailed { attempts, .. } if attempts.len() == 1), "{error}");
    }
    assert_eq!((a.script.count(SEND), b.script.count(SEND)), (4, 0));

    let elsewhere = SendOptions::new().queue(MessageQueue::new("other", "broker-a", 1));
    let error = producer.send_with(order(), elsewhere).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { name: "queue", .. }), "{error}");
}

#[tokio::test]
async fn a_selector_chooses_among_the_topics_queues() {
    let (name_server, _a, _b) = two_brokers().await;
    let producer = producer(&name_server).start().await.unwrap();
    let last = SendOptions::new().choose(|queues, _| queues.last());
    let receipt = producer.send_with(order(), last).await.unwrap();
    assert_eq!(receipt.queue, MessageQueue::new("orders", "broker-b", 1));
    let mut by_key = Vec::new();
    for _ in 0..3 {
        by_key.push(producer.send_with(order(), SendOptions::new().sharding_key("k")).await.unwrap().queue);
    }
    by_key.dedup();
    assert_eq!(by_key.len(), 1);
    let none = SendOptions::new().choose(|_, _| None);
    let error = producer.send_with(order(), none).await.unwrap_err();
    assert_eq!(error.to_string(), "the selector chose none of the 4 queues of orders");
}

#[tokio::test]
async fn a_status_short_of_ok_is_a_receipt() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    a.script.answer(SEND, [Answer::Accept(ResponseCode::FLUSH_SLAVE_TIMEOUT)]);
    assert_eq!(producer.send(order()).await.unwrap().status, SendStatus::FlushReplicaTimeout);
}

#[tokio::test]
async fn a_batch_is_one_request_with_an_id_for_each_message() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    let receipt = producer.send_batch((0..3).map(|_| order())).await.unwrap();
    assert_eq!(receipt.message_ids.len(), 3);
    assert_eq!(a.script.count(SendBatchMessage::CODE), 1);
    assert!(a.sent.lock().unwrap()[0].batch);
}

#[tokio::test]
async fn a_long_body_is_compressed_once_and_a_stubborn_one_not_at_all() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    let noise: Vec<u8> = (0..5000).map(|_| rand::random()).collect();
    for body in [vec![7; 5000], vec![7; 500_000], noise.clone(), vec![7; 100]] {
        producer.send(Message::new("orders", body)).await.unwrap();
    }
    let sent = a.sent.lock().unwrap();
    let flags: Vec<_> = sent.iter().map(|header| header.sys_flag).collect();
    assert_eq!(flags, [0x301, 0x301, 0, 0]);
    assert!(sent[0].body.len() < 100 && sent[1].body.len() < 5000);
    assert_eq!(sent[2].body, noise);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_sent_to_by_the_template_until_it_does() {
    let (name_server, a) = one_broker().await;
    name_server.routes.set("TBW102", &[a.place()]);
    let client = client(&name_server).route_interval(Duration::from_millis(20)).start().await.unwrap();
    let producer = Producer::builder("p").client(&client).start().await.unwrap();
    let receipt = producer.send(Message::new("new", "x")).await.unwrap();
    assert_eq!(receipt.queue.broker_name, "broker-a");
    let b = FakeBroker::start("broker-b").await;
    name_server.routes.set("new", &[b.place()]);
    let routes = name_server.script.count(GetRouteInfo::CODE);
    name_server.script.await_count(GetRouteInfo::CODE, routes + 20).await;
    assert_eq!(producer.send(Message::new("new", "x")).await.unwrap().queue.broker_name, "broker-b");
}

#[tokio::test]
async fn an_unknown_topic_is_an_error_that_says_who_was_asked_and_what_to_do() {
    let name_server = FakeNameServer::start().await;
    let producer = producer(&name_server).start().await.unwrap();
    let error = producer.send(order()).await.unwrap_err();
    let Error::TopicNotFound { topic, name_server: asked, auto_create_tried: true } = &error else {
        panic!("{error}")
    };
    assert_eq!((topic.as_str(), asked), ("orders", &name_server.addr));
    let text = error.to_string();
    assert!(text.contains("autoCreateTopicEnable") && text.contains("create_topic"), "{text}");
}

#[tokio::test]
async fn a_topic_whose_brokers_cannot_be_written_is_not_created_elsewhere() {
    let (name_server, a) = one_broker().await;
    name_server.routes.set("TBW102", &[a.place()]);
    name_server.routes.set("orders", &[]);
    let producer = producer(&name_server).start().await.unwrap();
    // An empty route is no route; the template serves. One that names brokers without a master is a route.
    producer.send(order()).await.unwrap();
    name_server.routes.set_replica_only("stuck", a.place());
    let error = producer.send(Message::new("stuck", "x")).await.unwrap_err();
    assert!(matches!(error, Error::NoQueue { wanted: "written", .. }), "{error}");
}

#[tokio::test]
async fn shutdown_waits_for_sends_under_way_leaves_the_group_and_refuses_later_ones() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    producer.send(order()).await.unwrap();
    a.script.answer(SEND, [Answer::Refuse(ResponseCode::SYSTEM_BUSY); 3]);
    let under_way = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(order()).await }
    });
    a.script.await_count(SEND, 2).await;
    producer.shutdown().await;
    under_way.await.unwrap().unwrap();
    assert_eq!(a.script.count(UnregisterClient::CODE), 1);
    assert!(matches!(producer.send(order()).await, Err(Error::Closed { what: "the producer" })));
    producer.shutdown().await;
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_at_the_start() {
    let builder = || Producer::builder("g").name_servers(["127.0.0.1:1"]);
    for (builder, name) in [
        (builder().send_timeout(Duration::ZERO), "send_timeout"),
        (builder().max_attempts(0), "max_attempts"),
        (builder().max_in_flight(0, 1), "max_in_flight"),
        (Producer::builder("a b").name_servers(["127.0.0.1:1"]), "group name"),
    ] {
        let error = builder.start().await.err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_group_is_one_producer_per_client_and_free_again_when_that_one_goes() {
    let (name_server, _a) = one_broker().await;
    let client: Client = client(&name_server).start().await.unwrap();
    let first = Producer::builder("g").client(&client).start().await.unwrap();
    let second = Producer::builder("g").client(&client).start().await;
    assert!(matches!(second, Err(Error::GroupTaken { role: "producer", .. })));
    drop(first);
    assert!(Producer::builder("g").client(&client).start().await.is_ok());
}
