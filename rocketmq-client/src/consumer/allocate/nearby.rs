//! [`MachineRoomNearby`]: queues go to members in the same machine room where there are any.

use std::collections::BTreeMap;

use rocketmq_protocol::body::MessageQueue;

use super::{AllocateError, AllocateStrategy, position};

/// Tells in which machine room a broker or a client is; `None` for nobody knows, and then nothing changes.
pub trait MachineRoomResolver: Send + Sync + 'static {
    /// The room of a queue's broker.
    fn broker_room(&self, queue: &MessageQueue) -> Option<String>;

    /// The room of a client.
    fn client_room(&self, client_id: &str) -> Option<String>;
}

/// Queues are divided among the members in their own machine room, those of a room without members among all of them,
/// by another strategy each time. Java: `consumer/rebalance/AllocateMachineRoomNearby.java`.
#[derive(Clone, Debug)]
pub struct MachineRoomNearby<S, R> {
    inner: S,
    resolver: R,
}

impl<S: AllocateStrategy, R: MachineRoomResolver> MachineRoomNearby<S, R> {
    /// Divides within rooms by `inner`.
    pub fn new(inner: S, resolver: R) -> Self {
        Self { inner, resolver }
    }
}

impl<S: AllocateStrategy, R: MachineRoomResolver> AllocateStrategy for MachineRoomNearby<S, R> {
    fn name(&self) -> String {
        format!("MACHINE_ROOM_NEARBY-{}", self.inner.name())
    }

    fn allocate(
        &self,
        me: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError> {
        if position(me, members).is_none() {
            return Ok(Vec::new());
        }
        let mut queues_of: BTreeMap<String, Vec<MessageQueue>> = BTreeMap::new();
        for queue in queues {
            let room = known(self.resolver.broker_room(queue)).ok_or_else(|| unknown("queue", queue))?;
            queues_of.entry(room).or_default().push(queue.clone());
        }
        let mut members_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut my_room = None;
        for member in members {
            let room = known(self.resolver.client_room(member)).ok_or_else(|| unknown("client", member))?;
            if member == me {
                my_room = Some(room.clone());
            }
            members_of.entry(room).or_default().push(member.clone());
        }
        let mut own = Vec::new();
        if let Some(room) = my_room {
            if let (Some(near), Some(neighbours)) = (queues_of.remove(&room), members_of.get(&room)) {
                own.extend(self.inner.allocate(me, &near, neighbours)?);
            }
        }
        for (_, far) in queues_of.iter().filter(|(room, _)| !members_of.contains_key(*room)) {
            own.extend(self.inner.allocate(me, far, members)?);
        }
        Ok(own)
    }
}

fn known(room: Option<String>) -> Option<String> {
    room.filter(|room| !room.is_empty())
}

fn unknown(what: &str, which: impl std::fmt::Display) -> AllocateError {
    format!("nobody knows the machine room of {what} {which}").into()
}
