//! [`AllocateStrategy`]: which queues of a topic belong to which member of a group.
//!
//! Every member computes this for itself from the same sorted lists, so all members must use the same strategy.

use rocketmq_protocol::body::MessageQueue;

/// Divides the queues of a topic among the members of a group.
pub trait AllocateStrategy: Send + Sync + 'static {
    /// Its name on the wire.
    fn name(&self) -> &str;

    /// The queues of `me`. `queues` and `members` are sorted and not empty, and `me` is one of `members`. Every queue
    /// must go to exactly one member.
    fn allocate(&self, me: &str, queues: &[MessageQueue], members: &[String]) -> Vec<MessageQueue>;
}

/// Neighbouring queues go to one member: of 8 queues, three members get 0–2, 3–5 and 6–7. The default.
/// Java: `consumer/rebalance/AllocateMessageQueueAveragely.java`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Averagely;

impl AllocateStrategy for Averagely {
    fn name(&self) -> &str {
        "AVG"
    }

    fn allocate(&self, me: &str, queues: &[MessageQueue], members: &[String]) -> Vec<MessageQueue> {
        let Some(index) = members.iter().position(|member| member == me) else { return Vec::new() };
        let (share, left_over) = (queues.len() / members.len(), queues.len() % members.len());
        // The first members take one of the left-over queues each.
        let start = index * share + index.min(left_over);
        let size = share + usize::from(index < left_over);
        queues.iter().skip(start).take(size).cloned().collect()
    }
}

/// Queues go round: of 8 queues, three members get 0, 3, 6 and 1, 4, 7 and 2, 5.
/// Java: `consumer/rebalance/AllocateMessageQueueAveragelyByCircle.java`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AveragelyByCircle;

impl AllocateStrategy for AveragelyByCircle {
    fn name(&self) -> &str {
        "AVG_BY_CIRCLE"
    }

    fn allocate(&self, me: &str, queues: &[MessageQueue], members: &[String]) -> Vec<MessageQueue> {
        let Some(index) = members.iter().position(|member| member == me) else { return Vec::new() };
        queues.iter().skip(index).step_by(members.len()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(count: i32) -> Vec<MessageQueue> {
        (0..count).map(|id| MessageQueue::new("T", "b", id)).collect()
    }

    fn members(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("m{n:02}")).collect()
    }

    fn ids(strategy: &dyn AllocateStrategy, queues: &[MessageQueue], members: &[String]) -> Vec<Vec<i32>> {
        let share = |me: &String| strategy.allocate(me, queues, members);
        members.iter().map(|me| share(me).iter().map(|queue| queue.queue_id.get()).collect()).collect()
    }

    /// Java's arithmetic as it stands there: `(start, size)` of member `i` of `c`, for `n` queues.
    fn java_average(n: usize, c: usize, i: usize) -> (usize, usize) {
        let m = n % c;
        let one_more = m > 0 && i < m;
        let size = if n <= c { 1 } else { n / c + usize::from(one_more) };
        let start = if one_more { i * size } else { i * size + m };
        (start, size.min(n.saturating_sub(start)))
    }

    #[test]
    fn three_members_share_eight_queues() {
        let (queues, members) = (queues(8), members(3));
        assert_eq!(ids(&Averagely, &queues, &members), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(ids(&AveragelyByCircle, &queues, &members), [vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]]);
    }

    #[test]
    fn the_average_is_that_of_java_for_every_count() {
        for (n, c) in (1..=60).flat_map(|n| (1..=20).map(move |c| (n, c))) {
            let (queues, members) = (queues(i32::try_from(n).unwrap()), members(c));
            for (i, me) in members.iter().enumerate() {
                let (start, size) = java_average(n, c, i);
                let expected: Vec<_> = queues.iter().skip(start).take(size).cloned().collect();
                assert_eq!(
                    Averagely.allocate(me, &queues, &members),
                    expected,
                    "{n} queues, member {i} of {c}"
                );
            }
        }
    }

    #[test]
    fn every_queue_has_exactly_one_owner() {
        let strategies: [&dyn AllocateStrategy; 2] = [&Averagely, &AveragelyByCircle];
        for strategy in strategies {
            for (n, c) in (1..=40).flat_map(|n| (1..=50).map(move |c| (n, c))) {
                let mut owned = ids(strategy, &queues(n), &members(c)).concat();
                owned.sort_unstable();
                assert!(owned.into_iter().eq(0..n), "{}: {n} queues, {c} members", strategy.name());
            }
        }
    }

    #[test]
    fn someone_who_is_no_member_gets_nothing() {
        assert!(Averagely.allocate("x", &queues(4), &members(2)).is_empty());
        assert!(AveragelyByCircle.allocate("x", &queues(4), &members(2)).is_empty());
    }
}
