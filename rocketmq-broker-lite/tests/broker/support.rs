//! The broker as a process of its own, and a connection to talk to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocketmq_protocol::QueueId;
use rocketmq_protocol::requests::SendMessage;
use rocketmq_protocol::transport::{Call, Connector, Service, TransportOptions};

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A peer that is asked nothing.
pub(crate) struct Nothing;

impl Service for Nothing {
    fn serve(&self, _: Call) {}
}

/// Waits until `holds`. False when it does not within [`LONG`].
pub(crate) async fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let polling = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, polling).await.is_ok()
}

pub(crate) fn connector() -> Connector {
    Connector::new(TransportOptions::default(), Arc::new(Nothing))
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-broker-lite"));
    command.env_remove("NAMESRV_ADDR").env_remove("RUST_LOG");
    command
}

/// A broker process with a name server in it, killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) broker: String,
    pub(crate) name_server: String,
    /// What it logged until it was up.
    pub(crate) start_log: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Process {
    pub(crate) fn start(store: &Path, settings: &[&str]) -> Self {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0", "--store"]).arg(store);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut process = Self {
            log: BufReader::new(child.stderr.take().unwrap()),
            child,
            broker: String::new(),
            name_server: String::new(),
            start_log: String::new(),
        };
        process.broker = process.await_line("broker started", "advertised=");
        process.name_server = process.await_line("clients take this", "name_server=");
        process
    }

    /// The value behind `key` in the first line of the log that has `phrase`.
    fn await_line(&mut self, phrase: &str, key: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the broker ended:\n{}", self.start_log);
            self.start_log.push_str(&line);
            if line.contains(phrase) {
                let value = line.split_once(key).unwrap_or_else(|| panic!("{line}")).1;
                return value.split_whitespace().next().unwrap().trim_matches('"').to_owned();
            }
        }
    }

    /// The rest of the log, once the process has ended.
    pub(crate) fn rest_of_log(&mut self) -> String {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.log, &mut rest).unwrap();
        rest
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn message(topic: &str, queue_id: i32, body: impl Into<Bytes>) -> SendMessage {
    SendMessage {
        producer_group: "producers".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: QueueId::new(queue_id),
        sys_flag: 0,
        born_timestamp: 1,
        flag: 0,
        properties: None,
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: None,
        body: body.into(),
    }
}
