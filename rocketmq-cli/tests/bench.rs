//! `rmq bench` as a program, at an embedded cluster.
#![allow(clippy::unwrap_used)] // clippy.toml exempts test functions, not what they call

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use rocketmq_broker_lite::Standalone;
use serde_json::Value;
use tokio::runtime::Runtime;

/// A cluster that runs while the test waits for programs.
struct Cluster {
    _runtime: Runtime,
    cluster: Standalone,
}

impl Cluster {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(Standalone::builder().start()).unwrap();
        Self { _runtime: runtime, cluster }
    }

    fn bench(&self, arguments: &str) -> Output {
        bench(&format!("{arguments} --namesrv {}", self.cluster.name_server_addr()))
    }

    /// The JSON of a run that went well.
    fn measure(&self, arguments: &str) -> Value {
        let output = self.bench(&format!("{arguments} --json"));
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn rmq() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rmq"));
    command.env_remove("NAMESRV_ADDR");
    command
}

fn bench(arguments: &str) -> Output {
    rmq().arg("bench").args(arguments.split(' ')).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_produced_is_consumed_whole_by_pushing_and_by_pulling() {
    let cluster = Cluster::start();
    let sent = cluster.measure("produce --topic t --messages 2000 --verify --tags 3 --keys --queues 4");
    assert_eq!((&sent["messages"], &sent["errors"]), (&2000.into(), &0.into()));
    for mode in ["push", "pull"] {
        let got = cluster.measure(&format!("consume --topic t --messages 2000 --verify --mode {mode}"));
        for (key, value) in
            [("messages", 2000), ("distinct", 2000), ("lost", 0), ("reordered", 0), ("errors", 0)]
        {
            assert_eq!(got[key], value, "{key} of {got}");
        }
        assert_eq!(got["megabytes_per_second"].as_f64().map(|rate| rate > 0.0), Some(true), "{got}");
    }
}

#[test]
fn every_way_to_send_sends_as_many_as_asked_for() {
    let cluster = Cluster::start();
    for (way, count) in [("--mode sync --batch 32", 1000), ("--mode async", 500), ("--mode oneway", 300)] {
        let sent = cluster.measure(&format!("produce --topic t --messages {count} --concurrency 8 {way}"));
        assert_eq!((&sent["messages"], &sent["errors"]), (&count.into(), &0.into()), "{way}");
        for key in ["messages_per_second", "p50_us", "p99_us", "p999_us", "max_us"] {
            assert!(sent[key].is_number(), "{key} of {sent}");
        }
    }
    let all = cluster.measure("consume --topic t --messages 1800");
    assert_eq!(all["messages"], 1800);
}

#[test]
fn load_without_a_client_is_sent_and_counted_whole() {
    let cluster = Cluster::start();
    for (way, count) in [("--concurrency 5", 1000), ("--batch 32 --concurrency 3", 3200)] {
        let sent = cluster.measure(&format!("produce --topic t --mode raw --messages {count} {way}"));
        assert_eq!((&sent["messages"], &sent["errors"]), (&count.into(), &0.into()), "{way}");
    }
    for mode in ["raw", "push"] {
        let all = cluster.measure(&format!("consume --topic t --messages 4200 --mode {mode}"));
        assert_eq!((&all["messages"], &all["errors"]), (&4200.into(), &0.into()), "{mode}");
    }
    let more = cluster.bench("consume --topic t --messages 4201 --idle 300ms --mode raw --json");
    let told: Value = serde_json::from_slice(&more.stdout).unwrap();
    assert_eq!((&told["messages"], &told["errors"]), (&4200.into(), &1.into()));
}

#[test]
fn load_without_a_client_says_what_it_cannot_do_and_what_the_broker_refused() {
    let cluster = Cluster::start();
    for arguments in [
        "produce --topic t --mode raw --keys",
        "produce --topic t --mode raw --rate 5",
        "produce --topic t --mode raw --batch 3 --messages 10",
        "consume --topic t --mode raw --verify",
    ] {
        let output = cluster.bench(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(stderr(&output).contains("--mode raw"), "{}", stderr(&output));
    }
    let output = cluster.bench("produce --topic t --mode raw --messages 3 --size 5000000 --json");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["messages"], &told["errors"]), (&0.into(), &3.into()));
    assert!(told["first_error"].as_str().unwrap().contains("maxMessageSize"), "{told}");
}

