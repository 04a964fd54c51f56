//! [`Averagely`]: neighbouring queues go to one member.

use rocketmq_protocol::body::MessageQueue;

use super::{AllocateError, AllocateStrategy, position};

/// Neighbouring queues go to one member: of 8 queues, three members get 0–2, 3–5 and 6–7. The default.
/// Java: `consumer/rebalance/AllocateMessageQueueAveragely.java`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Averagely;

impl AllocateStrategy for Averagely {
    fn name(&self) -> String {
        "AVG".to_owned()
    }

    fn allocate(
        &self,
        me: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError> {
        let Some(index) = position(me, members) else { return Ok(Vec::new()) };
        let (share, left_over) = (queues.len() / members.len(), queues.len() % members.len());
        // The first members take one of the left-over queues each.
        let start = index * share + index.min(left_over);
        let size = share + usize::from(index < left_over);
        Ok(queues.iter().skip(start).take(size).cloned().collect())
    }
}
