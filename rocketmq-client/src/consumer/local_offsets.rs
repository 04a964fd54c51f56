//! [`LocalOffsets`]: a group's offsets in a file, for consumers that get every message each (broadcasting).
//!
//! The file is Java's: `<folder>/<client id>/<group>/offsets.json`, an object `offsetTable` keyed by queues that are
//! objects themselves, beside `offsets.json.bak` with what was before. Java: `store/LocalFileOffsetStore.java`. It is replaced
//! at once, so that a crash leaves the old or the new one. Offsets of queues that have vanished are kept: they may come
//! back. A file `lock` keeps out a second consumer of the same group and client id.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::{MessageQueue, QueueTable, ResetOffsetBody};
use rocketmq_protocol::json::{self, JsonStyle};
use tracing::warn;

use crate::Error;

/// The offsets of one group of one client.
pub(super) struct LocalOffsets {
    folder: Arc<Path>,
    /// Held for a lookup or a change.
    table: Mutex<Table>,
    /// Held while the file is written, so that no older state replaces a newer one.
    saving: tokio::sync::Mutex<()>,
    _lock: File,
}

#[derive(Default)]
struct Table {
    offsets: QueueTable<QueueOffset>,
    /// The file does not say all of it.
    has_news: bool,
}

impl LocalOffsets {
    /// Reads what there is in `folder`, and keeps others out of it.
    pub(super) async fn open(folder: PathBuf) -> Result<Self, Error> {
        let folder: Arc<Path> = folder.into();
        let path = Arc::clone(&folder);
        let opened = tokio::task::spawn_blocking(move || {
            let lock = lock(&path)?;
            Ok((lock, load(&path)?))
        });
        let (lock, offsets) = opened
            .await
            .unwrap_or_else(|_| Err("the runtime ended".to_owned()))
            .map_err(|reason| failure(&folder, reason))?;
        let table = Mutex::new(Table { offsets, has_news: false });
        Ok(Self { folder, table, saving: tokio::sync::Mutex::default(), _lock: lock })
    }

    pub(super) fn get(&self, queue: &MessageQueue) -> Option<QueueOffset> {
        self.table().offsets.get(queue).copied().filter(|offset| *offset >= QueueOffset::ZERO)
    }

    /// Takes note; [`LocalOffsets::save`] writes it.
    pub(super) fn set(&self, queue: &MessageQueue, offset: QueueOffset) {
        let mut table = self.table();
        table.has_news |= table.offsets.insert(queue.clone(), offset) != Some(offset);
    }

