//! The numbered messages: what number `i` looks like, so that a receiver can tell a changed message from a whole one.

use rocketmq_client::{Error, Message, MessageBuilder, ReceivedMessage};

/// Outside ASCII and outside the basic plane.
const NOTE: &str = "naïve 🚀";

const BODY_BYTES: usize = 128;
/// Above the 4 KiB from which clients compress.
const LONG_BODY_BYTES: usize = 8192;

fn body(i: u32) -> Vec<u8> {
    let mut body = format!("{i} ").into_bytes();
    let letter = b'a' + u8::try_from(i % 26).unwrap_or(0);
    body.resize(if i % 1000 == 999 { LONG_BODY_BYTES } else { BODY_BYTES }, letter);
    body
}

fn tag(i: u32) -> String {
    format!("t{}", i % 4)
}

/// Message `i`.
pub(crate) fn message(topic: &str, i: u32) -> Result<Message, Error> {
    builder(topic, i).build()
}

/// Message `i`, to be given more.
pub(crate) fn builder(topic: &str, i: u32) -> MessageBuilder {
    Message::builder(topic).body(body(i)).tag(&tag(i)).key(&format!("k{i}")).property("note", NOTE)
}

/// The number of a received message, or which part differs from what was sent.
pub(crate) fn verify(message: &ReceivedMessage) -> Result<u32, String> {
    let received = message.body().map_err(|error| error.to_string())?;
    let digits = received.split(|byte| *byte == b' ').next().unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let i: u32 = number.ok_or("the body does not begin with a number")?;
    let expect = |what, holds| if holds { Ok(()) } else { Err(format!("message {i}: {what} differs")) };
    expect("body", received == &body(i))?;
    expect("tags", message.tag() == Some(&tag(i)))?;
    expect("keys", message.keys().eq([format!("k{i}")]))?;
    expect("property note", message.property("note") == Some(NOTE))?;
    Ok(i)
}
