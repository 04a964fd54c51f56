//! The client against scripted name servers and brokers.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::body::{ConsumerData, SubscriptionData};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{
    CreateTopic, GetConsumerListByGroup, GetRouteInfo, Heartbeat, NotifyConsumerIdsChanged, UnregisterClient,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::members::ConsumerRegistration;
use crate::test_support::*;
use crate::{Client, Error, Message, Perm, Producer, ResponseCode, TopicConfig};

const ROUTE: rocketmq_protocol::RequestCode = GetRouteInfo::CODE;

fn consumer(group: &str, rebalance: &Arc<Notify>) -> ConsumerRegistration {
    let data = ConsumerData {
        group_name: group.into(),
        subscription_data_set: vec![SubscriptionData::parse("orders", "*", 1)],
        ..ConsumerData::default()
    };
    ConsumerRegistration {
        group: group.into(),
        heartbeat: Box::new(move || data.clone()),
        rebalance: Arc::clone(rebalance),
    }
}

#[tokio::test]
async fn cached_routes_outlive_the_name_server_and_its_empty_answers() {
    let (name_server, a) = one_broker().await;
    let client = client(&name_server).route_interval(Duration::from_millis(10)).start().await.unwrap();
    let producer = Producer::builder("p").client(&client).start().await.unwrap();
    producer.send(Message::new("orders", "1")).await.unwrap();
    let asked = name_server.script.count(ROUTE);
    name_server.routes.clear("orders");
    name_server.script.await_count(ROUTE, asked + 3).await;
    producer.send(Message::new("orders", "2")).await.unwrap();
    name_server.stop().await;
    producer.send(Message::new("orders", "3")).await.unwrap();
    assert_eq!(a.sent(), 3);
    let unknown = producer.send(Message::new("never-seen", "x")).await.unwrap_err();
    assert!(matches!(unknown, Error::NameServersUnavailable { .. }), "{unknown}");
}

