//! [`TopicRoute`]: the queues of one topic, and who may be sent to and pulled from.
//!
//! Java: `client/impl/factory/MQClientInstance.java`, `topicRouteData2TopicPublishInfo` and
//! `topicRouteData2TopicSubscribeInfo`.

use std::sync::atomic::{AtomicUsize, Ordering};

use rocketmq_protocol::body::{BrokerData, MessageQueue, Perm, QueueData, TopicRouteData};
use rocketmq_protocol::{ByteString, QueueId};

/// More queues than this of one topic on one broker are not believed.
const MAX_QUEUES: i32 = 65_536;

/// A topic as the name server described it.
#[derive(Debug)]
pub(crate) struct TopicRoute {
    pub(crate) data: TopicRouteData,
    pub(crate) publish: PublishQueues,
    /// Queues that may be pulled from, sorted.
    pub(crate) subscribe: Vec<MessageQueue>,
}

/// The queues of a topic that may be sent to, by turns.
#[derive(Debug)]
pub(crate) struct PublishQueues {
    queues: Vec<MessageQueue>,
    /// Counts the turns. Starts anywhere, so that many producers do not all begin at the first queue.
    next: AtomicUsize,
}

impl TopicRoute {
    pub(crate) fn new(topic: &str, mut data: TopicRouteData) -> Self {
        // By no particular order on the wire: sorted, equal routes compare equal.
        data.queue_datas.sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
        data.broker_datas.sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
        let writable = match data.order_topic_conf.as_deref().filter(|conf| !conf.is_empty()) {
            Some(conf) => ordered_queues(topic, conf),
            None => queues(topic, &data.queue_datas, |queues| {
                if !queues.perm.contains(Perm::WRITE) || master_addr(&data, &queues.broker_name).is_none() {
                    return 0;
                }
                queues.write_queue_nums
            }),
        };
        let mut subscribe = queues(topic, &data.queue_datas, |queues| {
            if queues.perm.contains(Perm::READ) { queues.read_queue_nums } else { 0 }
        });
        subscribe.sort();
        Self { publish: PublishQueues::new(writable), subscribe, data }
    }

    /// The route that `topic` will have once it is created from the template topic whose route `data` is.
    pub(crate) fn from_template(topic: &str, mut data: TopicRouteData, default_queues: i32) -> Self {
        for queues in &mut data.queue_datas {
            let count = queues.read_queue_nums.min(default_queues);
            queues.read_queue_nums = count;
            queues.write_queue_nums = count;
        }
        Self::new(topic, data)
    }

    /// Any broker's data, at random: for questions that every broker of a topic answers.
    pub(crate) fn any_broker(&self) -> Option<&BrokerData> {
        let at = rand::random_range(0..self.data.broker_datas.len().max(1));
        self.data.broker_datas.get(at)
    }
}

impl PublishQueues {
    fn new(queues: Vec<MessageQueue>) -> Self {
        Self { queues, next: AtomicUsize::new(rand::random_range(0..1 << 16)) }
    }

    /// All of them, in the name server's order of brokers.
    pub(crate) fn all(&self) -> &[MessageQueue] {
        &self.queues
    }

    /// The next queue in turn, of another broker than `avoid` where there is one. `None` when there are no queues.
    pub(crate) fn next(&self, avoid: Option<&str>) -> Option<&MessageQueue> {
        let mut fallback = None;
        for _ in 0..self.queues.len() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let at = turn % self.queues.len();
            let choice = self.queues.get(at)?;
            if avoid != Some(choice.broker_name.as_str()) {
                return Some(choice);
            }
            fallback = fallback.or(Some(choice));
        }
        fallback
    }

    /// The next queue in turn whose broker `suits`; `None` when there is none.
    pub(crate) fn next_where(&self, suits: impl Fn(&str) -> bool) -> Option<&MessageQueue> {
        for _ in 0..self.queues.len() {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len();
            let choice = self.queues.get(at)?;
            if suits(&choice.broker_name) {
                return Some(choice);
            }
        }
        None
    }

    /// Whether some queue is on another broker than this one.
    pub(crate) fn has_other_than(&self, broker: &str) -> bool {
        self.queues.first().is_some_and(|queue| queue.broker_name != broker)
            || self.queues.last().is_some_and(|queue| queue.broker_name != broker)
    }
}

fn master_addr<'a>(data: &'a TopicRouteData, broker: &str) -> Option<&'a str> {
    data.broker_datas.iter().find(|data| data.broker_name == broker)?.master_addr()
}

