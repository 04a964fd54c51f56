//! Half messages across a kill in the worst moment.

use std::path::Path;
use std::time::Duration;

use rocketmq_broker_lite::{Clock, Standalone};
use rocketmq_protocol::message::{NewMessage, OffsetMessageId, StoredMessageRef, SysFlag};
use rocketmq_protocol::requests::{EndTransaction, SendMessage, transaction_outcome};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset, ResponseCode};

use crate::support::{LONG, comes_true, connector, message};

const Q0: QueueId = QueueId::ZERO;

fn half_message(key: &str) -> SendMessage {
    let properties = format!("TRAN_MSG\u{1}true\u{2}UNIQ_KEY\u{1}{key}\u{2}");
    SendMessage { properties: Some(properties.into()), ..message("orders", 0, "x") }
}

/// A cluster on a folder that another one of this process may be about to let go.
async fn start(folder: &Path, clock: &Clock) -> Standalone {
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

async fn until_none_is_open(cluster: &Standalone) {
    assert!(comes_true(|| cluster.broker().open_transactions() == 0).await);
}

#[tokio::test]
async fn a_commit_that_a_killed_broker_could_not_note_is_not_asked_about_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let cluster = start(folder.path(), &clock).await;
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    let sent = connection.call(&half_message("key"), LONG).await.unwrap();
    let position = sent.message_id.parse::<OffsetMessageId>().unwrap().position;

    // What a commit does first; then the power goes, or somebody kills the broker.
    let store = cluster.broker().store();
    let half = store.message_at(position).unwrap();
    let half = StoredMessageRef::parse(&half).unwrap();
    let mut record = Vec::new();
    let committed = NewMessage {
        topic: "orders",
        queue_id: Q0,
        flag: 0,
        sys_flag: SysFlag::TRANSACTION_COMMIT,
        born_timestamp: half.born_timestamp(),
        born_host: half.born_host(),
        store_host: half.store_host(),
        reconsume_times: 0,
        prepared_transaction_offset: position,
        body: half.body(),
        properties: &["UNIQ_KEY\u{1}key\u{2}".into()],
    };
    committed.encode(&mut record).unwrap();
    store.append("orders", Q0, &mut record).unwrap();
    drop(cluster);

    let cluster = start(folder.path(), &clock).await;
    assert_eq!(cluster.broker().open_transactions(), 1);
    clock.advance(Duration::from_secs(60));
    until_none_is_open(&cluster).await;
    assert_eq!(cluster.broker().store().max_offset("orders", Q0), QueueOffset::new(1));
    cluster.shutdown().await.unwrap();
    assert_eq!(start(folder.path(), &clock).await.broker().open_transactions(), 0);
}

#[tokio::test]
async fn an_end_that_does_not_fit_the_half_message_is_refused_with_what_is_wrong() {
    let cluster = Standalone::builder().start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    let request = half_message("key");
    let sent = connection.call(&request, LONG).await.unwrap();
    let right = EndTransaction {
        topic: None,
        producer_group: request.producer_group.clone(),
        queue_offset: sent.queue_offset,
        position: sent.message_id.parse::<OffsetMessageId>().unwrap().position,
        outcome: transaction_outcome::COMMIT,
        from_check: false,
        message_id: "key".into(),
        transaction_id: None,
        broker_name: None,
    };
    let wrong = [
        (EndTransaction { producer_group: "other".into(), ..right.clone() }, "producerGroup=other"),
        (EndTransaction { queue_offset: QueueOffset::new(7), ..right.clone() }, "tranStateTableOffset=7"),
        (EndTransaction { position: LogPosition::new(1), ..right.clone() }, "commitLogOffset 1"),
        (EndTransaction { outcome: 4, ..right.clone() }, "commitOrRollback=4"),
    ];
    for (request, expected) in wrong {
        let error = connection.call(&request, LONG).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(cluster.broker().open_transactions(), 1);
    connection.call(&right, LONG).await.unwrap();
    let again = connection.call(&right, LONG).await.unwrap_err();
    assert_eq!(again.response_code(), Some(ResponseCode::SYSTEM_ERROR));
    assert_eq!(cluster.broker().store().max_offset("orders", sent.queue_id), QueueOffset::new(1));
}
