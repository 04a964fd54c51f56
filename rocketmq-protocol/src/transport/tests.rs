//! Connections over loopback sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::request::Segments;
use crate::requests::*;
use crate::{ByteString, Encoding, QueueId, QueueOffset, ResponseCode};

const LONG: Duration = Duration::from_secs(10);

/// Answers `GetMaxOffset` with the queue id, keeps `GetMinOffset` for later, echoes `ViewMessage`, refuses the rest.
#[derive(Default)]
struct TestService {
    kept: Mutex<Vec<Call>>,
    told: Option<mpsc::UnboundedSender<String>>,
}

impl Service for TestService {
    fn serve(&self, call: Call) {
        if let Some(told) = &self.told {
            told.send(call.frame().request_code().to_string()).unwrap();
        }
        if let Ok(request) = call.read::<GetMaxOffset>() {
            if call.frame().request_code() == GetMaxOffset::CODE {
                return call
                    .reply(&GetMaxOffsetReply { offset: QueueOffset::new(request.queue_id.get().into()) });
            }
        }
        match call.frame().request_code() {
            GetMinOffset::CODE => self.kept.lock().unwrap().push(call),
            ViewMessage::CODE => {
                let size = usize::try_from(call.read::<ViewMessage>().unwrap().position.get()).unwrap();
                call.reply(&PullReply {
                    suggested_broker_id: 0,
                    next_begin_offset: QueueOffset::ZERO,
                    min_offset: QueueOffset::ZERO,
                    max_offset: QueueOffset::ZERO,
                    topic_sys_flag: None,
                    group_sys_flag: None,
                    forbidden_type: None,
                    messages: Segments::One(vec![5; size].into()),
                });
            }
            code => call.refuse(
                ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                format!("request type {code} not supported"),
            ),
        }
    }

    fn disconnected(&self, _: &Connection) {
        if let Some(told) = &self.told {
            told.send("disconnected".to_owned()).ok();
        }
    }
}

async fn start(service: TestService) -> (Server, Connector, Arc<TestService>) {
    start_with(service, TransportOptions::default()).await
}

async fn start_with(
    service: TestService,
    transport: TransportOptions,
) -> (Server, Connector, Arc<TestService>) {
    let service = Arc::new(service);
    let options = ServerOptions { transport: transport.clone(), ..ServerOptions::new("test") };
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), service.clone(), options).await.unwrap();
    (server, Connector::new(transport, Arc::new(TestService::default())), service)
}

fn max_offset(queue_id: i32) -> GetMaxOffset {
    GetMaxOffset { topic: "T".into(), queue_id: QueueId::new(queue_id) }
}

fn min_offset() -> GetMinOffset {
    GetMinOffset { topic: "T".into(), queue_id: QueueId::ZERO }
}

fn view(size: i64) -> ViewMessage {
    ViewMessage { position: size.into(), topic: None }
}

fn write_request(out: &mut Vec<u8>, request: &impl crate::request::Request) {
    let shape = crate::request::RequestShape {
        opaque: crate::Opaque::ZERO,
        oneway: false,
        encoding: Encoding::Compact,
        max_frame: crate::MAX_FRAME_BYTES,
    };
    crate::request::encode_request(out, request, &shape, 0).unwrap();
}

use crate::request::Request as _;

#[tokio::test]
async fn many_calls_share_a_connection_and_get_their_own_replies() {
    for encoding in [Encoding::Json, Encoding::Compact] {
        let options = TransportOptions { encoding, ..TransportOptions::default() };
        let (server, connector, _) = start_with(TestService::default(), options).await;
        let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
        let calls = (0..500).map(|id| {
            let connection = connection.clone();
            tokio::spawn(
                async move { (id, connection.call(&max_offset(id), LONG).await.unwrap().offset.get()) },
            )
        });
        for call in calls.collect::<Vec<_>>() {
            let (id, offset) = call.await.unwrap();
            assert_eq!(i64::from(id), offset);
        }
    }
}

#[tokio::test]
async fn bodies_larger_than_every_buffer_arrive_whole() {
    let (server, connector, _) = start(TestService::default()).await;
    let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let (large, small) = (view(9 << 20), max_offset(3));
    let (large, small) = tokio::join!(connection.call(&large, LONG), connection.call(&small, LONG));
    assert_eq!(large.unwrap().message, Bytes::from(vec![5; 9 << 20]));
    assert_eq!(small.unwrap().offset.get(), 3);
}

/// Is busy with `GetMaxOffset` until it is let go; otherwise as [`TestService`].
struct Busy(TestService, Mutex<std::sync::mpsc::Receiver<()>>);

