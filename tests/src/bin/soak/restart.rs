//! A rolling restart: one member after the other is stopped gracefully and started again.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::processes::{Member, Processes};

/// Between the start of one member and the stop of the next, as somebody who watches a deployment would wait.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a member may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Restarts the members in turn until `calm`, and returns them.
pub(crate) async fn roll(
    processes: &Processes,
    mut members: Vec<Member>,
    mut started: watch::Receiver<HashSet<u32>>,
    calm: &CancellationToken,
) -> Result<Vec<Member>, Failure> {
    for member in &members {
        await_start(member.id, &mut started).await?;
    }
    loop {
        for place in 0..members.len() {
            if calm.run_until_cancelled(tokio::time::sleep(SETTLE)).await.is_none() {
                return Ok(members);
            }
            members.remove(place).leave(&processes.journal).await?;
            let next = processes.start_member(false)?;
            await_start(next.id, &mut started).await?;
            members.insert(place, next);
        }
    }
}

async fn await_start(member: u32, started: &mut watch::Receiver<HashSet<u32>>) -> Result<(), Failure> {
    let it_has = started.wait_for(|started| started.contains(&member));
    let in_time = tokio::time::timeout(START_LIMIT, it_has).await;
    in_time.map_err(|_| format!("member {member} does not start"))??;
    Ok(())
}
