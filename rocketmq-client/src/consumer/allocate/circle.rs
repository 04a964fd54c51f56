//! [`AveragelyByCircle`]: queues go round.

use rocketmq_protocol::body::MessageQueue;

use super::{AllocateError, AllocateStrategy, position};

/// Queues go round: of 8 queues, three members get 0, 3, 6 and 1, 4, 7 and 2, 5.
/// Java: `consumer/rebalance/AllocateMessageQueueAveragelyByCircle.java`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AveragelyByCircle;

impl AllocateStrategy for AveragelyByCircle {
    fn name(&self) -> String {
        "AVG_BY_CIRCLE".to_owned()
    }

    fn allocate(
        &self,
        me: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError> {
        let Some(index) = position(me, members) else { return Ok(Vec::new()) };
        Ok(queues.iter().skip(index).step_by(members.len()).cloned().collect())
    }
}
