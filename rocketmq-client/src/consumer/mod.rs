//! Consumers. One pipeline serves them all: assignment → fetch → process queue → handler → offset commit.

mod allocate;
mod assigned_queue;
mod assignment;
mod consumption;
mod dispatch;
#[cfg(test)]
mod fake_cluster;
mod fetch;
mod filter;
mod flow_control;
mod handler;
mod interceptor;
mod lag;
mod lite_pull;
#[cfg(test)]
mod lite_pull_tests;
mod member;
mod offset_store;
mod pipeline;
mod process_queue;
mod pull;
#[cfg(test)]
mod pull_tests;
mod push;
#[cfg(test)]
mod push_tests;
mod rebalance;
mod service;
#[cfg(test)]
mod service_tests;
mod start_offset;
mod steering;
mod stream;
#[cfg(test)]
mod stream_tests;
mod worker;

pub use allocate::{AllocateStrategy, Averagely, AveragelyByCircle};
pub use filter::Filter;
pub(crate) use filter::selects;
pub use handler::{Ack, Batch, HandlerError, MessageListener};
pub use interceptor::{ConsumeEvent, ConsumeInterceptor, ConsumeResult};
pub use lag::QueueLag;
pub use lite_pull::{LitePullConsumer, LitePullConsumerBuilder, SeekTo};
pub use pull::{PullConsumer, PullConsumerBuilder, PullOutcome, PullRequest};
pub use push::{PushConsumer, PushConsumerBuilder};
pub use start_offset::ConsumeFrom;
pub use stream::{Deliveries, Delivery, StreamConsumer, StreamConsumerBuilder};
