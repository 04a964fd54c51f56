//! Consumers. One pipeline serves them all: assignment → fetch → process queue → handler → offset commit.

mod allocate;
mod assigned_queue;
mod assignment;
#[cfg(test)]
mod broadcast_tests;
mod consumption;
mod dispatch;
#[cfg(test)]
mod fake_cluster;
mod fetch;
mod filter;
mod flow_control;
mod handler;
mod in_order;
mod interceptor;
mod lag;
mod listener;
mod lite_pull;
#[cfg(test)]
mod lite_pull_tests;
mod local_offsets;
mod lock_keeper;
mod member;
mod offset_store;
#[cfg(test)]
mod ordered_tests;
mod orderly;
mod pipeline;
mod process_queue;
mod pull;
#[cfg(test)]
mod pull_tests;
mod push;
#[cfg(test)]
mod push_tests;
mod queue_lock;
mod rebalance;
mod send_back;
mod service;
#[cfg(test)]
mod service_tests;
mod start_offset;
mod steering;
mod stream;
#[cfg(test)]
mod stream_tests;
mod subscription_check;
mod worker;

pub use allocate::{
    AllocateError, AllocateStrategy, Averagely, AveragelyByCircle, ByConfig, ByMachineRoom, ConsistentHash,
    MachineRoomNearby, MachineRoomResolver,
};
pub use filter::Filter;
pub(crate) use filter::selects;
pub use handler::{Ack, Batch, HandlerError, MessageListener};
pub use interceptor::{ConsumeEvent, ConsumeInterceptor, ConsumeResult};
pub use lag::QueueLag;
pub use lite_pull::{LitePullConsumer, LitePullConsumerBuilder, SeekTo};
pub use orderly::{OrderlyAck, OrderlyContext, OrderlyListener};
pub use pull::{PullConsumer, PullConsumerBuilder, PullOutcome, PullRequest};
pub use push::{PushConsumer, PushConsumerBuilder, StuckQueue};
pub use start_offset::ConsumeFrom;
pub use stream::{Deliveries, Delivery, StreamConsumer, StreamConsumerBuilder};
