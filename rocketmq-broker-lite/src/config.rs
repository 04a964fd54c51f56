//! [`BrokerConfig`]: the settings of a broker, under the names that Java's broker gives them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::store::CleaningRules;

/// A setting that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nobody knows the key.
    #[error("{key}: no such setting; `-p` prints all there are")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The value is not of the setting's type, or out of its range.
    #[error("{key}={value}: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// What it was set to.
        value: String,
        /// What it must be.
        expected: String,
    },
}

/// Whether a key is acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// It changed a setting.
    Applied,
    /// Java's broker knows it, this one does not act on it.
    Ignored,
}

/// A type that a setting can have.
trait Setting: Sized {
    const EXPECTED: &'static str;

    fn parse(text: &str) -> Option<Self>;

    fn print(&self) -> String;
}

macro_rules! plain_settings {
    ($($type:ty, $expected:literal;)*) => {$(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn print(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

plain_settings! {
    u16, "a number from 0 to 65535";
    u32, "a number of at least 0";
    u64, "a number of at least 0";
    i64, "a whole number";
    FlushDisk, "ASYNC_FLUSH or SYNC_FLUSH";
    BrokerRole, "ASYNC_MASTER or SYNC_MASTER";
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn print(&self) -> String {
        self.clone()
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }

    fn print(&self) -> String {
        self.display().to_string()
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }

    fn print(&self) -> String {
        self.as_ref().map(T::print).unwrap_or_default()
    }
}

/// Times are milliseconds, as in Java's files.
impl Setting for Duration {
    const EXPECTED: &'static str = "a number of milliseconds";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::from_millis)
    }

    fn print(&self) -> String {
        self.as_millis().to_string()
    }
}

/// When a message counts as stored. Java: `store/config/FlushDiskType.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushDisk {
    /// Once it is in the page cache: it survives a killed process, not a power cut.
    #[default]
    Async,
    /// Once it is on disk.
    Sync,
}

/// The part a broker plays in its group. Java: `store/config/BrokerRole.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokerRole {
    /// Answers without waiting for replicas.
    #[default]
    AsyncMaster,
    /// Would wait for replicas; without any it does not.
    SyncMaster,
}

macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal,)* }) => {
        impl FromStr for $type {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(()),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name,)*
                })
            }
        }
    };
}

named!(FlushDisk { Async = "ASYNC_FLUSH", Sync = "SYNC_FLUSH", });
named!(BrokerRole { AsyncMaster = "ASYNC_MASTER", SyncMaster = "SYNC_MASTER", });

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $key:literal, $default:expr;)*) => {
        /// Settings of a broker. Each is documented with the key of Java's `broker.conf` in front of it; `-p` of the
        /// binary prints them all.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct BrokerConfig {
            $(#[doc = concat!("`", $key, "`:")] $(#[$doc])* pub $field: $type,)*
        }

        impl Default for BrokerConfig {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl BrokerConfig {
            /// Sets what Java's file calls `key`.
            ///
            /// # Errors
            /// Nobody knows the key, or the value does not fit it.
            pub fn set(&mut self, key: &str, value: &str) -> Result<KeyUse, ConfigError> {
                let value = value.trim();
                let refused = |expected: &str| ConfigError::Value {
                    key: key.to_owned(),
                    value: value.to_owned(),
                    expected: expected.to_owned(),
                };
                match key {
                    $($key => self.$field = <$type>::parse(value).ok_or_else(|| refused(<$type>::EXPECTED))?,)*
                    _ if IGNORED_KEYS.contains(&key) => return Ok(KeyUse::Ignored),
                    _ => return Err(ConfigError::UnknownKey { key: key.to_owned() }),
                }
                Ok(KeyUse::Applied)
            }

            /// Every setting in force, as key and value, in the order of this documentation.
            pub fn entries(&self) -> Vec<(&'static str, String)> {
                vec![$(($key, self.$field.print()),)*]
            }
        }
    };
}

