//! [`ConsistentHash`]: members and queues on a ring of hashes.

use std::collections::BTreeMap;

use rocketmq_protocol::body::MessageQueue;

use super::{AllocateError, AllocateStrategy, position};

/// Members and queues lie on a ring of hashes; a queue goes to the next member behind it. When a member comes or goes,
/// only its share moves, but shares differ in size.
/// Java: `consumer/rebalance/AllocateMessageQueueConsistentHash.java`.
#[derive(Clone, Copy, Debug)]
pub struct ConsistentHash {
    virtual_nodes: u32,
}

impl ConsistentHash {
    /// Each member has so many places on the ring, at least 1: with more, shares differ less. All members must use the
    /// same number. The default is Java's: 10.
    pub fn with_virtual_nodes(count: u32) -> Self {
        Self { virtual_nodes: count.max(1) }
    }
}

impl Default for ConsistentHash {
    fn default() -> Self {
        Self::with_virtual_nodes(10)
    }
}

impl AllocateStrategy for ConsistentHash {
    fn name(&self) -> String {
        "CONSISTENT_HASH".to_owned()
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
        let mut ring = BTreeMap::new();
        for member in members {
            for node in 0..self.virtual_nodes {
                ring.insert(hash(&format!("{member}-{node}")), member); // where two meet, the last one stays
            }
        }
        let owner = |queue: &MessageQueue| {
            let behind = ring.range(hash(&queue.to_string())..).next();
            behind.or_else(|| ring.first_key_value()).map(|(_, member)| member.as_str())
        };
        Ok(queues.iter().filter(|queue| owner(queue) == Some(me)).cloned().collect())
    }
}

/// The first four bytes of the MD5, big-endian. Java: `common/consistenthash/ConsistentHashRouter.java`, `MD5Hash`.
fn hash(key: &str) -> u32 {
    let [a, b, c, d, ..] = md5::compute(key).0;
    u32::from_be_bytes([a, b, c, d])
}
