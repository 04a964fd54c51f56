//! [`SubscriptionCheck`]: notices that the members of a group do not subscribe to the same.
//!
//! A broker keeps one subscription per group and topic, that of the last heartbeat. When members differ, it refuses now the
//! one and now the other, and messages that one of them wants are lost to it. A single refusal is normal: a broker
//! that has just started, or has forgotten a connection, has yet to hear who we are.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

/// So many refusals within [`WINDOW`] are no accident.
const MANY: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// How often it is told.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// Counts how often brokers said that the group does not subscribe to what this member reads.
#[derive(Default)]
pub(super) struct SubscriptionCheck {
    /// Held to count.
    refusals: Mutex<Refusals>,
}

#[derive(Default)]
struct Refusals {
    since: Option<Instant>,
    count: u32,
    told: Option<Instant>,
}

impl SubscriptionCheck {
    /// A broker refused a pull since it knows another subscription. Whether that was told.
    pub(super) fn refused(&self, group: &str, topic: &str) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.since.is_none_or(|since| since.elapsed() > WINDOW) {
            (refusals.since, refusals.count) = (Some(Instant::now()), 0);
        }
        refusals.count += 1;
        if refusals.count < MANY || refusals.told.is_some_and(|told| told.elapsed() < TELL_AGAIN) {
            return false;
        }
        refusals.told = Some(Instant::now());
        error!(
            group,
            topic,
            "members of this group subscribe to different topics or tags: messages are being lost to some of them. Give \
             all members the same subscriptions, or use one group for each"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn members_that_subscribe_differently_are_told_of_once_in_a_while() {
        let check = SubscriptionCheck::default();
        let told = |times: u32| (0..times).filter(|_| check.refused("g", "T")).count();
        assert_eq!(told(4), 0, "a broker may have forgotten us");
        assert_eq!(told(20), 1);
        tokio::time::advance(TELL_AGAIN).await;
        assert_eq!(told(4), 0);
        assert_eq!(told(1), 1);
    }
}
