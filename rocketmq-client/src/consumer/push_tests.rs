//! Push consumers against a [`FakeCluster`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rocketmq_protocol::message::{Properties, SysFlag, property};
use rocketmq_protocol::{QueueOffset, RequestCode, ResponseCode};
use tokio::sync::{Semaphore, mpsc};

use super::assigned_queue::AssignedQueue;
use super::fake_cluster::FakeCluster;
use super::flow_control::FlowControl;
use super::offset_store::OffsetStore;
use crate::{
    Ack, Batch, Client, ConsumeFrom, Error, Filter, HandlerError, OrderlyAck, PushConsumer,
    PushConsumerBuilder, ReceivedMessage,
};

pub(super) const TOPIC: &str = "T";
pub(super) const GROUP: &str = "g";
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// What a handler got.
pub(super) type Handled = mpsc::UnboundedReceiver<ReceivedMessage>;

/// A consumer that starts with the oldest message, and whose handler says `outcome` of every batch.
pub(super) fn consumer<F>(cluster: &FakeCluster, outcome: F) -> (PushConsumerBuilder, Handled)
where
    F: Fn(&Batch) -> Result<Ack, HandlerError> + Send + Sync + 'static,
{
    let (got, handled) = mpsc::unbounded_channel();
    let builder = PushConsumer::builder(GROUP)
        .name_servers([cluster.addr()])
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |batch| {
            batch.iter().for_each(|message| drop(got.send(message.clone())));
            std::future::ready(outcome(&batch))
        });
    (builder, handled)
}

/// Keeps handlers from going on.
struct Gate {
    begun: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { begun: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    fn consumer(&self, cluster: &FakeCluster) -> PushConsumerBuilder {
        let (begun, open) = (Arc::clone(&self.begun), Arc::clone(&self.open));
        PushConsumer::builder(GROUP)
            .name_servers([cluster.addr()])
            .subscribe(TOPIC, Filter::All)
            .from(ConsumeFrom::Earliest)
            .handler(move |_| {
                let (begun, open) = (Arc::clone(&begun), Arc::clone(&open));
                async move {
                    begun.add_permits(1);
                    open.acquire().await?.forget();
                    Ok(Ack::All)
                }
            })
    }

    /// Waits until another handler has begun.
    async fn begun(&self) {
        let begun = tokio::time::timeout(Duration::from_secs(10), self.begun.acquire()).await;
        begun.expect("a handler within 10 s").unwrap().forget();
    }

    fn open(&self) {
        self.open.add_permits(1000);
    }
}

pub(super) async fn cluster(queues: usize) -> FakeCluster {
    let cluster = FakeCluster::start().await;
    cluster.create_topic(TOPIC, queues);
    cluster
}

async fn poll_once<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await
}

pub(super) async fn next(handled: &mut Handled) -> ReceivedMessage {
    let next = tokio::time::timeout(Duration::from_secs(10), handled.recv()).await;
    next.expect("a message within 10 s").expect("a consumer that lives")
}

pub(super) async fn next_body(handled: &mut Handled) -> String {
    String::from_utf8(next(handled).await.body().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn the_first_message_comes_at_once_and_the_brokers_know_the_group_before() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "hello");
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let began = std::time::Instant::now();
    let consumer = builder.start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "hello");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    {
        let seen = cluster.see();
        let place = |code| seen.requests.iter().position(|seen| *seen == code).unwrap();
        assert!(place(RequestCode::HEART_BEAT) < place(RequestCode::GET_CONSUMER_LIST_BY_GROUP));
        let group = &seen.heartbeats[0].consumer_data_set[0];
        let topics: Vec<_> = group.subscription_data_set.iter().map(|data| &*data.topic).collect();
        assert_eq!((&*group.group_name, topics), (GROUP, vec!["%RETRY%g", TOPIC]));
    }
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(1));
    assert!(cluster.see().members.is_empty(), "it has left the group");
}

