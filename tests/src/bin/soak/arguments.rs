//! What the command line asks for.

use std::time::Duration;

use lexopt::prelude::*;

use crate::Failure;

pub(crate) const HELP: &str = "\
soak: consumers of a group come, go and are killed while messages are sent; was anything lost, out of order, or twice?

Usage: soak churn   [--duration 10m] [--rate 2000] [--java-members] [--name-server-down] [--seed N]
       soak restart [--duration 10m] [--rate 5000] [--seed N]

  churn     4 members join, leave and are killed (SIGKILL) at random
  restart   4 members are stopped gracefully and started again, one after the other, over and over

      --duration TIME      how long messages are sent, as in 90s or 10m (default 1m)
      --rate N             messages per second, sent by 4 producers (default 2000, of restart 5000)
      --java-members       two of the four members are Java's (needs a JDK of 17 and Maven)
      --name-server-down   the name server is killed, and started again, so that it is away for half of the time
      --seed N             the same chances as in an earlier run (default: other ones)
  -h, --help               print this, and end

Each member consumes with two groups: one handles messages of a queue side by side, the other one in order. Half of
the messages go to either. It needs the programs rocketmq-broker-lite and rocketmq-namesrv-lite beside its own:

  cargo build -p rocketmq-broker-lite -p rocketmq-namesrv-lite -p rocketmq-tests --bins

A run succeeds if every acknowledged message was handled; and, in the ordered group, if no message was handled before
the one that precedes it under the same key, and a key went back only after the member that had it was killed; in restart,
also if fewer than 0.1 % came twice, and none because a member had stopped. What is Java's doing is told, but no failure.
After a failure the logs, and the journal of what was handled, stay in a folder that is printed.
";

/// What to do.
pub(crate) enum Task {
    Help,
    /// Be a consumer.
    Member {
        name_server: String,
        id: u32,
    },
    Run(Plan),
}

/// What to run.
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) duration: Duration,
    /// Messages per second.
    pub(crate) rate: u32,
    pub(crate) java_members: bool,
    pub(crate) name_server_down: bool,
    pub(crate) seed: u64,
}

/// What happens to the members.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Churn,
    Restart,
}

pub(crate) fn parse() -> Result<Task, Failure> {
    let mut options = lexopt::Parser::from_env();
    let kind = match options.next()? {
        Some(Value(name)) => match name.string()?.as_str() {
            "churn" => Kind::Churn,
            "restart" => Kind::Restart,
            "member" => {
                let (name_server, id) = (options.value()?.string()?, options.value()?.parse()?);
                return Ok(Task::Member { name_server, id });
            }
            other => return Err(format!("{other} is neither churn nor restart").into()),
        },
        Some(Short('h') | Long("help")) => return Ok(Task::Help),
        Some(other) => return Err(other.unexpected().into()),
        None => return Err("say churn or restart".into()),
    };
    let mut plan = Plan {
        kind,
        duration: Duration::from_secs(60),
        rate: if kind == Kind::Churn { 2000 } else { 5000 },
        java_members: false,
        name_server_down: false,
        seed: rand::random(),
    };
    while let Some(option) = options.next()? {
        match option {
            Long("duration") => {
                let text = options.value()?.string()?;
                plan.duration = humantime::parse_duration(&text)
                    .map_err(|error| format!("--duration {text}: {error}"))?;
            }
            Long("rate") => plan.rate = options.value()?.parse()?,
            Long("java-members") if kind == Kind::Churn => plan.java_members = true,
            Long("name-server-down") if kind == Kind::Churn => plan.name_server_down = true,
            Long("seed") => plan.seed = options.value()?.parse()?,
            Short('h') | Long("help") => return Ok(Task::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    if plan.rate == 0 {
        return Err("--rate 0 sends nothing".into());
    }
    Ok(Task::Run(plan))
}
