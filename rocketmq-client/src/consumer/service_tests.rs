//! What brokers ask of a push consumer, asked by a [`FakeCluster`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocketmq_protocol::body::{ConsumeResult, MessageQueue, QueueTable, ResetOffsetBody};
use rocketmq_protocol::json::{self, JsonStyle};
use rocketmq_protocol::message::{Properties, StoredMessage, SysFlag};
use rocketmq_protocol::requests::{
    ConsumeMessageDirectly, GetConsumerRunningInfo, GetConsumerStatus, ResetClientOffset,
};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset, ResponseCode};
use tokio::sync::{Semaphore, mpsc};

use super::fake_cluster::{BROKER, FakeCluster};
use crate::{
    Ack, Batch, ConsumeFrom, Filter, OrderlyAck, OrderlyContext, PushConsumer, PushConsumerBuilder,
    StreamConsumer,
};

const TOPIC: &str = "T";
const GROUP: &str = "g";
const GRACE: Duration = Duration::from_secs(10);

async fn cluster(messages: usize) -> FakeCluster {
    let cluster = FakeCluster::start().await;
    cluster.create_topic(TOPIC, 1);
    (0..messages).for_each(|number| cluster.put(TOPIC, 0, &number.to_string()));
    cluster
}

fn consumer(cluster: &FakeCluster) -> PushConsumerBuilder {
    let builder = PushConsumer::builder(GROUP).name_servers([cluster.addr()]);
    builder.subscribe(TOPIC, Filter::All).from(ConsumeFrom::Earliest).concurrency(1)
}

fn queue() -> MessageQueue {
    MessageQueue::new(TOPIC, BROKER, 0)
}

fn reset_to(offset: i64) -> ResetClientOffset {
    let offsets = QueueTable::from_iter([
        (queue(), QueueOffset::new(offset)),
        (MessageQueue::new("another", BROKER, 0), QueueOffset::ZERO),
    ]);
    let body = ResetOffsetBody { offset_table: offsets };
    ResetClientOffset {
        topic: TOPIC.into(),
        group: GROUP.into(),
        timestamp: 0,
        force: true,
        queue_id: QueueId::new(-1),
        offset: None,
        offsets: json::to_bytes(&body, JsonStyle::Fastjson).unwrap(),
    }
}

fn message(body: &str) -> Bytes {
    let message = StoredMessage {
        topic: TOPIC.into(),
        queue_id: QueueId::new(0),
        queue_offset: QueueOffset::new(7),
        physical_offset: LogPosition::new(700),
        flag: 0,
        sys_flag: SysFlag::NONE,
        born_timestamp: 0,
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_timestamp: 0,
        store_host: "127.0.0.1:2".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: LogPosition::ZERO,
        body: Bytes::copy_from_slice(body.as_bytes()),
        properties: Properties::builder().build().unwrap(),
    };
    let mut record = Vec::new();
    message.encode(&mut record).unwrap();
    record.into()
}

fn directly(body: &str, group: &str) -> ConsumeMessageDirectly {
    ConsumeMessageDirectly {
        consumer_group: group.into(),
        client_id: None,
        message_id: None,
        broker_name: Some(BROKER.into()),
        topic: None,
        topic_sys_flag: None,
        group_sys_flag: None,
        message: message(body),
    }
}

fn running_info(group: &str) -> GetConsumerRunningInfo {
    GetConsumerRunningInfo { consumer_group: group.into(), client_id: "any".into(), jstack: false }
}

async fn next(handled: &mut mpsc::UnboundedReceiver<String>) -> String {
    let next = tokio::time::timeout(Duration::from_secs(10), handled.recv()).await;
    next.expect("a message within 10 s").expect("a consumer that lives")
}

#[tokio::test]
async fn a_reset_waits_for_the_running_handler_and_is_not_undone_by_it() {
    let cluster = cluster(5).await;
    let (got, mut handled) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(1)); // the first message passes, the second one is stuck
    let handler = {
        let open = Arc::clone(&open);
        move |batch: Batch| {
            let (open, got) = (Arc::clone(&open), got.clone());
            async move {
                got.send(String::from_utf8(batch[0].body()?.to_vec())?)?;
                open.acquire().await?.forget();
                Ok(Ack::All)
            }
        }
    };
    let consumer = consumer(&cluster).handler(handler).start().await.unwrap();
    assert_eq!((next(&mut handled).await, next(&mut handled).await), ("0".to_owned(), "1".to_owned()));
    cluster.ask(&reset_to(4)).await.unwrap();
    // Nothing of what was read is handled any more, and nothing is committed while the handler runs.
    tokio::task::yield_now().await;
    assert!(handled.try_recv().is_err());
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(0), "where it began");
    open.add_permits(100);
    assert_eq!(next(&mut handled).await, "4");
    cluster.until("the new offset", |seen| seen.offset(TOPIC, 0) == Some(4)).await;
    cluster.ask(&reset_to(0)).await.unwrap();
    for number in 0..5 {
        assert_eq!(next(&mut handled).await, number.to_string());
    }
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().offset(TOPIC, 0), Some(5));
}

