//! [`NameServerBuilder`]: what a name server is told before it starts, in code or by a `namesrv.conf` of Java's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use rocketmq_protocol::transport::Clock;

use crate::properties::{Properties, PropertiesError, Property};
use crate::settings::Settings;

/// Keys that Java's name server knows and this one does not act on: thread pools, buffers and what Netty needs, how
/// often to look for silent brokers (here they go when their time is over), and the controller. Java:
/// `common/namesrv/NamesrvConfig.java`, `remoting/netty/NettyServerConfig.java`, `NettyClientConfig.java`.
const IGNORED_KEYS: &[&str] = &[
    "channelNotActiveInterval",
    "clientAsyncSemaphoreValue",
    "clientCallbackExecutorThreads",
    "clientChannelMaxIdleTimeSeconds",
    "clientCloseSocketIfTimeout",
    "clientOnewaySemaphoreValue",
    "clientPooledByteBufAllocatorEnable",
    "clientRequestThreadPoolNums",
    "clientRequestThreadPoolQueueCapacity",
    "clientSocketRcvBufSize",
    "clientSocketSndBufSize",
    "clientWorkerThreads",
    "clusterTest",
    "configBlackList",
    "configStorePath",
    "connectTimeoutMillis",
    "defaultThreadPoolNums",
    "defaultThreadPoolQueueCapacity",
    "disableCallbackExecutor",
    "disableNettyWorkerGroup",
    "enableControllerInNamesrv",
    "enableReconnectForGoAway",
    "enableShutdownGracefully",
    "maxReconnectIntervalTimeSeconds",
    "notifyMinBrokerIdChanged",
    "productEnvName",
    "rocketmqHome",
    "scanAvailableNameSrv",
    "scanNotActiveBrokerInterval",
    "serverAsyncSemaphoreValue",
    "serverCallbackExecutorThreads",
    "serverNettyWorkerGroupEnable",
    "serverOnewaySemaphoreValue",
    "serverPooledByteBufAllocatorEnable",
    "serverSelectorThreads",
    "serverSocketBacklog",
    "serverSocketRcvBufSize",
    "serverSocketSndBufSize",
    "serverWorkerThreads",
    "shutdownWaitTimeSeconds",
    "socksProxyConfig",
    "unRegisterBrokerQueueCapacity",
    "useEpollNativeSelector",
    "useTLS",
    "writeBufferHighWaterMark",
    "writeBufferLowWaterMark",
];

/// Keys that only count at the start.
const START_KEYS: [&str; 4] =
    ["bindAddress", "listenPort", "kvConfigPath", "serverChannelMaxIdleTimeSeconds"];

/// Configures a [`NameServer`](crate::NameServer).
#[derive(Clone, Debug)]
pub struct NameServerBuilder {
    pub(crate) listen: SocketAddr,
    pub(crate) kv_config_path: Option<PathBuf>,
    pub(crate) idle_seconds: u32,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) ignored: Vec<String>,
}

impl Default for NameServerBuilder {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9876),
            kv_config_path: None,
            idle_seconds: 120,
            clock: Clock::system(),
            settings: Settings::default(),
            ignored: Vec::new(),
        }
    }
}

impl NameServerBuilder {
    /// Where to listen; port 0 takes a free one. Default `0.0.0.0:9876`, every interface, as Java's.
    #[must_use]
    pub fn listen(mut self, addr: impl Into<SocketAddr>) -> Self {
        self.listen = addr.into();
        self
    }

    /// The file of the key-value configuration; its folder is made when it is first written. Default none: the
    /// configuration ends with the server.
    #[must_use]
    pub fn kv_config_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.kv_config_path = Some(path.into());
        self
    }

    /// The clock by which brokers expire. Default the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Takes a configuration file with the keys of Java's name server.
    ///
    /// # Errors
    /// The first key that nobody knows, or value that its key cannot have.
    pub fn properties(mut self, properties: &Properties) -> Result<Self, PropertiesError> {
        for property in properties.iter() {
            if !self.settings.set(property)? && !self.set(property)? {
                if !IGNORED_KEYS.contains(&property.key()) {
                    let known = Settings::KEYS.into_iter().chain(START_KEYS);
                    return Err(property.unknown(known.chain(IGNORED_KEYS.iter().copied())));
                }
                self.ignored.push(property.key().to_owned());
            }
        }
        Ok(self)
    }

    fn set(&mut self, property: &Property) -> Result<bool, PropertiesError> {
        match property.key() {
            "bindAddress" => self.listen.set_ip(property.parsed("an IP address")?),
            "listenPort" => self.listen.set_port(property.parsed("a port, 0 to 65535")?),
            "kvConfigPath" => self.kv_config_path = Some(property.text().into()),
            "serverChannelMaxIdleTimeSeconds" => {
                self.idle_seconds = property.parsed("a number of seconds")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What it would start with, as lines of `key=value`.
    pub fn describe(&self) -> String {
        let Self { listen, kv_config_path, idle_seconds, settings, .. } = self;
        let mut text = format!("bindAddress={}\nlistenPort={}\n", listen.ip(), listen.port());
        if let Some(path) = kv_config_path {
            text += &format!("kvConfigPath={}\n", path.display());
        }
        text += &format!("serverChannelMaxIdleTimeSeconds={idle_seconds}\n{settings}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> Result<NameServerBuilder, PropertiesError> {
        NameServerBuilder::default().properties(&Properties::parse(text).unwrap())
    }

    #[test]
    fn a_file_sets_what_java_would() {
        let builder = configured(
            "bindAddress=127.0.0.1\nlistenPort=1234\nkvConfigPath=/kv.json\nserverChannelMaxIdleTimeSeconds=60\n\
             supportActingMaster=true\nserverWorkerThreads=8\nrocketmqHome=/opt",
        )
        .unwrap();
        assert_eq!(builder.listen, SocketAddr::from(([127, 0, 0, 1], 1234)));
        assert_eq!(builder.kv_config_path, Some("/kv.json".into()));
        assert_eq!(builder.idle_seconds, 60);
        assert!(builder.settings.acting_master);
        assert_eq!(builder.ignored, ["serverWorkerThreads", "rocketmqHome"]);
    }

    #[test]
    fn what_it_describes_it_takes_back() {
        let builder =
            configured("orderMessageEnable=true\nkvConfigPath=/kv.json\nwaitSecondsForService=7").unwrap();
        let described = builder.describe();
        assert_eq!(configured(&described).unwrap().describe(), described);
        assert_eq!(configured(&described).unwrap().settings, builder.settings);
    }

    #[test]
    fn every_setting_is_known_by_its_key() {
        let settings = Settings::default().to_string();
        for key in Settings::KEYS {
            assert!(settings.contains(&format!("{key}=")), "{key}");
        }
    }

    #[test]
    fn a_malformed_value_or_unknown_key_is_refused_with_its_line() {
        for (text, expected) in [
            ("\nlistenPort=98765", r#"line 2: listenPort is "98765", expected a port, 0 to 65535"#),
            ("bindAddress=localhost", r#"line 1: bindAddress is "localhost", expected an IP address"#),
            ("brokerName=a", r#"line 1: nobody knows the key "brokerName""#),
            ("kvConfigpath=x", r#"line 1: nobody knows the key "kvConfigpath"; did you mean kvConfigPath?"#),
        ] {
            assert_eq!(configured(text).unwrap_err().to_string(), expected);
        }
    }
}