impl Service for Busy {
    fn serve(&self, call: Call) {
        if call.frame().request_code() == GetMaxOffset::CODE {
            self.1.lock().unwrap().recv_timeout(LONG).unwrap();
        }
        self.0.serve(call);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_leaves_before_the_next_request_is_served() {
    let (let_go, held) = std::sync::mpsc::channel();
    let service = Arc::new(Busy(TestService::default(), Mutex::new(held)));
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(addr, service, ServerOptions::new("test")).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut requests = Vec::new();
    write_request(&mut requests, &view(64 << 10));
    write_request(&mut requests, &max_offset(3));
    stream.write_all(&requests).await.unwrap();
    stream.read_exact(&mut vec![0; 64 << 10]).await.unwrap();
    let_go.send(()).unwrap();
    assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
}

/// Answers what [`TestService`] keeps once everything that came with it is served.
struct AfterAll(TestService);

impl Service for AfterAll {
    fn serve(&self, call: Call) {
        self.0.serve(call);
    }

    fn served(&self) {
        for call in self.0.kept.lock().unwrap().drain(..) {
            call.reply(&GetMinOffsetReply { offset: QueueOffset::ZERO });
        }
    }
}

#[tokio::test]
async fn what_is_answered_after_all_requests_of_a_read_leaves_with_their_answers() {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let service = Arc::new(AfterAll(TestService::default()));
    let server = Server::bind(addr, service, ServerOptions::new("test")).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut requests = Vec::new();
    write_request(&mut requests, &min_offset());
    write_request(&mut requests, &max_offset(3));
    stream.write_all(&requests).await.unwrap();
    let mut answers = bytes::BytesMut::with_capacity(4096);
    stream.read_buf(&mut answers).await.unwrap();
    let mut decoder = crate::FrameDecoder::new(crate::MAX_FRAME_BYTES);
    for offset in ["3", "0"] {
        let answer = decoder.decode(&mut answers).unwrap().expect("both came with one read");
        assert_eq!(answer.fields.get("offset").unwrap().as_str(), Some(offset));
    }
}

#[tokio::test]
async fn an_unsupported_request_is_refused_by_code() {
    let (server, connector, _) = start(TestService::default()).await;
    let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let error = connection.call(&GetClusterInfo {}, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::REQUEST_CODE_NOT_SUPPORTED));
    assert_eq!(error.retry(), Retry::No);
}

#[tokio::test]
async fn a_late_reply_meets_no_one_and_the_connection_lives_on() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (server, connector, service) = start(TestService { told: Some(told), ..Default::default() }).await;
    let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let error = connection.call(&min_offset(), Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { request: "GET_MIN_OFFSET", .. }), "{error}");
    assert_eq!(error.retry(), Retry::MayDuplicate);
    heard.recv().await.unwrap();
    for call in service.kept.lock().unwrap().drain(..) {
        call.reply(&GetMinOffsetReply { offset: QueueOffset::ZERO });
    }
    assert_eq!(connection.call(&max_offset(1), LONG).await.unwrap().offset.get(), 1);
}

#[tokio::test]
async fn a_peer_that_answers_nothing_at_all_is_given_up_for_every_call() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = Connector::new(TransportOptions::default(), Arc::new(TestService::default()));
    let connection = connector.connect(&listener.local_addr().unwrap().to_string()).await.unwrap();
    let (_silent, _) = listener.accept().await.unwrap();
    tokio::time::pause(); // the socket stays real, the second does not pass
    let error = connection.call(&max_offset(0), Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
    let next = connection.call(&max_offset(0), LONG).await.unwrap_err();
    assert!(matches!(next, RequestError::NotSent { .. }), "{next}");
}

#[tokio::test]
async fn the_server_may_call_its_client() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (server, _, service) = start(TestService::default()).await;
    let client = Arc::new(TestService { told: Some(told), ..Default::default() });
    let connector = Connector::new(TransportOptions::default(), client);
    let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let waiting = tokio::spawn(async move { connection.call(&min_offset(), LONG).await });
    let call = loop {
        let kept = service.kept.lock().unwrap().pop();
        if let Some(call) = kept {
            break call;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(call.connection().call(&max_offset(8), LONG).await.unwrap().offset.get(), 8);
    let changed = NotifyConsumerIdsChanged { consumer_group: "g".into() };
    call.connection().try_send_oneway(&changed).unwrap();
    assert_eq!(heard.recv().await.unwrap(), "GET_MAX_OFFSET (30)");
    assert_eq!(heard.recv().await.unwrap(), "NOTIFY_CONSUMER_IDS_CHANGED (40)");
    call.reply(&GetMinOffsetReply { offset: QueueOffset::new(4) });
    assert_eq!(waiting.await.unwrap().unwrap().offset.get(), 4);
}

#[tokio::test]
async fn shutdown_answers_what_is_in_progress_and_takes_no_more() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (server, connector, service) = start(TestService { told: Some(told), ..Default::default() }).await;
    let addr = server.local_addr().to_string();
    let connection = connector.connect(&addr).await.unwrap();
    let waiting = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(&min_offset(), LONG).await }
    });
    heard.recv().await.unwrap();
    let stopping = tokio::spawn(server.shutdown(LONG));
    while connector.connect(&addr).await.is_ok() {
        tokio::task::yield_now().await; // the listener closes first
    }
    let call = service.kept.lock().unwrap().pop().unwrap();
    call.reply(&GetMinOffsetReply { offset: QueueOffset::new(4) });
    drop(call);
    assert_eq!(waiting.await.unwrap().unwrap().offset.get(), 4);
    stopping.await.unwrap();
    connection.closed().await;
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end_within_its_grace() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (server, connector, _service) = start(TestService { told: Some(told), ..Default::default() }).await;
    let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let waiting = tokio::spawn(async move { connection.call(&min_offset(), LONG).await });
    heard.recv().await.unwrap();
    server.shutdown(Duration::from_millis(1)).await;
    assert!(matches!(waiting.await.unwrap(), Err(RequestError::Closed { .. })));
}

