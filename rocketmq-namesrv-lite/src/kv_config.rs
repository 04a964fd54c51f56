//! [`KvConfig`]: the name server's key-value configuration, kept in `kvConfig.json`.
//!
//! A change is visible, and answered, once it is on disk. The file is replaced as a whole: a reader finds the old or the
//! new one, never a part; the one before stays as `.bak`. Its form is Java's (`namesrv/kvconfig/KVConfigManager.java`):
//! `{"configTable":{"namespace":{"key":"value"}}}`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rocketmq_protocol::json;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::warn;

/// Changes that may wait for the disk.
const MAX_WAITING: usize = 1024;

/// Values by namespace and key.
type Table = BTreeMap<String, BTreeMap<String, String>>;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KvFile<T> {
    #[serde(default)]
    config_table: T,
}

/// One change: sets a value, or removes it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) namespace: String,
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// Why the configuration cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{} is not a key-value configuration", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: json::JsonError,
    },
    /// The file cannot be written. Nothing has changed.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// More changes are waiting for the disk than may, or the server is shutting down.
    #[error("{waiting} changes of the key-value configuration are waiting already")]
    Busy {
        /// How many.
        waiting: usize,
    },
}

type Answer = Box<dyn FnOnce(Result<(), KvConfigError>) + Send>;

/// The handle on the configuration. Its [`Writer`] ends when the handle is gone.
#[derive(Debug)]
pub(crate) struct KvConfig {
    path: Option<PathBuf>,
    published: Arc<RwLock<Arc<Table>>>,
    changes: mpsc::Sender<(Change, Answer)>,
}

/// Takes changes to the disk.
pub(crate) struct Writer {
    path: Option<PathBuf>,
    published: Arc<RwLock<Arc<Table>>>,
    changes: mpsc::Receiver<(Change, Answer)>,
}

impl KvConfig {
    /// Reads the file, which need not exist; without a path, the configuration lives in memory only. The writer is to
    /// be run.
    pub(crate) async fn open(path: Option<PathBuf>) -> Result<(Self, Writer), KvConfigError> {
        let table = match path.clone() {
            Some(path) => blocking(move || load(&path)).await?,
            None => Table::default(),
        };
        let published = Arc::new(RwLock::new(Arc::new(table)));
        let (sender, changes) = mpsc::channel(MAX_WAITING);
        let writer = Writer { path: path.clone(), published: Arc::clone(&published), changes };
        Ok((Self { path, published, changes: sender }, writer))
    }

    /// The file.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What is on disk.
    pub(crate) fn snapshot(&self) -> Arc<Table> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues a change; `answer` is called when it is on disk, or cannot be.
    pub(crate) fn change(
        &self,
        change: Change,
        answer: impl FnOnce(Result<(), KvConfigError>) + Send + 'static,
    ) {
        if let Err(error) = self.changes.try_send((change, Box::new(answer))) {
            let (_, answer) = error.into_inner();
            answer(Err(KvConfigError::Busy { waiting: MAX_WAITING }));
        }
    }
}

impl Writer {
    /// Writes changes, those that wait together in one go, until the handle is gone.
    pub(crate) async fn run(mut self) {
        let mut waiting = Vec::new();
        while self.changes.recv_many(&mut waiting, MAX_WAITING).await > 0 {
            let mut table = self.published.read().unwrap_or_else(PoisonError::into_inner).clone();
            let mut answers = Vec::with_capacity(waiting.len());
            for (change, answer) in waiting.drain(..) {
                apply(Arc::make_mut(&mut table), change);
                answers.push(answer);
            }
            let written = match self.path.clone() {
                Some(path) => {
                    let table = Arc::clone(&table);
                    blocking(move || store(&path, &table)).await
                }
                None => Ok(()),
            };
            match written {
                Ok(()) => {
                    *self.published.write().unwrap_or_else(PoisonError::into_inner) = table;
                    answers.into_iter().for_each(|answer| answer(Ok(())));
                }
                Err((path, source)) => {
                    warn!(path = %path.display(), error = %source, "key-value configuration not written");
                    let source = Arc::new(source);
                    for answer in answers {
                        answer(Err(KvConfigError::Write { path: path.clone(), source: Arc::clone(&source) }));
                    }
                }
            }
        }
    }
}

fn apply(table: &mut Table, change: Change) {
    let Change { namespace, key, value } = change;
    match value {
        Some(value) => {
            table.entry(namespace).or_default().insert(key, value);
        }
        None => {
            if let Some(values) = table.get_mut(&namespace) {
                values.remove(&key);
                if values.is_empty() {
                    table.remove(&namespace);
                }
            }
        }
    }
}

