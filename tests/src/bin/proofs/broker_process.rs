//! [`BrokerProcess`]: a broker in a process of its own, to be stopped and killed. It ends with its parent.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rocketmq_broker_lite::{Broker, BrokerConfig};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Failure;

/// How long a broker may take to start.
const START: Duration = Duration::from_secs(30);

/// Runs a broker with these settings (`KEY=VALUE`, `listen=ADDR` among them) until standard input ends.
pub(crate) async fn serve(settings: Vec<String>) -> Result<(), Failure> {
    let mut config = BrokerConfig::default();
    let mut builder = Broker::builder();
    for setting in settings {
        match setting.split_once('=') {
            Some(("listen", addr)) => builder = builder.listen(addr.parse()?),
            Some((key, value)) => {
                config.set(key, value)?;
            }
            None => return Err(format!("{setting}: expected KEY=VALUE").into()),
        }
    }
    let broker = builder.config(config).start().await?;
    println!("up");
    wait_for_parent().await;
    Ok(broker.shutdown().await?)
}

/// Returns when standard input ends, which it does when the parent is gone.
pub(crate) async fn wait_for_parent() {
    tokio::io::stdin().read_to_end(&mut Vec::new()).await.ok();
}

/// This program as another process, killed when dropped.
pub(crate) fn this_program(task: &str) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(task).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// A broker in a process of its own.
pub(crate) struct BrokerProcess {
    settings: Vec<String>,
    process: Child,
    _store: TempDir,
}

impl BrokerProcess {
    pub(crate) async fn start(name: &str, name_server: &str, settings: &[&str]) -> Result<Self, Failure> {
        let store = tempfile::tempdir()?;
        let addr = free_port()?;
        let mut all = vec![
            format!("listen={addr}"),
            format!("brokerName={name}"),
            format!("namesrvAddr={name_server}"),
            format!("storePathRootDir={}", store.path().display()),
        ];
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let process = start(&all).await?;
        Ok(Self { settings: all, process, _store: store })
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.process.kill().await?)
    }

    /// On the same store, at the same address.
    pub(crate) async fn start_again(&mut self) -> Result<(), Failure> {
        self.process = start(&self.settings).await?;
        Ok(())
    }

    /// The process neither runs nor goes away.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// After [`BrokerProcess::stop`].
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let id = self.process.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(kill_process(id.ok_or("the broker has ended")?, signal)?)
    }
}

async fn start(settings: &[String]) -> Result<Child, Failure> {
    let mut process = this_program("broker")?.args(settings).spawn()?;
    let output = process.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    tokio::time::timeout(START, BufReader::new(output).read_line(&mut line)).await??;
    if line.trim() == "up" { Ok(process) } else { Err("a broker did not start".into()) }
}

fn free_port() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Does something until it succeeds: clusters take a moment to be there.
pub(crate) async fn until_it_works<T, E, Fut>(mut attempt: impl FnMut() -> Fut) -> Result<T, Failure>
where
    Fut: Future<Output = Result<T, E>>,
    E: Into<Failure>,
{
    let until = Instant::now() + START;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
