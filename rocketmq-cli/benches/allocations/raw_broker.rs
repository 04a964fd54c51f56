//! A broker, and its name server, that answers with frames that were made before.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use rocketmq_protocol::RequestCode;

use super::frames;

/// Where a compact header has them, counted from the start of the frame.
const CODE: usize = 8;
const OPAQUE: usize = 13;

struct Answers {
    by_code: Vec<(RequestCode, Bytes)>,
    others: Bytes,
}

/// Starts it; it ends with the process.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let answers = Arc::new(Answers { by_code: frames::answers(&addr.to_string()), others: frames::done() });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            thread::spawn(move || serve(stream, &answers));
        }
    });
    Ok(addr)
}

/// Until the peer closes.
fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 1 << 20];
    let mut out = Vec::with_capacity(4 << 20);
    let mut filled = 0;
    loop {
        match stream.read(buffer.get_mut(filled..).unwrap_or_default())? {
            0 => return Ok(()),
            read => filled += read,
        }
        let mut at = 0;
        while let Some(len) = frame_len(buffer.get(at..filled).unwrap_or_default()) {
            answers.answer(buffer.get(at..at + len).unwrap_or_default(), &mut out);
            at += len;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        stream.write_all(&out)?;
        out.clear();
    }
}

impl Answers {
    fn answer(&self, request: &[u8], out: &mut Vec<u8>) {
        let code =
            request.get(CODE..).and_then(|rest| rest.first_chunk()).map(|code| i16::from_be_bytes(*code));
        let code = RequestCode::new(code.unwrap_or_default().into());
        let known = self.by_code.iter().find(|(known, _)| *known == code);
        let start = out.len();
        out.extend_from_slice(known.map_or(&self.others, |(_, answer)| answer));
        let opaque = OPAQUE..OPAQUE + 4;
        if let (Some(to), Some(from)) =
            (out.get_mut(start..).and_then(|answer| answer.get_mut(opaque.clone())), request.get(opaque))
        {
            to.copy_from_slice(from);
        }
    }
}

/// Bytes of the first frame, when all of it is there.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = 4 + u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    (len <= bytes.len()).then_some(len)
}