#[tokio::test]
async fn messages_that_failed_are_sent_back_and_only_then_passed() {
    let cluster = cluster(1).await;
    for body in ["good", "bad", "worse", "dead"] {
        cluster.put(TOPIC, 0, body);
    }
    let (builder, mut handled) = consumer(&cluster, |batch| match &batch[0].body()?[..] {
        b"good" => Ok(Ack::All),
        b"bad" => Err("cannot".into()),
        b"worse" => panic!("gives up"),
        _ => Ok(Ack::DeadLetter),
    });
    let consumer = builder.concurrency(1).start().await.unwrap();
    for body in ["good", "bad", "worse", "dead"] {
        assert_eq!(next_body(&mut handled).await, body);
    }
    cluster.until("the send-backs", |seen| seen.sent_back.len() == 3).await;
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    let sent_back: Vec<_> =
        seen.sent_back.iter().map(|back| (back.position.get(), back.delay_level)).collect();
    assert_eq!(sent_back, [(1000, 0), (2000, 0), (3000, -1)]);
    assert_eq!((&*seen.sent_back[0].group, seen.sent_back[0].origin_topic.as_deref()), (GROUP, Some(TOPIC)));
    assert_eq!(seen.offset(TOPIC, 0), Some(4));
}

#[tokio::test]
async fn of_a_batch_the_first_messages_can_be_done_and_the_others_not() {
    let cluster = cluster(1).await;
    for body in ["a", "b", "c"] {
        cluster.put(TOPIC, 0, body);
    }
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::First(1)));
    let consumer = builder.batch_size(3).start().await.unwrap();
    for body in ["a", "b", "c"] {
        assert_eq!(next_body(&mut handled).await, body);
    }
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    let positions: Vec<_> = seen.sent_back.iter().map(|back| back.position.get()).collect();
    assert_eq!((positions, seen.offset(TOPIC, 0)), (vec![1000, 2000], Some(3)));
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_back_stays_and_is_handled_again() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "a");
    cluster.put(TOPIC, 0, "b");
    cluster.refuse(RequestCode::CONSUMER_SEND_MSG_BACK, ResponseCode::SYSTEM_ERROR);
    let (builder, mut handled) =
        consumer(&cluster, |batch| Ok(if &batch[0].body()?[..] == b"a" { Ack::Retry } else { Ack::All }));
    let consumer = builder.concurrency(1).start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "a");
    assert_eq!(next_body(&mut handled).await, "b");
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(0), "a is not safe yet");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    let again = next(&mut handled).await;
    assert_eq!((again.queue_offset(), again.reconsume_times()), (QueueOffset::ZERO, 1));
    cluster.until("the send-back", |seen| seen.sent_back.len() == 1).await;
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(2));
}

#[tokio::test]
async fn an_offset_that_cannot_be_asked_for_is_not_taken_for_none() {
    let cluster = cluster(1).await;
    for body in ["0", "1", "2"] {
        cluster.put(TOPIC, 0, body);
    }
    cluster.see().offsets.insert((TOPIC.to_owned(), 0), 2);
    cluster.refuse(RequestCode::QUERY_CONSUMER_OFFSET, ResponseCode::SYSTEM_ERROR);
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "2");
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    assert_eq!((seen.offset(TOPIC, 0), seen.count(RequestCode::GET_MIN_OFFSET)), (Some(3), 0));
}