settings! {
    /// Name of the cluster.
    cluster_name: String = "brokerClusterName", "DefaultCluster".to_owned();
    /// Name of the broker group: a master and its replicas share it.
    broker_name: String = "brokerName", "broker-a".to_owned();
    /// 0 is the master; replicas are not supported yet.
    broker_id: i64 = "brokerId", 0;
    /// What the broker does with replicas.
    broker_role: BrokerRole = "brokerRole", BrokerRole::default();
    /// Address or host name that clients are told; empty: that of the interface which leads outside. Message ids
    /// carry it, too.
    advertised_host: Option<String> = "brokerIP1", None;
    /// Port to listen on, unless an address is given; 0: a free one.
    listen_port: u16 = "listenPort", 10911;
    /// Name servers, `host:port;host:port`.
    name_servers: Option<String> = "namesrvAddr", None;
    /// Folder of the store.
    store_root: PathBuf = "storePathRootDir", default_store_root();
    /// Folder of the commit log; empty: `commitlog` below the store.
    commit_log_dir: Option<PathBuf> = "storePathCommitLog", None;
    /// Bits 4 (read) and 2 (write).
    broker_permission: u32 = "brokerPermission", 6;
    /// Whether a send to a topic that does not exist creates it.
    auto_create_topic: bool = "autoCreateTopicEnable", true;
    /// Queues that a topic created so may have at most.
    default_topic_queue_nums: u32 = "defaultTopicQueueNums", 8;
    /// Whether a group exists as soon as somebody consumes with it.
    auto_create_group: bool = "autoCreateSubscriptionGroup", true;
    /// Bytes of a commit log file; fixed for the life of a store.
    commit_log_file_size: u64 = "mappedFileSizeCommitLog", 1 << 30;
    /// Bytes of a consume queue file, rounded up to whole units of 20; fixed for the life of a store.
    consume_queue_file_size: u64 = "mappedFileSizeConsumeQueue", 6_000_000;
    /// Bytes of a batch consume queue file, rounded up to whole units of 46; fixed for the life of a store.
    batch_queue_file_size: u64 = "mapperFileSizeBatchConsumeQueue", 13_800_000;
    /// Whether messages can be found by key.
    index: bool = "messageIndexEnable", true;
    /// Hash slots of an index file, which takes 4 bytes of memory for each while it is being filled; fixed for the
    /// life of a store.
    index_slots: u64 = "maxHashSlotNum", 5_000_000;
    /// Items of an index file, 20 bytes each in a sparse file; fixed for the life of a store.
    index_items: u64 = "maxIndexNum", 20_000_000;
    /// Messages of one answer to a query by key, whatever is asked for.
    max_query_count: u64 = "maxMsgsNumBatch", 64;
    /// Messages of one answer to a query by unique key.
    default_query_count: u64 = "defaultQueryMaxNum", 32;
    /// Bytes that a message body, or that of a batch, may have.
    max_message_size: u64 = "maxMessageSize", 4 * 1024 * 1024;
    /// Whether a send is answered before or after its message is on disk.
    flush_disk: FlushDisk = "flushDiskType", FlushDisk::default();
    /// Pause between two background flushes of the commit log.
    flush_interval_commit_log: Duration = "flushIntervalCommitLog", Duration::from_millis(500);
    /// Pause between two writes of the consume queues.
    flush_interval_consume_queue: Duration = "flushIntervalConsumeQueue", Duration::from_secs(1);
    /// After how long all consume queues are flushed, and the checkpoint with them.
    flush_consume_queue_thorough_interval: Duration = "flushConsumeQueueThoroughInterval", Duration::from_secs(60);
    /// How long a send waits for its flush before it is answered `FLUSH_DISK_TIMEOUT`.
    sync_flush_timeout: Duration = "syncFlushTimeout", Duration::from_secs(5);
    /// How long one append may take before sends are answered `SYSTEM_BUSY`.
    page_cache_busy_timeout: Duration = "osPageCacheBusyTimeOutMills", Duration::from_secs(1);
    /// Whether recovery checks the CRC of bodies.
    check_crc_on_recover: bool = "checkCRCOnRecover", true;
    /// Hours that messages are kept at least, unless the disk gets full.
    file_reserved_time: u32 = "fileReservedTime", 72;
    /// Hours of the day, 0 to 23 separated by `;`, in which older messages are deleted; local time.
    delete_when: String = "deleteWhen", "04".to_owned();
    /// Percentage of the disk used above which older messages are deleted at any hour; 100 never happens.
    disk_max_used_space_ratio: u32 = "diskMaxUsedSpaceRatio", 75;
    /// Whether messages are deleted before their time when the disk gets full.
    clean_file_forcibly: bool = "cleanFileForciblyEnable", true;
    /// Percentage of the disk used above which they are.
    disk_space_clean_forcibly_ratio: u32 = "diskSpaceCleanForciblyRatio", 85;
    /// Percentage of the disk used above which sends are answered `SERVICE_NOT_AVAILABLE`.
    disk_space_warning_level_ratio: u32 = "diskSpaceWarningLevelRatio", 90;
    /// Pause between two looks at what has to be deleted, and at the disk.
    clean_resource_interval: Duration = "cleanResourceInterval", Duration::from_secs(10);
    /// Bytes of one pull answer.
    max_transfer_bytes: u64 = "maxTransferBytesOnMessageInMemory", 262_144;
    /// Messages of one pull answer, whatever the consumer asks for. Java's 32 makes catching up a matter of round trips.
    max_transfer_count: u64 = "maxTransferCountOnMessageInMemory", 256;
    /// Whether a pull that finds nothing is held until something comes.
    long_polling: bool = "longPollingEnable", true;
    /// How long such a pull is held when it is not.
    short_polling_time: Duration = "shortPollingTimeMills", Duration::from_secs(1);
    /// Whether `LITE_PULL_MESSAGE` is served.
    lite_pull: bool = "litePullMessageEnable", true;
    /// Whether half messages are refused.
    reject_transactions: bool = "rejectTransactionMessage", false;
    /// How long after a half message its producers are asked about it for the first time.
    transaction_timeout: Duration = "transactionTimeOut", Duration::from_secs(6);
    /// Pause between two questions about the same half message.
    transaction_check_interval: Duration = "transactionCheckInterval", Duration::from_secs(30);
    /// Questions after which a half message is given up.
    transaction_check_max: u32 = "transactionCheckMax", 15;
    /// Whether replies to requests are stored as well, and not only passed on.
    store_reply_message: bool = "storeReplyMessageEnable", true;
    /// Whether consumers may subscribe by SQL92 conditions on message properties.
    property_filter: bool = "enablePropertyFilter", false;
    /// Pause between two writes of changed consumer offsets.
    flush_consumer_offset_interval: Duration = "flushConsumerOffsetInterval", Duration::from_secs(5);
    /// Pause between two notes of what was delivered of the delayed messages. What is delivered after the last one comes again after a kill,
    /// so it is shorter than Java's 10 s.
    flush_delay_offset_interval: Duration = "flushDelayOffsetInterval", Duration::from_secs(1);
    /// Whether messages may ask for a time.
    timer_wheel: bool = "timerWheelEnable", true;
    /// Milliseconds of a slot of the timer wheel; only 1000.
    timer_precision: u64 = "timerPrecisionMs", 1000;
    /// Seconds that a time may be ahead.
    timer_max_delay: u64 = "timerMaxDelaySec", 259_200;
    /// Seconds that a message waits in the timer wheel at most before it is looked at again; up to 7 days.
    timer_roll_window: u64 = "timerRollWindowSlot", 172_800;
    /// Bytes of a timer log file; fixed for the life of a store.
    timer_log_file_size: u64 = "mappedFileSizeTimerLog", 104_857_600;
    /// Whether producers may take back messages that wait for a time.
    recall_message: bool = "recallMessageEnable", false;
    /// Whether the broker itself moves a group whose offsets are reset, or leaves it to the consumers.
    server_side_reset_offset: bool = "useServerSideResetOffset", true;
    /// Pause between two registrations; 10 to 60 s.
    register_period: Duration = "registerNameServerPeriod", Duration::from_secs(30);
    /// How long a name server may take to answer a registration.
    register_timeout: Duration = "registerBrokerTimeoutMills", Duration::from_secs(24);
    /// After how much silence a client counts as gone.
    channel_expired_timeout: Duration = "channelExpiredTimeout", Duration::from_secs(120);
    /// Whether members of a group are told when others come or go.
    notify_consumer_ids_changed: bool = "notifyConsumerIdsChangedEnable", true;
    /// Written into every message, and told to producers.
    region_id: String = "regionId", "DefaultRegion".to_owned();
    /// Whether producers are told to trace.
    trace_on: bool = "traceOn", true;
    /// Delay of each level: a number and `s`, `m`, `h` or `d`, separated by blanks.
    message_delay_level: String = "messageDelayLevel",
        "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".to_owned();
}

