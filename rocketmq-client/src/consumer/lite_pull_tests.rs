//! Lite pull consumers against a [`FakeCluster`].

use std::time::Duration;

use rocketmq_protocol::body::{ConsumeType, MessageQueue};
use rocketmq_protocol::requests::PullFlag;
use rocketmq_protocol::{QueueOffset, RequestCode, ResponseCode};

use super::fake_cluster::{BROKER, FakeCluster};
use crate::{Batch, ConsumeFrom, Error, Filter, LitePullConsumer, LitePullConsumerBuilder, SeekTo};

const TOPIC: &str = "T";
const GROUP: &str = "g";
const LONG: Duration = Duration::from_secs(10);
/// Long enough for what was read already to be handed over.
const SHORT: Duration = Duration::from_millis(50);

/// A cluster with this many queues; the messages of the first one are numbered.
async fn cluster(queues: usize, messages: usize) -> FakeCluster {
    let cluster = FakeCluster::start().await;
    cluster.create_topic(TOPIC, queues);
    (0..messages).for_each(|number| cluster.put(TOPIC, 0, &number.to_string()));
    cluster
}

fn consumer(cluster: &FakeCluster) -> LitePullConsumerBuilder {
    LitePullConsumer::builder(GROUP).name_servers([cluster.addr()]).from(ConsumeFrom::Earliest)
}

fn subscriber(cluster: &FakeCluster) -> LitePullConsumerBuilder {
    consumer(cluster).subscribe(TOPIC, Filter::All)
}

fn queue(id: i32) -> MessageQueue {
    MessageQueue::new(TOPIC, BROKER, id)
}

fn offsets(messages: &Batch) -> Vec<i64> {
    messages.iter().map(|message| message.queue_offset().get()).collect()
}

/// What the next poll gives, which must be something.
async fn poll(consumer: &mut LitePullConsumer) -> Vec<i64> {
    let messages = consumer.poll(LONG).await.unwrap();
    assert!(!messages.is_empty(), "nothing came in {LONG:?}");
    offsets(&messages)
}

#[tokio::test]
async fn what_a_poll_gave_is_done_with_the_next_poll_and_committed_at_the_shutdown() {
    let cluster = cluster(1, 5).await;
    let mut consumer = subscriber(&cluster).pull_batch_size(2).start().await.unwrap();
    assert_eq!(poll(&mut consumer).await, [0, 1]);
    assert_eq!(consumer.lag().await.unwrap()[0].messages(), 5, "not done yet");
    assert_eq!(poll(&mut consumer).await, [2, 3]);
    assert_eq!(consumer.lag().await.unwrap()[0].messages(), 3);
    consumer.shutdown().await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(4), "the shutdown counts as a poll");
    assert!(cluster.see().members.is_empty(), "it has left the group");

    let mut next = subscriber(&cluster).start().await.unwrap();
    assert_eq!(poll(&mut next).await, [4]);
    assert!(next.poll(SHORT).await.unwrap().is_empty());
    drop(next);
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(4), "dropping commits nothing");
}

#[tokio::test]
async fn without_auto_commit_only_the_user_commits() {
    let cluster = cluster(1, 6).await;
    let mut consumer = subscriber(&cluster).pull_batch_size(2).auto_commit(false).start().await.unwrap();
    assert_eq!(poll(&mut consumer).await, [0, 1]);
    assert_eq!(poll(&mut consumer).await, [2, 3]);
    assert_eq!(consumer.committed(&queue(0)).await.unwrap(), None);
    consumer.commit().await.unwrap();
    assert_eq!(consumer.committed(&queue(0)).await.unwrap(), Some(QueueOffset::new(4)));
    consumer.commit_offset(&queue(0), QueueOffset::new(1)).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(1), "backwards, too");
    assert_eq!(poll(&mut consumer).await, [4, 5]);
    consumer.commit().await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(6));
    consumer.seek(&queue(0), SeekTo::Begin).await.unwrap();
    assert_eq!(poll(&mut consumer).await, [0, 1]);
    consumer.shutdown().await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(6));
}

