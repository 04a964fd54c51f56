//! A complete Apache RocketMQ name server: the place where brokers register and clients learn which broker holds a
//! topic. It speaks to Java brokers, clients and `mqadmin` of 4.x and 5.x.
//!
//! ```no_run
//! # async fn run() -> Result<(), rocketmq_namesrv_lite::NameServerError> {
//! use rocketmq_namesrv_lite::NameServer;
//!
//! let server = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await?;
//! println!("name server at {}", server.local_addr());
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! All state is in memory: brokers register again when they find a new name server. Only the key-value configuration is
//! kept, in one file.
#![forbid(unsafe_code)]

mod config;
mod dispatch;
mod kv_config;
pub mod program;
pub mod properties;
mod route_table;
mod server;
mod settings;

pub use config::NameServerBuilder;
pub use kv_config::KvConfigError;
pub use server::{NameServer, NameServerError};