#[tokio::test]
async fn a_dead_name_server_is_left_for_the_next_one() {
    let (name_server, _a) = one_broker().await;
    let dead = dead_address().await;
    for _ in 0..4 {
        let client = Client::builder().name_servers([&dead, &name_server.addr]).start().await.unwrap();
        let deadline = client.request_deadline();
        assert_eq!(client.subscribe_queues("orders", deadline).await.unwrap().len(), 2);
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_name_server_that_does_not_answer_leaves_time_for_the_next_one() {
    let (silent, name_server) = (FakeNameServer::start().await, FakeNameServer::start().await);
    silent.script.answer(ROUTE, [Answer::Silence; 100]);
    let a = FakeBroker::start("broker-a").await;
    name_server.routes.set("orders", &[a.place()]);
    for _ in 0..4 {
        let client = Client::builder()
            .name_servers([format!("{};{}", silent.addr, name_server.addr)])
            .request_timeout(Duration::from_millis(400))
            .start()
            .await
            .unwrap();
        let deadline = client.request_deadline();
        assert_eq!(client.subscribe_queues("orders", deadline).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn when_no_name_server_answers_the_error_tells_each_one_and_why() {
    let (dead, starting) = (dead_address().await, FakeNameServer::start().await);
    starting.script.answer(ROUTE, [Answer::Refuse(ResponseCode::SYSTEM_ERROR); 10]);
    let client = Client::builder().name_servers([&dead, &starting.addr]).start().await.unwrap();
    let error = client.subscribe_queues("orders", client.request_deadline()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::NameServersUnavailable { asked } if asked.len() == 2));
    assert!(text.contains(&dead) && text.contains("refused"), "{text}");
    assert!(text.contains(&starting.addr) && text.contains("SYSTEM_ERROR"), "{text}");
}

#[tokio::test]
async fn a_send_whose_time_the_name_servers_used_up_names_them() {
    let silent = FakeNameServer::start().await;
    silent.script.answer(ROUTE, [Answer::Silence; 100]);
    let limit = Duration::from_millis(300);
    let client = client(&silent).request_timeout(limit).start().await.unwrap();
    let producer = Producer::builder("p").client(&client).send_timeout(limit).start().await.unwrap();
    let error = producer.send(Message::new("orders", "x")).await.unwrap_err().to_string();
    assert!(error.contains(&silent.addr) && error.contains("no reply within"), "{error}");
}

#[tokio::test]
async fn name_servers_can_be_replaced_while_running() {
    let (old, new) = (FakeNameServer::start().await, FakeNameServer::start().await);
    let a = FakeBroker::start("broker-a").await;
    new.routes.set("orders", &[a.place()]);
    let client = client(&old).start().await.unwrap();
    assert!(client.subscribe_queues("orders", client.request_deadline()).await.is_err());
    assert_eq!(*client.name_servers(), [old.addr.as_str().into()]);
    client.set_name_servers([&new.addr]).unwrap();
    assert_eq!(*client.name_servers(), [new.addr.as_str().into()]);
    assert_eq!(client.subscribe_queues("orders", client.request_deadline()).await.unwrap().len(), 2);
    assert!(matches!(client.set_name_servers([""; 0]), Err(Error::NoNameServer)));
}

#[tokio::test]
async fn many_sends_at_once_ask_for_one_route_and_open_one_connection() {
    let (name_server, a) = one_broker().await;
    let producer = producer(&name_server).start().await.unwrap();
    let sends: Vec<_> = (0..200)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move { producer.send(Message::new("orders", "x")).await })
        })
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    assert_eq!((name_server.script.count(ROUTE), a.sent(), a.connections()), (1, 200, 1));
}

#[tokio::test]
async fn brokers_hear_of_a_group_at_once_and_again_on_a_new_connection() {
    let (name_server, a) = one_broker().await;
    let client = client(&name_server).start().await.unwrap();
    client.route("orders", client.request_deadline()).await.unwrap();
    let _producer = Producer::builder("p").client(&client).start().await.unwrap();
    a.script.await_count(Heartbeat::CODE, 1).await;
    {
        let heartbeats = a.heartbeats.lock().unwrap();
        assert_eq!(heartbeats[0].data.client_id, client.id());
        assert_eq!(heartbeats[0].data.producer_data_set[0].group_name, "p");
    }
    let rebalance = Arc::new(Notify::new());
    let _membership = client.register_consumer(consumer("c", &rebalance)).unwrap();
    assert_eq!(client.heartbeat().await, 1);
    let known =
        |heartbeat: &Heartbeat| heartbeat.data.consumer_data_set.iter().any(|data| data.group_name == "c");
    assert!(a.heartbeats.lock().unwrap().iter().any(known));

    let before = a.script.count(Heartbeat::CODE);
    a.hang_up();
    let deadline = client.request_deadline();
    // Whoever needs the broker opens the connection; the heartbeat follows on its own.
    while client.consumer_ids("c", "orders", deadline).await.is_err() {}
    a.script.await_count(Heartbeat::CODE, before + 1).await;
}

#[tokio::test]
async fn a_heartbeat_that_was_on_its_way_while_a_consumer_joined_is_no_news_of_it() {
    let (name_server, a) = one_broker().await;
    a.script.answer(Heartbeat::CODE, [Answer::Later]);
    let client = client(&name_server).start().await.unwrap();
    client.route("orders", client.request_deadline()).await.unwrap();
    let _producer = Producer::builder("p").client(&client).start().await.unwrap();
    a.script.await_count(Heartbeat::CODE, 1).await;
    let _membership = client.register_consumer(consumer("c", &Arc::default())).unwrap();
    a.answer_late_heartbeats();
    // Without being asked to, and long before the next one is due.
    let tells =
        |heartbeat: &Heartbeat| heartbeat.data.consumer_data_set.iter().any(|data| data.group_name == "c");
    a.script.await_count(Heartbeat::CODE, 2).await;
    assert_eq!(client.heartbeat().await, 1);
    assert!(a.heartbeats.lock().unwrap().iter().any(tells));
}

#[tokio::test]
async fn a_change_in_a_group_wakes_its_consumer_and_no_other() {
    let (name_server, a) = one_broker().await;
    let client = client(&name_server).start().await.unwrap();
    client.route("orders", client.request_deadline()).await.unwrap();
    let (ours, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let _ours = client.register_consumer(consumer("ours", &ours)).unwrap();
    let _other = client.register_consumer(consumer("other", &other)).unwrap();
    assert_eq!(client.heartbeat().await, 1);
    let changed = NotifyConsumerIdsChanged { consumer_group: "ours".into() };
    a.tell_clients(&changed).await;
    ours.notified().await;
    let untouched = other.notified();
    tokio::pin!(untouched);
    assert!(!untouched.as_mut().enable());
    // What a client does not serve is refused, not ignored.
    let unserved = GetConsumerListByGroup { consumer_group: "ours".into() };
    let refused = a.ask_client(&unserved).await.unwrap_err();
    assert_eq!(refused.response_code(), Some(ResponseCode::REQUEST_CODE_NOT_SUPPORTED));
}

#[tokio::test]
async fn a_topic_is_created_on_every_master_and_known_when_the_call_returns() {
    let (name_server, a, b) = two_brokers().await;
    let client = client(&name_server).start().await.unwrap();
    let create = tokio::spawn({
        let client = client.clone();
        async move { client.create_topic(&TopicConfig::new("new", 4, Perm::READ_WRITE)).await }
    });
    a.script.await_count(CreateTopic::CODE, 1).await;
    b.script.await_count(CreateTopic::CODE, 1).await;
    name_server.script.await_count(ROUTE, 1).await;
    assert!(!create.is_finished());
    name_server.routes.set("new", &[a.place(), b.place()]);
    create.await.unwrap().unwrap();
    let nowhere = client.create_topic_in("nowhere", &TopicConfig::new("new", 4, Perm::READ_WRITE)).await;
    assert!(nowhere.unwrap_err().to_string().contains("\"nowhere\" has no master"));
}

#[tokio::test]
async fn clients_of_one_process_share_nothing() {
    let (first, _a) = one_broker().await;
    let (second, b) = (FakeNameServer::start().await, FakeBroker::start("broker-b").await);
    second.routes.set("orders", &[b.place()]);
    let one = producer(&first).start().await.unwrap();
    let two = producer(&second).start().await.unwrap();
    assert_ne!(one.client().id(), two.client().id());
    assert_eq!(one.send(Message::new("orders", "x")).await.unwrap().queue.broker_name, "broker-a");
    assert_eq!(two.send(Message::new("orders", "x")).await.unwrap().queue.broker_name, "broker-b");
    one.shutdown().await;
    two.send(Message::new("orders", "x")).await.unwrap();
}

#[test]
fn after_shutdown_no_task_is_left() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (name_server, a) = one_broker().await;
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let client = client(&name_server).start().await.unwrap();
        let producer = Producer::builder("p").client(&client).start().await.unwrap();
        for _ in 0..10 {
            producer.send(Message::new("orders", "x")).await.unwrap();
        }
        producer.shutdown().await;
        client.shutdown().await;
        assert_eq!(a.script.count(UnregisterClient::CODE), 1);
        name_server.stop().await;
        a.stop().await;
        assert_eq!(alive(), 0);
    });
}

