//! Ordered consumption: messages of one key are handled one after the other, whatever becomes of the members.

use std::collections::BTreeMap;
use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Batch, Client, ConsumeFrom, Filter, HandlerError, Message, OrderlyAck, Perm, Producer, PullConsumer,
    PullRequest, PushConsumer, PushConsumerBuilder, QueueOffset, ReceivedMessage, SendOptions, TopicConfig,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::collector::{LONG, consumer, producer};

/// Messages as handlers get them, each with the member it came to.
type Handled = UnboundedReceiver<(&'static str, ReceivedMessage)>;

/// Longer than the pause after which a client asks again for a lock that another one has.
const SEVERAL_TRIES: Duration = Duration::from_millis(1200);
/// A broker forgets a lock that is not renewed for a minute.
const LOCK_LIFE: Duration = Duration::from_secs(61);

async fn cluster_with(queues: i32) -> (Standalone, Producer) {
    let cluster = Standalone::builder().start().await.unwrap();
    let client = Client::builder().name_servers([cluster.name_server_addr()]).start().await.unwrap();
    client.create_topic(&TopicConfig::new("orders", queues, Perm::READ_WRITE)).await.unwrap();
    client.shutdown().await;
    let producer = producer(&cluster).await;
    (cluster, producer)
}

/// Tells `got` of each message and says `verdict`.
fn ordered(
    builder: PushConsumerBuilder,
    name: &'static str,
    got: &UnboundedSender<(&'static str, ReceivedMessage)>,
    verdict: impl Fn(&Batch) -> Result<OrderlyAck, HandlerError> + Send + Sync + 'static,
) -> PushConsumerBuilder {
    let got = got.clone();
    builder.suspend_time(Duration::from_millis(10)).ordered(move |batch: Batch, _| {
        batch.iter().for_each(|message| drop(got.send((name, message.clone()))));
        std::future::ready(verdict(&batch))
    })
}

async fn member(
    cluster: &Standalone,
    name: &'static str,
    got: &UnboundedSender<(&'static str, ReceivedMessage)>,
) -> PushConsumer {
    let builder = consumer(cluster, "g", "orders");
    ordered(builder, name, got, |_| Ok(OrderlyAck::Commit)).start().await.unwrap()
}

async fn next(handled: &mut Handled) -> (&'static str, String, i32) {
    let next = tokio::time::timeout(LONG, handled.recv()).await;
    let (name, message) = next.expect("a message in time").unwrap();
    (name, text(&message), message.reconsume_times())
}

fn text(message: &ReceivedMessage) -> String {
    String::from_utf8(message.body().unwrap().to_vec()).unwrap()
}

/// What is sent and handled of each key.
#[derive(Default)]
struct Keys {
    sent: usize,
    handled: BTreeMap<String, usize>,
}

impl Keys {
    const KEYS: usize = 6;

    /// Sends the next message of every key.
    async fn send(&mut self, producer: &Producer) {
        for key in 0..Self::KEYS {
            let message = Message::new("orders", format!("{key}:{}", self.sent));
            let options = SendOptions::new().sharding_key(&key.to_string());
            producer.send_with(message, options).await.unwrap();
        }
        self.sent += 1;
    }

    /// It must be the next one of its key: nothing is left out, comes twice or overtakes.
    fn handle(&mut self, message: &ReceivedMessage) {
        let body = text(message);
        let (key, number) = body.split_once(':').unwrap();
        let expected = self.handled.entry(key.to_owned()).or_default();
        assert_eq!(number, expected.to_string(), "of key {key}");
        *expected += 1;
    }

    fn is_done(&self) -> bool {
        self.handled.values().sum::<usize>() == self.sent * Self::KEYS
    }

    /// Sends and handles until a message has come to `member`.
    async fn until(&mut self, member: &str, producer: &Producer, handled: &mut Handled) {
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            assert!(tokio::time::Instant::now() < deadline, "nothing came to {member}");
            self.send(producer).await;
            while let Ok((name, message)) = handled.try_recv() {
                self.handle(&message);
                if name == member {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn each_key_is_handled_in_order_exactly_once_while_members_join_and_leave() {
    let (cluster, producer) = cluster_with(4).await;
    let (got, mut handled) = unbounded_channel();
    let mut keys = Keys::default();
    let first = member(&cluster, "first", &got).await;
    keys.until("first", &producer, &mut handled).await;
    let second = member(&cluster, "second", &got).await;
    keys.until("second", &producer, &mut handled).await;
    let leaving = tokio::spawn(first.shutdown(LONG));
    let third = member(&cluster, "third", &got).await;
    keys.until("third", &producer, &mut handled).await;
    leaving.await.unwrap().unwrap();
    second.shutdown(LONG).await.unwrap();
    keys.send(&producer).await;
    while !keys.is_done() {
        let next = tokio::time::timeout(LONG, handled.recv()).await;
        keys.handle(&next.unwrap_or_else(|_| panic!("{:?} of {} each", keys.handled, keys.sent)).unwrap().1);
    }
    third.shutdown(LONG).await.unwrap();
    assert!(handled.try_recv().is_err(), "nothing comes twice");
}

#[tokio::test]
async fn what_fails_is_suspended_in_its_place_and_after_the_chosen_failures_a_dead_letter() {
    let (cluster, producer) = cluster_with(1).await;
    for body in ["bad", "good"] {
        producer.send(Message::new("orders", body)).await.unwrap();
    }
    let (got, mut handled) = unbounded_channel();
    let builder = consumer(&cluster, "g", "orders").max_reconsume_times(2);
    let builder = ordered(builder, "one", &got, |batch| match &batch[0].body()?[..] {
        b"bad" if batch[0].reconsume_times() == 0 => Err("cannot".into()),
        b"bad" => Ok(OrderlyAck::Suspend),
        _ => Ok(OrderlyAck::Commit),
    });
    let member = builder.start().await.unwrap();
    for failures in 0..=2 {
        assert_eq!(next(&mut handled).await, ("one", "bad".to_owned(), failures));
    }
    assert_eq!(next(&mut handled).await, ("one", "good".to_owned(), 0));
    member.shutdown(LONG).await.unwrap();

    let reader = PullConsumer::builder("reader").name_servers([cluster.name_server_addr()]);
    let reader = reader.start().await.unwrap();
    let queues = reader.queues("%DLQ%g").await.unwrap();
    let dead = reader.pull(&queues[0], PullRequest::new(QueueOffset::ZERO)).await.unwrap().into_messages();
    assert_eq!((dead.len(), text(&dead[0])), (1, "bad".to_owned()));
    assert_eq!(dead[0].property("RETRY_TOPIC"), Some("orders"));
}

#[tokio::test]
async fn a_member_that_shuts_down_hands_its_queue_over_at_once() {
    let (cluster, producer) = cluster_with(1).await;
    let (got, mut handled) = unbounded_channel();
    let first = member(&cluster, "first", &got).await;
    producer.send(Message::new("orders", "1")).await.unwrap();
    assert_eq!(next(&mut handled).await.0, "first");
    first.shutdown(LONG).await.unwrap();
    // Within `LONG`: the lock was given back, it has not expired.
    let second = member(&cluster, "second", &got).await;
    producer.send(Message::new("orders", "2")).await.unwrap();
    assert_eq!(next(&mut handled).await, ("second", "2".to_owned(), 0));
    second.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn the_queue_of_a_member_that_was_killed_is_handled_by_another_when_its_lock_has_expired() {
    let (cluster, producer) = cluster_with(1).await;
    let (got, mut handled) = unbounded_channel();
    let killed = member(&cluster, "killed", &got).await;
    producer.send(Message::new("orders", "1")).await.unwrap();
    assert_eq!(next(&mut handled).await.0, "killed");
    drop(killed);
    let second = member(&cluster, "second", &got).await;
    producer.send(Message::new("orders", "2")).await.unwrap();
    let early = tokio::time::timeout(SEVERAL_TRIES, handled.recv()).await;
    assert!(early.is_err(), "handled under the lock of another member: {early:?}");
    cluster.clock().advance(LOCK_LIFE);
    // The first message may come again: nobody has committed it.
    while next(&mut handled).await != ("second", "2".to_owned(), 0) {}
    second.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn what_is_held_comes_again_to_the_next_owner() {
    let (cluster, producer) = cluster_with(1).await;
    for body in ["1", "2", "3"] {
        producer.send(Message::new("orders", body)).await.unwrap();
    }
    let (got, mut handled) = unbounded_channel();
    let verdict = |batch: &Batch| match &batch[0].body()?[..] {
        b"1" => Ok(OrderlyAck::Commit),
        _ => Ok(OrderlyAck::Hold),
    };
    let first = ordered(consumer(&cluster, "g", "orders"), "first", &got, verdict).start().await.unwrap();
    for body in ["1", "2", "3"] {
        assert_eq!(next(&mut handled).await, ("first", body.to_owned(), 0));
    }
    first.shutdown(LONG).await.unwrap();
    let second = member(&cluster, "second", &got).await;
    for body in ["2", "3"] {
        assert_eq!(next(&mut handled).await, ("second", body.to_owned(), 0));
    }
    second.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn an_ordered_broadcasting_member_needs_no_lock_and_drops_what_fails_too_often() {
    let (cluster, producer) = cluster_with(1).await;
    for body in ["bad", "good"] {
        producer.send(Message::new("orders", body)).await.unwrap();
    }
    let (got, mut handled) = unbounded_channel();
    let folder = tempfile::tempdir().unwrap();
    let mut members = Vec::new();
    for id in ["one", "two"] {
        let client = Client::builder().client_id(id).name_servers([cluster.name_server_addr()]);
        let client = client.start().await.unwrap();
        let builder = PushConsumer::builder("g")
            .client(&client)
            .subscribe("orders", Filter::All)
            .from(ConsumeFrom::Earliest)
            .broadcasting()
            .offsets_folder(folder.path())
            .max_reconsume_times(1);
        let builder = ordered(builder, id, &got, |batch| match &batch[0].body()?[..] {
            b"bad" => Ok(OrderlyAck::Suspend),
            _ => Ok(OrderlyAck::Commit),
        });
        members.push((builder.start().await.unwrap(), client));
    }
    let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for _ in 0..6 {
        let (name, body, failures) = next(&mut handled).await;
        seen.entry(name).or_default().push((body, failures));
    }
    let expected = [("bad", 0), ("bad", 1), ("good", 0)].map(|(body, failures)| (body.to_owned(), failures));
    assert_eq!(seen, BTreeMap::from([("one", expected.to_vec()), ("two", expected.to_vec())]));
    for (member, client) in members {
        member.shutdown(LONG).await.unwrap();
        client.shutdown().await;
    }
}
