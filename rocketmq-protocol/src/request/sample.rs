//! Values for tests of every declared request.

use bytes::{Bytes, BytesMut};

use super::{Payload, ReplyShape, Request, RequestShape, Segments, encode_reply, encode_request};
use crate::frame::{FrameDecoder, MAX_FRAME_BYTES};
use crate::{ByteString, Encoding, LogPosition, Opaque, QueueId, QueueOffset, ResponseCode, TagHash};

/// Bytes to make values of; zeros when they run out.
pub(crate) struct Source(pub(crate) std::vec::IntoIter<u8>);

impl Source {
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.0.next().unwrap_or(0))
    }
}

pub(crate) trait Sample {
    fn sample(source: &mut Source) -> Self;
}

macro_rules! sample_integers {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(source: &mut Source) -> Self {
                Self::from_be_bytes(source.bytes())
            }
        }
    )*};
}
sample_integers!(i32, i64, u32);

macro_rules! sample_units {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(source: &mut Source) -> Self {
                Self::new(Sample::sample(source))
            }
        }
    )*};
}
sample_units!(QueueId, QueueOffset, LogPosition, TagHash);

impl Sample for bool {
    fn sample(source: &mut Source) -> Self {
        source.bytes::<1>()[0] % 2 == 1
    }
}

impl Sample for ByteString {
    fn sample(source: &mut Source) -> Self {
        let len = usize::from(source.bytes::<1>()[0] % 12);
        (0..len)
            .map(|_| match source.bytes::<1>()[0] {
                byte @ 0..=127 => char::from(byte), // control characters and quotes among them
                byte => char::from_u32(0x4e00 + u32::from(byte)).unwrap(),
            })
            .collect::<String>()
            .into()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source) -> Self {
        bool::sample(source).then(|| T::sample(source))
    }
}

impl Sample for Bytes {
    fn sample(source: &mut Source) -> Self {
        ByteString::sample(source).as_bytes().clone()
    }
}

impl Sample for Segments {
    fn sample(source: &mut Source) -> Self {
        Bytes::sample(source).into()
    }
}

pub(crate) type RoundTrip = fn(&mut Source, Encoding);

/// A sampled request and a sampled reply come back equal from their frames.
pub(crate) fn round_trip<R>(source: &mut Source, encoding: Encoding)
where
    R: Request + Sample + PartialEq,
    R::Reply: Sample + PartialEq,
{
    let request = R::sample(source);
    let mut out = Vec::new();
    let shape = RequestShape { opaque: Opaque::new(7), oneway: false, encoding, max_frame: MAX_FRAME_BYTES };
    let body = request.body();
    encode_request(&mut out, &request, &shape, body.len()).unwrap();
    body.iter().for_each(|segment| out.extend_from_slice(segment));
    let mut read = BytesMut::from(&*out);
    let frame = FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut read).unwrap().unwrap();
    assert_eq!((frame.request_code(), frame.is_response(), read.len()), (R::CODE, false, 0));
    assert_eq!(R::read(&frame).unwrap(), request);

    let reply = R::Reply::sample(source);
    let shape = ReplyShape {
        code: ResponseCode::SUCCESS,
        remark: None,
        opaque: Opaque::new(7),
        encoding,
        max_frame: MAX_FRAME_BYTES,
    };
    let body = reply.body();
    out.clear();
    encode_reply(&mut out, &shape, body.len(), &reply).unwrap();
    body.iter().for_each(|segment| out.extend_from_slice(segment));
    let frame = FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut BytesMut::from(&*out)).unwrap().unwrap();
    assert!(frame.is_response());
    assert_eq!(R::Reply::read(&frame).unwrap(), reply);
}
