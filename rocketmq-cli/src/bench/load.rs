//! [`Load`]: the messages that are sent. A plain message costs some reference counts: its body is shared by all.

use std::ops::Range;

use bytes::Bytes;
use clap::Args;
use rocketmq_client::Message;

use super::stamp::Stamp;
use crate::Failure;

/// What is sent.
#[derive(Args, Clone)]
pub(crate) struct Load {
    /// Bytes of a body
    #[arg(long, short, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
    /// Give messages tags tag-0 to tag-(N-1) in turn
    #[arg(long, value_name = "N", default_value_t = 0)]
    tags: u16,
    /// Give each message a key of its own
    #[arg(long)]
    keys: bool,
    /// Stamp bodies with producer, sequence number and checksum, for `rmq bench consume --verify`
    #[arg(long)]
    pub(crate) verify: bool,
}

impl Load {
    pub(crate) fn size(&self) -> u64 {
        self.size.into()
    }

    /// Whether all messages are alike.
    pub(crate) fn is_plain(&self) -> bool {
        self.tags == 0 && !self.keys && !self.verify
    }

    /// # Errors
    /// Options that do not go together.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.verify && self.size() < Stamp::LEN as u64 {
            let text = format!("--verify: a stamp takes {} bytes, --size is {}", Stamp::LEN, self.size);
            return Err(Failure::Options(text));
        }
        Ok(())
    }

    /// What one sender sends.
    pub(crate) fn source(&self, topic: &str) -> Result<Source, Failure> {
        let filler = filler(self.size as usize);
        let tags: Vec<_> = (0..self.tags).map(|number| format!("tag-{number}")).collect();
        let build = |tag: Option<&String>| {
            let message = Message::builder(topic).body(filler.clone());
            match tag {
                Some(tag) => message.tag(tag).build(),
                None => message.build(),
            }
        };
        let plain = if tags.is_empty() {
            vec![build(None)?]
        } else {
            tags.iter().map(|tag| build(Some(tag))).collect::<Result<_, _>>()?
        };
        let stamp = self.verify.then(|| Stamp { producer: rand::random(), sequence: 0 });
        Ok(Source { topic: topic.to_owned(), filler, tags, keys: self.keys, plain, stamp })
    }
}

/// What one send sends.
pub(crate) enum Parcel {
    One(Message),
    Many(Vec<Message>),
}

impl Parcel {
    /// Messages in it.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(messages) => messages.len() as u64,
        }
    }
}

/// Makes the messages of one sender.
pub(crate) struct Source {
    topic: String,
    filler: Bytes,
    tags: Vec<String>,
    keys: bool,
    /// One per tag, ready to be sent.
    plain: Vec<Message>,
    /// That of the next message.
    stamp: Option<Stamp>,
}

impl Source {
    /// The messages with these numbers.
    pub(crate) fn parcel(&mut self, numbers: Range<u64>) -> Result<Parcel, Failure> {
        if numbers.end - numbers.start == 1 {
            return self.message(numbers.start).map(Parcel::One);
        }
        numbers.map(|number| self.message(number)).collect::<Result<_, _>>().map(Parcel::Many)
    }

    fn message(&mut self, number: u64) -> Result<Message, Failure> {
        let turn = (number % self.plain.len() as u64) as usize;
        match self.plain.get(turn) {
            Some(plain) if self.stamp.is_none() && !self.keys => Ok(plain.clone()),
            _ => self.build(number, turn),
        }
    }

    fn build(&mut self, number: u64, tag: usize) -> Result<Message, Failure> {
        let body = match &mut self.stamp {
            Some(stamp) => {
                let body = stamp.body(self.filler.len(), &self.filler);
                stamp.sequence += 1;
                body
            }
            None => self.filler.clone(),
        };
        let mut message = Message::builder(&*self.topic).body(body);
        if let Some(tag) = self.tags.get(tag) {
            message = message.tag(tag);
        }
        if self.keys {
            message = message.key(&format!("key-{number}"));
        }
        Ok(message.build()?)
    }
}

/// Bytes for a body: letters, so that they can be read in a dump.
pub(crate) fn filler(size: usize) -> Bytes {
    (b'a'..=b'z').cycle().take(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(tags: u16, keys: bool, verify: bool) -> Source {
        Load { size: 40, tags, keys, verify }.source("t").unwrap()
    }

    #[test]
    fn plain_messages_share_one_body() {
        let Parcel::Many(messages) = load(0, false, false).parcel(5..7).unwrap() else { panic!("two") };
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].body().as_ptr(), messages[1].body().as_ptr());
        assert_eq!(messages[0].body().len(), 40);
    }

    #[test]
    fn tags_go_in_turn_and_keys_are_the_messages_own() {
        let Parcel::Many(messages) = load(2, true, false).parcel(3..6).unwrap() else { panic!("three") };
        let seen: Vec<_> = messages.iter().map(|m| (m.tag().unwrap(), m.property("KEYS").unwrap())).collect();
        assert_eq!(seen, [("tag-1", "key-3"), ("tag-0", "key-4"), ("tag-1", "key-5")]);
    }

    #[test]
    fn stamps_count_what_their_producer_sends() {
        let mut source = load(0, false, true);
        let stamps: Vec<_> =
            [7, 9].map(|number| Stamp::read(source.message(number).unwrap().body()).unwrap()).into();
        assert_eq!((stamps[0].sequence, stamps[1].sequence), (0, 1));
        assert_eq!(stamps[0].producer, stamps[1].producer);
    }

    #[test]
    fn a_stamp_needs_room() {
        assert!(Load { size: 23, tags: 0, keys: false, verify: true }.check().is_err());
        assert!(Load { size: 24, tags: 0, keys: false, verify: true }.check().is_ok());
    }
}
