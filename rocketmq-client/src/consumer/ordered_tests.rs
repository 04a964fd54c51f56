//! Ordered consumers against a [`FakeCluster`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rocketmq_protocol::RequestCode;
use tokio::sync::{Semaphore, mpsc};

use super::fake_cluster::{FakeCluster, Seen};
use super::push_tests::{GRACE, GROUP, Handled, TOPIC, cluster, next, next_body};
use super::*;
use crate::ReceivedMessage;

/// A consumer whose handler says `outcome` of every batch.
fn ordered<F>(cluster: &FakeCluster, outcome: F) -> (PushConsumerBuilder, Handled)
where
    F: Fn(&Batch) -> Result<OrderlyAck, HandlerError> + Send + Sync + 'static,
{
    let (got, handled) = mpsc::unbounded_channel();
    let builder = builder(cluster).ordered(move |batch, _| {
        batch.iter().for_each(|message| drop(got.send(message.clone())));
        std::future::ready(outcome(&batch))
    });
    (builder, handled)
}

fn builder(cluster: &FakeCluster) -> PushConsumerBuilder {
    PushConsumer::builder(GROUP)
        .name_servers([cluster.addr()])
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Earliest)
        .suspend_time(Duration::from_millis(10))
}

fn text(message: &ReceivedMessage) -> (String, i32) {
    (String::from_utf8(message.body().unwrap().to_vec()).unwrap(), message.reconsume_times())
}

#[tokio::test]
async fn messages_of_a_queue_are_handled_one_after_the_other_under_the_brokers_lock() {
    let cluster = cluster(3).await;
    for number in 0..30 {
        for queue in 0..3 {
            cluster.put(TOPIC, queue, &number.to_string());
        }
    }
    let (got, mut handled) = mpsc::unbounded_channel();
    let running: Arc<Mutex<Vec<i32>>> = Arc::default();
    let consumer = builder(&cluster)
        .pull_batch_size(4)
        .batch_size(3)
        .ordered(move |batch: Batch, context| {
            let (got, running) = (got.clone(), Arc::clone(&running));
            async move {
                let queue = batch[0].queue_id().get();
                {
                    let mut running = running.lock().unwrap();
                    assert!(!running.contains(&queue), "two handlers of one queue");
                    running.push(queue);
                }
                tokio::task::yield_now().await;
                running.lock().unwrap().retain(|other| *other != queue);
                assert!(!context.is_lost());
                batch.iter().for_each(|message| drop(got.send(message.clone())));
                Ok(OrderlyAck::Commit)
            }
        })
        .start()
        .await
        .unwrap();
    let mut expected = [0; 3];
    for _ in 0..90 {
        let message = next(&mut handled).await;
        let expected = &mut expected[usize::try_from(message.queue_id().get()).unwrap()];
        assert_eq!(message.queue_offset().get(), *expected);
        *expected += 1;
    }
    assert_eq!(cluster.see().locks.len(), 3);
    consumer.shutdown(GRACE).await.unwrap();
    let (first_lock, _) = cluster.place(RequestCode::LOCK_BATCH_MQ).unwrap();
    assert!(first_lock < cluster.place(RequestCode::QUERY_CONSUMER_OFFSET).unwrap().0);
    let (unlock, _) = cluster.place(RequestCode::UNLOCK_BATCH_MQ).unwrap();
    assert!(unlock > cluster.place(RequestCode::UPDATE_CONSUMER_OFFSET).unwrap().1, "committed before");
    assert!(unlock < cluster.place(RequestCode::UNREGISTER_CLIENT).unwrap().0);
    let seen = cluster.see();
    assert_eq!(seen.count(RequestCode::LOCK_BATCH_MQ), 1, "one request for all queues of a broker");
    assert!(seen.locks.is_empty());
    assert_eq!((0..3).map(|queue| seen.offset(TOPIC, queue)).collect::<Vec<_>>(), [Some(30); 3]);
}