#[tokio::test]
async fn queues_stay_when_the_members_cannot_be_asked_or_do_not_include_us() {
    let cluster = cluster(2).await;
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    cluster.put(TOPIC, 0, "before");
    assert_eq!(next_body(&mut handled).await, "before");

    let asked = |seen: &super::fake_cluster::Seen| seen.count(RequestCode::GET_CONSUMER_LIST_BY_GROUP);
    let before = asked(&cluster.see());
    cluster.refuse(RequestCode::GET_CONSUMER_LIST_BY_GROUP, ResponseCode::SYSTEM_ERROR);
    cluster.notify(GROUP).await;
    cluster.until("a pass that fails", |seen| asked(seen) > before).await;

    let heartbeats = {
        let mut seen = cluster.see();
        seen.members = ["somebody else".to_owned()].into();
        seen.heartbeats.len()
    };
    cluster.notify(GROUP).await;
    cluster.until("a heartbeat", |seen| seen.heartbeats.len() > heartbeats).await;

    cluster.put(TOPIC, 1, "after");
    assert_eq!(next_body(&mut handled).await, "after");
    assert_eq!(cluster.see().count(RequestCode::QUERY_CONSUMER_OFFSET), 2, "no queue was taken twice");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_moves_to_another_member_is_committed_first() {
    let cluster = cluster(2).await;
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    cluster.put(TOPIC, 0, "a");
    cluster.put(TOPIC, 1, "b");
    next(&mut handled).await;
    next(&mut handled).await;
    cluster.see().members.insert("~ sorts behind every address".to_owned());
    cluster.notify(GROUP).await;
    cluster.until("the commit of queue 1", |seen| seen.offset(TOPIC, 1) == Some(1)).await;
    cluster.put(TOPIC, 1, "not ours");
    cluster.put(TOPIC, 0, "ours");
    assert_eq!(next_body(&mut handled).await, "ours");
    consumer.shutdown(GRACE).await.unwrap();
    assert!(handled.recv().await.is_none());
    let seen = cluster.see();
    assert_eq!((seen.offset(TOPIC, 0), seen.offset(TOPIC, 1)), (Some(2), Some(1)));
}

#[tokio::test]
async fn a_queue_that_is_given_up_lets_its_handlers_finish_first() {
    let cluster = cluster(1).await;
    let client = Client::builder().name_servers([cluster.addr()]).start().await.unwrap();
    let store = OffsetStore::new(client, GROUP.to_owned());
    let subscription = Arc::new(Filter::All.subscription(TOPIC, 0).unwrap());
    let id = rocketmq_protocol::body::MessageQueue::new(TOPIC, super::fake_cluster::BROKER, 0);
    let queue = AssignedQueue::new(id, subscription, Arc::<FlowControl>::default().queue(TOPIC));
    queue.put([(QueueOffset::ZERO, 1, ()), (QueueOffset::new(1), 1, ())], QueueOffset::new(2), |()| {});
    let handling = queue.handling();
    let mut revoking = std::pin::pin!(queue.revoke(&store, tokio::time::Instant::now() + GRACE));
    assert!(poll_once(revoking.as_mut()).await.is_pending());
    assert!(queue.is_leaving() && !queue.is_gone());
    queue.finish([QueueOffset::ZERO]);
    drop(handling);
    revoking.await.unwrap();
    assert!(queue.is_gone());
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(1));
}

#[tokio::test]
async fn a_queue_that_is_given_up_shows_at_once_how_far_it_is_and_again_when_its_handler_ends() {
    let cluster = cluster(1).await;
    for body in ["a", "b"] {
        cluster.put(TOPIC, 0, body);
    }
    let gate = Gate::default();
    let consumer = gate.consumer(&cluster).concurrency(1).start().await.unwrap();
    gate.begun().await;
    gate.open.add_permits(1);
    gate.begun().await;
    cluster.see().members.insert(" sorts before every address".to_owned());
    cluster.notify(GROUP).await;
    cluster.until("a commit while b is handled", |seen| seen.offset(TOPIC, 0) == Some(1)).await;
    gate.open();
    cluster.until("the commit behind b", |seen| seen.offset(TOPIC, 0) == Some(2)).await;
    consumer.shutdown(GRACE).await.unwrap();
}

/// Another member of the group moves its offset to 1, 2 and so on whenever the consumer has asked for it, up to `last`.
async fn commit_whenever_asked(cluster: &FakeCluster, last: i64) {
    let asked = |seen: &super::fake_cluster::Seen| seen.count(RequestCode::QUERY_CONSUMER_OFFSET);
    let mut before = 0;
    for offset in 1..=last {
        cluster.until("a question for the offset", |seen| asked(seen) > before).await;
        {
            let mut seen = cluster.see();
            before = asked(&seen);
            seen.offsets.insert((TOPIC.to_owned(), 0), offset);
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(500)).await;
        tokio::time::resume();
    }
}

