//! A push consumer that wants messages 0 to COUNT-1, whole and each exactly once. Arguments, output and exit codes:
//! `tests/interop/README.md`.
#![allow(clippy::print_stdout)] // its output is its result

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rocketmq_client::{Ack, Batch, ConsumeFrom, Error, Filter, PushConsumer};
use rocketmq_tests::verify;
use tokio::sync::Notify;

const USAGE: &str = "usage: interop-consume NAMESRV TOPIC GROUP COUNT TIMEOUT_S [IDLE_AFTER_MS]";

struct Seen {
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    distinct: HashSet<u32>,
    received: u32,
    corrupt: u32,
    last: Instant,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name_server, topic, group, count, timeout_s, idle_ms @ ..] = &arguments[..] else { return usage() };
    let idle_ms = match idle_ms {
        [] => Ok(1000),
        [idle_ms] => idle_ms.parse(),
        _ => return usage(),
    };
    let (Ok(count), Ok(timeout_s), Ok(idle_ms)) = (count.parse(), timeout_s.parse(), idle_ms) else {
        return usage();
    };
    let (timeout, idle) = (Duration::from_secs(timeout_s), Duration::from_millis(idle_ms));
    match run(name_server, topic, group, count, timeout, idle).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

async fn run(
    name_server: &str,
    topic: &str,
    group: &str,
    count: u32,
    timeout: Duration,
    idle: Duration,
) -> Result<bool, Error> {
    let start = Instant::now();
    let state = State { distinct: HashSet::new(), received: 0, corrupt: 0, last: start };
    let seen = Arc::new(Seen { state: Mutex::new(state), arrived: Notify::new() });
    let consumer = PushConsumer::builder(group)
        .name_servers([name_server])
        .subscribe(topic, Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler({
            let seen = Arc::clone(&seen);
            move |messages| {
                seen.take(&messages);
                std::future::ready(Ok(Ack::All))
            }
        })
        .start()
        .await?;
    println!("started");
    let exact = seen.wait(count, start, timeout, idle).await;
    consumer.shutdown(Duration::from_secs(10)).await?;
    Ok(exact)
}

impl Seen {
    fn take(&self, messages: &Batch) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for message in messages {
            state.received += 1;
            match verify(message) {
                Ok(i) => {
                    if !state.distinct.insert(i) {
                        eprintln!("duplicate {i} {}", message.message_id());
                    }
                }
                Err(reason) => {
                    state.corrupt += 1;
                    eprintln!("corrupt {} {reason}", message.message_id());
                }
            }
        }
        state.last = Instant::now();
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits until all are here and nothing more has come for `idle`, or until `timeout`; reports.
    async fn wait(&self, count: u32, start: Instant, timeout: Duration, idle: Duration) -> bool {
        let ready = Instant::now();
        loop {
            let until = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let all = state.distinct.len() >= count as usize;
                if all { (ready + timeout).min(state.last.max(ready) + idle) } else { ready + timeout }
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            tokio::time::timeout(left, self.arrived.notified()).await.ok();
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { distinct, received, corrupt, last } = &*state;
        let duplicates = (*received - *corrupt) as usize - distinct.len();
        println!(
            "received {received} distinct {} duplicates {duplicates} corrupt {corrupt} ms {}",
            distinct.len(),
            last.duration_since(start).as_millis()
        );
        *received == count && distinct.len() == count as usize && distinct.iter().all(|i| *i < count)
    }
}
