//! [`Pipeline`]: what the tasks of a consumer share.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::ByteString;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::consumption::Consumption;
use super::dispatch::Dispatcher;
use super::flow_control::FlowControl;
use super::in_order::Ordered;
use super::offset_store::OffsetStore;
use super::start_offset::ConsumeFrom;
use super::steering::Steering;
use super::subscription_check::SubscriptionCheck;
use crate::client::spawn_until;
use crate::{Client, ReceivedMessage};

/// What the tasks of a consumer share.
pub(super) struct Pipeline {
    pub(super) client: Client,
    pub(super) group: ByteString,
    pub(super) store: Arc<OffsetStore>,
    pub(super) flow: Arc<FlowControl>,
    pub(super) dispatcher: Dispatcher,
    pub(super) steering: Steering,
    pub(super) consumption: Consumption,
    /// Present when messages are handled in order; then nothing goes through the dispatcher.
    pub(super) ordered: Option<Arc<Ordered>>,
    pub(super) settings: Settings,
    pub(super) subscription_check: SubscriptionCheck,
    /// Wakes the rebalance.
    pub(super) rebalance: Arc<Notify>,
    /// Nothing is read or assigned while it is true.
    pub(super) suspended: watch::Sender<bool>,
    pub(super) tasks: TaskTracker,
    /// Nothing more is assigned, read or delivered.
    pub(super) stop: CancellationToken,
    /// Ends every task where it waits, handlers included.
    pub(super) kill: CancellationToken,
}

/// Whether a message is to be handled at all.
pub(super) type MessageFilter = Box<dyn Fn(&ReceivedMessage) -> bool + Send + Sync>;

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
    /// How long a handler may have a message until it is sent back.
    pub(super) consume_timeout: Duration,
    pub(super) message_filter: Option<MessageFilter>,
}

impl Pipeline {
    /// Runs `work` until it is done; when the consumer is dropped, or its shutdown takes too long, it is dropped where
    /// it waits.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        spawn_until(&self.tasks, &self.kill, work);
    }
}