/// One that shares its group with another member and gets queue 0.
async fn newcomer(cluster: &FakeCluster) -> (PushConsumer, Handled) {
    (0..20).for_each(|body| cluster.put(TOPIC, 0, &body.to_string()));
    {
        let mut seen = cluster.see();
        seen.members.insert("~ sorts behind every address".to_owned());
        seen.offsets.insert((TOPIC.to_owned(), 0), 0);
    }
    let (builder, handled) = consumer(cluster, |_| Ok(Ack::All));
    (builder.concurrency(1).start().await.unwrap(), handled)
}

#[tokio::test]
async fn a_queue_is_left_alone_while_its_previous_owner_still_commits() {
    let cluster = cluster(1).await;
    let (consumer, mut handled) = newcomer(&cluster).await;
    commit_whenever_asked(&cluster, 4).await;
    assert_eq!(next_body(&mut handled).await, "4");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_previous_owner_that_never_ends_is_waited_for_5_seconds() {
    let cluster = cluster(1).await;
    let began = tokio::time::Instant::now();
    let (consumer, mut handled) = newcomer(&cluster).await;
    let first = tokio::select! {
        () = commit_whenever_asked(&cluster, i64::MAX) => unreachable!(),
        first = next(&mut handled) => first,
    };
    assert!(began.elapsed() >= Duration::from_secs(5));
    assert!(first.queue_offset() > QueueOffset::new(4), "{first:?}");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn an_offset_that_the_broker_does_not_have_is_replaced_and_late_handlers_cannot_undo_it() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "lost");
    let gate = Gate::default();
    let consumer = gate.consumer(&cluster).start().await.unwrap();
    gate.begun().await;
    cluster.cut(TOPIC, 0, 50);
    cluster.put(TOPIC, 0, "oldest");
    gate.begun().await;
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(50));
    gate.open();
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(51));
}

#[tokio::test]
async fn shutdown_waits_for_running_handlers_and_leaves_the_rest_to_others() {
    let cluster = cluster(1).await;
    for body in ["a", "b", "c", "d"] {
        cluster.put(TOPIC, 0, body);
    }
    let gate = Gate::default();
    let consumer = gate.consumer(&cluster).concurrency(2).start().await.unwrap();
    gate.begun().await;
    gate.begun().await;
    let stopping = consumer.shutdown(GRACE);
    tokio::pin!(stopping);
    assert!(poll_once(stopping.as_mut()).await.is_pending());
    gate.open();
    stopping.await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(2), "a and b are done, c and d are not");
}

#[tokio::test]
async fn a_handler_that_takes_longer_than_the_grace_is_cut_off_and_its_message_not_passed() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "a");
    let gate = Gate::default();
    let consumer = gate.consumer(&cluster).start().await.unwrap();
    gate.begun().await;
    let error = consumer.shutdown(Duration::from_millis(20)).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(0));
    assert!(cluster.see().members.is_empty());
    assert_eq!(Arc::strong_count(&gate.open), 1, "the handler is gone");
}

#[tokio::test]
async fn a_dropped_consumer_leaves_no_task() {
    let cluster = cluster(4).await;
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    cluster.put(TOPIC, 0, "a");
    next(&mut handled).await;
    drop(consumer);
    // The handler goes with the last task.
    let ended = tokio::time::timeout(Duration::from_secs(10), handled.recv()).await;
    assert!(ended.expect("tasks end").is_none());
}

