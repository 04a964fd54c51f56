//! One of two brokers becomes slow, goes on, is killed and comes back: sends go on, and pass it over.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rocketmq_client::{Client, Error, LatencyFault, Message, Perm, Producer, SendReceipt, TopicConfig};
use rocketmq_namesrv_lite::NameServer;
use tokio::task::JoinSet;

use crate::arguments::SlowBroker;
use crate::broker_process::{BrokerProcess, until_it_works};
use crate::times::Times;
use crate::{Failure, promise};

const TOPIC: &str = "orders";
const STEADY: &str = "steady";
const SLOW: &str = "slow";
/// Limit of an attempt. One that takes longer is a failure, which counts as 10 s.
const ATTEMPT: Duration = Duration::from_secs(1);
/// For which Java's table, which is the default, passes a broker over for so long.
const AWAY: Duration = Duration::from_secs(10);
/// From failing to the message's being stored at the other broker.
const TOLERANCE: Duration = Duration::from_millis(500);
/// Between two messages of a task.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the slow broker may take to get messages again: the table's time, and until the route is asked for again.
const RETURN: Duration = Duration::from_secs(60);

/// What the tasks share.
#[derive(Default)]
struct Shared {
    phase: Mutex<Phase>,
    stop: AtomicBool,
}

/// What came of the sends that began in one phase.
#[derive(Default)]
struct Phase {
    times: Times,
    at_slow: usize,
    failed: usize,
    first_failure: Option<String>,
    /// When a send ended that had taken longer than an attempt may.
    last_given_up: Option<Instant>,
    /// When the slow broker took the first one.
    first_at_slow: Option<Instant>,
}

impl Shared {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until_slow_broker_is_used(&self) -> Result<Instant, Failure> {
        let until = Instant::now() + RETURN;
        while Instant::now() < until {
            let first = self.phase().first_at_slow;
            if let Some(at) = first {
                return Ok(at);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("after {RETURN:?} the broker still got no message").into())
    }
}

/// Ends a phase: prints and returns what came of it.
fn end(shared: &Shared, name: &str) -> Phase {
    let phase = std::mem::take(&mut *shared.phase());
    println!("{name:10}{phase}");
    phase
}

pub(crate) async fn prove(plan: SlowBroker) -> Result<bool, Failure> {
    let name_server = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await?;
    let names = name_server.local_addr().to_string();
    let _steady = BrokerProcess::start(STEADY, &names, &[]).await?;
    let mut slow = BrokerProcess::start(SLOW, &names, &[]).await?;
    // The producer learns soon that a broker is back.
    let client =
        Client::builder().name_servers([&names]).route_interval(Duration::from_secs(1)).start().await?;
    let topic = TopicConfig::new(TOPIC, 4, Perm::READ_WRITE);
    until_it_works(async || {
        client.create_topic(&topic).await?;
        if client.queues(TOPIC).await?.len() == 8 { Ok(()) } else { Err(Failure::from("one broker")) }
    })
    .await?;
    let producer = Producer::builder("producers")
        .client(&client)
        .attempt_timeout(ATTEMPT)
        .latency_fault(LatencyFault::default())
        .start()
        .await?;
    let shared = Arc::new(Shared::default());
    let mut sending = JoinSet::new();
    for _ in 0..plan.tasks {
        sending.spawn(send(producer.clone(), Arc::clone(&shared)));
    }

    tokio::time::sleep(plan.phase).await;
    let before = end(&shared, "before");
    slow.stop()?;
    tokio::time::sleep(plan.phase).await;
    let stopped = end(&shared, "stopped");
    slow.go_on()?;
    let used_again = shared.until_slow_broker_is_used().await?;
    tokio::time::sleep(plan.phase).await;
    let resumed = end(&shared, "goes on");
    slow.kill().await?;
    tokio::time::sleep(plan.phase).await;
    let killed = end(&shared, "killed");
    slow.start_again().await?;
    shared.until_slow_broker_is_used().await?;
    tokio::time::sleep(plan.phase).await;
    let back = end(&shared, "back");
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = sending.join_next().await {
        ended?;
    }
    producer.shutdown().await;
    client.shutdown().await;

    let phases = [before, stopped, resumed, killed, back];
    let failed: usize = phases.iter().map(|phase| phase.failed).sum();
    let none_failed = promise(&format!("every message is stored ({failed} are not)"), failed == 0);
    if let Some(why) = phases.iter().find_map(|phase| phase.first_failure.as_ref()) {
        println!("        {why}");
    }
    let [_, stopped, resumed, ..] = &phases;
    let tried = stopped.times.over(ATTEMPT);
    let few = promise(
        &format!("each task tries the stopped broker once at most ({tried} sends were held up)"),
        tried <= plan.tasks,
    );
    let given_up = stopped.last_given_up.into_iter().chain(resumed.last_given_up).max();
    let away = given_up.map(|at| used_again.saturating_duration_since(at)).unwrap_or_default();
    let avoided = promise(
        &format!("it is passed over for the table's {AWAY:?} ({away:.1?} after the last failure)"),
        away + TOLERANCE >= AWAY,
    );
    Ok(none_failed && few && avoided)
}

async fn send(producer: Producer, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let result = producer.send(Message::new(TOPIC, "an order")).await;
        let took = began.elapsed();
        shared.phase().take(took, result);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Phase {
    fn take(&mut self, took: Duration, result: Result<SendReceipt, Error>) {
        self.times.add(took);
        if took > ATTEMPT {
            self.last_given_up = Some(Instant::now());
        }
        match result {
            Ok(receipt) if receipt.queue.broker_name == SLOW => {
                self.at_slow += 1;
                self.first_at_slow.get_or_insert_with(Instant::now);
            }
            Ok(_) => {}
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, at_slow, failed, .. } = self;
        write!(f, "{:6} sends, {at_slow:6} at the slow broker, {failed} failed{times}", times.len())
    }
}
