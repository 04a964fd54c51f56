//! [`Line`]: a connection on which a thread writes frames and waits for answers.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BytesMut;
use rocketmq_protocol::request::{Request, RequestShape, encode_request};
use rocketmq_protocol::{Encoding, Frame, FrameDecoder, MAX_FRAME_BYTES, Opaque};

use crate::Failure;

/// Most bytes that one read takes.
const CHUNK: usize = 128 * 1024;

pub(super) struct Line {
    stream: TcpStream,
    decoder: FrameDecoder,
    chunk: Vec<u8>,
    /// What has come and is not taken apart yet.
    input: BytesMut,
}

impl Line {
    /// Connects to `addr`. Reads and writes wait no longer than `patience`.
    pub(super) fn connect(addr: &str, patience: Duration) -> Result<Self, Failure> {
        let connect = || {
            let addr = addr.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let stream = TcpStream::connect_timeout(&addr, patience)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        };
        let stream = connect().map_err(failed("connect"))?;
        Ok(Self {
            stream,
            decoder: FrameDecoder::new(MAX_FRAME_BYTES),
            chunk: vec![0; CHUNK],
            input: BytesMut::new(),
        })
    }

    /// From now on, reads wait no longer than this.
    pub(super) fn look_every(&mut self, time: Duration) -> Result<(), Failure> {
        self.stream.set_read_timeout(Some(time)).map_err(failed("set a timeout"))
    }

    pub(super) fn write(&mut self, frames: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(frames).map_err(failed("write to the broker"))
    }

    /// Waits for bytes. False when none came for as long as its patience lasts.
    pub(super) fn wait(&mut self) -> Result<bool, Failure> {
        match self.stream.read(&mut self.chunk) {
            Ok(0) => Err(failed("read from the broker")(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => {
                self.input.extend_from_slice(self.chunk.get(..len).unwrap_or_default());
                Ok(true)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(false),
                io::ErrorKind::Interrupted => Ok(true),
                _ => Err(failed("read from the broker")(error)),
            },
        }
    }

    /// The next answer of those that have come whole.
    pub(super) fn answer(&mut self) -> Result<Option<Frame>, Failure> {
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) if !frame.is_response() => {} // a broker that tells what changed
                Ok(answer) => return Ok(answer),
                Err(error) => return Err(failed("read from the broker")(io::Error::other(error))),
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(super) fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply, Failure> {
        let mut frame = Vec::new();
        encode(request, Opaque::new(0), &mut frame)?;
        self.write(&frame)?;
        loop {
            match self.answer()? {
                Some(answer) => return read::<R>(&answer).map_err(failed("ask")),
                None if self.wait()? => {}
                None => return Err(failed("ask")(io::ErrorKind::TimedOut.into())),
            }
        }
    }
}

/// The reply in an answer; the error of one that is a refusal is what the broker said.
pub(super) fn read<R: Request>(answer: &Frame) -> io::Result<R::Reply> {
    if !R::ACCEPTS.contains(&answer.response_code()) {
        return Err(io::Error::other(refusal(answer)));
    }
    rocketmq_protocol::request::Payload::read(answer).map_err(io::Error::other)
}

/// What the broker said instead of doing it.
pub(super) fn refusal(answer: &Frame) -> String {
    format!("{}: {}", answer.response_code(), answer.remark.as_deref().unwrap_or_default())
}

/// Appends the frame of a request.
pub(super) fn encode<R: Request>(request: &R, opaque: Opaque, out: &mut Vec<u8>) -> Result<(), Failure> {
    let shape =
        RequestShape { opaque, oneway: false, encoding: Encoding::Compact, max_frame: MAX_FRAME_BYTES };
    let body = request.body();
    encode_request(out, request, &shape, body.len())
        .map_err(|error| failed("make a request")(io::Error::other(error)))?;
    body.iter().for_each(|segment| out.extend_from_slice(segment));
    Ok(())
}

pub(super) fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::System { doing, source }
}
