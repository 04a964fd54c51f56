//! The program `rocketmq-namesrv-lite`: a name server until SIGTERM or SIGINT.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use rocketmq_namesrv_lite::program::{StopSignals, end, log_to_stderr, resolve};
use rocketmq_namesrv_lite::properties::{Properties, PropertiesError};
use rocketmq_namesrv_lite::{NameServer, NameServerBuilder};
use tracing::info;

const HELP: &str = "\
rocketmq-namesrv-lite: a RocketMQ name server

Brokers register here, clients ask here which broker holds a topic. Start it, then start brokers with
namesrvAddr=HOST:PORT of this server, and give clients the same address.

Usage: rocketmq-namesrv-lite [-c FILE] [--listen HOST:PORT] [-p]

  -c, --config FILE       read settings from FILE: lines of key=value with the keys of Java's namesrv.conf
  -l, --listen HOST:PORT  listen there instead of what FILE says; port 0 takes a free one
                          (default 0.0.0.0:9876, every interface; 127.0.0.1:9876 is this machine only)
  -p, --print             print the settings it would start with, and end
  -h, --help              print this, and end
  -V, --version           print the version, and end

Settings for FILE, with their defaults:
  bindAddress=0.0.0.0                      address to listen on
  listenPort=9876                          port to listen on
  kvConfigPath=$HOME/namesrv/kvConfig.json file of the key-value configuration (mqadmin updateKvConfig)
  serverChannelMaxIdleTimeSeconds=120      a connection without traffic for this long is closed
  orderMessageEnable=false                 tell clients the queues of strictly ordered topics
  returnOrderTopicConfigToBroker=true      tell brokers the strictly ordered topics
  deleteTopicWithBrokerRegistration=false  forget topics that a broker no longer registers
  supportActingMaster=false                show the replica that stands in for a lost master as master
  enableAllTopicList=true                  give the list of all topics (mqadmin topicList)
  enableTopicList=true                     give the lists of topics by cluster or kind
  needWaitForService=false                 answer no client for some time after the start, until brokers are back
  waitSecondsForService=45                 for how long

Other keys of Java's name server are accepted and have no effect; any other key is an error.
The log goes to standard error; RUST_LOG sets its level (error, warn, info, debug, trace), default info.
";

/// What the command line asks for.
enum Task {
    Serve(NameServerBuilder),
    Print(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    end("rocketmq-namesrv-lite", run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let builder = match parse().await? {
        Task::Serve(builder) => builder,
        Task::Print(text) => return Ok(io::stdout().write_all(text.as_bytes())?),
    };
    log_to_stderr()?;
    let stop = StopSignals::listen()?;
    let server = builder.start().await?;
    let signal = stop.wait().await;
    info!(signal, "stopping");
    server.shutdown().await;
    Ok(())
}

async fn parse() -> Result<Task, Box<dyn Error>> {
    use lexopt::prelude::*;
    let mut file: Option<PathBuf> = None;
    let mut listen = None;
    let mut print = false;
    let mut options = lexopt::Parser::from_env();
    while let Some(option) = options.next()? {
        match option {
            Short('c') | Long("config") => file = Some(options.value()?.into()),
            Short('l') | Long("listen") => listen = Some(options.value()?.string()?),
            Short('p') | Long("print") => print = true,
            Short('h') | Long("help") => return Ok(Task::Print(HELP.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Task::Print(format!("rocketmq-namesrv-lite {}\n", env!("CARGO_PKG_VERSION"))));
            }
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    let mut builder = NameServer::builder();
    if let Some(home) = std::env::var_os("HOME") {
        builder = builder.kv_config_path(PathBuf::from(home).join("namesrv/kvConfig.json"));
    }
    if let Some(file) = file {
        let configured = Properties::read(&file).and_then(|properties| builder.properties(&properties));
        builder = configured.map_err(|error| match error {
            unread @ PropertiesError::Read { .. } => Box::<dyn Error>::from(unread),
            refused => format!("{}: {refused}", file.display()).into(),
        })?;
    }
    if let Some(listen) = listen {
        builder = builder.listen(resolve("--listen", &listen).await?);
    }
    Ok(if print { Task::Print(builder.describe()) } else { Task::Serve(builder) })
}
