//! Consumer groups from outside: who is in them, where they stand, and moving them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocketmq_broker_lite::{Standalone, StandaloneBuilder};
use rocketmq_protocol::body::{
    ConsumeMessageDirectlyResult, ConsumerData, ConsumerRunningInfo, ConsumerStatus, HeartbeatData,
    MessageQueue, ResetOffsetBody, SubscriptionData,
};
use rocketmq_protocol::request::{Body, Request};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Call, Connection, Connector, Service, TransportOptions};
use rocketmq_protocol::{Language, QueueId, QueueOffset, RequestCode, ResponseCode};
use tokio::sync::mpsc;

use crate::support::{LONG, connector, message};

/// A consumer that answers what the broker asks it.
struct Member {
    told: mpsc::UnboundedSender<(RequestCode, Bytes)>,
    silent: bool,
}

impl Service for Member {
    fn serve(&self, call: Call) {
        let code = call.frame().request_code();
        self.told.send((code, call.frame().body.clone())).unwrap();
        if self.silent {
            std::mem::forget(call); // it never answers
            return;
        }
        match code {
            GetConsumerRunningInfo::CODE => {
                let jstack =
                    call.read::<GetConsumerRunningInfo>().unwrap().jstack.then(|| "stack".to_owned());
                call.reply(&GetConsumerRunningInfoReply {
                    info: ConsumerRunningInfo { jstack, ..Default::default() },
                });
            }
            ConsumeMessageDirectly::CODE => {
                let result = ConsumeMessageDirectlyResult { spent_time_mills: 7, ..Default::default() };
                call.reply(&ConsumeMessageDirectlyReply { result });
            }
            GetConsumerStatus::CODE => {
                let mut status = ConsumerStatus::default();
                status.message_queue_table.insert(MessageQueue::new("orders", "b", 1), QueueOffset::new(5));
                call.reply(&GetConsumerStatusReply { status });
            }
            _ => {}
        }
    }
}

struct Fixture {
    cluster: Standalone,
    admin: Connection,
    _connector: Connector,
}

struct Joined {
    connection: Connection,
    _connector: Connector,
    told: mpsc::UnboundedReceiver<(RequestCode, Bytes)>,
}

async fn start(builder: StandaloneBuilder) -> Fixture {
    let cluster = builder.start().await.unwrap();
    let connector = connector();
    let admin = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    for number in 0..8 {
        admin.call(&message("orders", number % 2, number.to_string()), LONG).await.unwrap();
    }
    Fixture { cluster, admin, _connector: connector }
}

fn heartbeat(client_id: &str, tags: &str) -> Heartbeat {
    let consumer = ConsumerData {
        group_name: "g".to_owned(),
        subscription_data_set: vec![SubscriptionData::parse("orders", tags, 1)],
        ..ConsumerData::default()
    };
    let data = HeartbeatData {
        client_id: client_id.to_owned(),
        consumer_data_set: vec![consumer],
        ..HeartbeatData::default()
    };
    Heartbeat { data }
}

impl Fixture {
    async fn join(&self, client_id: &str, tags: &str) -> Joined {
        self.join_as(client_id, tags, false).await
    }

    async fn join_as(&self, client_id: &str, tags: &str, silent: bool) -> Joined {
        let (sender, told) = mpsc::unbounded_channel();
        let member = Arc::new(Member { told: sender, silent });
        let connector = Connector::new(TransportOptions::default(), member);
        let connection = connector.connect(self.cluster.broker().advertised_addr()).await.unwrap();
        connection.call(&heartbeat(client_id, tags), LONG).await.unwrap();
        Joined { connection, _connector: connector, told }
    }

    async fn commit(&self, queue_id: i32, offset: i64) {
        let commit = UpdateConsumerOffset {
            consumer_group: "g".into(),
            topic: "orders".into(),
            queue_id: QueueId::new(queue_id),
            commit_offset: QueueOffset::new(offset),
        };
        self.admin.call(&commit, LONG).await.unwrap();
    }

    async fn stands_at(&self, queue_id: i32) -> i64 {
        let ask = QueryConsumerOffset {
            consumer_group: "g".into(),
            topic: "orders".into(),
            queue_id: QueueId::new(queue_id),
            set_zero_if_not_found: None,
        };
        self.admin.call(&ask, LONG).await.unwrap().offset.get()
    }
}

impl Joined {
    /// The body of the next request with this code.
    async fn asked(&mut self, code: RequestCode) -> Bytes {
        let next = async {
            loop {
                let (asked, body) = self.told.recv().await.unwrap();
                if asked == code {
                    return body;
                }
            }
        };
        tokio::time::timeout(LONG, next).await.unwrap()
    }
}

fn reset(queue_id: i32, timestamp: i64, offset: Option<i64>) -> InvokeResetOffset {
    InvokeResetOffset {
        topic: "orders".into(),
        group: "g".into(),
        timestamp,
        force: true,
        queue_id: QueueId::new(queue_id),
        offset: offset.map(QueueOffset::new),
    }
}

