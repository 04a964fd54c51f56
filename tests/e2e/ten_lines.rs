//! What a user's own test looks like.

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{Message, Producer, PullConsumer, PullRequest, QueueOffset};

#[tokio::test]
async fn an_order_is_announced() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Standalone::builder().start().await?;
    let producer = Producer::builder("shop").name_servers([cluster.name_server_addr()]).start().await?;
    let consumer = PullConsumer::builder("test").name_servers([cluster.name_server_addr()]).start().await?;

    let sent = producer.send(Message::new("orders", "order 42")).await?;

    let found = consumer.pull(&sent.queue, PullRequest::new(QueueOffset::ZERO)).await?.into_messages();
    assert_eq!(found[0].body()?, "order 42");
    Ok(())
}
