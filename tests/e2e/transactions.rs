//! Half messages: seen when they are committed and only then, whatever happens in between.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocketmq_broker_lite::{Clock, Standalone};
use rocketmq_client::{
    Filter, Message, Producer, PullConsumer, PullRequest, QueueOffset, ReceivedMessage, TransactionOutcome,
    TransactionProducer,
};
use tokio::sync::watch;

use crate::collector::{Collector, LONG, collect, consumer};

/// What a checker answers by body, and what it was asked.
#[derive(Clone)]
struct Checker {
    answers: Arc<Mutex<HashMap<String, TransactionOutcome>>>,
    /// Bodies, and how often the broker says that it has asked.
    asked: watch::Sender<Vec<(String, String)>>,
}

impl Checker {
    fn new(answers: &[(&str, TransactionOutcome)]) -> Self {
        let answers = answers.iter().map(|(body, outcome)| ((*body).to_owned(), *outcome)).collect();
        Self { answers: Arc::new(Mutex::new(answers)), asked: watch::Sender::default() }
    }

    fn check(&self, half: &ReceivedMessage) -> TransactionOutcome {
        let body = String::from_utf8(half.body().unwrap().to_vec()).unwrap();
        let times = half.property("TRANSACTION_CHECK_TIMES").unwrap_or("0").to_owned();
        assert_eq!(half.topic(), "orders");
        let outcome = self.answers.lock().unwrap().get(&body).copied();
        self.asked.send_modify(|asked| asked.push((body, times)));
        outcome.unwrap_or(TransactionOutcome::Unknown)
    }

    async fn wait_for(&self, count: usize) -> Vec<(String, String)> {
        let mut asked = self.asked.subscribe();
        let reached = asked.wait_for(|asked| asked.len() >= count);
        tokio::time::timeout(LONG, reached).await.expect("checks come").unwrap().clone()
    }

    async fn producer(&self, cluster: &Standalone) -> TransactionProducer {
        let checker = self.clone();
        Producer::builder("payments")
            .name_servers([cluster.name_server_addr()])
            .topics(["orders"])
            .start_transactional(move |half: ReceivedMessage| std::future::ready(Ok(checker.check(&half))))
            .await
            .unwrap()
    }
}

async fn send(producer: &TransactionProducer, body: &str, outcome: TransactionOutcome) {
    let message = Message::new("orders", body.to_owned());
    let receipt = producer
        .send_in_transaction(message, |_| std::future::ready(Ok::<_, std::io::Error>(outcome)))
        .await
        .unwrap();
    assert!(receipt.unconfirmed.is_none(), "{:?}", receipt.unconfirmed);
}

