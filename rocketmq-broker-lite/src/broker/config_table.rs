//! [`ConfigTable`]: a table with a version that is kept in a file of `config/`.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use rocketmq_protocol::body::DataVersion;
use rocketmq_protocol::json::{self, JsonStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::unknown_fields::UnknownFields;
use crate::store::{ConfigFile, ConfigFileError};

/// Java derives it from the offsets when it writes them, and ignores it when it reads.
const DERIVED: &str = "groupTopicMap";

/// A file of `config/` and the version of what it holds.
pub(super) struct ConfigTable {
    file: ConfigFile,
    /// Held to read or change the number.
    version: Mutex<DataVersion>,
    /// What the file had besides; it is written again.
    unknown: OnceLock<UnknownFields>,
    /// One writer at a time, so that an older copy never replaces a newer one.
    writing: tokio::sync::Mutex<()>,
}

impl ConfigTable {
    pub(super) fn new(store_root: &Path, name: &str) -> Self {
        Self {
            file: ConfigFile::new(store_root.join("config").join(name)),
            version: Mutex::default(),
            unknown: OnceLock::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Reads the file; the default when there is none. Blocks.
    pub(super) fn load<T: DeserializeOwned + Serialize + Default>(&self) -> Result<T, ConfigFileError> {
        let loaded = self.file.load(|bytes| {
            Ok::<(T, Value), json::JsonError>((json::from_slice(bytes)?, json::from_slice(bytes)?))
        })?;
        let Some((table, read)) = loaded else { return Ok(T::default()) };
        let mut unknown = UnknownFields::of(read, &value(&table));
        unknown.remove(DERIVED);
        self.unknown.get_or_init(|| unknown);
        Ok(table)
    }

    pub(super) fn version(&self) -> DataVersion {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_version(&self, version: DataVersion) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// Notes that the table changed.
    pub(super) fn advance(&self, now_ms: i64) {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).advance(now_ms);
    }

    /// Writes what `table` gives, taken when it is this writer's turn. Returns once it is on disk.
    pub(super) async fn save<T: Serialize>(&self, table: impl FnOnce() -> T) -> Result<(), ConfigFileError> {
        let _turn = self.writing.lock().await;
        let text = match self.unknown.get().filter(|unknown| !unknown.is_empty()) {
            None => json::to_bytes(&table(), JsonStyle::Fastjson),
            Some(unknown) => {
                let mut table = value(&table());
                if let Value::Object(table) = &mut table {
                    unknown.put_back(table);
                }
                json::to_bytes(&table, JsonStyle::Fastjson)
            }
        };
        let text = text.expect("tables are text, numbers and maps");
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || file.store(&text)).await;
        written.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}

fn value<T: Serialize>(table: &T) -> Value {
    serde_json::to_value(table).expect("tables are text, numbers and maps")
}
