//! A consumer: a process that is a member of both groups. It writes what it has handled to the journal, which is its
//! standard output, and leaves gracefully when its standard input ends.

use std::io::{self, Write};
use std::time::Duration;

use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Error, Filter, HandlerError, OrderlyAck, PushConsumer, ReceivedMessage,
};
use tokio::sync::oneshot;

use crate::Failure;
use crate::journal::Entry;
use crate::load::{Group, key_and_seq};

/// What handling a message takes.
const WORK: Duration = Duration::from_millis(1);
/// Pause before the next try to start, when there is no name server.
const PAUSE: Duration = Duration::from_millis(500);
/// What handlers get to finish.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(name_server: &str, id: u32) -> Result<(), Failure> {
    rocketmq_namesrv_lite::program::log_to_stderr().map_err(|error| error.to_string())?;
    let mut end = end_of_stdin();
    let (client, consumers) = loop {
        match start(name_server, id).await {
            Ok(started) => break started,
            Err(error) => eprintln!("trying to start again: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = &mut end => return Ok(()),
        }
    };
    write(&Entry::Started(id))?;
    end.await.ok();
    let [concurrent, ordered] = consumers;
    let outcomes = tokio::join!(concurrent.shutdown(GRACE), ordered.shutdown(GRACE));
    client.shutdown().await;
    outcomes.0?;
    outcomes.1?;
    Ok(())
}

async fn start(name_server: &str, id: u32) -> Result<(Client, [PushConsumer; 2]), Error> {
    let client = Client::builder().name_servers([name_server]).start().await?;
    let consumer = |group: Group| {
        PushConsumer::builder(group.name())
            .client(&client)
            .subscribe(group.name(), Filter::All)
            .from(ConsumeFrom::Earliest)
    };
    let concurrent = consumer(Group::Concurrent).handler(move |messages: Batch| async move {
        handle(Group::Concurrent, id, &messages).await?;
        Ok(Ack::All)
    });
    let ordered = consumer(Group::Ordered).ordered(move |messages: Batch, _| async move {
        handle(Group::Ordered, id, &messages).await?;
        Ok(OrderlyAck::Commit)
    });
    let consumers = [concurrent.start().await?, ordered.start().await?];
    Ok((client, consumers))
}

async fn handle(group: Group, member: u32, messages: &[ReceivedMessage]) -> Result<(), HandlerError> {
    for message in messages {
        tokio::time::sleep(WORK).await;
        write(&match key_and_seq(message) {
            Some((key, seq)) => Entry::Handled { group, member, key, seq },
            None => Entry::Corrupt { member },
        })?;
    }
    Ok(())
}

/// One line is one write to a file: nobody's line comes into another one's, and nothing waits for a reader.
fn write(entry: &Entry) -> io::Result<()> {
    io::stdout().lock().write_all(entry.line().as_bytes())
}

/// Whoever started us wants us to leave, or is no more.
fn end_of_stdin() -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        ended.send(()).ok();
    });
    end
}
