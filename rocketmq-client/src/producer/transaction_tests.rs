//! Transactions and requests against a scripted broker.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocketmq_protocol::message::{Properties, StoredMessage, SysFlag, property};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{
    CheckTransactionState, EndTransaction, Heartbeat, PushReplyMessage, SendMessage, SendReplyMessage,
    transaction_outcome,
};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};
use tokio::sync::mpsc;

use crate::test_support::*;
use crate::{
    Delay, Error, HandlerError, Message, Producer, ReceivedMessage, ResponseCode, SendReceipt,
    TransactionError, TransactionOutcome, TransactionProducer,
};

type Checked = Result<TransactionOutcome, HandlerError>;

async fn never_asked(_: ReceivedMessage) -> Checked {
    Err("nobody was to ask".into())
}

async fn transactional(name_server: &FakeNameServer) -> TransactionProducer {
    producer(name_server).start_transactional(never_asked).await.unwrap()
}

fn order() -> Message {
    Message::builder("orders").body("hello").key("42").build().unwrap()
}

/// The ends that came, when there are `count` of them.
async fn ends(broker: &FakeBroker, count: usize) -> Vec<EndTransaction> {
    broker.script.await_count(EndTransaction::CODE, count).await;
    loop {
        let ends = broker.ends.lock().unwrap().clone();
        if ends.len() >= count {
            return ends;
        }
        tokio::task::yield_now().await; // counted before kept
    }
}

#[tokio::test]
async fn the_outcome_of_the_local_transaction_ends_that_of_the_message() {
    let (name_server, broker) = one_broker().await;
    let producer = transactional(&name_server).await;
    use TransactionOutcome::{Commit, Rollback, Unknown};
    for outcome in [Commit, Rollback, Unknown] {
        let local = |half: SendReceipt| async move {
            assert_eq!(half.queue.topic, "orders");
            Ok::<_, HandlerError>(outcome)
        };
        let receipt = producer.send_in_transaction(order(), local).await.unwrap();
        assert_eq!(receipt.outcome, outcome);
        assert!(receipt.unconfirmed.is_none());
    }
    let ends = ends(&broker, 3).await;
    let header = broker.sent.lock().unwrap()[0].clone();
    let properties = Properties::new(header.properties.unwrap());
    assert_eq!(properties.get(property::TRAN_MSG), Some("true"));
    assert_eq!(properties.get(property::PGROUP), Some("producers"));
    assert_eq!(SysFlag::new(header.sys_flag), SysFlag::TRANSACTION_PREPARED);

    let outcomes: Vec<_> = ends.iter().map(|end| end.outcome).collect();
    let expected = [transaction_outcome::COMMIT, transaction_outcome::ROLLBACK, transaction_outcome::UNKNOWN];
    assert_eq!(outcomes, expected);
    assert_eq!(ends[0].producer_group, "producers");
    assert_eq!(ends[0].topic.as_deref(), Some("orders"));
    assert_eq!(ends[0].message_id, properties.get(property::UNIQ_KEY).unwrap());
    assert_eq!((ends[1].queue_offset, ends[0].position), (QueueOffset::new(1), LogPosition::new(0)));
    assert!(!ends[0].from_check);
    producer.shutdown().await;
}

#[tokio::test]
async fn an_error_of_the_local_transaction_leaves_the_outcome_to_the_checker() {
    let (name_server, broker) = one_broker().await;
    let producer = transactional(&name_server).await;
    let local = |_| async { Err::<TransactionOutcome, _>(std::io::Error::other("no space")) };
    let error = producer.send_in_transaction(order(), local).await.unwrap_err();
    assert!(matches!(&error, TransactionError::Local { source, .. } if source.to_string() == "no space"));
    drop(producer.prepare(order()).await.unwrap());
    producer.producer().send(order()).await.unwrap(); // behind whatever else was sent
    assert_eq!(broker.script.count(EndTransaction::CODE), 0);
}

#[tokio::test]
async fn a_prepared_message_is_committed_or_rolled_back_later() {
    let (name_server, broker) = one_broker().await;
    let producer = transactional(&name_server).await;
    let (first, second) =
        (producer.prepare(order()).await.unwrap(), producer.prepare(order()).await.unwrap());
    second.rollback().await.unwrap();
    first.commit().await.unwrap();
    let ends: Vec<_> =
        ends(&broker, 2).await.iter().map(|end| (end.outcome, end.queue_offset.get())).collect();
    assert_eq!(ends, [(transaction_outcome::ROLLBACK, 1), (transaction_outcome::COMMIT, 0)]);
}

#[tokio::test]
async fn an_end_that_the_broker_refuses_or_does_not_answer_is_not_repeated_and_told() {
    let (name_server, broker) = one_broker().await;
    let producer = producer(&name_server)
        .send_timeout(Duration::from_millis(200))
        .start_transactional(never_asked)
        .await
        .unwrap();
    for answer in [Answer::Refuse(ResponseCode::SYSTEM_ERROR), Answer::Silence, Answer::HangUp] {
        broker.script.answer(EndTransaction::CODE, [answer]);
        let commit = |_| async { Ok::<_, HandlerError>(TransactionOutcome::Commit) };
        let receipt = producer.send_in_transaction(order(), commit).await.unwrap();
        assert!(receipt.unconfirmed.is_some(), "{answer:?}");
    }
    assert_eq!(broker.script.count(EndTransaction::CODE), 3);
}

