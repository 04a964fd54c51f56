//! The program `rocketmq-broker-lite`: a broker, with or without a name server, until SIGTERM or SIGINT.

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rocketmq_broker_lite::{Broker, BrokerConfig, KeyUse, Standalone};
use rocketmq_namesrv_lite::program::{StopSignals, end, log_to_stderr, resolve};
use rocketmq_namesrv_lite::properties::{Properties, PropertiesError};
use tracing::{info, warn};

const HELP: &str = "\
rocketmq-broker-lite: a RocketMQ broker

Without -n (and NAMESRV_ADDR) it runs a name server, too: one process is a whole cluster.

Usage: rocketmq-broker-lite [-c FILE] [-n NAMESRV] [--standalone] [--listen HOST:PORT]
                            [--namesrv-listen HOST:PORT] [--store DIR] [--set KEY=VALUE]... [-p]

  -c, --config FILE          read settings from FILE: lines of key=value with the keys of Java's broker.conf
  -n, --namesrv HOST:PORT    register with these name servers, separated by `;` (or NAMESRV_ADDR, or namesrvAddr)
      --standalone           run a name server in this process, even if another one is configured
  -l, --listen HOST:PORT     listen there instead of every interface and listenPort; port 0 takes a free one
      --namesrv-listen HOST:PORT
                             where the name server of this process listens (default: the host of --listen, port 9876)
      --store DIR            keep messages in DIR (storePathRootDir; default: store in the home folder)
      --set KEY=VALUE        change one setting; wins over FILE; may be repeated
  -p, --print                print the settings in force, and end
  -h, --help                 print this, and end
  -V, --version              print the version, and end

Examples:
  rocketmq-broker-lite --listen 127.0.0.1:10911 --store /tmp/messages
      a cluster on this machine; clients take 127.0.0.1:9876 as name server
  rocketmq-broker-lite -n names:9876 --set brokerName=broker-b --set brokerIP1=mq.example.com
      one more broker of an existing cluster; clients reach it as mq.example.com:10911

-p tells every setting with its value. Other keys of Java's broker are accepted and named once at the start; any
other key is an error. The log goes to standard error; RUST_LOG sets its level (error, warn, info, debug, trace).
";

#[tokio::main]
async fn main() -> ExitCode {
    end("rocketmq-broker-lite", run().await)
}

/// What the command line asks for.
struct Options {
    config: BrokerConfig,
    /// Keys of Java's that have no effect here.
    ignored: Vec<String>,
    standalone: bool,
    listen: Option<SocketAddr>,
    name_server_listen: Option<SocketAddr>,
}

enum Task {
    Serve(Box<Options>),
    Print(String),
}

async fn run() -> Result<(), Box<dyn Error>> {
    let options = match parse().await? {
        Task::Serve(options) => *options,
        Task::Print(text) => return Ok(io::stdout().write_all(text.as_bytes())?),
    };
    log_to_stderr()?;
    if !options.ignored.is_empty() {
        warn!(keys = options.ignored.join(" "), "settings of Java's broker that have no effect here");
    }
    let stop = StopSignals::listen()?;
    if options.standalone { serve_cluster(options, stop).await } else { serve_broker(options, stop).await }
}

async fn serve_broker(options: Options, stop: StopSignals) -> Result<(), Box<dyn Error>> {
    let mut builder = Broker::builder().config(options.config);
    if let Some(listen) = options.listen {
        builder = builder.listen(listen);
    }
    let broker = builder.start().await?;
    info!(signal = stop.wait().await, "stopping");
    Ok(broker.shutdown().await?)
}

async fn serve_cluster(options: Options, stop: StopSignals) -> Result<(), Box<dyn Error>> {
    let Options { mut config, listen, name_server_listen, .. } = options;
    config.name_servers = None;
    let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.listen_port)));
    let name_server_listen = name_server_listen.unwrap_or(SocketAddr::new(listen.ip(), 9876));
    let store = config.store_root.clone();
    let cluster = Standalone::builder()
        .config(config)
        .store(store)
        .listen(listen)
        .name_server_listen(name_server_listen)
        .start()
        .await?;
    info!(name_server = cluster.name_server_addr(), "clients take this as their name server");
    info!(signal = stop.wait().await, "stopping");
    Ok(cluster.shutdown().await?)
}

async fn parse() -> Result<Task, Box<dyn Error>> {
    use lexopt::prelude::*;
    let mut file: Option<PathBuf> = None;
    let mut name_servers = None;
    let mut standalone = false;
    let mut listen = None;
    let mut name_server_listen = None;
    let mut settings = Vec::new();
    let mut print = false;
    let mut options = lexopt::Parser::from_env();
    while let Some(option) = options.next()? {
        match option {
            Short('c') | Long("config") => file = Some(options.value()?.into()),
            Short('n') | Long("namesrv") => name_servers = Some(options.value()?.string()?),
            Long("standalone") => standalone = true,
            Short('l') | Long("listen") => {
                listen = Some(resolve("--listen", &options.value()?.string()?).await?)
            }
            Long("namesrv-listen") => {
                name_server_listen = Some(resolve("--namesrv-listen", &options.value()?.string()?).await?);
            }
            Long("store") => settings.push(("storePathRootDir".to_owned(), options.value()?.string()?)),
            Long("set") => {
                let setting = options.value()?.string()?;
                let (key, value) =
                    setting.split_once('=').ok_or_else(|| format!("--set {setting}: expected KEY=VALUE"))?;
                settings.push((key.trim().to_owned(), value.to_owned()));
            }
            Short('p') | Long("print") => print = true,
            Short('h') | Long("help") => return Ok(Task::Print(HELP.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Task::Print(format!("rocketmq-broker-lite {}\n", env!("CARGO_PKG_VERSION"))));
            }
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    let mut config = BrokerConfig::default();
    let mut ignored = Vec::new();
    config.name_servers = std::env::var("NAMESRV_ADDR").ok().filter(|addrs| !addrs.is_empty());
    if let Some(file) = file {
        read_file(&file, &mut config, &mut ignored)?;
    }
    for (key, value) in settings {
        if config.set(&key, &value)? == KeyUse::Ignored {
            ignored.push(key);
        }
    }
    if name_servers.is_some() {
        config.name_servers = name_servers;
    }
    config.check()?;
    if print {
        let lines = config.entries().into_iter().map(|(key, value)| format!("{key}={value}\n"));
        return Ok(Task::Print(lines.collect()));
    }
    let standalone = standalone || config.name_server_list().is_empty();
    if name_server_listen.is_some() && !standalone {
        return Err(
            "--namesrv-listen: a name server is configured, so none runs here; add --standalone to run one"
                .into(),
        );
    }
    Ok(Task::Serve(Box::new(Options { config, ignored, standalone, listen, name_server_listen })))
}

fn read_file(
    file: &Path,
    config: &mut BrokerConfig,
    ignored: &mut Vec<String>,
) -> Result<(), Box<dyn Error>> {
    let properties = Properties::read(file).map_err(|error| match error {
        unread @ PropertiesError::Read { .. } => Box::<dyn Error>::from(unread),
        refused => format!("{}: {refused}", file.display()).into(),
    })?;
    for property in properties.iter() {
        match config.set(property.key(), property.text()) {
            Ok(KeyUse::Applied) => {}
            Ok(KeyUse::Ignored) => ignored.push(property.key().to_owned()),
            Err(error) => return Err(format!("{}: line {}: {error}", file.display(), property.line()).into()),
        }
    }
    Ok(())
}