fn default_store_root() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join("store")
}

impl BrokerConfig {
    /// Rejects settings that contradict each other or the protocol.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, value: &dyn fmt::Display, expected: &str| {
            Err(ConfigError::Value {
                key: key.to_owned(),
                value: value.to_string(),
                expected: expected.to_owned(),
            })
        };
        if self.broker_id != 0 {
            return refuse("brokerId", &self.broker_id, "0: replicas are not supported");
        }
        for (key, name) in [("brokerName", &self.broker_name), ("brokerClusterName", &self.cluster_name)] {
            if let Err(error) = rocketmq_protocol::name::validate_topic(name) {
                return refuse(key, name, &format!("a name like that of a topic, but {error}"));
            }
        }
        // A record must fit a file: body, topic, properties and the rest.
        let record = self.max_message_size.saturating_add(64 * 1024);
        if self.commit_log_file_size < 4096 {
            return refuse("mappedFileSizeCommitLog", &self.commit_log_file_size, "at least 4096");
        }
        if self.max_message_size == 0 || record > 16 * 1024 * 1024 {
            return refuse(
                "maxMessageSize",
                &self.max_message_size,
                "1 to 16711680, so that it fits a frame",
            );
        }
        if self.timer_precision != 1000 {
            return refuse("timerPrecisionMs", &self.timer_precision, "1000");
        }
        if !(2..=604_800).contains(&self.timer_roll_window) {
            return refuse("timerRollWindowSlot", &self.timer_roll_window, "2 to 604800");
        }
        if !(4096..=i32::MAX as u64).contains(&self.timer_log_file_size) {
            return refuse("mappedFileSizeTimerLog", &self.timer_log_file_size, "4096 to 2147483647");
        }
        self.cleaning_rules()?;
        self.delay_levels().map(drop)
    }

    /// What is deleted when.
    ///
    /// # Errors
    /// A ratio is no percentage, or `deleteWhen` malformed.
    pub fn cleaning_rules(&self) -> Result<CleaningRules, ConfigError> {
        let refused = |key: &str, value: String, expected: &str| ConfigError::Value {
            key: key.to_owned(),
            value,
            expected: expected.to_owned(),
        };
        let percent = |key: &str, value: u32| match u8::try_from(value) {
            Ok(percent) if percent <= 100 => Ok(percent),
            _ => Err(refused(key, value.to_string(), "a percentage")),
        };
        let hour = |word: &str| word.trim().parse().ok().filter(|hour| *hour < 24);
        let hours = self.delete_when.split(';').filter(|word| !word.trim().is_empty()).map(hour);
        let hours = hours.collect::<Option<_>>().ok_or_else(|| {
            refused("deleteWhen", self.delete_when.clone(), "hours of the day like `04` or `03;15`")
        })?;
        let forcibly_above = percent("diskSpaceCleanForciblyRatio", self.disk_space_clean_forcibly_ratio)?;
        Ok(CleaningRules {
            keep: Duration::from_secs(u64::from(self.file_reserved_time) * 3600),
            hours,
            any_hour_above: percent("diskMaxUsedSpaceRatio", self.disk_max_used_space_ratio)?,
            forcibly_above: self.clean_file_forcibly.then_some(forcibly_above),
            refuse_above: percent("diskSpaceWarningLevelRatio", self.disk_space_warning_level_ratio)?,
        })
    }

    /// The delay of each level, level 1 first.
    ///
    /// # Errors
    /// `messageDelayLevel` is malformed.
    pub fn delay_levels(&self) -> Result<Vec<Duration>, ConfigError> {
        let level = |word: &str| {
            let unit = match word.chars().last()? {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                _ => return None,
            };
            let count: u64 = word.get(..word.len() - 1)?.parse().ok()?;
            count.checked_mul(unit).map(Duration::from_secs)
        };
        self.message_delay_level.split_whitespace().map(level).collect::<Option<_>>().ok_or_else(|| {
            ConfigError::Value {
                key: "messageDelayLevel".to_owned(),
                value: self.message_delay_level.clone(),
                expected: "levels like `1s 5m 2h 1d`".to_owned(),
            }
        })
    }

    /// The name servers one by one.
    pub fn name_server_list(&self) -> Vec<String> {
        let list = self.name_servers.as_deref().unwrap_or_default();
        list.split(';').map(str::trim).filter(|addr| !addr.is_empty()).map(str::to_owned).collect()
    }
}

