//! A disk that gets full, and messages that get old, as producers and consumers see it.

use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_protocol::requests::{DeleteExpiredCommitLog, GetMaxOffset, GetMinOffset};
use rocketmq_protocol::transport::RequestError;
use rocketmq_protocol::{QueueId, ResponseCode};

use crate::support::{LONG, connector, message};

#[tokio::test]
async fn a_disk_beyond_the_warning_level_refuses_sends_until_there_is_room() {
    let cluster =
        Standalone::builder().set("diskSpaceWarningLevelRatio", "90").unwrap().start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    cluster.broker().disk().set_used_percent(Some(50));
    connection.call(&message("orders", 0, "before"), LONG).await.unwrap();

    cluster.broker().disk().set_used_percent(Some(91));
    let refused = loop {
        // Time passes until the broker has looked at the disk.
        cluster.clock().advance(Duration::from_secs(10));
        if let Err(refused) = connection.call(&message("orders", 0, "x"), LONG).await {
            break refused;
        }
    };
    let RequestError::Refused { code, remark: Some(remark), .. } = refused else { panic!("{refused}") };
    assert_eq!(code, ResponseCode::SERVICE_NOT_AVAILABLE);
    let folder = cluster.broker().config().store_root.display().to_string();
    for part in [&*folder, "91 %", "90 %", "diskSpaceWarningLevelRatio"] {
        assert!(remark.contains(part), "{part} in {remark}");
    }
    let queue = GetMaxOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
    assert!(connection.call(&queue, LONG).await.unwrap().offset.get() >= 1, "reads go on");

    cluster.broker().disk().set_used_percent(Some(90));
    loop {
        cluster.clock().advance(Duration::from_secs(10));
        if connection.call(&message("orders", 0, "after"), LONG).await.is_ok() {
            break;
        }
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn messages_go_when_their_time_is_up() {
    let hours = (0..24).map(|hour| hour.to_string()).collect::<Vec<_>>().join(";");
    let cluster = Standalone::builder()
        .set("mappedFileSizeCommitLog", "65536")
        .and_then(|builder| builder.set("deleteWhen", &hours))
        .unwrap()
        .start()
        .await
        .unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    for _ in 0..40 {
        connection.call(&message("orders", 0, vec![b'x'; 4000]), LONG).await.unwrap();
    }
    cluster.clock().advance(Duration::from_secs(71 * 3600));
    let queue = GetMinOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
    assert_eq!(connection.call(&queue, LONG).await.unwrap().offset.get(), 0);
    loop {
        cluster.clock().advance(Duration::from_secs(3600));
        if connection.call(&queue, LONG).await.unwrap().offset.get() > 0 {
            break;
        }
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_administrator_need_not_wait_for_the_hour() {
    let cluster = Standalone::builder()
        .set("mappedFileSizeCommitLog", "65536")
        .and_then(|builder| builder.set("deleteWhen", "")) // at no hour
        .unwrap()
        .start()
        .await
        .unwrap();
    cluster.broker().disk().set_used_percent(Some(50));
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    for _ in 0..40 {
        connection.call(&message("orders", 0, vec![b'x'; 4000]), LONG).await.unwrap();
    }
    let queue = GetMinOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
    connection.call(&DeleteExpiredCommitLog {}, LONG).await.unwrap();
    assert_eq!(connection.call(&queue, LONG).await.unwrap().offset.get(), 0, "their time is not up");
    cluster.clock().advance(Duration::from_secs(73 * 3600));
    connection.call(&DeleteExpiredCommitLog {}, LONG).await.unwrap();
    assert!(connection.call(&queue, LONG).await.unwrap().offset.get() > 0);
    cluster.shutdown().await.unwrap();
}
