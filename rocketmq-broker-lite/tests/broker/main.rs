//! The broker from outside: over its socket, as a program, and killed.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml exempts test functions, not what they call

mod config_files;
mod delay;
mod disk;
mod golden;
mod groups;
mod kill;
mod program;
mod query;
mod resources;
mod support;
mod timer;
mod topics;
mod transactions;
mod wire;