    /// Writes the file anew, if it does not say all there is to say.
    pub(super) async fn save(&self) -> Result<(), Error> {
        let _saving = self.saving.lock().await;
        let offset_table = {
            let mut table = self.table();
            if !std::mem::take(&mut table.has_news) {
                return Ok(());
            }
            table.offsets.clone()
        };
        let folder = Arc::clone(&self.folder);
        let saved = tokio::task::spawn_blocking(move || store(&folder, &ResetOffsetBody { offset_table }));
        saved.await.unwrap_or_else(|_| Err("the runtime ended".to_owned())).map_err(|reason| {
            self.table().has_news = true;
            failure(&self.folder, reason)
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where Java keeps offsets: `.rocketmq_offsets` of the user's home.
pub(super) fn default_folder() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"))?;
    Some(PathBuf::from(home).join(".rocketmq_offsets"))
}

fn failure(folder: &Path, reason: String) -> Error {
    Error::LocalOffsets { folder: folder.to_owned(), reason }
}

fn lock(folder: &Path) -> Result<File, String> {
    let told = |error: io::Error| format!("cannot lock it: {error}");
    fs::create_dir_all(folder).map_err(told)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("lock"))
        .map_err(told)?;
    match fs4::fs_std::FileExt::try_lock_exclusive(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err("another consumer of this group with the same client id uses it: give each \
                          process a `client_id` of its own, one that stays the same when it starts again"
            .to_owned()),
        Err(error) => Err(told(error)),
    }
}

/// What the file says, or the one before it where it cannot be read. Nothing when there is neither.
fn load(folder: &Path) -> Result<QueueTable<QueueOffset>, String> {
    let (main, backup) = (folder.join("offsets.json"), folder.join("offsets.json.bak"));
    match read(&main) {
        Ok(Some(offsets)) => Ok(offsets),
        Ok(None) => Ok(read(&backup)?.unwrap_or_default()),
        Err(reason) => {
            warn!(reason, "offsets not readable; going on with those before");
            read(&backup)?.ok_or(reason)
        }
    }
}

fn read(file: &Path) -> Result<Option<QueueTable<QueueOffset>>, String> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let body: Result<ResetOffsetBody, _> = json::from_slice(&text);
    body.map(|body| Some(body.offset_table)).map_err(|error| format!("{}: {error}", file.display()))
}

fn store(folder: &Path, offsets: &ResetOffsetBody) -> Result<(), String> {
    let text = json::to_bytes(offsets, JsonStyle::Fastjson).map_err(|error| error.to_string())?;
    let (main, new) = (folder.join("offsets.json"), folder.join("offsets.json.tmp"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        match fs::rename(&main, folder.join("offsets.json.bak")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&new, &main)
    };
    write().map_err(|error: io::Error| format!("{}: {error}", main.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(id: i32) -> MessageQueue {
        MessageQueue::new("T", "broker-a", id)
    }

    #[tokio::test]
    async fn offsets_are_written_as_java_writes_them_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("10.0.0.1@DEFAULT").join("g");
        let offsets = LocalOffsets::open(folder.clone()).await.unwrap();
        assert_eq!(offsets.get(&queue(0)), None);
        offsets.set(&queue(0), QueueOffset::new(5));
        offsets.save().await.unwrap();
        let text = fs::read_to_string(folder.join("offsets.json")).unwrap();
        assert_eq!(text, r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:5}}"#);
        offsets.set(&queue(1), QueueOffset::new(7));
        offsets.save().await.unwrap();
        assert_eq!(fs::read_to_string(folder.join("offsets.json.bak")).unwrap(), text);
        drop(offsets);
        let offsets = LocalOffsets::open(folder).await.unwrap();
        assert_eq!(offsets.get(&queue(0)), Some(QueueOffset::new(5)));
        assert_eq!(offsets.get(&queue(1)), Some(QueueOffset::new(7)));
    }

    #[tokio::test]
    async fn every_shape_that_clients_write_is_read() {
        for text in [
            r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:5}}"#,
            r#"{"offsetTable":{"{\"brokerName\":\"broker-a\",\"queueId\":0,\"topic\":\"T\"}":5}}"#,
            "{\n\t\"offsetTable\":{{\n\t\t\t\"brokerName\":\"broker-a\",\n\t\t\t\"queueId\":0,\n\t\t\t\"topic\":\"T\"\n\t\t}:5\n\t}\n}",
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("offsets.json"), text).unwrap();
            let offsets = LocalOffsets::open(dir.path().to_owned()).await.unwrap();
            assert_eq!(offsets.get(&queue(0)), Some(QueueOffset::new(5)), "{text}");
        }
    }

    #[tokio::test]
    async fn a_torn_file_gives_way_to_the_one_before_and_two_torn_files_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let good = r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:5}}"#;
        fs::write(path("offsets.json"), &good[..40]).unwrap();
        fs::write(path("offsets.json.bak"), good).unwrap();
        let offsets = LocalOffsets::open(dir.path().to_owned()).await.unwrap();
        assert_eq!(offsets.get(&queue(0)), Some(QueueOffset::new(5)));
        drop(offsets);
        fs::write(path("offsets.json.bak"), "").unwrap();
        let error = LocalOffsets::open(dir.path().to_owned()).await.err().unwrap().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }

    #[tokio::test]
    async fn two_consumers_cannot_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let _first = LocalOffsets::open(dir.path().to_owned()).await.unwrap();
        let error = LocalOffsets::open(dir.path().to_owned()).await.err().unwrap().to_string();
        assert!(error.contains("another consumer of this group") && error.contains("client_id"), "{error}");
    }
}