#[tokio::test]
async fn who_keeps_offsets_elsewhere_and_never_commits_reads_on_all_the_same() {
    let cluster = cluster(1, 20).await;
    let builder = subscriber(&cluster).pull_batch_size(2).queue_limit(4, 1 << 20).auto_commit(false);
    let mut consumer = builder.start().await.unwrap();
    for first in (0..20).step_by(2) {
        assert_eq!(poll(&mut consumer).await, [first, first + 1]);
        let read = cluster.see().pulled[&(TOPIC.to_owned(), 0)];
        assert!(read <= first + 6, "{read} after {first}: no more than the limit is read ahead");
    }
    consumer.shutdown().await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), None);
}

#[tokio::test]
async fn a_seek_takes_effect_at_once_and_what_was_polled_before_does_not_move_the_group() {
    let cluster = cluster(1, 5).await;
    let mut consumer = subscriber(&cluster).pull_batch_size(2).start().await.unwrap();
    assert_eq!(poll(&mut consumer).await, [0, 1]);
    consumer.seek(&queue(0), SeekTo::Offset(QueueOffset::new(3))).await.unwrap();
    assert_eq!(poll(&mut consumer).await, [3, 4]);
    consumer.seek(&queue(0), SeekTo::Begin).await.unwrap();
    consumer.seek(&queue(0), SeekTo::Offset(QueueOffset::new(1))).await.unwrap();
    assert_eq!(poll(&mut consumer).await, [1, 2]);
    consumer.seek(&queue(0), SeekTo::End).await.unwrap();
    assert!(consumer.poll(SHORT).await.unwrap().is_empty());
    cluster.put(TOPIC, 0, "new");
    assert_eq!(poll(&mut consumer).await, [5]);
    consumer.shutdown().await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(6));
}

#[tokio::test]
async fn a_seek_that_leads_nowhere_is_refused() {
    let cluster = cluster(2, 3).await;
    let mut consumer = subscriber(&cluster).start().await.unwrap();
    assert_eq!(poll(&mut consumer).await, [0, 1, 2]);
    for (queue, to, expected) in [
        (queue(0), 4, "4 of MessageQueue [topic=T, brokerName=broker-a, queueId=0] is not between 0 and 3"),
        (queue(0), -1, "is not between 0 and 3"),
        (queue(7), 0, "is not assigned to this consumer"),
    ] {
        let error = consumer.seek(&queue, SeekTo::Offset(QueueOffset::new(to))).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    consumer.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_paused_queue_is_not_read_until_it_is_resumed() {
    let cluster = cluster(2, 1).await;
    let mut consumer = subscriber(&cluster).start().await.unwrap();
    assert_eq!(poll(&mut consumer).await, [0]);
    consumer.pause([queue(0)]);
    // The pull that is under way may still bring something, and then no other is made.
    cluster.put(TOPIC, 0, "under way");
    assert_eq!(poll(&mut consumer).await, [1]);
    cluster.put(TOPIC, 0, "paused");
    cluster.put(TOPIC, 1, "goes on");
    let messages = consumer.poll(LONG).await.unwrap();
    assert_eq!(messages[0].body().unwrap(), "goes on");
    assert!(consumer.poll(SHORT).await.unwrap().is_empty());
    consumer.resume([&queue(0)]);
    assert_eq!(consumer.poll(LONG).await.unwrap()[0].body().unwrap(), "paused");
    consumer.shutdown().await.unwrap();
}

#[tokio::test]
async fn assigned_queues_are_read_whoever_else_is_in_the_group() {
    let cluster = cluster(2, 2).await;
    cluster.put(TOPIC, 1, "other queue");
    cluster.see().members.insert("somebody else".to_owned());
    let mut consumer = consumer(&cluster).assign([queue(0)]).start().await.unwrap();
    consumer.seek(&queue(0), SeekTo::Offset(QueueOffset::new(1))).await.unwrap();
    assert_eq!(poll(&mut consumer).await, [1]);
    consumer.assign([queue(1)]).unwrap();
    let messages = consumer.poll(LONG).await.unwrap();
    assert_eq!(messages[0].body().unwrap(), "other queue");
    cluster.put(TOPIC, 0, "no longer ours");
    assert!(consumer.poll(SHORT).await.unwrap().is_empty());
    assert_eq!(consumer.assigned_queues(), [queue(1)]);
    consumer.shutdown().await.unwrap();
    let seen = cluster.see();
    assert_eq!((seen.offset(TOPIC, 0), seen.offset(TOPIC, 1)), (Some(2), Some(1)));
    assert_eq!(seen.count(RequestCode::GET_CONSUMER_LIST_BY_GROUP), 0);
}

#[tokio::test]
async fn a_queue_that_moves_on_is_committed_as_far_as_it_was_polled_and_nothing_is_lost() {
    let cluster = cluster(2, 0).await;
    for number in 0..6 {
        cluster.put(TOPIC, 1, &number.to_string());
    }
    let mut consumer = subscriber(&cluster).pull_batch_size(2).start().await.unwrap();
    assert_eq!((poll(&mut consumer).await, poll(&mut consumer).await), (vec![0, 1], vec![2, 3]));
    cluster.see().members.insert("~ sorts behind every address".to_owned());
    cluster.notify(GROUP).await;
    // Read ahead, but not polled: the next owner gets it.
    cluster.until("the commit", |seen| seen.offset(TOPIC, 1) != Some(0)).await;
    while consumer.assigned_queues().len() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await; // nothing more is told: all that is done is committed
    }
    assert_eq!(cluster.see().offset(TOPIC, 1), Some(2), "the second poll is not done");
    assert!(consumer.poll(SHORT).await.unwrap().is_empty(), "what is no longer ours is not given out");
    consumer.shutdown().await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 1), Some(2));
}

