//! [`DataVersion`]: tells whether two copies of a table are the same.

use serde::{Deserialize, Serialize};

/// Version of a table that is replicated as a whole (topics, groups, offsets). Copies with equal versions are equal;
/// versions are not ordered. Java: `protocol/DataVersion.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DataVersion {
    /// Number of changes since the table was created.
    pub counter: i64,
    /// Version of the store's state machine (controller mode); 0 elsewhere, and absent in 4.x.
    pub state_version: i64,
    /// When the last change was made, in milliseconds since the epoch.
    pub timestamp: i64,
}

impl DataVersion {
    /// Notes one more change, made at `now_ms`.
    pub fn advance(&mut self, now_ms: i64) {
        self.counter = self.counter.wrapping_add(1);
        self.timestamp = now_ms;
    }
}
