//! [`ByMachineRoom`]: only the queues of some machine rooms.

use std::collections::BTreeSet;

use rocketmq_protocol::body::MessageQueue;

use super::{AllocateError, AllocateStrategy, position};

/// The group consumes only from brokers of some machine rooms, whose names are `room@name`; what they have is divided
/// evenly. Queues of other brokers belong to nobody. Java: `consumer/rebalance/AllocateMessageQueueByMachineRoom.java`.
#[derive(Clone, Debug)]
pub struct ByMachineRoom {
    rooms: BTreeSet<String>,
}

impl ByMachineRoom {
    /// Consumes from brokers in these rooms.
    pub fn new<S: Into<String>>(rooms: impl IntoIterator<Item = S>) -> Self {
        Self { rooms: rooms.into_iter().map(Into::into).collect() }
    }

    fn serves(&self, broker: &str) -> bool {
        let mut parts = broker.split('@');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(room), Some(name), None) => !name.is_empty() && self.rooms.contains(room),
            _ => false,
        }
    }
}

impl AllocateStrategy for ByMachineRoom {
    fn name(&self) -> String {
        "MACHINE_ROOM".to_owned()
    }

    fn allocate(
        &self,
        me: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError> {
        let Some(index) = position(me, members) else { return Ok(Vec::new()) };
        let served: Vec<_> = queues.iter().filter(|queue| self.serves(&queue.broker_name)).collect();
        let share = served.len() / members.len();
        // What is left over goes to the first members, from the end of the list.
        let left_over = served.get(share * members.len() + index);
        let own = served.iter().skip(index * share).take(share).chain(left_over);
        Ok(own.map(|queue| (*queue).clone()).collect())
    }
}
