//! `rmq trace` as a program, at an embedded cluster.
#![allow(clippy::unwrap_used)] // clippy.toml exempts test functions, not what they call

use std::process::{Command, Output};

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{Message, Producer, Trace};

async fn trace(cluster: &Standalone, key: &str) -> Output {
    let mut rmq = Command::new(env!("CARGO_BIN_EXE_rmq"));
    rmq.args(["trace", key, "--namesrv", &cluster.name_server_addr(), "--trace-topic", "traces"]);
    tokio::task::spawn_blocking(move || rmq.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_producer_told_of_a_message_is_found_by_id_and_by_key() {
    let cluster = Standalone::builder().start().await.unwrap();
    let producer = Producer::builder("orders")
        .name_servers([cluster.name_server_addr()])
        .trace(Trace::default().topic("traces"))
        .start()
        .await
        .unwrap();
    let message = Message::builder("paid").key("order-42").body("12 euros").build().unwrap();
    let receipt = producer.send(message).await.unwrap();
    producer.shutdown().await; // what was traced has been sent then
    for key in [&*receipt.message_id, "order-42"] {
        let output = trace(&cluster, key).await;
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && told.lines().count() == 1, "{told}");
        assert!(told.contains("sent by orders to paid at 127.0.0.1:"), "{told}");
        assert!(told.contains(&format!("{}, 8 bytes", receipt.message_id)), "{told}");
    }
    let output = trace(&cluster, "order-43").await;
    assert!(!output.status.success() && output.stdout.is_empty());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "rmq: traces tells nothing of order-43\n");
}