/// Runs `io` where it may block.
async fn blocking<T: Send + 'static>(io: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(io).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await, // the runtime is going away, and this task with it
        },
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Reads the file or, when a crash of Java's writer left none, the one before.
fn load(path: &Path) -> Result<Table, KvConfigError> {
    for path in [path, &beside(path, ".bak")] {
        match fs::read(path) {
            Ok(text) => {
                let file = json::from_slice::<KvFile<Table>>(&text);
                let malformed = |source| KvConfigError::Malformed { path: path.to_owned(), source };
                return file.map(|file| file.config_table).map_err(malformed);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(KvConfigError::Read { path: path.to_owned(), source }),
        }
    }
    Ok(Table::default())
}

/// Replaces the file; on failure says which path it was about.
fn store(path: &Path, config_table: &Table) -> Result<(), (PathBuf, io::Error)> {
    let text = serde_json::to_vec_pretty(&KvFile { config_table })
        .map_err(|error| (path.to_owned(), io::Error::from(error)))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| (parent.to_owned(), error))?;
    let temporary = beside(path, ".tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(|error| (temporary.clone(), error))?;
    let backup = beside(path, ".bak");
    match fs::copy(path, &backup) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err((backup, error)),
    }
    fs::rename(&temporary, path).map_err(|error| (path.to_owned(), error))?;
    // The names are in the folder, which has to reach the disk too.
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| (parent.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    async fn open(path: &Path) -> KvConfig {
        let (kv, writer) = KvConfig::open(Some(path.to_owned())).await.unwrap();
        tokio::spawn(writer.run());
        kv
    }

    fn set(kv: &KvConfig, key: &str, value: &str) -> oneshot::Receiver<Result<(), KvConfigError>> {
        let (sender, answer) = oneshot::channel();
        let change = Change { namespace: "n".into(), key: key.into(), value: Some(value.into()) };
        kv.change(change, |written| drop(sender.send(written)));
        answer
    }

    #[tokio::test]
    async fn the_file_is_javas_and_keeps_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        fs::write(&path, r#"{"configTable":{"n":{"old":"1"}}}"#).unwrap();
        let kv = open(&path).await;
        set(&kv, "new", "2").await.unwrap().unwrap();
        let file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(file, serde_json::json!({"configTable": {"n": {"new": "2", "old": "1"}}}));
        let before = fs::read_to_string(beside(&path, ".bak")).unwrap();
        assert_eq!(before, r#"{"configTable":{"n":{"old":"1"}}}"#);
        assert!(!beside(&path, ".tmp").exists());
    }

    #[tokio::test]
    async fn the_file_before_serves_when_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        fs::write(beside(&path, ".bak"), r#"{"configTable":{"n":{"k":"v"}}}"#).unwrap();
        assert_eq!(open(&path).await.snapshot()["n"]["k"], "v");
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        fs::write(&path, r#"{"configTable":{"n"#).unwrap();
        let error = KvConfig::open(Some(path.clone())).await.err().unwrap();
        assert_eq!(error.to_string(), format!("{} is not a key-value configuration", path.display()));
    }

    #[tokio::test]
    async fn changes_are_taken_in_order_and_the_writer_ends_with_the_handle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        let (kv, writer) = KvConfig::open(Some(path.clone())).await.unwrap();
        let answers = [set(&kv, "k", "1"), set(&kv, "k", "2")];
        assert!(kv.snapshot().is_empty(), "nothing is seen before it is on disk");
        drop(kv);
        writer.run().await;
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
        assert_eq!(open(&path).await.snapshot()["n"]["k"], "2");
    }

    #[tokio::test]
    async fn more_changes_than_may_wait_are_refused() {
        let (kv, _writer) = KvConfig::open(None).await.unwrap();
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| set(&kv, "k", "v")).collect();
        assert!(matches!(
            set(&kv, "k", "v").await.unwrap(),
            Err(KvConfigError::Busy { waiting: MAX_WAITING })
        ));
        drop(waiting);
    }

    #[test]
    fn a_namespace_goes_with_its_last_key() {
        let mut table = Table::from([("n".to_owned(), BTreeMap::from([("k".to_owned(), "v".to_owned())]))]);
        let remove = |key: &str| Change { namespace: "n".into(), key: key.into(), value: None };
        apply(&mut table, remove("other"));
        assert_eq!(table.len(), 1);
        apply(&mut table, remove("k"));
        assert!(table.is_empty());
    }
}
