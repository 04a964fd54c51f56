//! Members that join, leave and are killed at random, and a name server that comes and goes.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::processes::{Member, Processes};

/// Seconds that a member lives, and that its place stays empty.
const LIFE: std::ops::Range<f64> = 5.0..25.0;
const ABSENCE: std::ops::Range<f64> = 0.0..5.0;
/// Seconds that the name server is there, and that it is away.
const OUTAGE: std::ops::Range<f64> = 10.0..20.0;

/// One member after the other, until `calm`; the last one is returned.
pub(crate) async fn come_and_go(
    processes: &Processes,
    java: bool,
    seed: u64,
    calm: &CancellationToken,
) -> Result<Member, Failure> {
    let mut chance = StdRng::seed_from_u64(seed);
    loop {
        let mut member = processes.start_member(java)?;
        let life = Duration::from_secs_f64(chance.random_range(LIFE));
        tokio::select! {
            () = calm.cancelled() => return Ok(member),
            error = member.ended() => return Err(error),
            () = tokio::time::sleep(life) => {}
        }
        if chance.random() {
            member.kill(&processes.journal).await?;
        } else {
            member.leave(&processes.journal).await?;
        }
        let absence = Duration::from_secs_f64(chance.random_range(ABSENCE));
        calm.run_until_cancelled(tokio::time::sleep(absence)).await;
    }
}

/// Kills the name server and starts it again until `calm`; then it is there. Returns for how long it was away.
pub(crate) async fn name_server_outages(
    processes: &Processes,
    mut name_server: Child,
    seed: u64,
    calm: &CancellationToken,
) -> Result<(Child, Duration), Failure> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut away = Duration::ZERO;
    loop {
        let there = Duration::from_secs_f64(chance.random_range(OUTAGE));
        if calm.run_until_cancelled(tokio::time::sleep(there)).await.is_none() {
            return Ok((name_server, away));
        }
        name_server.kill().await?;
        let since = std::time::Instant::now();
        let outage = Duration::from_secs_f64(chance.random_range(OUTAGE));
        calm.run_until_cancelled(tokio::time::sleep(outage)).await;
        name_server = processes.start_name_server().await?;
        away += since.elapsed();
    }
}
