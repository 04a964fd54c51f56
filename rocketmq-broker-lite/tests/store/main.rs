//! The message store through its public API.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

mod append;
mod batch;
mod cleaning;
mod damage;
mod deletion;
mod golden;
mod golden_index;
mod index;
mod read;
mod records;
mod recovery;