#[test]
fn dropping_everything_ends_the_tasks_without_waiting() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (name_server, a) = one_broker().await;
        let producer = producer(&name_server).start().await.unwrap();
        producer.send(Message::new("orders", "x")).await.unwrap();
        let began = Instant::now();
        drop(producer);
        assert!(began.elapsed() < Duration::from_millis(50));
        name_server.stop().await;
        a.stop().await;
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let limit = Instant::now() + Duration::from_secs(5);
        while alive() > 0 && Instant::now() < limit {
            tokio::task::yield_now().await;
        }
        assert_eq!(alive(), 0);
    });
}

#[tokio::test]
async fn a_client_needs_to_know_whom_to_ask() {
    // Not by the environment: other tests run in this process.
    if std::env::var("NAMESRV_ADDR").is_err() {
        let error = Client::builder().start().await.err().unwrap();
        assert!(matches!(error, Error::NoNameServer));
        assert!(error.to_string().contains("NAMESRV_ADDR"));
    }
}

#[tokio::test]
async fn name_servers_are_found_over_http() {
    let (name_server, _a) = one_broker().await;
    let http = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::path("/rocketmq/nsaddr"))
        .respond_with(wiremock::ResponseTemplate::new(200).set_body_string(&name_server.addr))
        .mount(&http)
        .await;
    let url = format!("{}/rocketmq/nsaddr", http.uri());
    let client = Client::builder().name_server_url(url).start().await.unwrap();
    assert_eq!(client.subscribe_queues("orders", client.request_deadline()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn connections_to_servers_off_the_list_and_brokers_off_the_routes_close() {
    let (name_server, a) = one_broker().await;
    let other = FakeNameServer::start_with(Arc::clone(&name_server.routes)).await;
    let client = client(&name_server)
        .route_interval(Duration::from_millis(10))
        .heartbeat_interval(Duration::from_millis(10))
        .start()
        .await
        .unwrap();
    let producer = Producer::builder("p").client(&client).start().await.unwrap();
    producer.send(Message::new("orders", "x")).await.unwrap();
    let connections = &client.core().connections;
    let (old_server, old_broker) =
        (connections.get(&name_server.addr).unwrap(), connections.get(&a.addr).unwrap());
    let asked = name_server.script.count(ROUTE);
    name_server.script.await_count(ROUTE, asked + 3).await; // the timer has seen both
    client.set_name_servers([&other.addr]).unwrap();
    let moved = FakeBroker::start("broker-a").await;
    name_server.routes.set("orders", &[moved.place()]);
    old_server.closed().await;
    old_broker.closed().await;
    producer.send(Message::new("orders", "x")).await.unwrap();
    assert_eq!(moved.sent(), 1);
}

#[tokio::test]
async fn an_address_that_swallows_packets_does_not_outlast_the_deadline() {
    let (name_server, _a) = one_broker().await;
    // TEST-NET-1: packets to it go nowhere, or are refused where there is no way out.
    name_server.routes.set("orders", &[("broker-a", "192.0.2.1:10911")]);
    let producer = producer(&name_server).send_timeout(Duration::from_millis(300)).start().await.unwrap();
    let began = Instant::now();
    let error = producer.send(Message::new("orders", "x")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    assert!(!error.may_have_been_stored(), "{error}");
}
