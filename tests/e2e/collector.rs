//! A handler that remembers what it was given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Ack, Batch, ConsumeFrom, Filter, HandlerError, Producer, PushConsumer, PushConsumerBuilder,
    ReceivedMessage,
};
use tokio::sync::watch;

/// Longest wait for anything: a test that needs it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Everything a handler was given, in the order of its calls.
#[derive(Clone)]
pub(crate) struct Collector {
    messages: Arc<Mutex<Vec<ReceivedMessage>>>,
    count: watch::Sender<usize>,
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self { messages: Arc::default(), count: watch::Sender::new(0) }
    }

    pub(crate) fn take(&self, batch: &Batch) -> Result<Ack, HandlerError> {
        let mut messages = self.messages.lock().unwrap();
        messages.extend(batch.iter().cloned());
        self.count.send_replace(messages.len());
        Ok(Ack::All)
    }

    /// Waits until there are `count` messages.
    pub(crate) async fn wait_for(&self, count: usize) {
        let mut counts = self.count.subscribe();
        let reached = counts.wait_for(|reached| *reached >= count);
        if tokio::time::timeout(LONG, reached).await.is_err() {
            panic!("{} of {count} messages came", self.messages.lock().unwrap().len());
        }
    }

    /// The bodies, sorted.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let messages = self.messages.lock().unwrap();
        let text = |message: &ReceivedMessage| String::from_utf8(message.body().unwrap().to_vec()).unwrap();
        let mut bodies: Vec<_> = messages.iter().map(text).collect();
        bodies.sort();
        bodies
    }

    /// The messages, in the order of the calls.
    pub(crate) fn messages(&self) -> Vec<ReceivedMessage> {
        self.messages.lock().unwrap().clone()
    }
}

/// A producer of the cluster.
pub(crate) async fn producer(cluster: &Standalone) -> Producer {
    Producer::builder("producers").name_servers([cluster.name_server_addr()]).start().await.unwrap()
}

/// A consumer of `topic` from its beginning on, not started yet.
pub(crate) fn consumer(cluster: &Standalone, group: &str, topic: &str) -> PushConsumerBuilder {
    PushConsumer::builder(group)
        .name_servers([cluster.name_server_addr()])
        .subscribe(topic, Filter::All)
        .from(ConsumeFrom::Earliest)
}

/// A started consumer that gives everything to `collector`.
pub(crate) async fn collect(builder: PushConsumerBuilder, collector: &Collector) -> PushConsumer {
    let collector = collector.clone();
    builder.handler(move |batch| std::future::ready(collector.take(&batch))).start().await.unwrap()
}

/// The numbers below `count` as sorted text.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    let mut numbers: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    numbers.sort();
    numbers
}
