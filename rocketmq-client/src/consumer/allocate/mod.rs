//! [`AllocateStrategy`]: which queues of a topic belong to which member of a group.
//!
//! Every member computes this for itself from the same sorted lists, so all members must use the same strategy.

mod averagely;
mod by_config;
mod circle;
mod consistent_hash;
mod machine_room;
mod nearby;
#[cfg(test)]
mod vector_tests;

use rocketmq_protocol::body::MessageQueue;

pub use averagely::Averagely;
pub use by_config::ByConfig;
pub use circle::AveragelyByCircle;
pub use consistent_hash::ConsistentHash;
pub use machine_room::ByMachineRoom;
pub use nearby::{MachineRoomNearby, MachineRoomResolver};

/// Why a strategy cannot divide the queues now: any error. The member keeps the queues that it has.
pub type AllocateError = Box<dyn std::error::Error + Send + Sync>;

/// Divides the queues of a topic among the members of a group. A closure of the same arguments that returns the queues
/// is one, too.
pub trait AllocateStrategy: Send + Sync + 'static {
    /// Its name on the wire.
    fn name(&self) -> String;

    /// The queues of `me`. `queues` and `members` are sorted and not empty, and `me` is one of `members`. Every queue
    /// must go to exactly one member. Queues that are not in `queues` are ignored.
    ///
    /// # Errors
    /// It cannot tell; nothing changes then.
    fn allocate(
        &self,
        me: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError>;
}

impl<F> AllocateStrategy for F
where
    F: Fn(&str, &[MessageQueue], &[String]) -> Vec<MessageQueue> + Send + Sync + 'static,
{
    fn name(&self) -> String {
        "CUSTOM".to_owned()
    }

    fn allocate(
        &self,
        me: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError> {
        Ok(self(me, queues, members))
    }
}

/// Where `me` stands among the members. A stranger gets nothing.
fn position(me: &str, members: &[String]) -> Option<usize> {
    members.iter().position(|member| member == me)
}