fn queues(topic: &str, brokers: &[QueueData], count: impl Fn(&QueueData) -> i32) -> Vec<MessageQueue> {
    let topic = ByteString::from(topic);
    let of_broker = |broker: &QueueData| {
        let first = MessageQueue::new(topic.clone(), &*broker.broker_name, 0);
        let ids = 0..count(broker).min(MAX_QUEUES);
        ids.map(move |id| MessageQueue { queue_id: QueueId::new(id), ..first.clone() })
    };
    brokers.iter().flat_map(of_broker).collect()
}

/// `brokerA:4;brokerB:8`: fixed, whether the brokers are up or not, so that a key never changes its queue.
fn ordered_queues(topic: &str, conf: &str) -> Vec<MessageQueue> {
    let entries = conf.split(';').filter_map(|entry| {
        let (broker, count) = entry.split_once(':')?;
        Some((broker, count.trim().parse::<i32>().ok()?.min(MAX_QUEUES)))
    });
    entries
        .flat_map(|(broker, count)| (0..count).map(move |id| MessageQueue::new(topic, broker, id)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(name: &str, master: bool) -> BrokerData {
        let id = if master { 0 } else { 1 };
        BrokerData {
            broker_name: name.into(),
            broker_addrs: [(id, format!("{name}:10911"))].into(),
            ..BrokerData::default()
        }
    }

    fn queue_data(name: &str, read: i32, write: i32, perm: Perm) -> QueueData {
        QueueData {
            broker_name: name.into(),
            read_queue_nums: read,
            write_queue_nums: write,
            perm,
            ..QueueData::default()
        }
    }

    fn shown(queues: &[MessageQueue]) -> Vec<String> {
        queues.iter().map(|queue| format!("{}{}", queue.broker_name, queue.queue_id)).collect()
    }

    #[test]
    fn sending_needs_write_permission_and_a_master_pulling_only_read_permission() {
        let data = TopicRouteData {
            broker_datas: vec![broker("b", true), broker("a", true), broker("slave-only", false)],
            queue_datas: vec![
                queue_data("slave-only", 1, 1, Perm::READ_WRITE),
                queue_data("b", 3, 1, Perm::READ_WRITE),
                queue_data("a", 1, 2, Perm::WRITE),
                queue_data("unknown", 1, 1, Perm::READ_WRITE),
            ],
            ..TopicRouteData::default()
        };
        let route = TopicRoute::new("t", data);
        assert_eq!(shown(route.publish.all()), ["a0", "a1", "b0"]);
        assert_eq!(shown(&route.subscribe), ["b0", "b1", "b2", "slave-only0", "unknown0"]);
    }

    #[test]
    fn an_ordered_topic_has_the_queues_that_its_configuration_says() {
        let data = TopicRouteData { order_topic_conf: Some("b:2;a:1".into()), ..TopicRouteData::default() };
        assert_eq!(shown(TopicRoute::new("t", data).publish.all()), ["b0", "b1", "a0"]);
    }

    #[test]
    fn a_template_lends_at_most_the_default_number_of_queues() {
        let data = TopicRouteData {
            broker_datas: vec![broker("a", true), broker("b", true)],
            queue_datas: vec![queue_data("a", 8, 8, Perm::new(7)), queue_data("b", 1, 8, Perm::new(7))],
            ..TopicRouteData::default()
        };
        let route = TopicRoute::from_template("new", data, 4);
        assert_eq!(shown(route.publish.all()), ["a0", "a1", "a2", "a3", "b0"]);
        assert!(route.publish.all().iter().all(|queue| queue.topic == "new"));
    }

    #[test]
    fn turns_visit_every_queue_and_avoid_a_broker_where_they_can() {
        let data = TopicRouteData { order_topic_conf: Some("a:2;b:2".into()), ..TopicRouteData::default() };
        let queues = TopicRoute::new("t", data).publish;
        let mut seen: Vec<_> = (0..4).map(|_| queues.next(None).unwrap().clone()).collect();
        seen.sort();
        assert_eq!(shown(&seen), ["a0", "a1", "b0", "b1"]);
        for _ in 0..4 {
            let queue = queues.next(Some("a")).unwrap();
            assert_eq!(queue.broker_name, "b");
        }
        assert!(queues.has_other_than("a") && queues.has_other_than("b"));

        let alone = TopicRouteData { order_topic_conf: Some("a:1".into()), ..TopicRouteData::default() };
        let alone = TopicRoute::new("t", alone).publish;
        assert_eq!(alone.next(Some("a")).unwrap().broker_name, "a");
        assert!(!alone.has_other_than("a"));
    }

    #[test]
    fn absurd_queue_numbers_are_cut() {
        let data = TopicRouteData {
            queue_datas: vec![
                queue_data("a", i32::MAX, 0, Perm::READ),
                queue_data("b", i32::MIN, 0, Perm::READ),
            ],
            ..TopicRouteData::default()
        };
        assert_eq!(TopicRoute::new("t", data).subscribe.len(), 65_536);
    }
}
