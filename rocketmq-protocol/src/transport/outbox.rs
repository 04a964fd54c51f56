//! [`Outbox`]: what waits to be written to a connection.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::FrameTooLong;
use crate::request::Segments;

/// Bodies up to this size are copied behind their header: cheaper than a slice of their own in the write.
const COPY_BELOW: usize = 4 * 1024;

/// Size of the buffers that headers and small bodies share.
const CHUNK: usize = 16 * 1024;

/// Slices of one write; more than Linux takes at once would be cut off.
const MAX_SLICES: usize = 64;

/// Frames in the order in which they leave. Headers and small bodies are encoded into shared buffers, large bodies are
/// kept as they are.
#[derive(Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes in all.
    len: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues one frame: `head` encodes everything before the body.
    pub(super) fn push(
        &mut self,
        head: &dyn Fn(&mut BytesMut) -> Result<(), FrameTooLong>,
        body: &Segments,
    ) -> Result<(), FrameTooLong> {
        if self.is_empty() {
            // What was in the buffer is written, as a rule, so that it can begin anew: later, frames would have to be moved.
            self.tail.reserve(CHUNK);
        }
        let before = self.tail.len();
        head(&mut self.tail)?;
        self.len += self.tail.len() - before;
        for segment in body.iter() {
            self.len += segment.len();
            if segment.len() <= COPY_BELOW {
                self.tail.extend_from_slice(segment);
            } else {
                self.seal();
                self.chunks.push_back(segment.clone());
            }
        }
        Ok(())
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// Moves everything from `other` behind what is here.
    pub(super) fn take_from(&mut self, other: &mut Self) {
        other.seal();
        self.chunks.append(&mut other.chunks);
        self.len += std::mem::take(&mut other.len);
    }

    /// The next slices to write.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut count = 0;
        for (slot, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    /// Forgets `written` bytes at the front.
    pub(super) fn advance(&mut self, mut written: usize) {
        self.len = self.len.saturating_sub(written);
        while let Some(front) = self.chunks.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.chunks.pop_front();
        }
    }
}

/// Room for [`Outbox::slices`].
pub(super) fn no_slices<'a>() -> [IoSlice<'a>; MAX_SLICES] {
    [IoSlice::new(&[]); MAX_SLICES]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_share_one_slice_and_large_bodies_are_not_copied() {
        let mut outbox = Outbox::default();
        let large = Bytes::from(vec![7; COPY_BELOW + 1]);
        let head = |out: &mut BytesMut| {
            out.extend_from_slice(b"head");
            Ok(())
        };
        outbox.push(&head, &Segments::One(Bytes::from_static(b"small"))).unwrap();
        outbox.push(&head, &Segments::One(large.clone())).unwrap();
        outbox.push(&head, &Segments::Empty).unwrap();
        let mut writing = Outbox::default();
        writing.take_from(&mut outbox);
        assert!(outbox.is_empty());
        assert_eq!(writing.len(), 4 + 5 + 4 + large.len() + 4);

        let mut slices = no_slices();
        let count = writing.slices(&mut slices);
        assert_eq!(count, 3);
        assert_eq!(&*slices[0], b"headsmallhead");
        assert_eq!(slices[1].as_ptr(), large.as_ptr());

        writing.advance(4 + 5 + 4 + large.len() + 1);
        let mut slices = no_slices();
        assert_eq!(writing.slices(&mut slices), 1);
        assert_eq!(&*slices[0], b"ead");
    }
}