#[tokio::test]
async fn a_body_that_cannot_be_decompressed_reaches_the_handler_as_an_error() {
    let cluster = cluster(1).await;
    cluster.put_with(TOPIC, 0, "no zlib", SysFlag::COMPRESSED, Properties::builder());
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    assert!(next(&mut handled).await.body().is_err());
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_tag_that_shares_the_hash_of_a_wanted_one_is_passed_but_not_handled() {
    let cluster = cluster(1).await;
    for tag in ["BB", "Aa", "BB"] {
        let properties = Properties::builder().set(property::TAGS, tag);
        cluster.put_with(TOPIC, 0, tag, SysFlag::NONE, properties);
    }
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.subscribe(TOPIC, Filter::tags(["Aa"])).start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "Aa");
    consumer.shutdown(GRACE).await.unwrap();
    assert!(handled.recv().await.is_none());
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(3));
}

#[tokio::test]
async fn a_message_that_comes_again_has_its_own_topic() {
    let cluster = cluster(1).await;
    cluster.create_topic("%RETRY%g", 1);
    let properties = Properties::builder().set(property::RETRY_TOPIC, TOPIC);
    cluster.put_with("%RETRY%g", 0, "again", SysFlag::NONE, properties);
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    let message = next(&mut handled).await;
    assert_eq!((message.topic(), &*message.queue().topic), (TOPIC, "%RETRY%g"));
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset("%RETRY%g", 0), Some(1));
}

#[tokio::test]
async fn a_full_queue_is_not_read_on_until_something_is_finished() {
    let cluster = cluster(1).await;
    for _ in 0..10 {
        cluster.put(TOPIC, 0, "x");
    }
    let gate = Gate::default();
    let builder = gate.consumer(&cluster).pull_batch_size(2).queue_limit(4, 1 << 20);
    let consumer = builder.start().await.unwrap();
    for _ in 0..4 {
        gate.begun().await;
    }
    assert_eq!(cluster.see().pulled[&(TOPIC.to_owned(), 0)], 2, "two pulls of two messages");
    gate.open();
    for _ in 4..10 {
        gate.begun().await;
    }
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(10));
}

#[tokio::test]
async fn a_pull_that_fails_is_tried_again() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "a");
    cluster.refuse(RequestCode::PULL_MESSAGE, ResponseCode::FLOW_CONTROL);
    cluster.refuse(RequestCode::PULL_MESSAGE, ResponseCode::SUBSCRIPTION_NOT_EXIST);
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "a");
    assert!(cluster.see().heartbeats.len() > 1, "the broker was told who we are");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_topic_that_appears_later_is_read_from_its_beginning() {
    let cluster = FakeCluster::start().await;
    cluster.create_topic("other", 1);
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.from(ConsumeFrom::Latest).subscribe("other", "*").start().await.unwrap();
    cluster.until("a question for the topic", |seen| seen.count(RequestCode::PULL_MESSAGE) == 1).await;
    cluster.create_topic(TOPIC, 1);
    cluster.put(TOPIC, 0, "first");
    assert_eq!(next_body(&mut handled).await, "first");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_new_group_that_wants_the_latest_skips_what_is_there() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "old");
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.from(ConsumeFrom::Latest).start().await.unwrap();
    cluster.until("a pull", |seen| seen.pulled.get(&(TOPIC.to_owned(), 0)) == Some(&1)).await;
    cluster.put(TOPIC, 0, "new");
    assert_eq!(next_body(&mut handled).await, "new");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_message_that_its_broker_does_not_take_back_is_sent_to_the_retry_topic_with_its_delay() {
    let cluster = cluster(1).await;
    cluster.create_topic("%RETRY%g", 1);
    let properties = Properties::builder().set(property::UNIQ_KEY, "KEY").set(property::TRAN_MSG, "true");
    cluster.put_with(TOPIC, 0, "a", SysFlag::NONE, properties);
    cluster.refuse(RequestCode::CONSUMER_SEND_MSG_BACK, ResponseCode::SYSTEM_ERROR);
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::Retry));
    let consumer = builder.max_reconsume_times(7).start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "a");
    cluster.until("the message", |seen| seen.sent.len() == 1).await;
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    assert_eq!(seen.offset(TOPIC, 0), Some(1), "it is safe");
    let sent = &seen.sent[0];
    assert_eq!((&*sent.topic, &sent.body[..], sent.reconsume_times), ("%RETRY%g", &b"a"[..], 1));
    assert_eq!((sent.max_reconsume_times, &*sent.producer_group), (Some(7), "CLIENT_INNER_PRODUCER"));
    let properties = Properties::new(sent.properties.clone().unwrap());
    let value = |name| properties.get(name);
    assert_eq!((value(property::RETRY_TOPIC), value(property::DELAY)), (Some(TOPIC), Some("3")));
    assert_eq!((value(property::ORIGIN_MESSAGE_ID), value(property::UNIQ_KEY)), (Some("KEY"), Some("KEY")));
    assert_eq!(value(property::TRAN_MSG), None);
}

