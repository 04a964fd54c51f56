//! The processes of a run: name server, broker, and members that are told to leave or are killed.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};

use crate::Failure;
use crate::journal::{Entry, Journal};

/// How long a server may take until it listens, and a member until it has left.
const LIMIT: Duration = Duration::from_secs(60);

/// Keeps Java's members from setting up the broker's many logs, which they would find first and spend seconds on.
const JAVA_LOGGING: &str = "java-logging.xml";

/// Starts processes. They are killed when their handles are dropped.
pub(crate) struct Processes {
    /// Logs, the store and the journal.
    folder: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) name_server: String,
    broker: String,
    next_member: AtomicU32,
}

/// A consumer.
pub(crate) struct Member {
    pub(crate) id: u32,
    child: Child,
    /// It leaves when this is closed. Not left in `child`: waiting for that one closes it.
    stdin: Option<ChildStdin>,
}

impl Processes {
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        std::fs::write(folder.join(JAVA_LOGGING), "<configuration><root level=\"OFF\"/></configuration>\n")?;
        Ok(Self {
            folder: folder.to_owned(),
            journal: Journal::create(folder)?,
            name_server: free_address()?,
            broker: free_address()?,
            next_member: AtomicU32::new(1),
        })
    }

    /// Always at the same address.
    pub(crate) async fn start_name_server(&self) -> Result<Child, Failure> {
        let mut command = beside_us("rocketmq-namesrv-lite")?;
        command.args(["--listen", &self.name_server]);
        self.serve(command, "name-server.log", &self.name_server).await
    }

    pub(crate) async fn start_broker(&self) -> Result<Child, Failure> {
        let mut command = beside_us("rocketmq-broker-lite")?;
        command.args([
            "--namesrv",
            &self.name_server,
            "--listen",
            &self.broker,
            "--set",
            "brokerIP1=127.0.0.1",
        ]);
        command.arg("--store").arg(self.folder.join("store"));
        self.serve(command, "broker.log", &self.broker).await
    }

    async fn serve(&self, mut command: Command, log: &str, addr: &str) -> Result<Child, Failure> {
        command.env("HOME", &self.folder).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(self.log(log)?).kill_on_drop(true).spawn()?;
        let listens = async {
            while TcpStream::connect(addr).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    return Err(format!("{log}: ended with {status}").into());
                }
                tokio::time::sleep(Duration::from_millis(10)).await; // another process: no event to wait for
            }
            Ok::<_, Failure>(())
        };
        tokio::time::timeout(LIMIT, listens).await??;
        Ok(child)
    }

    /// A member, ours or Java's; it says in the journal when it has started.
    pub(crate) fn start_member(&self, java: bool) -> Result<Member, Failure> {
        let id = self.next_member.fetch_add(1, Ordering::Relaxed);
        let mut command = if java { self.java_member() } else { Command::new(std::env::current_exe()?) };
        if java {
            self.journal.append(&Entry::Java(id))?;
        } else {
            command.arg("member");
        }
        let mut child = command
            .args([&self.name_server, &id.to_string()])
            .stdin(Stdio::piped())
            .stdout(self.journal.writer()?)
            .stderr(self.log(&format!("member-{id}.log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        Ok(Member { id, child, stdin })
    }

    fn java_member(&self) -> Command {
        let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/target");
        let classes = format!("{0}/classes:{0}/jars/*", interop.display());
        let mut command = Command::new("java");
        // Short lives: what the second compiler would gain is less than what it costs.
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &classes]);
        command.arg(format!("-Duser.home={}", self.folder.display()));
        command.arg(format!("-Drmq.logback.configurationFile={}", self.folder.join(JAVA_LOGGING).display()));
        command.arg("SoakMember");
        command
    }

    /// Compiles what Java's members are made of.
    pub(crate) async fn build_java() -> Result<(), Failure> {
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/pom.xml");
        let maven =
            Command::new("mvn").args(["-q", "-B", "-f"]).arg(pom).arg("process-classes").status().await;
        match maven {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("mvn ended with {status}").into()),
            Err(error) => Err(format!("--java-members needs a JDK of 17 and Maven: mvn: {error}").into()),
        }
    }

    fn log(&self, name: &str) -> Result<File, Failure> {
        Ok(OpenOptions::new().append(true).create(true).open(self.folder.join(name))?)
    }
}

impl Member {
    /// Has it leave gracefully, and waits until it is gone.
    ///
    /// # Errors
    /// It took too long, or says that it did not go well.
    pub(crate) async fn leave(mut self, journal: &Journal) -> Result<(), Failure> {
        journal.append(&Entry::Leaving(self.id))?;
        drop(self.stdin.take());
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let status = status.map_err(|_| format!("member {} does not leave", self.id))??;
        if status.success() {
            return Ok(());
        }
        Err(format!("member {} left with {status}", self.id).into())
    }

    pub(crate) async fn kill(mut self, journal: &Journal) -> Result<(), Failure> {
        journal.append(&Entry::Killing(self.id))?;
        Ok(self.child.kill().await?)
    }

    /// Fails once it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => format!("member {} ended by itself with {status}", self.id).into(),
            Err(error) => error.into(),
        }
    }
}

/// A program of this workspace.
fn beside_us(name: &str) -> Result<Command, Failure> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        return Ok(Command::new(path));
    }
    Err(format!("{} is not there: cargo build -p {name}", path.display()).into())
}

/// Below the ports that the system gives to outgoing connections, so that it stays free while its server is away.
fn free_address() -> Result<String, Failure> {
    let mut addrs = (0..1000).map(|_| format!("127.0.0.1:{}", rand::random_range(20_000..30_000)));
    addrs.find(|addr| TcpListener::bind(addr).is_ok()).ok_or_else(|| "no free port".into())
}
