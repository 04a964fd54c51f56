//! `rmq trace`: what became of a message, as its producers and consumers told the trace topic.
//!
//! Java: `client/trace/TraceDataEncoder.java`: fields are separated by 0x01, a record ends with 0x02.

use std::io::{Write, stdout};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use rocketmq_client::MessageQuery;
use rocketmq_protocol::name::TRACE_TOPIC;

use crate::bench::Cluster;
use crate::{Failure, Outcome};

/// The year 10000, in ms since 1970: times have four digits for the year.
const LAST_MS: u64 = 253_402_300_800_000;

pub(crate) const EXAMPLES: &str = "\
Examples:
  rmq trace 7F0000010A1B18B4AAC2001122330000 -n 127.0.0.1:9876
  rmq trace order-42 -n 127.0.0.1:9876
      every message with this key

Producers and consumers tell only where tracing is on (Rust: `.trace(Trace::default())`, Java: `enableTrace`), and a little later
than they send and consume.";

/// Options of `rmq trace`.
#[derive(Args)]
pub(crate) struct Options {
    /// The id of a message, or one of its keys
    #[arg(value_name = "ID|KEY")]
    key: String,
    #[command(flatten)]
    cluster: Cluster,
    /// The topic that was told
    #[arg(long, value_name = "TOPIC", default_value = TRACE_TOPIC)]
    trace_topic: String,
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let client = options.cluster.connect().await?;
    let found = client.query_messages(&options.trace_topic, MessageQuery::key(&options.key)).await?;
    let mut events = Vec::new();
    for message in &found {
        events.extend(read(&String::from_utf8_lossy(message.body()?), &options.key));
    }
    client.shutdown().await;
    events.sort();
    let mut text = String::new();
    for (at_ms, event) in &events {
        let at = UNIX_EPOCH + Duration::from_millis(*at_ms);
        text.push_str(&format!("{}  {event}\n", humantime::format_rfc3339_millis(at)));
    }
    stdout()
        .write_all(text.as_bytes())
        .map_err(|source| Failure::System { doing: "write what was found", source })?;
    if events.is_empty() {
        eprintln!("rmq: {} tells nothing of {}", options.trace_topic, options.key);
        return Ok(Outcome::Not);
    }
    Ok(Outcome::AsAsked)
}

/// What the records of a trace message tell about the message with this id or key: when, and what. Records of other kinds, and
/// torn ones, tell nothing.
fn read(records: &str, key: &str) -> Vec<(u64, String)> {
    let about = |id: &str, keys: &str| id == key || keys.split_ascii_whitespace().any(|one| one == key);
    let mut events = Vec::new();
    for record in records.split('\u{2}') {
        let fields: Vec<_> = record.split('\u{1}').collect();
        let (at, event) = match &fields[..] {
            ["Pub", at, _, group, topic, id, _, keys, broker, bytes, took, _, _, success, ..]
                if about(id, keys) =>
            {
                let done = if *success == "true" { "sent" } else { "not sent" };
                (at, format!("{done} by {group} to {topic} at {broker}: {id}, {bytes} bytes, {took} ms"))
            }
            ["SubBefore", at, _, group, _, id, times, keys, ..] if about(id, keys) => {
                (at, format!("given to {group}: {id}, failed {times} times before"))
            }
            ["SubAfter", _, id, took, success, keys, _, at, group, ..] if about(id, keys) => {
                let done = if *success == "true" { "consumed" } else { "not consumed" };
                (at, format!("{done} by {group}: {id}, {took} ms"))
            }
            ["EndTransaction", at, _, group, topic, id, _, keys, broker, _, _, state, checked, ..]
                if about(id, keys) =>
            {
                let why = if *checked == "true" { "the answer to a check" } else { "its producer" };
                (at, format!("{state} by {why} of {group} for {topic} at {broker}: {id}"))
            }
            _ => continue,
        };
        events.extend(at.parse().ok().filter(|at| *at < LAST_MS).map(|at| (at, event)));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_java_are_told_and_those_of_others_left_out() {
        let records = [
            "Pub|1700000000123|R|pg|T|ID1|TagA|k1 k2|10.0.0.1:10911|5|15|0|0A00|true",
            "Pub|1700000000123|R|pg|T|ID2|null|k3|10.0.0.1:10911|5|15|0|0A00|true",
            "SubBefore|1700000000200|R|cg|REQ|ID1|2|k1 k2",
            "SubAfter|REQ|ID1|7|false|k1 k2|4|1700000000207|cg",
            "EndTransaction|1700000000150|R|pg|T|ID1|null|k1|10.0.0.1:10911|0|ID1|COMMIT_MESSAGE|true",
            "Pub|torn",
            "SubBefore|18446744073709551615|R|cg|REQ|ID1|2|k1 k2",
        ];
        let records = records.map(|record| record.replace('|', "\u{1}") + "\u{2}").concat();
        let told = [
            (1_700_000_000_123, "sent by pg to T at 10.0.0.1:10911: ID1, 5 bytes, 15 ms"),
            (1_700_000_000_200, "given to cg: ID1, failed 2 times before"),
            (1_700_000_000_207, "not consumed by cg: ID1, 7 ms"),
            (1_700_000_000_150, "COMMIT_MESSAGE by the answer to a check of pg for T at 10.0.0.1:10911: ID1"),
        ]
        .map(|(at, event)| (at, event.to_owned()));
        assert_eq!(read(&records, "ID1"), told);
        assert_eq!(read(&records, "k2"), told[..3]);
        assert_eq!(read(&records, "k3").len(), 1);
        assert_eq!(read(&records, "k"), []);
    }
}
