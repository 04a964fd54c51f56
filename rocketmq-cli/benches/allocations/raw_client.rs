//! [`RawClient`]: sends frames that were made before and counts the answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) struct RawClient {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

impl RawClient {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 1 << 20].into() })
    }

    /// Sends `frames`, waits for so many answers, and that so many times. All answers are successes.
    pub(crate) fn exchange(&mut self, frames: &[u8], answers: usize, rounds: usize) -> io::Result<()> {
        for _ in 0..rounds {
            self.stream.write_all(frames)?;
            let (mut seen, mut filled) = (0, 0);
            while seen < answers {
                let room = self.buffer.get_mut(filled..).unwrap_or_default();
                filled += match self.stream.read(room)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => read,
                };
                let mut at = 0;
                while let Some(len) =
                    super::raw_broker::frame_len(self.buffer.get(at..filled).unwrap_or_default())
                {
                    let code = self.buffer.get(at + 8..at + 10);
                    assert_eq!(code, Some(&[0, 0][..]), "an answer is no success");
                    at += len;
                    seen += 1;
                }
                self.buffer.copy_within(at..filled, 0);
                filled -= at;
            }
        }
        Ok(())
    }
}
