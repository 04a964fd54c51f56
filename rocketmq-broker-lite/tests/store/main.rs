//! The message store through its public API.

mod append;
mod golden;
mod read;
mod records;
mod recovery;