#[tokio::test]
async fn what_fails_comes_again_in_its_place_and_nothing_overtakes_it() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "a");
    cluster.put(TOPIC, 0, "b");
    let (builder, mut handled) = ordered(&cluster, |batch| match text(&batch[0]) {
        (body, _) if body == "b" => Ok(OrderlyAck::Commit),
        (_, 0) => Err("cannot".into()),
        (_, 1) => panic!("gives up"),
        (_, 2) => Ok(OrderlyAck::Suspend),
        (_, 20) => Ok(OrderlyAck::Commit),
        _ => Ok(OrderlyAck::SuspendFor(Duration::ZERO)),
    });
    let consumer = builder.start().await.unwrap();
    for failures in 0..=20 {
        assert_eq!(text(&next(&mut handled).await), ("a".to_owned(), failures));
        if failures == 17 {
            let stuck = consumer.stuck_queues();
            assert_eq!((stuck.len(), stuck[0].offset.get()), (1, 0));
            assert!(stuck[0].failures >= 17, "{stuck:?}"); // it may have failed again already
        }
    }
    assert_eq!(text(&next(&mut handled).await), ("b".to_owned(), 0));
    assert!(consumer.stuck_queues().is_empty());
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    assert_eq!((seen.offset(TOPIC, 0), seen.sent_back.len()), (Some(2), 0), "unlimited unless chosen");
}

#[tokio::test]
async fn a_message_that_fails_too_often_becomes_a_dead_letter_and_the_queue_goes_on() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "bad");
    cluster.put(TOPIC, 0, "good");
    // The first attempt to make a dead letter fails: the message stays.
    cluster.refuse(RequestCode::CONSUMER_SEND_MSG_BACK, rocketmq_protocol::ResponseCode::SYSTEM_ERROR);
    let (builder, mut handled) = ordered(&cluster, |batch| match text(&batch[0]).0.as_str() {
        "bad" => Ok(OrderlyAck::Suspend),
        _ => Ok(OrderlyAck::Commit),
    });
    let consumer = builder.max_reconsume_times(2).start().await.unwrap();
    for failures in 0..=3 {
        assert_eq!(text(&next(&mut handled).await), ("bad".to_owned(), failures));
    }
    assert_eq!(text(&next(&mut handled).await), ("good".to_owned(), 0));
    consumer.shutdown(GRACE).await.unwrap();
    let seen = cluster.see();
    assert_eq!(seen.sent_back.iter().map(|back| back.delay_level).collect::<Vec<_>>(), [-1]);
    assert_eq!(seen.offset(TOPIC, 0), Some(2));
}

#[tokio::test]
async fn what_is_held_is_not_committed_and_comes_again_after_a_roll_back() {
    let cluster = cluster(1).await;
    for body in ["a", "b", "c"] {
        cluster.put(TOPIC, 0, body);
    }
    let rolled_back = std::sync::atomic::AtomicBool::new(false);
    let (builder, mut handled) = ordered(&cluster, move |batch| {
        Ok(match text(&batch[0]).0.as_str() {
            "b" if !rolled_back.swap(true, std::sync::atomic::Ordering::Relaxed) => OrderlyAck::Rollback,
            "b" => OrderlyAck::Commit,
            _ => OrderlyAck::Hold,
        })
    });
    let consumer = builder.start().await.unwrap();
    for body in ["a", "b", "a", "b", "c"] {
        assert_eq!(text(&next(&mut handled).await), (body.to_owned(), 0));
    }
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(2), "c is held");
}

#[tokio::test]
async fn a_queue_that_another_member_has_locked_is_read_from_where_that_one_left_it() {
    let cluster = cluster(1).await;
    for body in ["a", "b", "c"] {
        cluster.put(TOPIC, 0, body);
    }
    cluster.lock(TOPIC, 0, "another");
    let (builder, mut handled) = ordered(&cluster, |_| Ok(OrderlyAck::Commit));
    let consumer = builder.start().await.unwrap();
    cluster.until("a second try", |seen| seen.count(RequestCode::LOCK_BATCH_MQ) == 2).await;
    {
        let mut seen = cluster.see();
        assert_eq!(
            (seen.count(RequestCode::PULL_MESSAGE), seen.count(RequestCode::QUERY_CONSUMER_OFFSET)),
            (0, 0)
        );
        seen.offsets.insert((TOPIC.to_owned(), 0), 2);
        seen.locks.clear();
    }
    assert_eq!(next_body(&mut handled).await, "c");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_lost_lock_is_told_to_the_handler_and_what_it_says_then_does_not_count() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "a");
    let (got, mut handled) = mpsc::unbounded_channel();
    let consumer = builder(&cluster)
        .ordered(move |batch, context| {
            let got = got.clone();
            async move {
                got.send(batch[0].clone()).unwrap();
                context.lost().await;
                Ok(OrderlyAck::Commit)
            }
        })
        .start()
        .await
        .unwrap();
    next(&mut handled).await;
    cluster.lock(TOPIC, 0, "another");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(20)).await;
    tokio::time::resume();
    let asked = |seen: &Seen| seen.count(RequestCode::LOCK_BATCH_MQ);
    // Renewed, refused; the handler ends; the queue is taken anew, and its lock is asked for again.
    cluster.until("the lock is asked for anew", |seen| asked(seen) >= 3).await;
    assert!(cluster.see().offset(TOPIC, 0).unwrap_or_default() == 0);
    cluster.see().locks.clear();
    assert_eq!(next_body(&mut handled).await, "a");
    drop(consumer);
}

