//! [`ConfigFile`]: a small file that is replaced whole, with the previous one kept as `.bak`.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::warn;

/// A file of `config/`: after a crash at any moment it reads as the old or the new contents, never as a mixture.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
}

/// A configuration file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Neither the file nor its `.bak` makes sense. Starting empty would lose what they held, so nothing is done.
    #[error(
        "{path} cannot be understood ({reason}), nor is there a good {path}.bak; repair it or move it away"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What its reader says.
        reason: String,
    },
}

impl ConfigFile {
    /// Names the file; nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file with `parse`, or its `.bak` if the file is absent, empty or does not parse. `None` when there is neither.
    ///
    /// # Errors
    /// When a file that is there cannot be read, or none of them parses.
    pub fn load<T, E: Display>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigFileError> {
        let mut malformed = None;
        let mut emptied = false;
        for path in [self.path.clone(), self.sibling("bak")] {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(ConfigFileError::Io { action: "read", path, source }),
            };
            if bytes.iter().all(|byte| *byte == 0) {
                emptied = true;
                continue;
            }
            match parse(&bytes) {
                Ok(value) => {
                    if let Some(reason) = &malformed {
                        warn!(path = %self.path.display(), %reason, "configuration file is damaged, using its .bak");
                    } else if path != self.path {
                        warn!(path = %self.path.display(), "configuration file is missing or empty, using its .bak");
                    }
                    return Ok(Some(value));
                }
                Err(reason) => malformed = malformed.or(Some(reason.to_string())),
            }
        }
        match malformed {
            Some(reason) => Err(ConfigFileError::Malformed { path: self.path.clone(), reason }),
            None => {
                if emptied {
                    warn!(path = %self.path.display(), "configuration file is empty and has no .bak, starting without");
                }
                Ok(None)
            }
        }
    }

    /// Replaces the contents; the previous ones become `.bak`. Blocks until the disk has them.
    ///
    /// # Errors
    /// When a file operation fails; the old contents are still there then.
    pub fn store(&self, contents: &[u8]) -> Result<(), ConfigFileError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| ConfigFileError::Io { action, path, source }
        };
        let (new, bak) = (self.sibling("tmp"), self.sibling("bak"));
        let dir = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let mut file = File::create(&new).map_err(failed("create", &new))?;
        file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed("write", &new))?;
        self.keep_as(&bak).map_err(failed("replace", &bak))?;
        fs::rename(&new, &self.path).map_err(failed("replace", &self.path))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
    }

    /// Makes `bak` a second name of the current file, so that there is no moment without one.
    fn keep_as(&self, bak: &Path) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            // An emptied file must not push out the good copy.
            Ok(current) if current.len() == 0 => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        match fs::remove_file(bak) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // File systems without hard links get the short moment with only `.bak`, which the reader knows.
        fs::hard_link(&self.path, bak).or_else(|_| fs::rename(&self.path, bak))
    }

    fn sibling(&self, extension: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<String, String> {
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
        if text.ends_with('.') { Ok(text) } else { Err("unfinished".to_owned()) }
    }

    #[test]
    fn a_file_that_was_never_written_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ConfigFile::new(dir.path().join("topics.json")).load(text).unwrap(), None);
    }

    #[test]
    fn the_new_contents_replace_the_old_which_become_bak() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::new(dir.path().join("config/topics.json"));
        for contents in ["one.", "two.", "three."] {
            file.store(contents.as_bytes()).unwrap();
            assert_eq!(file.load(text).unwrap().as_deref(), Some(contents));
        }
        assert_eq!(fs::read(dir.path().join("config/topics.json.bak")).unwrap(), b"two.");
        assert_eq!(fs::read_dir(dir.path().join("config")).unwrap().count(), 2);
    }

    #[test]
    fn a_torn_empty_or_missing_file_falls_back_to_bak() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::new(dir.path().join("topics.json"));
        file.store(b"one.").unwrap();
        file.store(b"two.").unwrap();
        for torn in [&b"tw"[..], b"", b"\0\0\0\0"] {
            fs::write(file.path(), torn).unwrap();
            assert_eq!(file.load(text).unwrap().as_deref(), Some("one."));
        }
        fs::remove_file(file.path()).unwrap();
        assert_eq!(file.load(text).unwrap().as_deref(), Some("one."));
    }

    #[test]
    fn a_file_that_nobody_understands_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::new(dir.path().join("topics.json"));
        fs::write(file.path(), b"nonsense").unwrap();
        let error = file.load(text).unwrap_err();
        assert!(error.to_string().contains("unfinished"), "{error}");
        assert_eq!(fs::read(file.path()).unwrap(), b"nonsense");
    }

    #[test]
    fn an_empty_file_does_not_push_out_a_good_bak() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::new(dir.path().join("topics.json"));
        file.store(b"one.").unwrap();
        file.store(b"two.").unwrap();
        fs::write(file.path(), b"").unwrap();
        file.store(b"three.").unwrap();
        assert_eq!(fs::read(dir.path().join("topics.json.bak")).unwrap(), b"one.");
    }
}
