//! Producers and consumers against an embedded cluster, through the public API.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml exempts test functions, not what they call

mod broadcasting;
mod collector;
mod delay;
mod filter_sql;
mod first_message;
mod lifecycle;
mod namespaces;
mod ordered;
mod producing;
#[cfg(unix)]
mod proofs;
mod pull_side;
mod request_reply;
mod retry;
mod send_and_consume;
mod several_clients;
mod ten_lines;
mod transactions;