/// Keys of Java's `broker.conf` that this broker accepts and does not act on. Java:
/// `common/BrokerConfig.java`, `store/config/MessageStoreConfig.java`, `remoting/netty/NettyServerConfig.java`.
const IGNORED_KEYS: &[&str] = &[
    "accessMessageInMemoryMaxRatio",
    "aclEnable",
    "adminBrokerThreadPoolNums",
    "authenticationEnabled",
    "authorizationEnabled",
    "autoMessageVersionOnTopicLen",
    "bindAddress",
    "brokerFastFailureEnable",
    "brokerIP2",
    "clientManageThreadPoolNums",
    "commitIntervalCommitLog",
    "commitLogRecoverMaxNum",
    "compressedRegister",
    "consumerManageThreadPoolNums",
    "deleteCommitLogFilesInterval",
    "deleteConsumeQueueFilesInterval",
    "enableCalcFilterBitMap",
    "enableConsumeQueueExt",
    "enableControllerMode",
    "enableDLegerCommitLog",
    "enableLmq",
    "enableMultiDispatch",
    "enablePopBufferMerge",
    "enableRetryTopicV2",
    "enableScheduleAsyncDeliver",
    "enableSlaveActingMaster",
    "enabledAppendPropCRC",
    "endTransactionThreadPoolNums",
    "expectConsumerNumUseFilter",
    "fetchNamesrvAddrByAddressServer",
    "filterSupportRetry",
    "flushCommitLogLeastPages",
    "flushCommitLogThoroughInterval",
    "flushCommitLogTimed",
    "flushConsumeQueueLeastPages",
    "forceRegister",
    "forceVerifyPropCRC",
    "haHousekeepingInterval",
    "haListenPort",
    "haMasterAddress",
    "haMaxGapNotInSync",
    "haSendHeartbeatInterval",
    "haTransferBatchSize",
    "heartbeatThreadPoolNums",
    "inSyncReplicas",
    "maxErrorRateOfBloomFilter",
    "maxFilterMessageSize",
    "maxLmqConsumeQueueNum",
    "maxTransferBytesOnMessageInDisk",
    "maxTransferCountOnMessageInDisk",
    "messageIndexSafe",
    "minInSyncReplicas",
    "msgTraceTopicName",
    "offsetCheckInSlave",
    "popFromRetryProbability",
    "popPollingSize",
    "pullMessageThreadPoolNums",
    "pullThreadPoolQueueCapacity",
    "putMessageTimeout",
    "queryMessageThreadPoolNums",
    "rejectPullConsumerEnable",
    "replyThreadPoolQueueCapacity",
    "reviveQueueNum",
    "sendMessageThreadPoolNums",
    "sendThreadPoolQueueCapacity",
    "serverChannelMaxIdleTimeSeconds",
    "serverWorkerThreads",
    "slaveReadEnable",
    "slaveTimeout",
    "storeType",
    "timerEnableRetryUntilSuccess",
    "totalReplicas",
    "traceTopicEnable",
    "transactionOpBatchInterval",
    "transactionOpMsgMaxSize",
    "transferMsgByHeap",
    "transientStorePoolEnable",
    "transientStorePoolSize",
    "travelCqFileNumWhenGetMessage",
    "useEpollNativeSelector",
    "useReentrantLockWhenPutMessage",
    "waitTimeMillsInPullQueue",
    "waitTimeMillsInSendQueue",
    "warmMapedFileEnable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reads_back_what_it_prints() {
        let config = BrokerConfig::default();
        let mut read = BrokerConfig { broker_name: "other".to_owned(), ..BrokerConfig::default() };
        for (key, value) in config.entries() {
            assert_eq!(read.set(key, &value), Ok(KeyUse::Applied), "{key}");
            assert!(!IGNORED_KEYS.contains(&key), "{key}");
        }
        assert_eq!(read, config);
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_it_should_be() {
        let mut config = BrokerConfig::default();
        let error = config.set("listenPort", "70000").unwrap_err();
        assert_eq!(error.to_string(), "listenPort=70000: expected a number from 0 to 65535");
        let error = config.set("flushDiskType", "sync").unwrap_err();
        assert_eq!(error.to_string(), "flushDiskType=sync: expected ASYNC_FLUSH or SYNC_FLUSH");
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused_and_one_of_javas_is_not() {
        let mut config = BrokerConfig::default();
        assert!(matches!(config.set("brokerNmae", "x"), Err(ConfigError::UnknownKey { .. })));
        assert_eq!(config.set("haListenPort", "10912"), Ok(KeyUse::Ignored));
    }

    #[test]
    fn cleaning_goes_by_javas_keys() {
        let mut config = BrokerConfig::default();
        assert_eq!(config.cleaning_rules(), Ok(CleaningRules::default()));
        config.set("deleteWhen", "03; 15").unwrap();
        config.set("fileReservedTime", "1").unwrap();
        config.set("cleanFileForciblyEnable", "false").unwrap();
        let rules = config.cleaning_rules().unwrap();
        assert_eq!((rules.hours, rules.keep), (vec![3, 15], Duration::from_secs(3600)));
        assert_eq!(rules.forcibly_above, None);
        for (key, value) in [("deleteWhen", "24"), ("deleteWhen", "4am"), ("diskMaxUsedSpaceRatio", "101")] {
            let mut config = BrokerConfig::default();
            config.set(key, value).unwrap();
            assert!(config.check().unwrap_err().to_string().starts_with(key));
        }
    }

    #[test]
    fn delay_levels_are_read_as_javas() {
        let config = BrokerConfig::default();
        let levels = config.delay_levels().unwrap();
        assert_eq!(
            (levels.len(), levels[0], levels[17]),
            (18, Duration::from_secs(1), Duration::from_secs(7200))
        );
        let config = BrokerConfig { message_delay_level: "1s 2x".to_owned(), ..config };
        assert!(config.check().is_err());
    }
}
