//! [`Listener`]: the user's code that is given messages, of whichever kind.

use std::sync::Arc;

use super::handler::MessageListener;
use super::orderly::OrderlyListener;

/// The user's code that is given messages.
#[derive(Clone)]
pub(super) enum Listener {
    Concurrent(Arc<dyn MessageListener>),
    Ordered(Arc<dyn OrderlyListener>),
}
