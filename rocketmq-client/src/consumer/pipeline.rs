//! [`Pipeline`]: what the tasks of a consumer share.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::requests::SendMessageBack;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::consumption::Consumption;
use super::dispatch::Dispatcher;
use super::flow_control::FlowControl;
use super::offset_store::OffsetStore;
use super::start_offset::ConsumeFrom;
use super::steering::Steering;
use crate::deadline::Deadline;
use crate::route_table::BrokerChoice;
use crate::{Client, Error, ReceivedMessage};

/// Limit of sending one message back. Java: `MQClientAPIImpl.java`, `consumerSendMessageBack`.
const SEND_BACK_LIMIT: Duration = Duration::from_secs(5);

/// What the tasks of a consumer share.
pub(super) struct Pipeline {
    pub(super) client: Client,
    pub(super) group: ByteString,
    pub(super) store: Arc<OffsetStore>,
    pub(super) flow: Arc<FlowControl>,
    pub(super) dispatcher: Dispatcher,
    pub(super) steering: Steering,
    pub(super) consumption: Consumption,
    pub(super) settings: Settings,
    /// Wakes the rebalance.
    pub(super) rebalance: Arc<Notify>,
    pub(super) tasks: TaskTracker,
    /// Nothing more is assigned, read or delivered.
    pub(super) stop: CancellationToken,
}

/// What the user chose.
pub(super) struct Settings {
    /// Messages that the handler gets at a time.
    pub(super) batch: usize,
    /// Messages asked for with one pull.
    pub(super) pull: i32,
    pub(super) from: ConsumeFrom,
    /// Failures after which a message becomes a dead letter; the group's setting on the broker when absent.
    pub(super) max_reconsume_times: Option<i32>,
    /// Messages that are handled at the same time.
    pub(super) concurrency: usize,
    /// The user asks for messages: pulls say so, as those of Java's lite pull consumer do.
    pub(super) polled: bool,
}

impl Pipeline {
    /// Has the master that holds it store `message` for another try.
    pub(super) async fn send_back(
        &self,
        queue: &MessageQueue,
        message: &ReceivedMessage,
        delay_level: i32,
    ) -> Result<(), Error> {
        let request = SendMessageBack {
            position: message.position(),
            group: self.group.clone(),
            delay_level,
            origin_message_id: Some((&*message.message_id()).into()),
            origin_topic: Some(message.topic().into()),
            unit_mode: false,
            max_reconsume_times: self.settings.max_reconsume_times,
            broker_name: Some(queue.broker_name.as_str().into()),
        };
        let deadline = Deadline::after(SEND_BACK_LIMIT);
        let master = BrokerChoice::Master;
        self.client.call_broker(&queue.topic, &queue.broker_name, master, &request, deadline).await.map(drop)
    }
}
