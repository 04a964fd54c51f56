//! Every member of a broadcasting group gets every message.

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{Client, Message};

use crate::collector::{Collector, LONG, collect, consumer, numbers, producer};

#[tokio::test]
async fn every_member_gets_every_message_and_none_again_after_a_restart() {
    let cluster = Standalone::builder().start().await.unwrap();
    let (producer, folder) = (producer(&cluster).await, tempfile::tempdir().unwrap());
    for number in 0..20 {
        producer.send(Message::new("prices", number.to_string())).await.unwrap();
    }
    let first: [Collector; 2] = [Collector::new(), Collector::new()];
    for (id, collector) in ["one", "two"].into_iter().zip(&first) {
        let name_server = cluster.name_server_addr();
        let client = Client::builder().client_id(id).name_servers([name_server]).start().await.unwrap();
        let builder = consumer(&cluster, "g", "prices").client(&client).broadcasting();
        let member = collect(builder.offsets_folder(folder.path()), collector).await;
        collector.wait_for(20).await;
        member.shutdown(LONG).await.unwrap();
        client.shutdown().await;
        assert_eq!(collector.bodies(), numbers(20));
    }
    producer.send(Message::new("prices", "new")).await.unwrap();
    let client =
        Client::builder().client_id("two").name_servers([cluster.name_server_addr()]).start().await.unwrap();
    let again = Collector::new();
    let builder = consumer(&cluster, "g", "prices").client(&client).broadcasting();
    let member = collect(builder.offsets_folder(folder.path()), &again).await;
    again.wait_for(1).await;
    member.shutdown(LONG).await.unwrap();
    assert_eq!(again.bodies(), ["new"]);
}
