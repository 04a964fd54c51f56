//! Placeholder until its modules land.
#![forbid(unsafe_code)]
