//! A RocketMQ broker that keeps its messages in the files of the Java broker.
#![deny(unsafe_code)]

pub mod store;