fn pull(offset: i64, wait_ms: i64) -> PullMessage {
    PullMessage {
        consumer_group: "g".into(),
        topic: "orders".into(),
        queue_id: QueueId::ZERO,
        queue_offset: QueueOffset::new(offset),
        max_messages: 32,
        sys_flag: PullFlag::SUBSCRIPTION.with(PullFlag::SUSPEND).get(),
        commit_offset: QueueOffset::ZERO,
        suspend_timeout_ms: wait_ms,
        subscription: Some("*".into()),
        subscription_version: 0,
        expression_type: None,
        max_bytes: None,
    }
}

#[tokio::test]
async fn a_running_group_is_moved_at_its_next_pull_and_a_held_one_is_woken() {
    let at = start(Standalone::builder()).await;
    let member = at.join("c", "*").await;
    at.commit(0, 4).await;
    let held = tokio::spawn({
        let connection = member.connection.clone();
        async move { connection.call_coded(&pull(4, 3_600_000), LONG).await.unwrap() }
    });
    let moved = at.admin.call(&reset(-1, 0, None), LONG).await.unwrap().offsets.offset_table;
    let broker = &at.cluster.broker().config().broker_name;
    assert_eq!(moved[&MessageQueue::new("orders", broker.clone(), 0)], QueueOffset::ZERO);
    let (code, reply) = held.await.unwrap();
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::PULL_OFFSET_MOVED, 0));
    // Queue 1 was not pulled since, so what its consumer says is stale.
    at.commit(1, 3).await;
    assert_eq!((at.stands_at(0).await, at.stands_at(1).await), (0, 0));
    let (code, reply) = member.connection.call_coded(&pull(0, 0), LONG).await.unwrap();
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::SUCCESS, 4));
    at.commit(0, 4).await;
    assert_eq!(at.stands_at(0).await, 4);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_queue_can_be_moved_to_an_offset_within_it_or_to_its_end() {
    let at = start(Standalone::builder()).await;
    at.commit(0, 1).await;
    at.admin.call(&reset(0, 0, Some(3)), LONG).await.unwrap();
    assert_eq!(at.stands_at(0).await, 3);
    at.admin.call(&reset(0, -1, Some(-1)), LONG).await.unwrap();
    assert_eq!(at.stands_at(0).await, 4);
    // A consumer that pulls there anyway is not disturbed.
    let (code, _) = at.admin.call_coded(&pull(4, 0), LONG).await.unwrap();
    assert_eq!(code, ResponseCode::PULL_NOT_FOUND);
    let error = at.admin.call(&reset(0, 0, Some(6)), LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::SYSTEM_ERROR));
    assert!(error.to_string().contains("0 to 4"), "{error}");
    let unknown = InvokeResetOffset { topic: "nothing".into(), ..reset(0, 0, None) };
    let error = at.admin.call(&unknown, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::TOPIC_NOT_EXIST));
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_server_side_reset_the_members_are_told() {
    let at = start(Standalone::builder().set("useServerSideResetOffset", "false").unwrap()).await;
    at.commit(0, 4).await;
    at.commit(1, 2).await;
    for queue_id in 2..4 {
        at.commit(queue_id, 0).await;
    }
    let error = at.admin.call(&reset(-1, 0, None), LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::CONSUMER_NOT_ONLINE));
    let mut members = [at.join("a", "*").await, at.join("b", "*").await];
    // Not forced, so nobody skips anything.
    let end = InvokeResetOffset { force: false, ..reset(-1, -1, None) };
    at.admin.call(&end, LONG).await.unwrap();
    for member in &mut members {
        let body = member.asked(ResetClientOffset::CODE).await;
        let told: BTreeMap<_, _> = ResetOffsetBody::from_bytes(body)
            .unwrap()
            .offset_table
            .iter()
            .map(|(queue, offset)| (queue.queue_id.get(), offset.get()))
            .collect();
        assert_eq!(told, BTreeMap::from([(0, 4), (1, 2), (2, 0), (3, 0)]));
    }
    assert_eq!(at.stands_at(1).await, 2, "the members see to their offsets");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_member_answers_an_administrator_through_the_broker() {
    let at = start(Standalone::builder()).await;
    let mut member = at.join("c", "*").await;
    let ask = GetConsumerRunningInfo { consumer_group: "g".into(), client_id: "c".into(), jstack: true };
    let info = at.admin.call(&ask, LONG).await.unwrap().info;
    assert_eq!(info.jstack.as_deref(), Some("stack"));

    let sent = at.admin.call(&message("orders", 0, "direct"), LONG).await.unwrap();
    let direct = ConsumeMessageDirectly {
        consumer_group: "g".into(),
        client_id: Some("c".into()),
        message_id: Some(sent.message_id.clone()),
        broker_name: None,
        topic: None,
        topic_sys_flag: None,
        group_sys_flag: None,
        message: Bytes::new(),
    };
    let result = at.admin.call(&direct, LONG).await.unwrap().result;
    assert_eq!(result.spent_time_mills, 7);
    let mut given = member.asked(ConsumeMessageDirectly::CODE).await;
    let given = rocketmq_protocol::message::StoredMessage::decode(&mut given).unwrap().unwrap();
    assert_eq!(given.body, "direct");

    let status = InvokeGetConsumerStatus { topic: "orders".into(), group: "g".into(), client_id: None };
    let status = at.admin.call(&status, LONG).await.unwrap().status;
    assert_eq!(status.consumer_table["c"][&MessageQueue::new("orders", "b", 1)], QueueOffset::new(5));

    let gone = GetConsumerRunningInfo { client_id: "nobody".into(), ..ask };
    let error = at.admin.call(&gone, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::SYSTEM_ERROR));
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_member_that_does_not_answer_is_not_waited_for_forever_nor_cut_off() {
    let at = start(Standalone::builder()).await;
    let mut member = at.join_as("c", "*", true).await;
    let asking = tokio::spawn({
        let admin = at.admin.clone();
        let ask = GetConsumerRunningInfo { consumer_group: "g".into(), client_id: "c".into(), jstack: false };
        async move { admin.call(&ask, LONG).await.unwrap_err() }
    });
    member.asked(GetConsumerRunningInfo::CODE).await;
    at.cluster.clock().advance(Duration::from_secs(10));
    assert_eq!(asking.await.unwrap().response_code(), Some(ResponseCode::CONSUME_MSG_TIMEOUT));
    assert!(!member.connection.is_closed());
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn progress_and_members_of_a_group_are_shown() {
    let at = start(Standalone::builder()).await;
    at.commit(0, 3).await;
    let stats = GetConsumeStats { consumer_group: "g".into(), topic: None, topic_list: None };
    let table = at.admin.call(&stats, LONG).await.unwrap().stats.offset_table;
    let broker = at.cluster.broker().config().broker_name.clone();
    let queue = |id: i32| &table[&MessageQueue::new("orders", broker.clone(), id)];
    assert_eq!((queue(0).broker_offset.get(), queue(0).consumer_offset.get()), (4, 3));
    assert!(queue(0).last_timestamp > 0 && queue(1).last_timestamp == 0);

    let ask = GetConsumerConnections { consumer_group: "g".into() };
    let error = at.admin.call(&ask, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::CONSUMER_NOT_ONLINE));
    let member = at.join("c", "a || b").await;
    let told = at.admin.call(&ask, LONG).await.unwrap().connections;
    let [connection] = &told.connection_set[..] else { panic!("one member") };
    assert_eq!((&*connection.client_id, connection.language), ("c", Language::RUST));
    assert_eq!(connection.client_addr, member.connection.local().to_string());
    assert_eq!(told.subscription_table["orders"].sub_string, "a || b");
    let who = at.admin.call(&QueryTopicConsumers { topic: "orders".into() }, LONG).await.unwrap();
    assert_eq!(who.groups.group_list, ["g"]);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn members_that_subscribe_differently_are_named() {
    let at = start(Standalone::builder()).await;
    let _one = at.join("one", "a").await;
    assert_eq!(at.cluster.broker().subscription_conflicts(), []);
    let _same = at.join("same", "a").await;
    assert_eq!(at.cluster.broker().subscription_conflicts(), []);
    let two = at.join("two", "b").await;
    let conflicts = at.cluster.broker().subscription_conflicts();
    let [conflict] = &conflicts[..] else { panic!("{conflicts:?}") };
    assert_eq!((&*conflict.group, &*conflict.topic), ("g", "orders"));
    let mut members = conflict.members.clone();
    members.sort();
    let member = |id: &str, tags: &str| (id.to_owned(), Some(tags.to_owned()));
    assert_eq!(members, [member("one", "a"), member("same", "a"), member("two", "b")]);
    two.connection.call(&heartbeat("two", "a"), LONG).await.unwrap();
    assert_eq!(at.cluster.broker().subscription_conflicts(), []);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn members_that_join_together_are_told_together() {
    let at = start(Standalone::builder()).await;
    let mut first = at.join("0", "*").await;
    let mut others = Vec::new();
    for number in 1..=30 {
        others.push(at.join(&number.to_string(), "*").await);
    }
    // The last one is told, so all changes are.
    others.last_mut().unwrap().asked(NotifyConsumerIdsChanged::CODE).await;
    first.asked(NotifyConsumerIdsChanged::CODE).await;
    let mut told = 1;
    while first.told.try_recv().is_ok() {
        told += 1;
    }
    assert!(told < 30, "told {told} times of 30 changes");
    at.cluster.shutdown().await.unwrap();
}