#[tokio::test]
async fn a_message_whose_handler_is_stuck_is_sent_back_and_the_offset_moves() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "stuck");
    let gate = Gate::default();
    let limit = Duration::from_millis(20);
    let consumer = gate.consumer(&cluster).consume_timeout(limit).start().await.unwrap();
    gate.begun().await;
    cluster.until("the send-back", |seen| seen.sent_back.len() == 1).await;
    assert_eq!(cluster.see().sent_back[0].delay_level, 3);
    gate.open();
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(1));
}

#[tokio::test]
async fn a_suspended_consumer_reads_nothing_until_it_is_resumed() {
    let cluster = cluster(1).await;
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    cluster.put(TOPIC, 0, "a");
    assert_eq!(next_body(&mut handled).await, "a");
    consumer.suspend();
    tokio::task::yield_now().await;
    let pulls = cluster.see().count(RequestCode::PULL_MESSAGE);
    cluster.put(TOPIC, 0, "b");
    cluster.notify(GROUP).await;
    let nothing = tokio::time::timeout(Duration::from_millis(50), handled.recv()).await;
    assert!(nothing.is_err(), "nothing is handled");
    assert!(cluster.see().count(RequestCode::PULL_MESSAGE) <= pulls + 1);
    consumer.resume();
    assert_eq!(next_body(&mut handled).await, "b");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn the_users_own_filter_passes_messages_over_and_the_offset_with_them() {
    let cluster = cluster(1).await;
    for body in ["a", "b", "panics", "c"] {
        cluster.put(TOPIC, 0, body);
    }
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let wanted = |message: &ReceivedMessage| match &message.body().unwrap()[..] {
        b"panics" => panic!("cannot tell"),
        body => body == b"b",
    };
    let consumer = builder.message_filter(wanted).concurrency(1).start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "b");
    assert_eq!(next_body(&mut handled).await, "panics", "who cannot tell has not said no");
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(4));
}

#[tokio::test]
async fn where_a_new_group_begins_is_known_before_anything_is_handled() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "old");
    let gate = Gate::default();
    let consumer = gate.consumer(&cluster).from(ConsumeFrom::Latest).start().await.unwrap();
    cluster.until("a pull", |seen| seen.pulled.contains_key(&(TOPIC.to_owned(), 0))).await;
    // Whoever takes over after a crash would begin behind what comes now.
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(1));
    drop(consumer);
}

