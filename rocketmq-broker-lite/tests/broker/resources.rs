//! What a broker process takes while nothing is asked of it, and once nobody asks any more.

#![cfg(target_os = "linux")] // which tells of its processes in /proc

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use rocketmq_protocol::body::{ConsumerData, HeartbeatData, SubscriptionData};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::{QueueId, QueueOffset};
use tokio::task::JoinSet;

use crate::support::{LONG, Process, comes_true, connector, message};

/// MiB in memory, mapped files included.
fn resident(process: &Process) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

#[tokio::test]
async fn an_idle_broker_with_its_name_server_takes_little_memory() {
    let store = tempfile::tempdir().unwrap();
    let process = Process::start(store.path(), &[]);
    let connector = connector();
    let connection = connector.connect(&process.broker).await.unwrap();
    connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
    let limit = if cfg!(debug_assertions) { 30.0 } else { 25.0 }; // code that is not optimized is larger
    let resident = resident(&process);
    eprintln!("{resident:.1} MiB");
    assert!(resident <= limit, "{resident:.1} MiB");
}

/// Open sockets. Files come and go with what is stored.
fn sockets(process: &Process) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.child.id())).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

const KINDS: usize = 5;

/// A client that begins something and vanishes.
async fn vanish(broker: String, number: usize) {
    if number % KINDS < 3 {
        tokio::task::spawn_blocking(move || vanish_without_a_request(&broker, number)).await.unwrap();
    } else {
        vanish_after_a_request(&broker, number).await;
    }
}

fn vanish_without_a_request(broker: &str, number: usize) {
    let mut stream = TcpStream::connect(broker).unwrap();
    if number % KINDS == 0 {
        return;
    }
    // Says 15 MiB, of which little comes.
    stream.write_all(&[0, 0xf0, 0, 0, 1, 0, 0, 200]).unwrap();
    stream.write_all(&[b'x'; 3000]).unwrap();
    if number % KINDS == 1 {
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the broker closes, too");
    }
}

async fn vanish_after_a_request(broker: &str, number: usize) {
    let connector = connector();
    let connection = connector.connect(broker).await.unwrap();
    if number % KINDS == 3 {
        let group = ConsumerData {
            group_name: "g".to_owned(),
            subscription_data_set: vec![SubscriptionData::parse("orders", "*", 1)],
            ..ConsumerData::default()
        };
        let data = HeartbeatData {
            client_id: number.to_string(),
            consumer_data_set: vec![group],
            ..HeartbeatData::default()
        };
        connection.call(&Heartbeat { data }, LONG).await.unwrap();
    } else {
        let held = PullMessage {
            consumer_group: "readers".into(),
            topic: "orders".into(),
            queue_id: QueueId::ZERO,
            queue_offset: QueueOffset::new(1),
            max_messages: 32,
            sys_flag: PullFlag::SUSPEND.get() | PullFlag::SUBSCRIPTION.get(),
            commit_offset: QueueOffset::ZERO,
            suspend_timeout_ms: i64::MAX,
            subscription: Some("*".into()),
            subscription_version: 0,
            expression_type: None,
            max_bytes: None,
        };
        // It is held by the time that this is answered, on the same connection.
        let ask = GetMaxOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
        tokio::select! {
            biased;
            answer = connection.call(&held, LONG) => panic!("{answer:?}"),
            told = connection.call(&ask, LONG) => assert_eq!(told.unwrap().offset.get(), 1),
        }
    }
}

/// What 3000 clients may leave. Those of one kind, let go of never, would leave 600 times the 4 KiB or more of a client.
const LEFT: f64 = 1.0;

#[tokio::test]
async fn clients_that_vanish_leave_neither_sockets_nor_memory_behind() {
    let store = tempfile::tempdir().unwrap();
    let process = Process::start(store.path(), &[]);
    let connector = connector();
    let connection = connector.connect(&process.broker).await.unwrap();
    connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
    let before = sockets(&process);
    let mut resident_after = Vec::new();
    // The heap of a busy machine grows to what its worst moments took, and then no further.
    while !resident_after.last_chunk().is_some_and(|[first, _, _, last]| last - first < LEFT) {
        assert!(resident_after.len() < 30, "MiB after each 1000 clients: {resident_after:.1?}");
        for first in (0..1000).step_by(50) {
            let clients: JoinSet<()> =
                (first..first + 50).map(|number| vanish(process.broker.clone(), number)).collect();
            clients.join_all().await;
        }
        let settled = comes_true(|| sockets(&process) <= before).await;
        assert!(settled, "{before} sockets before, {} after", sockets(&process));
        resident_after.push(resident(&process));
    }
    eprintln!("MiB after each 1000: {resident_after:.1?}");
    connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
}
