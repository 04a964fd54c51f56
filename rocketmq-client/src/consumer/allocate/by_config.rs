//! [`ByConfig`]: a fixed list.

use rocketmq_protocol::body::MessageQueue;

use super::{AllocateError, AllocateStrategy, Averagely};

/// This member has these queues, whoever else is in the group: the lists of all members must fit together. Topics that
/// the list does not name, such as the group's retry topic, are divided [`Averagely`].
/// Java: `consumer/rebalance/AllocateMessageQueueByConfig.java`, where such topics are left to nobody.
#[derive(Clone, Debug)]
pub struct ByConfig {
    queues: Vec<MessageQueue>,
}

impl ByConfig {
    /// The queues of this member, of all its topics.
    pub fn new(queues: impl IntoIterator<Item = MessageQueue>) -> Self {
        Self { queues: queues.into_iter().collect() }
    }
}

impl AllocateStrategy for ByConfig {
    fn name(&self) -> String {
        "CONFIG".to_owned()
    }

    fn allocate(
        &self,
        me: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError> {
        let named = |queue: &MessageQueue| self.queues.iter().any(|own| own.topic == queue.topic);
        if !queues.iter().any(named) {
            return Averagely.allocate(me, queues, members);
        }
        Ok(self.queues.iter().filter(|own| queues.contains(own)).cloned().collect())
    }
}
