//! [`Outbox`]: what waits to be written to a connection.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::FrameTooLong;
use crate::request::Segments;

/// Bodies up to this size are copied behind their header: cheaper than a slice of their own in the write.
const COPY_BELOW: usize = 4 * 1024;

/// Room for headers and small bodies that is kept from write to write; what a burst needed beyond it is given back.
const KEPT_ROOM: usize = 128 * 1024;

/// Slices of one write; more than Linux takes at once would be cut off.
const MAX_SLICES: usize = 64;

/// Frames in the order in which they leave. Headers and small bodies stand in one buffer, large bodies are kept as they
/// are.
#[derive(Default)]
pub(super) struct Outbox {
    /// Headers and small bodies.
    buffer: Vec<u8>,
    /// So much of `buffer` is written.
    written: usize,
    /// Large bodies, each with its place in `buffer`.
    bodies: VecDeque<(usize, Bytes)>,
    /// Bytes that are not written.
    len: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues one frame: `head` encodes everything before the body, or leaves the buffer as it was.
    pub(super) fn push(
        &mut self,
        head: &dyn Fn(&mut Vec<u8>) -> Result<(), FrameTooLong>,
        body: &Segments,
    ) -> Result<(), FrameTooLong> {
        let before = self.buffer.len();
        head(&mut self.buffer)?;
        self.len += self.buffer.len() - before;
        for segment in body.iter() {
            self.len += segment.len();
            if segment.len() <= COPY_BELOW {
                self.buffer.extend_from_slice(segment);
            } else {
                self.bodies.push_back((self.buffer.len(), segment.clone()));
            }
        }
        Ok(())
    }

    /// The next slices to write.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let ends = self.bodies.iter().map(|(at, body)| (*at, &**body));
        let mut from = self.written;
        let pieces = ends.chain([(self.buffer.len(), &[][..])]).flat_map(|(at, body)| {
            let small = self.buffer.get(from..at).unwrap_or_default();
            from = at;
            [small, body]
        });
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Forgets `count` bytes at the front.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.len = self.len.saturating_sub(count);
        while let Some((at, body)) = self.bodies.front_mut() {
            let small = *at - self.written;
            if count < small + body.len() {
                self.written += count.min(small);
                body.advance(count.saturating_sub(small));
                return;
            }
            count -= small + body.len();
            self.written = *at;
            self.bodies.pop_front();
        }
        self.written += count;
        if self.is_empty() {
            self.written = 0;
            self.buffer.clear();
            if self.buffer.capacity() > KEPT_ROOM {
                self.buffer = Vec::new();
            }
        }
    }
}

/// Room for [`Outbox::slices`].
pub(super) fn no_slices<'a>() -> [IoSlice<'a>; MAX_SLICES] {
    [IoSlice::new(&[]); MAX_SLICES]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pushed(outbox: &mut Outbox, head: &[u8], body: &Segments) {
        let head = |out: &mut Vec<u8>| {
            out.extend_from_slice(head);
            Ok(())
        };
        outbox.push(&head, body).unwrap();
    }

    #[test]
    fn small_frames_share_one_slice_and_large_bodies_are_not_copied() {
        let mut outbox = Outbox::default();
        let large = Bytes::from(vec![7; COPY_BELOW + 1]);
        pushed(&mut outbox, b"head", &Segments::One(Bytes::from_static(b"small")));
        pushed(&mut outbox, b"head", &Segments::One(large.clone()));
        pushed(&mut outbox, b"head", &Segments::Empty);
        assert_eq!(outbox.len(), 4 + 5 + 4 + large.len() + 4);
        let mut slices = no_slices();
        let count = outbox.slices(&mut slices);
        assert_eq!(count, 3);
        assert_eq!(&*slices[0], b"headsmallhead");
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert_eq!(&*slices[2], b"head");
    }

    proptest! {
        #[test]
        fn what_was_queued_leaves_in_order_however_much_a_write_takes(
            frames in prop::collection::vec((0_usize..9, prop::collection::vec(0_usize..2 * COPY_BELOW, 0..4)), 0..40),
            writes in prop::collection::vec(1_usize..3 * COPY_BELOW, 1..9),
        ) {
            let (mut outbox, mut expected, mut byte) = (Outbox::default(), Vec::new(), 0_u8);
            let mut bytes = |len: usize| -> Vec<u8> {
                byte = byte.wrapping_add(1);
                vec![byte; len]
            };
            for (head, body) in frames {
                let head = bytes(head);
                let body: Vec<Bytes> = body.into_iter().map(|len| bytes(len).into()).collect();
                expected.extend_from_slice(&head);
                body.iter().for_each(|segment| expected.extend_from_slice(segment));
                pushed(&mut outbox, &head, &Segments::Many(body));
            }
            let mut left = Vec::new();
            for write in writes.iter().cycle() {
                prop_assert_eq!(outbox.len(), expected.len() - left.len());
                let mut slices = no_slices();
                let count = outbox.slices(&mut slices);
                let flat: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                prop_assert_eq!(flat.is_empty(), outbox.is_empty());
                let taken = &flat[..flat.len().min(*write)];
                left.extend_from_slice(taken);
                let taken = taken.len();
                outbox.advance(taken);
                if outbox.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(left, expected);
        }
    }
}
