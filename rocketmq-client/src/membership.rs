//! [`Membership`]: that a client is in a group.

use std::sync::Arc;

use crate::client::Core;
use crate::members::Role;

/// A group that a client is in, until this is dropped.
pub(crate) struct Membership {
    core: Arc<Core>,
    role: Role,
    group: String,
}

impl Membership {
    pub(crate) fn new(core: Arc<Core>, role: Role, group: &str) -> Self {
        Self { core, role, group: group.to_owned() }
    }

    /// Leaves the group and waits until the brokers know.
    pub(crate) async fn leave(&self) {
        if self.core.members.remove(self.role, &self.group) {
            self.core.unregister(self.role, &self.group).await;
        }
    }
}

impl Drop for Membership {
    /// Leaves the group, and tells connected brokers without waiting, if that was not done.
    fn drop(&mut self) {
        if self.core.members.remove(self.role, &self.group) {
            self.core.unregister_oneway(self.role, &self.group);
        }
    }
}