/// A cluster on a folder that another one of this process may be about to let go.
async fn cluster(folder: &Path, clock: &Clock) -> Standalone {
    let starting = async {
        loop {
            match Standalone::builder().store(folder).clock(clock.clone()).start().await {
                Ok(cluster) => break cluster,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(LONG, starting).await.unwrap()
}

/// Everything in a topic, body by body.
async fn stored(cluster: &Standalone, topic: &str) -> Vec<String> {
    let consumer =
        PullConsumer::builder("reader").name_servers([cluster.name_server_addr()]).start().await.unwrap();
    let mut bodies = Vec::new();
    for queue in consumer.queues(topic).await.unwrap_or_default() {
        let pull = PullRequest::new(QueueOffset::ZERO).filter(Filter::All);
        let messages = consumer.pull(&queue, pull).await.unwrap().into_messages();
        bodies.extend(
            messages.iter().map(|message| String::from_utf8(message.body().unwrap().to_vec()).unwrap()),
        );
    }
    bodies.sort();
    bodies
}

const CHECK_AFTER: Duration = Duration::from_secs(7);
const CHECK_AGAIN: Duration = Duration::from_secs(31);

#[tokio::test]
async fn what_is_committed_is_seen_and_what_is_rolled_back_is_not() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = Checker::new(&[]).producer(&cluster).await;
    send(&producer, "rolled back", TransactionOutcome::Rollback).await;
    send(&producer, "committed", TransactionOutcome::Commit).await;
    send(&producer, "unknown", TransactionOutcome::Unknown).await;
    let half =
        producer.prepare(Message::builder("orders").body("later").tag("t").build().unwrap()).await.unwrap();
    assert_eq!(cluster.broker().open_transactions(), 2);
    let collector = Collector::new();
    let consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(1).await;
    half.commit().await.unwrap();
    collector.wait_for(2).await;
    consumer.shutdown(LONG).await.unwrap();
    assert_eq!(collector.bodies(), ["committed", "later"]);
    assert_eq!(cluster.broker().open_transactions(), 1);
    let later = &collector.messages()[1];
    assert_eq!((later.topic(), later.tag()), ("orders", Some("t")));
    assert_eq!((later.property("REAL_TOPIC"), later.property("PGROUP")), (None, Some("payments")));
}

#[tokio::test]
async fn a_transaction_ends_once_however_often_it_is_told() {
    let cluster = Standalone::builder().start().await.unwrap();
    let checker = Checker::new(&[("a", TransactionOutcome::Commit)]);
    let producer = checker.producer(&cluster).await;
    let half = producer.prepare(Message::new("orders", "a")).await.unwrap();
    cluster.clock().advance(CHECK_AFTER);
    checker.wait_for(1).await;
    let collector = Collector::new();
    let _consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(1).await;
    let again = half.commit().await.unwrap_err();
    assert!(again.to_string().contains("has ended"), "{again}");
    assert_eq!(stored(&cluster, "orders").await, ["a"]);
}

#[tokio::test]
async fn a_commit_that_comes_after_a_check_finds_its_half_message() {
    let cluster = Standalone::builder().start().await.unwrap();
    let checker = Checker::new(&[]);
    let producer = checker.producer(&cluster).await;
    let half = producer.prepare(Message::new("orders", "a")).await.unwrap();
    cluster.clock().advance(CHECK_AFTER);
    assert_eq!(checker.wait_for(1).await, [("a".to_owned(), "1".to_owned())]);
    cluster.clock().advance(CHECK_AGAIN);
    assert_eq!(checker.wait_for(2).await[1], ("a".to_owned(), "2".to_owned()));
    half.commit().await.unwrap();
    assert_eq!(stored(&cluster, "orders").await, ["a"]);
    assert_eq!(cluster.broker().open_transactions(), 0);
}

#[tokio::test]
async fn a_producer_that_never_sent_answers_for_one_that_is_gone() {
    let cluster = Standalone::builder().start().await.unwrap();
    let gone = Checker::new(&[]);
    let first = gone.producer(&cluster).await;
    send(&first, "commit", TransactionOutcome::Unknown).await;
    send(&first, "roll back", TransactionOutcome::Unknown).await;
    first.shutdown().await;
    drop(first);
    let checker =
        Checker::new(&[("commit", TransactionOutcome::Commit), ("roll back", TransactionOutcome::Rollback)]);
    let _second = checker.producer(&cluster).await;
    cluster.clock().advance(CHECK_AFTER);
    checker.wait_for(2).await;
    let collector = Collector::new();
    let _consumer = collect(consumer(&cluster, "g", "orders"), &collector).await;
    collector.wait_for(1).await;
    assert_eq!(collector.bodies(), ["commit"]);
    assert!(gone.asked.borrow().is_empty());
}

#[tokio::test]
async fn after_the_last_check_a_half_message_is_given_up_where_it_can_be_looked_at() {
    let cluster = Standalone::builder().set("transactionCheckMax", "2").unwrap().start().await.unwrap();
    let checker = Checker::new(&[]);
    let producer = checker.producer(&cluster).await;
    send(&producer, "nobody knows", TransactionOutcome::Unknown).await;
    cluster.clock().advance(CHECK_AFTER);
    checker.wait_for(1).await;
    cluster.clock().advance(CHECK_AGAIN);
    checker.wait_for(2).await;
    cluster.clock().advance(CHECK_AGAIN);
    let given_up = async {
        while cluster.broker().open_transactions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, given_up).await.unwrap();
    assert_eq!(stored(&cluster, "TRANS_CHECK_MAX_TIME_TOPIC").await, ["nobody knows"]);
    assert_eq!(checker.asked.borrow().len(), 2);
    assert!(stored(&cluster, "orders").await.is_empty());
}

#[tokio::test]
async fn nobody_is_asked_during_the_time_that_a_message_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let cluster = cluster(folder.path(), &clock).await;
    let checker = Checker::new(&[]);
    let producer = checker.producer(&cluster).await;
    let slow = Message::builder("orders").body("slow").first_check_after(Duration::from_secs(3600));
    let half = producer.prepare(slow.build().unwrap()).await.unwrap();
    send(&producer, "usual", TransactionOutcome::Unknown).await;
    // The half message moves on with the queue meanwhile, and is still found.
    clock.advance(Duration::from_secs(60));
    assert_eq!(checker.wait_for(1).await[0].0, "usual");
    half.commit().await.unwrap();
    assert_eq!(stored(&cluster, "orders").await, ["slow"]);
}

#[tokio::test]
async fn what_was_open_when_the_broker_was_killed_is_asked_about_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let before = cluster(folder.path(), &clock).await;
    let checker = Checker::new(&[("open", TransactionOutcome::Commit)]);
    let producer = checker.producer(&before).await;
    send(&producer, "open", TransactionOutcome::Unknown).await;
    for number in 0..20 {
        send(&producer, &format!("committed {number:02}"), TransactionOutcome::Commit).await;
        send(&producer, "rolled back", TransactionOutcome::Rollback).await;
    }
    drop(producer);
    drop(before); // as if killed

    let after = cluster(folder.path(), &clock).await;
    assert_eq!(after.broker().open_transactions(), 1);
    let _producer = checker.producer(&after).await;
    clock.advance(CHECK_AGAIN);
    assert_eq!(checker.wait_for(1).await[0].0, "open");
    let collector = Collector::new();
    let _consumer = collect(consumer(&after, "g", "orders"), &collector).await;
    collector.wait_for(21).await;
    let mut expected: Vec<_> = (0..20).map(|number| format!("committed {number:02}")).collect();
    expected.push("open".to_owned());
    assert_eq!(collector.bodies(), expected);
    assert_eq!(checker.asked.borrow().len(), 1);
    after.shutdown().await.unwrap();

    let last = cluster(folder.path(), &clock).await;
    assert_eq!(last.broker().open_transactions(), 0);
}
