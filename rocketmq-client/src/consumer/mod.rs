//! Consumers. One pipeline serves them all: assignment → fetch → process queue → handler → offset commit.

mod filter;
mod pull;

pub use filter::Filter;
pub use pull::{PullConsumer, PullConsumerBuilder, PullOutcome, PullRequest};
