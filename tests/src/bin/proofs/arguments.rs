//! What the command line asks for.

use std::path::PathBuf;
use std::time::Duration;

use crate::Failure;

pub(crate) const HELP: &str = "\
proofs: what is promised of producing, tried out on processes that are stopped and killed

Usage: proofs transactions [--messages 10000] [--services 3] [--seconds 30] [--seed N]
       proofs slow-broker  [--seconds 5] [--tasks 16]
       proofs delays       [--messages 5000] [--seconds 20] [--kills 3] [--seed N]
       proofs order        [--messages 100000] [--tasks 16] [--keys 1000]

  transactions  a third is committed, a third rolled back, a third left unknown, while producers and broker are killed
                at random: exactly what was committed is visible, once
  slow-broker   one of two brokers is stopped (SIGSTOP), goes on, is killed and comes back: sends go on, and pass it over
  delays        messages wait for levels and times while the broker is killed: none is early, none lost, and those that
                no kill concerns are handled at most 100 ms late, the others delivered 100 ms after the broker is up (99 of 100)
  order         messages of a key are handled in the order in which they were sent

Brokers and producers are this program, too. It prints what it found, and exits with 1 if a promise is broken.
";

/// What to do.
pub(crate) enum Task {
    Help,
    Transactions(Transactions),
    SlowBroker(SlowBroker),
    Delays(Delays),
    Order(Order),
    /// Be a broker.
    Broker(Vec<String>),
    /// Be a producer with transactions.
    TransactionService(TransactionService),
}

pub(crate) struct Transactions {
    pub(crate) messages: usize,
    pub(crate) services: usize,
    /// Of sending, so that there is something to kill.
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

pub(crate) struct SlowBroker {
    /// Of each phase that takes a fixed time.
    pub(crate) phase: Duration,
    pub(crate) tasks: usize,
}

pub(crate) struct Delays {
    pub(crate) messages: u32,
    /// Of sending.
    pub(crate) time: Duration,
    pub(crate) kills: u32,
    pub(crate) seed: u64,
}

pub(crate) struct Order {
    pub(crate) messages: usize,
    pub(crate) tasks: usize,
    pub(crate) keys: usize,
}

pub(crate) struct TransactionService {
    pub(crate) name_server: String,
    pub(crate) topic: String,
    pub(crate) outcomes: PathBuf,
    /// Messages per second.
    pub(crate) rate: f64,
}

pub(crate) fn parse() -> Result<Task, Failure> {
    use lexopt::prelude::*;
    let mut arguments = lexopt::Parser::from_env();
    let task = match arguments.next()? {
        Some(Value(task)) => task.string()?,
        Some(Short('h') | Long("help")) => return Ok(Task::Help),
        Some(other) => return Err(other.unexpected().into()),
        None => return Err("say what to prove".into()),
    };
    if task == "broker" {
        let settings = arguments.raw_args()?.map(ValueExt::string);
        return Ok(Task::Broker(settings.collect::<Result<_, _>>()?));
    }
    if task == "transaction-service" {
        let mut next = || arguments.value();
        return Ok(Task::TransactionService(TransactionService {
            name_server: next()?.string()?,
            topic: next()?.string()?,
            outcomes: next()?.into(),
            rate: next()?.parse()?,
        }));
    }
    let mut options = Options::default();
    while let Some(option) = arguments.next()? {
        let place = match option {
            Long("messages") => &mut options.messages,
            Long("services") => &mut options.services,
            Long("seconds") => &mut options.seconds,
            Long("tasks") => &mut options.tasks,
            Long("kills") => &mut options.kills,
            Long("keys") => &mut options.keys,
            Long("seed") => &mut options.seed,
            Short('h') | Long("help") => return Ok(Task::Help),
            other => return Err(other.unexpected().into()),
        };
        *place = Some(arguments.value()?.parse()?);
    }
    options.task(&task)
}

#[derive(Default)]
struct Options {
    messages: Option<u32>,
    services: Option<u32>,
    seconds: Option<u32>,
    tasks: Option<u32>,
    kills: Option<u32>,
    keys: Option<u32>,
    seed: Option<u32>,
}

impl Options {
    fn task(self, task: &str) -> Result<Task, Failure> {
        let Self { messages, services, seconds, tasks, kills, keys, seed } = self;
        let seed = u64::from(seed.unwrap_or_else(rand::random));
        let seconds = |default| Duration::from_secs(seconds.unwrap_or(default).into());
        let count = |given: Option<u32>, default| given.map_or(default, |count| count.max(1) as usize);
        Ok(match task {
            "transactions" => Task::Transactions(Transactions {
                messages: count(messages, 10_000),
                services: count(services, 3),
                time: seconds(30),
                seed,
            }),
            "slow-broker" => Task::SlowBroker(SlowBroker { phase: seconds(5), tasks: count(tasks, 16) }),
            "delays" => Task::Delays(Delays {
                messages: messages.unwrap_or(5000),
                time: seconds(20),
                kills: kills.unwrap_or(3),
                seed,
            }),
            "order" => Task::Order(Order {
                messages: count(messages, 100_000),
                tasks: count(tasks, 16),
                keys: count(keys, 1000),
            }),
            other => return Err(format!("nothing to prove is called {other}").into()),
        })
    }
}
