//! What every example begins with: a cluster to talk to.

use std::error::Error;

use rocketmq_broker_lite::Standalone;

/// A cluster: the one that `--namesrv HOST:PORT` names, or one in this process.
pub struct Cluster {
    embedded: Option<Standalone>,
    name_server: String,
}

impl Cluster {
    /// Goes by the arguments of the program.
    ///
    /// # Errors
    /// An argument that is no option, or an embedded cluster that does not start.
    pub async fn from_args() -> Result<Self, Box<dyn Error + Send + Sync>> {
        Self::with(&[]).await
    }

    /// Goes by the arguments of the program. An embedded broker has these settings, by the keys of Java's `broker.conf`.
    ///
    /// # Errors
    /// As [`Cluster::from_args`], or a setting that nobody knows.
    pub async fn with(settings: &[(&str, &str)]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut arguments = std::env::args().skip(1);
        match (arguments.next().as_deref(), arguments.next()) {
            (None, _) => {
                let mut builder = Standalone::builder();
                for (key, value) in settings {
                    builder = builder.set(key, value)?;
                }
                let embedded = builder.start().await?;
                let name_server = embedded.name_server_addr();
                Ok(Self { embedded: Some(embedded), name_server })
            }
            (Some("--namesrv"), Some(name_server)) => Ok(Self { embedded: None, name_server }),
            _ => Err(
                "usage: [--namesrv HOST:PORT]; without it, a name server and a broker run in this process"
                    .into(),
            ),
        }
    }

    /// Where its name server is.
    pub fn name_server(&self) -> &str {
        &self.name_server
    }

    /// Whether it runs in this process.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Ends a cluster of this process.
    ///
    /// # Errors
    /// The broker could not write something.
    pub async fn shutdown(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if let Some(embedded) = self.embedded {
            embedded.shutdown().await?;
        }
        Ok(())
    }
}