#[tokio::test]
async fn a_lost_connection_fails_its_calls_and_tells_the_service() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (server, connector, _) = start(TestService { told: Some(told), ..Default::default() }).await;
    let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let waiting = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(&min_offset(), LONG).await }
    });
    assert_eq!(heard.recv().await.unwrap(), "GET_MIN_OFFSET (31)");
    connection.close();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.retry(), Retry::MayDuplicate);
    assert_eq!(heard.recv().await.unwrap(), "disconnected");
    let late = connection.call(&max_offset(0), LONG).await.unwrap_err();
    assert!(matches!(late, RequestError::NotSent { .. }) && late.retry() == Retry::AnotherBroker, "{late}");
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_with_the_address() {
    let (server, connector, _) = start(TestService::default()).await;
    let addr = server.local_addr().to_string();
    server.shutdown(LONG).await;
    let error = connector.connect(&addr).await.unwrap_err();
    assert!(error.to_string().contains(&addr));
    assert_eq!(error.retry(), Retry::AnotherBroker);
}

/// A malformed frame ends its connection; a neighbour notices nothing.
#[tokio::test]
async fn a_malformed_frame_ends_only_its_own_connection() {
    let (server, connector, _) = start(TestService::default()).await;
    let neighbour = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let malformed: [&[u8]; 5] = [
        b"\x01\x00\x00\x00\x00\x00\x00\x05",         // longer than 16 MiB
        b"\xff\xff\xff\xff\x00\x00\x00\x00",         // negative length
        b"\x00\x00\x00\x08\x00\x00\x00\xff\x00\x00", // header beyond the frame
        b"\x00\x00\x00\x0a\x00\x00\x00\x06{code}",   // garbage JSON
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in malformed {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        // The peer closes; whether that is seen as an end or as a reset is up to the system.
        stream.read_to_end(&mut rest).await.ok();
        assert!(rest.is_empty());
        assert_eq!(neighbour.call(&max_offset(2), LONG).await.unwrap().offset.get(), 2);
    }
}

/// A peer that asks and does not read its answers is not read from, and takes no memory beyond the limit.
#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_is_not_read_from() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let service = TestService { told: Some(told), ..Default::default() };
    let options = TransportOptions { max_queued_bytes: 64 * 1024, ..TransportOptions::default() };
    let (server, connector, _) = start_with(service, options).await;
    let slow = connector.connect(&server.local_addr().to_string()).await.unwrap();
    drop(slow);
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut request = Vec::new();
    write_request(&mut request, &view(1 << 20));
    // More than all socket buffers take, were every request served.
    let all = 200;
    for _ in 0..all {
        stream.write_all(&request).await.unwrap();
    }
    let neighbour = connector.connect(&server.local_addr().to_string()).await.unwrap();
    assert_eq!(neighbour.call(&max_offset(2), LONG).await.unwrap().offset.get(), 2);
    let mut served = 0;
    while let Ok(code) = heard.try_recv() {
        served += usize::from(code.starts_with("VIEW"));
    }
    assert!(served < all, "{served} requests of a peer that reads nothing");
    // Once it reads, it gets everything.
    let mut answers = 0;
    let mut decoder = crate::FrameDecoder::new(crate::MAX_FRAME_BYTES);
    let mut buffer = bytes::BytesMut::new();
    while answers < all {
        while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
            assert_eq!(frame.body.len(), 1 << 20);
            answers += 1;
        }
        if answers < all {
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn an_answer_too_long_for_a_frame_becomes_an_error_that_says_so() {
    let (server, connector, _) = start(TestService::default()).await;
    let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    let error = connection.call(&view(17 << 20), LONG).await.unwrap_err();
    assert!(error.to_string().contains("16777216"), "{error}");
    let long = SendMessage {
        producer_group: "g".into(),
        topic: "T".into(),
        default_topic: ByteString::EMPTY,
        default_topic_queue_nums: 4,
        queue_id: QueueId::ZERO,
        sys_flag: 0,
        born_timestamp: 0,
        flag: 0,
        properties: None,
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: None,
        body: vec![0; 17 << 20].into(),
    };
    assert!(matches!(connection.call(&long, LONG).await, Err(RequestError::TooLong { .. })));
    assert_eq!(connection.call(&max_offset(2), LONG).await.unwrap().offset.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_after_the_idle_time() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (server, connector, _) = start(TestService { told: Some(told), ..Default::default() }).await;
    let _connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), "disconnected");
}