#[test]
fn a_rate_is_kept() {
    let cluster = Cluster::start();
    for mode in ["sync", "async"] {
        let sent = cluster.measure(&format!("produce --topic t --messages 200 --rate 400 --mode {mode}"));
        let seconds = sent["seconds"].as_f64().unwrap();
        assert!(seconds > 0.49, "{sent}"); // the last one is due after 199/400 s
    }
}

#[test]
fn latency_is_told_to_the_acknowledgement_and_to_the_handler() {
    let cluster = Cluster::start();
    let told = cluster.measure("latency --topic t --rate 500 --duration 400ms --queues 2");
    assert_eq!((&told["messages"], &told["errors"]), (&200.into(), &0.into()));
    for key in ["p50_us", "p99_us", "max_us", "ack_p50_us", "ack_p99_us", "ack_max_us"] {
        assert!(told[key].as_u64().is_some_and(|us| us > 0), "{key} of {told}");
    }
    let told = cluster.measure("latency --topic auto --auto-create --rate 500 --duration 100ms --awake");
    assert_eq!((&told["messages"], &told["errors"]), (&50.into(), &0.into()));
}

#[test]
fn messages_that_were_not_stamped_are_not_sound() {
    let cluster = Cluster::start();
    cluster.measure("produce --topic t --messages 10");
    let output = cluster.bench("consume --topic t --messages 10 --verify");
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("NOT SOUND") && table.contains("10 not stamped"), "{table}");
}

#[test]
fn messages_that_do_not_come_are_errors() {
    let cluster = Cluster::start();
    cluster.measure("produce --topic t --messages 10");
    let output = cluster.bench("consume --topic t --messages 11 --idle 300ms --json");
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["messages"], &told["errors"]), (&10.into(), &1.into()));
}

struct NullServer(Child);

impl Drop for NullServer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn the_null_server_takes_what_a_broker_takes() {
    let mut server = NullServer(
        rmq()
            .args(["bench", "null-server", "--listen", "127.0.0.1:0", "--relay", "relayed"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.split_once(" at ").unwrap().1.split_once(';').unwrap().0;
    for way in ["", "--batch 32", "--mode oneway", "--auto-create"] {
        let arguments = format!("produce -n {addr} -t t -m 1000 --json {way}");
        let output = bench(arguments.trim_end());
        assert!(output.status.success(), "{way}: {output:?}");
        let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(sent["messages"], 1000);
    }
    let output = bench(&format!("latency -n {addr} -t relayed -d 200ms --rate 1000 --json"));
    assert!(output.status.success(), "{output:?}");
    let handed_on: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&handed_on["messages"], &handed_on["errors"]), (&200.into(), &0.into()));
}

#[test]
fn a_cluster_that_is_not_there_is_an_error_that_says_what_to_do() {
    // A port that was free a moment ago, and that nobody is given again so soon.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = bench(&format!("produce --namesrv {free} --topic t"));
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(told.contains(&free.to_string()) && told.contains("Is a name server running there?"), "{told}");
    let output = bench("consume --topic t");
    assert!(stderr(&output).contains("NAMESRV_ADDR"), "{output:?}");
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (arguments, word) in [
        ("produce", "--topic"),
        ("produce -t t --rate 0", "above 0"),
        ("produce -t t --messages 5 --duration 1s", "cannot be used with"),
        ("consume -t t --from yesterday", "now-1h"),
        ("latency -t t --size 8", "24"),
    ] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(stderr(&output).contains(word), "{arguments}: {}", stderr(&output));
    }
}

#[test]
fn delayed_messages_are_late_but_never_early() {
    let cluster = Cluster::start();
    let result = cluster.measure("delay --topic t --messages 100 --rate 500 --queues 2");
    for (key, value) in [("messages", 100), ("errors", 0), ("early", 0), ("missing", 0), ("duplicates", 0)] {
        assert_eq!(result[key], value, "{key} of {result}");
    }
    assert!(result["p50_us"].is_number() && result["ack_p50_us"].is_number(), "{result}");
}