#[tokio::test]
async fn progress_and_running_info_tell_what_the_consumer_does() {
    let cluster = cluster(3).await;
    let (got, mut handled) = mpsc::unbounded_channel();
    let handler = move |batch: Batch| {
        let outcome = match batch[0].queue_offset().get() {
            1 => Err("cannot".into()),
            _ => Ok(Ack::All),
        };
        got.send(String::new()).unwrap();
        std::future::ready(outcome)
    };
    let consumer = consumer(&cluster).handler(handler).start().await.unwrap();
    for _ in 0..3 {
        next(&mut handled).await;
    }
    cluster.until("the send-back", |seen| seen.sent_back.len() == 1).await;
    cluster.put(TOPIC, 0, "another"); // behind it, all before is finished
    next(&mut handled).await;

    let asked = GetConsumerStatus { topic: TOPIC.into(), group: GROUP.into(), client_id: None };
    let table = cluster.ask(&asked).await.unwrap().status.message_queue_table;
    assert_eq!(table.keys().collect::<Vec<_>>(), [&queue()]);
    assert!(table[&queue()] >= QueueOffset::new(3), "{table:?}");

    let info = cluster.ask(&running_info(GROUP)).await.unwrap().info;
    let property = |name: &str| info.properties[name].as_str();
    assert_eq!(
        (property("PROP_CONSUME_TYPE"), property("PROP_CONSUMEORDERLY")),
        ("CONSUME_PASSIVELY", "false")
    );
    assert_eq!(
        (property("PROP_CLIENT_VERSION"), property("PROP_NAMESERVER_ADDR")),
        ("V5_4_0", &*cluster.addr())
    );
    assert!(property("PROP_CONSUMER_START_TIMESTAMP").parse::<u64>().unwrap() > 1_700_000_000_000);
    let topics: Vec<_> = info.subscription_set.iter().map(|data| &*data.topic).collect();
    assert_eq!(topics, ["%RETRY%g", TOPIC]);
    let queue = &info.mq_table[&queue()];
    assert!(queue.commit_offset >= QueueOffset::new(3) && queue.last_pull_timestamp > 0, "{queue:?}");
    let status = info.status_table[TOPIC];
    assert_eq!((status.consume_failed_msgs, status.pull_tps > 0.0), (1, true), "{status:?}");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_handed_over_is_handled_and_its_outcome_told() {
    let cluster = cluster(0).await;
    let handler = |batch: Batch| async move {
        match &batch[0].body()?[..] {
            b"good" => Ok(Ack::All),
            b"later" => Ok(Ack::Retry),
            b"bad" => Err("out of paper".into()),
            _ => panic!("gives up"),
        }
    };
    let consumer = consumer(&cluster).handler(handler).start().await.unwrap();
    for (body, expected, remark) in [
        ("good", ConsumeResult::Success, None),
        ("later", ConsumeResult::Later, None),
        ("bad", ConsumeResult::ThrowException, Some("out of paper")),
        ("worse", ConsumeResult::ThrowException, Some("the handler panicked: gives up")),
    ] {
        let result = cluster.ask(&directly(body, GROUP)).await.unwrap().result;
        assert_eq!((result.consume_result, result.remark.as_deref()), (expected, remark), "{body}");
        assert!(result.auto_commit && !result.order);
    }
    assert!(cluster.see().sent_back.is_empty(), "it is nobody's turn");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn an_ordered_handler_is_handed_messages_too_and_said_to_be_one() {
    let cluster = cluster(0).await;
    let handler = |batch: Batch, context: OrderlyContext| async move {
        assert!(!context.is_lost());
        match &batch[0].body()?[..] {
            b"commit" => Ok(OrderlyAck::Commit),
            b"hold" => Ok(OrderlyAck::Hold),
            b"suspend" => Ok(OrderlyAck::Suspend),
            b"back" => Ok(OrderlyAck::Rollback),
            _ => panic!("gives up"),
        }
    };
    let consumer = consumer(&cluster).ordered(handler).start().await.unwrap();
    for (body, expected, auto_commit) in [
        ("commit", ConsumeResult::Success, true),
        ("hold", ConsumeResult::Success, false),
        ("suspend", ConsumeResult::Later, true),
        ("back", ConsumeResult::Rollback, false),
        ("panic", ConsumeResult::ThrowException, true),
    ] {
        let result = cluster.ask(&directly(body, GROUP)).await.unwrap().result;
        assert_eq!((result.consume_result, result.auto_commit, result.order), (expected, auto_commit, true));
    }
    let info = cluster.ask(&running_info(GROUP)).await.unwrap().info;
    assert_eq!(info.properties["PROP_CONSUMEORDERLY"], "true");
    consumer.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_group_that_is_not_here_is_refused_as_java_refuses_it() {
    let cluster = cluster(0).await;
    let stream = StreamConsumer::builder(GROUP).name_servers([cluster.addr()]).subscribe(TOPIC, "*");
    let stream = stream.start().await.unwrap();
    for error in [
        cluster.ask(&running_info("x")).await.unwrap_err(),
        cluster.ask(&directly("good", "x")).await.unwrap_err(),
    ] {
        assert_eq!(error.response_code(), Some(ResponseCode::SYSTEM_ERROR));
        assert!(error.to_string().contains("The Consumer Group <x> not exist in this consumer"), "{error}");
    }
    let unknown = GetConsumerStatus { topic: TOPIC.into(), group: "x".into(), client_id: None };
    assert!(cluster.ask(&unknown).await.unwrap().status.message_queue_table.is_empty());
    assert!(cluster.ask(&running_info(GROUP)).await.is_ok());
    let error = cluster.ask(&directly("good", GROUP)).await.unwrap_err();
    assert!(error.to_string().contains("no handler"), "{error}");
    stream.shutdown(GRACE).await.unwrap();
    assert!(cluster.ask(&running_info(GROUP)).await.is_err());
}