#[tokio::test]
async fn a_member_without_a_queue_knows_it_and_takes_over_when_another_leaves() {
    let cluster = cluster(1).await;
    let others = "! sorts before every address";
    cluster.see().members.insert(others.to_owned());
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let consumer = builder.start().await.unwrap();
    cluster.until("a pass", |seen| seen.count(RequestCode::GET_CONSUMER_LIST_BY_GROUP) >= 1).await;
    assert!(consumer.assigned_queues().is_empty());
    cluster.see().members.remove(others);
    cluster.notify(GROUP).await;
    cluster.put(TOPIC, 0, "a");
    assert_eq!(next_body(&mut handled).await, "a");
    assert_eq!(consumer.assigned_queues().len(), 1);
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_strategy_that_fails_changes_nothing() {
    let cluster = cluster(2).await;
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let strategy = move |_: &str, queues: &[rocketmq_protocol::body::MessageQueue], _: &[String]| match calls
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    {
        0 => queues.to_vec(),
        _ => panic!("cannot divide any more"),
    };
    let consumer = builder.allocate_strategy(strategy).start().await.unwrap();
    cluster.until("pulls", |seen| seen.count(RequestCode::PULL_MESSAGE) >= 2).await;
    let asked = cluster.see().count(RequestCode::GET_CONSUMER_LIST_BY_GROUP);
    cluster.notify(GROUP).await;
    cluster.until("another pass", |seen| seen.count(RequestCode::GET_CONSUMER_LIST_BY_GROUP) > asked).await;
    cluster.put(TOPIC, 1, "still ours");
    assert_eq!(next_body(&mut handled).await, "still ours");
    assert_eq!(consumer.assigned_queues().len(), 2);
    consumer.shutdown(GRACE).await.unwrap();
}

/// In each arrangement; what it made must be gone.
async fn no_task_is_left_by(arrangement: fn(PushConsumerBuilder) -> PushConsumerBuilder) {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let cluster = cluster(3).await;
    let before = alive();
    let (builder, mut handled) = consumer(&cluster, |_| Ok(Ack::All));
    let folder = tempfile::tempdir().unwrap();
    let consumer = arrangement(builder.offsets_folder(folder.path())).start().await.unwrap();
    cluster.until("pulls", |seen| seen.count(RequestCode::PULL_MESSAGE) >= 3).await;
    cluster.put(TOPIC, 0, "a");
    cluster.put(TOPIC, 1, "b");
    tokio::time::timeout(Duration::from_millis(100), handled.recv()).await.ok();
    consumer.shutdown(GRACE).await.unwrap();
    // The server's side of the connection ends when it notices.
    let ended = async {
        while alive() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GRACE, ended).await.expect("every task ends");
}

#[tokio::test]
async fn no_task_is_left_after_the_shutdown_of_any_arrangement() {
    no_task_is_left_by(|builder| builder).await;
    no_task_is_left_by(|builder| builder.broadcasting()).await;
    no_task_is_left_by(|builder| builder.ordered(|_, _| async { Ok(OrderlyAck::Commit) })).await;
    no_task_is_left_by(|builder| builder.broadcasting().ordered(|_, _| async { Ok(OrderlyAck::Commit) }))
        .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_the_start() {
    let cluster = cluster(1).await;
    let client = Client::builder().name_servers([cluster.addr()]).start().await.unwrap();
    let build = || consumer(&cluster, |_| Ok(Ack::All)).0.client(&client);
    let refused = [
        PushConsumer::builder(GROUP).client(&client).subscribe(TOPIC, "*"),
        build().concurrency(0),
        build().batch_size(1025),
        build().pull_batch_size(0),
        build().queue_limit(0, 1),
        build().max_span(0),
        build().topic_limit(1, 0),
        build().consume_timeout(Duration::ZERO),
        build().subscribe("other", Filter::tags([" "])),
        PushConsumer::builder(GROUP).client(&client).handler(|_| async { Ok(Ack::All) }),
    ];
    for builder in refused {
        let error = builder.start().await.err().expect("an error");
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
    assert!(matches!(build().subscribe("no topic", "*").start().await, Err(Error::Name(_))));
    let sql = build().subscribe(TOPIC, Filter::sql("a >> 1")).start().await.err().expect("an error");
    assert_eq!(sql.response_code(), Some(ResponseCode::SUBSCRIPTION_PARSE_FAILED));
    let first = build().start().await.unwrap();
    assert!(matches!(build().start().await, Err(Error::GroupTaken { .. })));
    first.shutdown(GRACE).await.unwrap();
    build().start().await.unwrap().shutdown(GRACE).await.unwrap();
    client.shutdown().await;
}
