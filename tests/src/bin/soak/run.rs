//! A run from the first process to the verdict.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rocketmq_namesrv_lite::program::StopSignals;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::arguments::{Kind, Plan};
use crate::ledger::{Ledger, Verdict};
use crate::load::{Group, Load, Sent};
use crate::processes::{Member, Processes};
use crate::{Failure, churn, restart};

const MEMBERS: usize = 4;
/// How long the members get for what is left when nothing more is sent. A killed member keeps the locks of its queues for a
/// minute, and Java's looks for its queues every 20 s.
const DRAIN: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);
const TELL: Duration = Duration::from_secs(10);

/// What is known so far.
struct Record {
    /// Held to enter lines or to judge.
    ledger: Mutex<Ledger>,
    started: watch::Sender<HashSet<u32>>,
}

/// Runs `plan`, and says whether everything held.
pub(crate) async fn run(plan: &Plan) -> Result<bool, Failure> {
    let folder = tempfile::Builder::new().prefix("soak-").tempdir()?;
    println!("seed {}, logs in {}", plan.seed, folder.path().display());
    let stop = StopSignals::listen()?;
    let outcome = tokio::select! {
        outcome = run_in(plan, folder.path()) => outcome,
        signal = stop.wait() => Err(format!("stopped by {signal}").into()), // processes end with their handles
    };
    if !matches!(outcome, Ok(true)) {
        println!("logs and journal are kept in {}", folder.keep().display());
    }
    outcome
}

async fn run_in(plan: &Plan, folder: &std::path::Path) -> Result<bool, Failure> {
    if plan.java_members {
        Processes::build_java().await?;
    }
    let processes = Processes::new(folder)?;
    let name_server = processes.start_name_server().await?;
    let _broker = processes.start_broker().await?;
    Load::create_topics(&processes.name_server).await?;
    let record = Record { ledger: Mutex::default(), started: watch::Sender::default() };
    let mut load = Load::start(&processes.name_server, plan.rate).await?;
    let sent = Arc::clone(&load.sent);
    let calm = CancellationToken::new();
    let began = Instant::now();

    let story = async {
        let timer = async {
            tokio::time::sleep(plan.duration).await;
            load.stop().await;
            calm.cancel();
            Ok::<_, Failure>(began.elapsed())
        };
        let names = async {
            if plan.name_server_down {
                return churn::name_server_outages(&processes, name_server, plan.seed, &calm).await;
            }
            Ok((name_server, Duration::ZERO))
        };
        let (sending, (name_server, away), members) =
            tokio::try_join!(timer, names, members(plan, &processes, &record, &calm))?;
        println!(
            "sent {} ({:.0}/s), {} sends failed and were tried again, name server away for {:.0} %",
            sent.total(),
            sent.total() as f64 / sending.as_secs_f64(),
            sent.failures.load(std::sync::atomic::Ordering::Relaxed),
            away.as_secs_f64() * 100.0 / sending.as_secs_f64(),
        );
        let drained = tokio::time::timeout(DRAIN, record.has_all(&sent)).await.is_ok();
        println!(
            "drained: {drained}, {:.1} s after the last send",
            began.elapsed().saturating_sub(sending).as_secs_f64()
        );
        for member in members {
            member.leave(&processes.journal).await?;
        }
        drop(name_server);
        Ok::<_, Failure>(())
    };
    tokio::select! {
        outcome = story => outcome?,
        error = record.follow(&processes, &sent) => return Err(error),
    }
    // What the last members wrote while they left.
    let mut ledger = Ledger::default();
    processes.journal.reader()?.read(|entry| ledger.enter(&entry))?;
    Ok(judge(plan, &ledger, &sent))
}

/// What becomes of the members until `calm`; those that are there then.
async fn members(
    plan: &Plan,
    processes: &Processes,
    record: &Record,
    calm: &CancellationToken,
) -> Result<Vec<Member>, Failure> {
    match plan.kind {
        Kind::Restart => {
            let members = (0..MEMBERS).map(|_| processes.start_member(false)).collect::<Result<_, _>>()?;
            restart::roll(processes, members, record.started.subscribe(), calm).await
        }
        Kind::Churn => {
            let place = |number: u64| {
                let java = plan.java_members && number % 2 == 1;
                churn::come_and_go(processes, java, plan.seed.wrapping_add(number + 1), calm)
            };
            let (a, b, c, d) = tokio::try_join!(place(0), place(1), place(2), place(3))?;
            Ok(vec![a, b, c, d])
        }
    }
}

impl Record {
    /// Reads the journal as it grows; tells now and then how things are. Ends only with an error.
    async fn follow(&self, processes: &Processes, sent: &Sent) -> Failure {
        let began = Instant::now();
        let mut told = began;
        let mut reader = match processes.journal.reader() {
            Ok(reader) => reader,
            Err(error) => return error.into(),
        };
        loop {
            tokio::time::sleep(LOOK).await;
            let mut ledger = self.ledger();
            if let Err(error) = reader.read(|entry| ledger.enter(&entry)) {
                return error.into();
            }
            self.started.send_if_modified(|started| {
                let before = started.len();
                started.extend(ledger.started.iter());
                started.len() != before
            });
            if told.elapsed() >= TELL {
                told = Instant::now();
                eprintln!(
                    "{:4} s: sent {}, handled {} + {}, members started {} killed {} left {}",
                    began.elapsed().as_secs(),
                    sent.total(),
                    ledger.total(Group::Concurrent),
                    ledger.total(Group::Ordered),
                    ledger.started.len(),
                    ledger.killed,
                    ledger.left,
                );
            }
        }
    }

    async fn has_all(&self, sent: &Sent) {
        while !Group::ALL.iter().all(|group| self.ledger().has_all(*group, sent)) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(plan: &Plan, ledger: &Ledger, sent: &Sent) -> bool {
    let verdicts = Group::ALL.map(|group| ledger.judge(group, sent));
    let mut passed = ledger.corrupt == 0 && verdicts.iter().all(Verdict::holds);
    if plan.kind == Kind::Restart {
        passed &= verdicts.iter().all(Verdict::restarts_well);
    }
    println!("members started {}, killed {}, left {}", ledger.started.len(), ledger.killed, ledger.left);
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    if ledger.corrupt > 0 {
        println!("corrupt {}", ledger.corrupt);
    }
    ledger.examples().iter().for_each(|example| println!("  {example}"));
    println!("{}", if passed { "PASS" } else { "FAIL" });
    passed
}