#[tokio::test]
async fn a_queue_that_moves_is_committed_and_then_unlocked_but_only_after_its_handler_has_ended() {
    let cluster = cluster(2).await;
    cluster.put(TOPIC, 1, "slow");
    let (begun, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (begin, opened) = (Arc::clone(&begun), Arc::clone(&open));
    let consumer = builder(&cluster)
        .ordered(move |_, _| {
            let (begin, opened) = (Arc::clone(&begin), Arc::clone(&opened));
            async move {
                begin.add_permits(1);
                opened.acquire().await?.forget();
                Ok(OrderlyAck::Commit)
            }
        })
        .start()
        .await
        .unwrap();
    tokio::time::timeout(GRACE, begun.acquire()).await.unwrap().unwrap().forget();
    cluster.see().members.insert("~ sorts behind every address".to_owned());
    for pass in 1..=2 {
        let asked = cluster.see().count(RequestCode::GET_CONSUMER_LIST_BY_GROUP);
        cluster.notify(GROUP).await;
        cluster.until("a pass", |seen| seen.count(RequestCode::GET_CONSUMER_LIST_BY_GROUP) > asked).await;
        assert_eq!(cluster.see().count(RequestCode::UNLOCK_BATCH_MQ), 0, "pass {pass}");
    }
    assert_eq!(cluster.see().locks.len(), 2);
    open.add_permits(1);
    cluster.until("the unlock", |seen| seen.count(RequestCode::UNLOCK_BATCH_MQ) == 1).await;
    let offset = cluster.see().offset(TOPIC, 1);
    assert_eq!((offset, cluster.see().locks.len()), (Some(1), 1));
    consumer.shutdown(GRACE).await.unwrap();
}

/// Tells what it saw before and after each call of the handler.
struct Recorder(mpsc::UnboundedSender<String>);

#[async_trait]
impl ConsumeInterceptor for Recorder {
    async fn before_consume(&self, event: &ConsumeEvent<'_>) {
        let (body, failures) = text(&event.messages[0]);
        self.0.send(format!("{} gets {body} after {failures}", event.group)).unwrap();
    }

    async fn after_consume(&self, _: &ConsumeEvent<'_>, result: &ConsumeResult) {
        self.0.send(format!("{:?}", result.outcome)).unwrap();
    }
}

#[tokio::test]
async fn interceptors_run_around_ordered_handlers_and_rates_are_counted() {
    let cluster = cluster(1).await;
    cluster.put(TOPIC, 0, "a");
    let (saw, mut seen) = mpsc::unbounded_channel();
    let (builder, _handled) = ordered(&cluster, |batch| match text(&batch[0]) {
        (body, 0) if body == "a" => Err("no ink".into()),
        (body, 1) if body == "a" => Ok(OrderlyAck::Suspend),
        _ => Ok(OrderlyAck::Commit),
    });
    let consumer = builder.interceptor(Recorder(saw)).start().await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 6 {
        lines.push(tokio::time::timeout(GRACE, seen.recv()).await.unwrap().unwrap());
    }
    let expected = [
        "g gets a after 0",
        "Err(\"no ink\")",
        "g gets a after 1",
        "Ok(false)",
        "g gets a after 2",
        "Ok(true)",
    ];
    assert_eq!(lines, expected);
    cluster.put(TOPIC, 0, "b"); // behind it, everything before is counted
    seen.recv().await.unwrap();
    let status = consumer.stats()[TOPIC];
    // "b" fails at first, too, now or a moment later.
    assert!((2..=3).contains(&status.consume_failed_msgs) && status.consume_ok_tps > 0.0, "{status:?}");
    consumer.shutdown(GRACE).await.unwrap();
}
