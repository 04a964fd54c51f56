//! What a broker process takes while nothing is asked of it.

#![cfg(target_os = "linux")] // which tells of its processes in /proc

use std::fs;

use crate::support::{LONG, Process, connector, message};

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
