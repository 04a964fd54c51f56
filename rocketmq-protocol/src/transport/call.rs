//! Requests of the peer: [`Service`] takes them, [`Call`] answers them.

use tracing::warn;

use super::connection::Connection;
use crate::request::{Done, Payload, PayloadError, ReplyShape, Request};
use crate::{ByteString, Frame, ResponseCode};

/// Takes the requests of peers.
pub trait Service: Send + Sync + 'static {
    /// Takes one request. Runs on the task of its connection, so it must neither block nor take long: what needs
    /// time keeps the [`Call`] and answers later, from anywhere.
    fn serve(&self, call: Call);

    /// All requests that one read brought have been served, on the same task, and their answers are not written yet:
    /// what is answered to this connection now leaves with them.
    fn served(&self) {}

    /// A connection is gone.
    fn disconnected(&self, connection: &Connection) {
        let _ = connection;
    }
}

/// One request of a peer, to be answered once. A call that is dropped leaves the peer to its own timeout, which some
/// requests ask for.
#[derive(Debug)]
pub struct Call {
    frame: Frame,
    connection: Connection,
}

impl Call {
    pub(super) fn new(frame: Frame, connection: Connection) -> Self {
        connection.begin_request();
        Self { frame, connection }
    }

    /// The request as it came.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Where it came from.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads the request.
    ///
    /// # Errors
    /// A field or the body is not as declared.
    pub fn read<R: Request>(&self) -> Result<R, PayloadError> {
        R::read(&self.frame)
    }

    /// Answers with success.
    pub fn reply<P: Payload>(&self, payload: &P) {
        self.answer(ResponseCode::SUCCESS, None, payload);
    }

    /// Answers with success and nothing else.
    pub fn done(&self) {
        self.reply(&Done {});
    }

    /// Answers with a code and a remark for humans, and nothing else.
    pub fn refuse(&self, code: ResponseCode, remark: impl Into<ByteString>) {
        self.answer(code, Some(remark.into()), &Done {});
    }

    /// Answers with everything. A one-way request gets no answer, whatever is given here.
    pub fn answer<P: Payload>(&self, code: ResponseCode, remark: Option<ByteString>, payload: &P) {
        if self.frame.is_oneway() {
            return;
        }
        let mut shape = ReplyShape {
            code,
            remark,
            opaque: self.frame.opaque,
            encoding: self.frame.encoding,
            max_frame: self.connection.shared().options.max_frame,
        };
        if let Err(error) = self.connection.answer(&shape, payload) {
            warn!(code = %self.frame.request_code(), peer = %self.connection.peer(), %error, "answer does not fit a frame");
            shape.code = ResponseCode::SYSTEM_ERROR;
            shape.remark = Some(error.to_string().into());
            self.connection.answer(&shape, &Done {}).ok(); // a remark always fits
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connection.end_request();
    }
}
