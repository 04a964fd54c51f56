//! Broadcasting consumers against a [`FakeCluster`].

use std::path::Path;

use rocketmq_protocol::RequestCode;
use rocketmq_protocol::body::MessageModel;

use super::fake_cluster::{FakeCluster, Seen};
use super::push_tests::{GRACE, GROUP, Handled, TOPIC, cluster, consumer, next_body};
use super::*;
use crate::{Client, Error};

/// A consumer of a client with this id.
async fn member(cluster: &FakeCluster, id: &str, folder: &Path) -> (Client, PushConsumerBuilder, Handled) {
    let client = Client::builder().client_id(id).name_servers([cluster.addr()]).start().await.unwrap();
    let (builder, handled) = consumer(cluster, |batch| match &batch[0].body()?[..] {
        b"bad" => Err("cannot".into()),
        _ => Ok(Ack::All),
    });
    let builder = builder.client(&client).broadcasting().offsets_folder(folder);
    (client, builder, handled)
}

#[tokio::test]
async fn every_member_gets_every_message_and_goes_on_where_it_was() {
    let (cluster, folder) = (cluster(2).await, tempfile::tempdir().unwrap());
    cluster.put(TOPIC, 0, "a");
    cluster.put(TOPIC, 1, "b");
    for id in ["one", "two"] {
        let (_client, builder, mut handled) = member(&cluster, id, folder.path()).await;
        let consumer = builder.start().await.unwrap();
        let mut got = [next_body(&mut handled).await, next_body(&mut handled).await];
        got.sort();
        assert_eq!(got, ["a", "b"]);
        assert_eq!(consumer.assigned_queues().len(), 2);
        consumer.shutdown(GRACE).await.unwrap();
        let file = folder.path().join(id).join(GROUP).join("offsets.json");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(r#"{"brokerName":"broker-a","queueId":1,"topic":"T"}:1"#), "{text}");
    }
    cluster.put(TOPIC, 1, "c");
    let (_client, builder, mut handled) = member(&cluster, "one", folder.path()).await;
    let consumer = builder.start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "c");
    consumer.shutdown(GRACE).await.unwrap();

    let seen = cluster.see();
    let data = &seen.heartbeats[0].consumer_data_set[0];
    assert_eq!((data.message_model, data.subscription_data_set.len()), (MessageModel::Broadcasting, 1));
    for code in [
        RequestCode::GET_CONSUMER_LIST_BY_GROUP,
        RequestCode::QUERY_CONSUMER_OFFSET,
        RequestCode::UPDATE_CONSUMER_OFFSET,
    ] {
        assert_eq!(seen.count(code), 0, "{code}");
    }
    assert_eq!(seen.offset(TOPIC, 0), None, "no pull carried an offset to commit either");
}

#[tokio::test]
async fn a_message_that_fails_is_passed_and_never_sent_back() {
    let (cluster, folder) = (cluster(1).await, tempfile::tempdir().unwrap());
    cluster.put(TOPIC, 0, "bad");
    cluster.put(TOPIC, 0, "good");
    let (_client, builder, mut handled) = member(&cluster, "one", folder.path()).await;
    let consumer = builder.concurrency(1).start().await.unwrap();
    assert_eq!(next_body(&mut handled).await, "bad");
    assert_eq!(next_body(&mut handled).await, "good");
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().count(RequestCode::CONSUMER_SEND_MSG_BACK), 0);
    let file = folder.path().join("one").join(GROUP).join("offsets.json");
    assert!(std::fs::read_to_string(file).unwrap().ends_with(":2}}"));
}

#[tokio::test]
async fn two_processes_on_one_path_are_told_apart_at_the_start() {
    let (cluster, folder) = (cluster(1).await, tempfile::tempdir().unwrap());
    let (_one, first, _handled) = member(&cluster, "same", folder.path()).await;
    let first = first.start().await.unwrap();
    let (_two, second, _handled) = member(&cluster, "same", folder.path()).await;
    let error = second.start().await.err().expect("an error");
    assert!(matches!(error, Error::LocalOffsets { .. }), "{error}");
    first.shutdown(GRACE).await.unwrap();
    let (_three, third, _handled) = member(&cluster, "same", folder.path()).await;
    third.start().await.unwrap().shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn offsets_of_a_queue_that_vanishes_for_a_while_are_kept() {
    let (cluster, folder) = (cluster(2).await, tempfile::tempdir().unwrap());
    cluster.put(TOPIC, 1, "a");
    // The second queue is there, gone, and there again with what it had and something new.
    for (queues, expected) in [(2, "a"), (1, "b"), (2, "c")] {
        if expected != "a" {
            cluster.create_topic(TOPIC, queues);
        }
        match expected {
            "b" => cluster.put(TOPIC, 0, "b"),
            "c" => {
                cluster.put(TOPIC, 0, "b");
                cluster.put(TOPIC, 1, "a");
                cluster.put(TOPIC, 1, "c");
            }
            _ => {}
        }
        let (client, builder, mut handled) = member(&cluster, "one", folder.path()).await;
        let consumer = builder.start().await.unwrap();
        assert_eq!(next_body(&mut handled).await, expected, "and nothing a second time");
        consumer.shutdown(GRACE).await.unwrap();
        client.shutdown().await;
        cluster.until("the connection to close", Seen::is_quiet).await;
    }
}

#[tokio::test]
async fn in_order_it_needs_no_lock() {
    let (cluster, folder) = (cluster(1).await, tempfile::tempdir().unwrap());
    cluster.put(TOPIC, 0, "a");
    let (_client, builder, _handled) = member(&cluster, "one", folder.path()).await;
    let (got, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let consumer = builder
        .ordered(move |batch, _| {
            got.send(batch[0].clone()).unwrap();
            async { Ok(OrderlyAck::Commit) }
        })
        .start()
        .await
        .unwrap();
    assert_eq!(next_body(&mut handled).await, "a");
    consumer.shutdown(GRACE).await.unwrap();
    assert_eq!(cluster.see().count(RequestCode::LOCK_BATCH_MQ), 0);
}
