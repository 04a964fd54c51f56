//! The program `rocketmq-broker-lite`, as a shell meets it.

use std::io::Write;
use std::process::Output;

use rocketmq_protocol::requests::GetRouteInfo;

use crate::support::{LONG, Process, connector, message, program};

fn refused(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = program().args(arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && stdout.is_empty(), "{arguments:?}");
    assert_eq!(stderr.lines().count(), 1, "one clear line, not:\n{stderr}");
    stderr
}

#[test]
fn help_and_settings_are_printed_and_nothing_is_started() {
    let help = program().arg("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--namesrv-listen"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "# a comment\nbrokerName = broker-x\nlistenPort=12345\ndeleteWhen=04").unwrap();
    let printed =
        program().args(["--set", "brokerIP1=mq.example.com", "-p", "-c"]).arg(file.path()).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    for line in
        ["brokerName=broker-x", "listenPort=12345", "brokerIP1=mq.example.com", "flushDiskType=ASYNC_FLUSH"]
    {
        assert!(printed.lines().any(|printed| printed == line), "{line} in:\n{printed}");
    }
}

#[test]
fn a_bad_configuration_ends_with_one_line_that_says_what_and_where() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "brokerName=a\n\nlistenPort=many").unwrap();
    let path = file.path().to_str().unwrap();
    let line = refused(&["-c", path]);
    assert!(line.contains(path) && line.contains("line 3") && line.contains("listenPort=many"), "{line}");
    assert!(refused(&["--set", "brokerNmae=a"]).contains("brokerNmae"));
    assert!(refused(&["--set", "flushDiskType"]).contains("KEY=VALUE"));
    assert!(refused(&["--listen", "nowhere"]).contains("HOST:PORT"));
    assert!(refused(&["--frobnicate"]).contains("--help"));
    assert!(refused(&["-c", "/nonexistent/broker.conf"]).contains("/nonexistent/broker.conf"));
    assert!(refused(&["-n", "127.0.0.1:1", "--namesrv-listen", "127.0.0.1:0"]).contains("--standalone"));
}

#[test]
fn a_port_or_store_in_use_ends_with_one_line() {
    let store = tempfile::tempdir().unwrap();
    let process = Process::start(store.path(), &[]);
    let other = tempfile::tempdir().unwrap();
    let path = other.path().to_str().unwrap();
    let (status, log) =
        ended(&["--listen", &process.broker, "--namesrv-listen", "127.0.0.1:0", "--store", path]);
    assert!(!status && log.contains(&process.broker), "{log}");
    let path = store.path().to_str().unwrap();
    let (status, log) =
        ended(&["--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0", "--store", path]);
    assert!(!status && log.contains("another broker") && log.contains(path), "{log}");
}

/// Whether it ended well, and the last line it wrote.
fn ended(arguments: &[&str]) -> (bool, String) {
    let output = program().args(arguments).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), log.lines().last().unwrap().to_owned())
}

#[tokio::test]
async fn both_stop_signals_end_it_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let store = tempfile::tempdir().unwrap();
        let mut process = Process::start(store.path(), &["haListenPort=10912"]);
        let connector = connector();
        let connection = connector.connect(&process.broker).await.unwrap();
        connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
        assert!(store.path().join("abort").exists());
        process.signal(signal);
        assert!(process.child.wait().unwrap().success(), "{signal}");
        assert!(!store.path().join("abort").exists(), "the stop counts as a crash");
        let log = process.rest_of_log();
        assert!(log.contains("broker stopped"), "{log}");
    }
}

#[tokio::test]
async fn a_broker_registers_under_its_advertised_name() {
    let store = tempfile::tempdir().unwrap();
    let process = Process::start(store.path(), &["brokerIP1=localhost"]);
    assert!(process.broker.starts_with("localhost:"), "{}", process.broker);
    let connector = connector();
    let connection = connector.connect(&process.broker).await.unwrap();
    let sent = connection.call(&message("orders", 0, "x"), LONG).await.unwrap();
    assert!(sent.message_id.starts_with("7F000001") || sent.message_id.len() == 56, "{}", sent.message_id);
    let names = connector.connect(&process.name_server).await.unwrap();
    let route = GetRouteInfo { topic: "orders".into(), accept_standard_json_only: None };
    let route = names.call(&route, LONG).await.unwrap().route.route;
    assert_eq!(route.broker_datas[0].broker_addrs[&0], process.broker);
}