#[tokio::test]
async fn brokers_know_it_as_a_consumer_that_pulls() {
    let cluster = cluster(1, 1).await;
    cluster.refuse(RequestCode::LITE_PULL_MESSAGE, ResponseCode::REQUEST_CODE_NOT_SUPPORTED);
    let builder = consumer(&cluster).subscribe(TOPIC, Filter::tags(["A", "B"]));
    let mut consumer = builder.start().await.unwrap();
    cluster.until("two pulls", |seen| seen.pulls.len() == 1).await;
    {
        let seen = cluster.see();
        let (client, group) = (&seen.heartbeats[0].client_id, &seen.heartbeats[0].consumer_data_set[0]);
        assert!(client.ends_with("@STREAM"), "{client}");
        assert_eq!(group.consume_type, ConsumeType::Actively);
        let topics: Vec<_> = group.subscription_data_set.iter().map(|data| &*data.topic).collect();
        assert_eq!(topics, [TOPIC], "no retry topic");
        // A broker before 5.0 does not know the request.
        let pulls = [RequestCode::LITE_PULL_MESSAGE, RequestCode::PULL_MESSAGE].map(|code| seen.count(code));
        assert_eq!(pulls, [1, 1]);
        let pull = &seen.pulls[0];
        let flags = PullFlag::SUSPEND.with(PullFlag::SUBSCRIPTION).with(PullFlag::LITE_PULL);
        assert_eq!((pull.sys_flag, pull.max_messages), (flags.get(), 10));
        assert_eq!(pull.subscription.as_deref(), Some("A||B"));
    }
    assert!(consumer.poll(SHORT).await.unwrap().is_empty());
    consumer.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_offset_that_the_broker_does_not_have_is_replaced_without_the_group() {
    let cluster = cluster(1, 0).await;
    cluster.cut(TOPIC, 0, 50);
    cluster.put(TOPIC, 0, "oldest");
    cluster.see().offsets.insert((TOPIC.to_owned(), 0), 7);
    let mut consumer = consumer(&cluster).assign([queue(0)]).auto_commit(false).start().await.unwrap();
    assert_eq!(poll(&mut consumer).await, [50]);
    consumer.shutdown().await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(7));
}

#[tokio::test]
async fn either_the_group_divides_the_queues_or_the_user() {
    let cluster = cluster(1, 0).await;
    for builder in [
        consumer(&cluster),
        subscriber(&cluster).assign([queue(0)]),
        subscriber(&cluster).filter(TOPIC, "A"),
        subscriber(&cluster).pull_batch_size(0),
    ] {
        let error = builder.start().await.err().expect("an error");
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
    let consumer = subscriber(&cluster).start().await.unwrap();
    assert!(matches!(consumer.assign([queue(0)]), Err(Error::InvalidArgument { name: "assign", .. })));
    consumer.shutdown().await.unwrap();
}
