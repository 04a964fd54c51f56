//! `rmq bench idle`: what a broker does while nobody sends: many topics, many consumers that wait, their heartbeats and
//! pulls, and the registrations.

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use rocketmq_client::{Ack, Client, Error, Filter, Perm, PushConsumer, TopicConfig};
use serde_json::json;

use super::target::Cluster;
use crate::{Failure, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  rmq bench idle --namesrv 127.0.0.1:9876 --pid $(pidof rocketmq-broker-lite)
      a minute with 1,000 topics and 100 consumers, each with connections of its own
  rmq bench idle -n 127.0.0.1:9876 --topics 10 --consumers 10 --duration 10m --pid 4711 --json

CPU time and memory are read from /proc, so the process must be on this Linux machine.";

/// Requests in flight while topics are created and consumers start.
const PARALLEL: usize = 16;
/// How long everything settles before the measurement.
const SETTLE: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(5);

/// Options of `rmq bench idle`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    cluster: Cluster,
    /// Topics, of 4 queues each; they are created and stay
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Consumers, which share the topics evenly
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    consumers: u32,
    /// How long to watch
    #[arg(long, short, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// The process to watch
    #[arg(long, value_name = "PID")]
    pid: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { topics, consumers, duration, pid, .. } = options;
    let client = options.cluster.connect().await?;
    let topic = |number: u32| format!("rmq-bench-idle-{number}");
    stream::iter(0..topics)
        .map(|number| {
            let client = &client;
            async move { client.create_topic(&TopicConfig::new(topic(number), 4, Perm::READ_WRITE)).await }
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    let waiting: Vec<_> = stream::iter(0..consumers)
        .map(|number| {
            start(&options.cluster, number, (number..topics).step_by(consumers as usize).map(topic))
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    tokio::time::sleep(SETTLE).await;
    let (since, before) = (Instant::now(), cpu_seconds(pid)?);
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let (took, used) = (since.elapsed().as_secs_f64(), cpu_seconds(pid)? - before);
    let memory = resident_mib(pid)?;
    let ends = waiting.into_iter().map(|(client, consumer)| async move {
        consumer.shutdown(GRACE).await.ok(); // it handled nothing, so there is nothing to lose
        client.shutdown().await;
    });
    futures_util::future::join_all(ends).await;
    client.shutdown().await;
    let percent = used / took * 100.0;
    let text = if options.json {
        json!({ "topics": topics, "consumers": consumers, "seconds": took, "cpu_seconds": used, "cpu_percent": percent, "rss_mib": memory }).to_string()
    } else {
        format!(
            "idle: {topics} topics, {consumers} consumers, process {pid}\n  cpu   {percent:.2} % of one core ({used:.2} s in {took:.0} s)\n  rss   {memory:.1} MiB"
        )
    };
    writeln!(stdout(), "{text}").map_err(|source| Failure::System { doing: "write the report", source })?;
    Ok(Outcome::AsAsked)
}

/// A consumer with connections of its own.
async fn start(
    cluster: &Cluster,
    number: u32,
    topics: impl Iterator<Item = String>,
) -> Result<(Client, PushConsumer), Failure> {
    let client = cluster.connect().await?;
    let mut consumer = PushConsumer::builder(format!("rmq-bench-idle-{number}")).client(&client);
    for topic in topics {
        consumer = consumer.subscribe(topic, Filter::All);
    }
    let consumer: Result<_, Error> = consumer.handler(|_| std::future::ready(Ok(Ack::All))).start().await;
    Ok((client, consumer?))
}

/// User and system time of a process. `proc_pid_stat(5)`.
fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let text = read(pid, "stat")?;
    // The name, in parentheses, may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        fields.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0) // USER_HZ is 100 wherever Linux runs
}

fn resident_mib(pid: u32) -> Result<f64, Failure> {
    let text = read(pid, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib =
        line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default();
    Ok(kib / 1024.0)
}

fn read(pid: u32, file: &str) -> Result<String, Failure> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|source| Failure::System { doing: "read the figures of the process", source })
}
