//! Connections over tokio: what client, name server and broker share.
//!
//! One task drives a connection. It decodes every frame that one read returned, hands requests to the [`Service`],
//! pairs responses with calls, and sends everything that is ready in one vectored write. A connection is symmetric:
//! either side may call the other. No timer takes part: what is queued while a write is under way leaves with the next.

mod call;
mod clock;
mod connection;
mod connector;
mod driver;
mod error;
mod outbox;
mod server;
mod socket;

pub use call::{Call, Service};
pub use clock::Clock;
pub use connection::{Connection, ConnectionId};
pub use connector::Connector;
pub use error::{RequestError, Retry};
pub use server::{Server, ServerOptions};
pub use socket::TransportOptions;

#[cfg(test)]
mod tests;