#[tokio::test]
async fn a_half_message_at_risk_is_rolled_back_without_a_local_transaction() {
    let (name_server, broker) = one_broker().await;
    let producer = transactional(&name_server).await;
    broker.script.answer(SendMessage::CODE, [Answer::Accept(ResponseCode::FLUSH_DISK_TIMEOUT)]);
    let local = |_| async { panic!("not to be run") };
    let error = producer.send_in_transaction::<_, _, HandlerError>(order(), local).await.unwrap_err();
    assert!(matches!(error, TransactionError::NotPrepared(Error::NotSafelyStored { .. })));
    assert_eq!(ends(&broker, 1).await[0].outcome, transaction_outcome::ROLLBACK);
    let delayed = Message::builder("orders").body("x").delay(Delay::Level(1)).build().unwrap();
    assert!(matches!(producer.prepare(delayed).await, Err(Error::InvalidMessage { .. })));
}

fn check(group: &str, key: &str) -> CheckTransactionState {
    let properties = Properties::builder().set(property::PGROUP, group).set(property::UNIQ_KEY, key);
    let half = StoredMessage {
        topic: "orders".into(),
        queue_id: QueueId::new(1),
        queue_offset: QueueOffset::new(7),
        physical_offset: LogPosition::new(100),
        flag: 0,
        sys_flag: SysFlag::TRANSACTION_PREPARED,
        born_timestamp: 1_000,
        born_host: "10.0.0.1:5".parse().unwrap(),
        store_timestamp: 2_000,
        store_host: "10.0.0.2:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: LogPosition::ZERO,
        body: "hello".into(),
        properties: properties.build().unwrap(),
    };
    let mut message = Vec::new();
    half.encode(&mut message).unwrap();
    CheckTransactionState {
        topic: Some("orders".into()),
        queue_offset: QueueOffset::new(7),
        position: LogPosition::new(100),
        message_id: Some(key.into()),
        transaction_id: Some(key.into()),
        offset_message_id: None,
        broker_name: Some("broker-a".into()),
        message: message.into(),
    }
}

#[tokio::test]
async fn a_check_reaches_a_producer_that_has_not_sent_anything() {
    let (name_server, broker) = one_broker().await;
    name_server.routes.set("SELF_TEST_TOPIC", &[broker.place()]);
    let (asked, mut questions) = mpsc::unbounded_channel();
    let checker = move |half: ReceivedMessage| {
        asked.send((half.message_id().into_owned(), half.body().unwrap().clone())).unwrap();
        async { Ok(TransactionOutcome::Commit) }
    };
    let producer = producer(&name_server).start_transactional(checker).await.unwrap();
    let known = broker.heartbeats.lock().unwrap()[0].data.producer_data_set.clone();
    assert_eq!(known[0].group_name, "producers");
    assert_eq!(broker.sent(), 0);

    broker.tell_clients(&check("producers", "KEY")).await;
    let end = ends(&broker, 1).await.remove(0);
    assert_eq!(questions.recv().await.unwrap(), ("KEY".to_owned(), "hello".into()));
    assert!(end.from_check);
    assert_eq!((end.outcome, &*end.message_id), (transaction_outcome::COMMIT, "KEY"));
    assert_eq!((end.queue_offset, end.position), (QueueOffset::new(7), LogPosition::new(100)));
    assert_eq!(end.transaction_id.as_deref(), Some("KEY"));
    producer.shutdown().await;
}

#[tokio::test]
async fn a_checker_that_fails_answers_unknown_one_that_panics_nothing_and_the_next_is_asked() {
    let (name_server, broker) = one_broker().await;
    let checker = |half: ReceivedMessage| async move {
        match &*half.message_id() {
            "error" => Err("database down".into()),
            "panic" => panic!("oh no"),
            _ => Ok(TransactionOutcome::Rollback),
        }
    };
    let _producer = producer(&name_server).topics(["orders"]).start_transactional(checker).await.unwrap();
    for key in ["panic", "error", "fine"] {
        broker.tell_clients(&check("producers", key)).await;
        broker.tell_clients(&check("another group", key)).await;
    }
    let mut outcomes: Vec<_> =
        ends(&broker, 2).await.iter().map(|end| (end.message_id.to_string(), end.outcome)).collect();
    outcomes.sort();
    let expected = [
        ("error".to_owned(), transaction_outcome::UNKNOWN),
        ("fine".to_owned(), transaction_outcome::ROLLBACK),
    ];
    assert_eq!(outcomes, expected);
}

