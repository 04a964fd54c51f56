//! Transactions while their services and the broker are killed: exactly what was committed becomes visible, once.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocketmq_client::{
    Client, MessageQueue, Perm, PullConsumer, PullOutcome, PullRequest, QueueOffset, Retry, TopicConfig,
};
use rocketmq_namesrv_lite::NameServer;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::arguments::Transactions;
use crate::broker_process::{BrokerProcess, this_program, until_it_works};
use crate::outcomes::{Decision, Outcomes};
use crate::{Failure, promise};

const TOPIC: &str = "orders";
/// The broker asks early and often, and does not give up because those it asks are being killed.
const SETTINGS: [&str; 3] =
    ["transactionTimeOut=500", "transactionCheckInterval=200", "transactionCheckMax=1000"];
/// Nothing new for so long, several times what the broker waits before it asks, is the end.
const QUIET: Duration = Duration::from_millis(2500);
/// How long it may take the broker to ask about all that is unknown.
const RESOLUTION: Duration = Duration::from_secs(120);
/// Between two kills, in ms.
const CALM_MS: std::ops::Range<u64> = 200..900;

/// Message ids that are visible, how often each.
#[derive(Default)]
struct Visible {
    ids: HashMap<String, u32>,
    next: HashMap<u32, QueueOffset>,
}

pub(crate) async fn prove(plan: Transactions) -> Result<bool, Failure> {
    let Transactions { messages, services, time, seed } = plan;
    println!("{messages} transactions of {services} services in {time:?}, seed {seed}");
    let rate = messages as f64 / time.as_secs_f64().max(0.1) / services as f64;
    let name_server = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await?;
    let names = name_server.local_addr().to_string();
    let mut broker = BrokerProcess::start("broker", &names, &SETTINGS).await?;
    let client = Client::builder().name_servers([&names]).start().await?;
    let topic = TopicConfig::new(TOPIC, 4, Perm::READ_WRITE);
    until_it_works(|| client.create_topic(&topic)).await?;
    let folder = tempfile::tempdir()?;
    let outcomes = Outcomes::in_folder(folder.path());
    let service = || -> Result<Child, Failure> {
        let mut command = this_program("transaction-service")?;
        command.args([&names, TOPIC]).arg(folder.path()).arg(rate.to_string()).stdout(Stdio::null());
        Ok(command.spawn()?)
    };
    let mut running = (0..services).map(|_| service()).collect::<Result<Vec<_>, _>>()?;

    let began = Instant::now();
    let mut chance = StdRng::seed_from_u64(seed);
    let (mut services_killed, mut brokers_killed) = (0, 0);
    while outcomes.len()? < messages {
        tokio::time::sleep(Duration::from_millis(chance.random_range(CALM_MS))).await;
        if chance.random_bool(0.4) {
            broker.kill().await?;
            broker.start_again().await?;
            brokers_killed += 1;
        } else if let Some(victim) = running.get_mut(chance.random_range(0..services)) {
            victim.kill().await?;
            *victim = service()?;
            services_killed += 1;
        }
    }
    for service in &mut running {
        service.stdin.as_mut().ok_or("no input")?.write_all(b"finish\n").await?;
    }
    let sending = began.elapsed();
    // Once more, with everything that is still unknown on disk.
    broker.kill().await?;
    broker.start_again().await?;
    brokers_killed += 1;
    println!(
        "sent for {:.1} s; killed: {services_killed} services, {brokers_killed} brokers",
        sending.as_secs_f64()
    );

    let visible = read_until_quiet(&client, &outcomes).await?;
    for mut service in running {
        service.kill().await?;
    }
    broker.kill().await?;
    client.shutdown().await;
    name_server.shutdown().await;
    Ok(judge(&outcomes.all()?, &visible))
}

/// Reads until all that is committed is there, and nothing has changed for a while; or until that takes too long.
async fn read_until_quiet(client: &Client, outcomes: &Outcomes) -> Result<Visible, Failure> {
    let reader = PullConsumer::builder("readers").client(client).start().await?;
    let queues = until_it_works(|| reader.queues(TOPIC)).await?;
    let mut visible = Visible::default();
    let began = Instant::now();
    let (mut seen, mut changed) = ((0, 0), Instant::now());
    loop {
        for queue in &queues {
            visible.read(&reader, queue).await?;
        }
        let all = outcomes.all()?;
        let missing =
            all.iter().filter(|(id, decision)| decision.is_commit() && !visible.ids.contains_key(*id));
        let now = (visible.total(), all.len());
        if now != seen {
            (seen, changed) = (now, Instant::now());
        }
        let quiet = changed.elapsed() > QUIET;
        if (quiet && missing.count() == 0) || began.elapsed() > RESOLUTION {
            println!("resolved {:.1} s after the last send", (changed - began).as_secs_f64());
            return Ok(visible);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Visible {
    fn total(&self) -> u32 {
        self.ids.values().sum()
    }

    /// What is new in a queue.
    async fn read(&mut self, reader: &PullConsumer, queue: &MessageQueue) -> Result<(), Failure> {
        let number = queue.queue_id.get().unsigned_abs();
        loop {
            let from = self.next.get(&number).copied().unwrap_or(QueueOffset::ZERO);
            let outcome = match reader.pull(queue, PullRequest::new(from)).await {
                Ok(outcome) => outcome,
                Err(error) if error.retry() != Retry::No => return Ok(()), // once more, later
                Err(error) => return Err(error.into()),
            };
            let end = !matches!(outcome, PullOutcome::Found { .. });
            if let PullOutcome::OutOfRange { min, max, .. } = outcome
                && from != min
            {
                return Err(format!("queue {number} had {from} messages, and now {min} to {max}").into());
            }
            self.next.insert(number, outcome.next());
            for message in outcome.into_messages() {
                *self.ids.entry(message.message_id().into_owned()).or_default() += 1;
            }
            if end {
                return Ok(());
            }
        }
    }
}

fn judge(decided: &HashMap<String, Decision>, visible: &Visible) -> bool {
    println!("{:18}{:>9}{:>9}", "decided", "number", "visible");
    for decision in [
        Decision::Commit,
        Decision::Rollback,
        Decision::UnknownCommit,
        Decision::UnknownRollback,
        Decision::Abandoned,
    ] {
        let these = decided.iter().filter(|(_, decided)| **decided == decision);
        let seen = these.clone().filter(|(id, _)| visible.ids.contains_key(*id)).count();
        println!("{:18}{:>9}{seen:>9}", format!("{decision:?}"), these.count());
    }
    let lost = decided.iter().filter(|(id, told)| told.is_commit() && !visible.ids.contains_key(*id)).count();
    let wrong =
        visible.ids.keys().filter(|id| !decided.get(*id).is_some_and(|told| told.is_commit())).count();
    let twice = visible.ids.values().filter(|times| **times > 1).count();
    let all = promise(&format!("what was committed is visible ({lost} lost)"), lost == 0);
    let only = promise(&format!("nothing else is visible ({wrong} are)"), wrong == 0);
    let once = promise(&format!("nothing is visible twice ({twice} are)"), twice == 0);
    all && only && once
}