fn push(request: &SendMessage, body: &str) -> PushReplyMessage {
    PushReplyMessage {
        producer_group: "repliers".into(),
        topic: "c_REPLY_TOPIC".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: QueueId::new(0),
        sys_flag: 0,
        born_timestamp: 1,
        flag: 0,
        properties: request.properties.clone(),
        reconsume_times: 0,
        unit_mode: false,
        born_host: "10.0.0.1:5".into(),
        store_host: "10.0.0.2:10911".into(),
        store_timestamp: 2,
        body: body.to_owned().into(),
    }
}

#[tokio::test]
async fn many_requests_at_once_each_get_their_own_reply() {
    let (name_server, broker) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    let requests: Vec<_> = (0..20)
        .map(|number| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let question = Message::new("orders", number.to_string());
                (number, producer.request(question, Duration::from_secs(10)).await)
            })
        })
        .collect();
    broker.script.await_count(SendMessage::CODE, 20).await;
    assert!(broker.script.count(Heartbeat::CODE) >= 1, "the broker must know whom to push to");
    let mut sent = broker.sent.lock().unwrap().clone();
    while sent.len() < 20 {
        tokio::task::yield_now().await; // counted before stored
        sent = broker.sent.lock().unwrap().clone();
    }
    sent.reverse();
    let properties = Properties::new(sent[0].properties.clone().unwrap());
    assert_eq!(properties.get(property::REPLY_TO_CLIENT), Some(producer.client().id()));
    assert_eq!(properties.get(property::TTL), Some("10000"));
    for request in &sent {
        let answer = format!("re {}", std::str::from_utf8(&request.body).unwrap());
        broker.ask_client(&push(request, &answer)).await.unwrap();
        broker.ask_client(&push(request, "again")).await.unwrap(); // dropped
    }
    for request in requests {
        let (number, reply) = request.await.unwrap();
        assert_eq!(reply.unwrap().body().unwrap(), format!("re {number}").as_bytes());
    }
}

#[tokio::test]
async fn a_request_without_a_reply_and_one_that_was_not_stored_are_different_errors() {
    let (name_server, broker) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    let limit = Duration::from_millis(150);
    let error = producer.request(order(), limit).await.unwrap_err();
    assert!(matches!(&error, Error::NoReply { topic, .. } if topic == "orders"), "{error}");
    assert!(error.is_timeout());
    broker.script.answer(SendMessage::CODE, [Answer::Refuse(ResponseCode::MESSAGE_ILLEGAL)]);
    let error = producer.request(order(), limit).await.unwrap_err();
    assert!(matches!(error, Error::SendFailed { .. }), "{error}");
}

#[tokio::test]
async fn a_reply_goes_to_the_cluster_of_the_request_through_the_broker_that_it_came_by() {
    let (name_server, a, b) = two_brokers().await;
    name_server.routes.set("c_REPLY_TOPIC", &[a.place(), b.place()]);
    let producer = producer(&name_server).start().await.unwrap();
    let mut request = check("g", "KEY").message;
    let mut stored = StoredMessage::decode(&mut request).unwrap().unwrap();
    let not_a_request = ReceivedMessage::new(stored.clone(), &"broker-b".into());
    let error = producer.reply(&not_a_request, "x").await.unwrap_err().to_string();
    assert!(error.contains("no property CORRELATION_ID"), "{error}");
    let properties = Properties::builder()
        .set(property::CORRELATION_ID, "id")
        .set(property::REPLY_TO_CLIENT, "client")
        .set(property::TTL, "3000")
        .set(property::CLUSTER, "c");
    stored.properties = properties.build().unwrap();
    for _ in 0..4 {
        producer.reply(&ReceivedMessage::new(stored.clone(), &"broker-b".into()), "x").await.unwrap();
    }
    assert_eq!((a.script.count(SendReplyMessage::CODE), b.script.count(SendReplyMessage::CODE)), (0, 4));
    let sent = b.sent.lock().unwrap()[0].clone();
    assert_eq!(sent.topic, "c_REPLY_TOPIC");
    let properties = Properties::new(sent.properties.unwrap());
    for (name, value) in
        [(property::MSG_TYPE, "reply"), (property::CORRELATION_ID, "id"), (property::TTL, "3000")]
    {
        assert_eq!(properties.get(name), Some(value));
    }
}

#[tokio::test]
async fn two_transactional_producers_of_one_process_answer_each_for_its_own_client() {
    let (name_server, broker) = one_broker().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let start = |number: usize| {
        let asked = Arc::clone(&asked);
        let checker = move |_: ReceivedMessage| {
            asked.lock().unwrap().push(number);
            async { Ok(TransactionOutcome::Commit) }
        };
        Producer::builder("g")
            .name_servers([&name_server.addr])
            .topics(["orders"])
            .start_transactional(checker)
    };
    let (first, _second) = (start(1).await.unwrap(), start(2).await.unwrap());
    first.shutdown().await;
    broker.tell_clients(&check("g", "K")).await;
    broker.script.await_count(EndTransaction::CODE, 1).await;
    assert_eq!(*asked.lock().unwrap(), [2]);
}
