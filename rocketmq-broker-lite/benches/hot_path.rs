//! How long the store takes to append a message, and to put together what a pull takes away.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use rocketmq_broker_lite::store::{ReadLimits, Store, StoreOptions};
use rocketmq_protocol::message::{NewMessage, SysFlag};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};

const TOPIC: &str = "orders";
const QUEUE: QueueId = QueueId::new(0);
const PULLED: usize = 32;
/// In each queue.
const MESSAGES: i64 = 10_000;

fn record(queue_id: QueueId, body: usize) -> Vec<u8> {
    let host = ([127, 0, 0, 1], 10_911).into();
    let message = NewMessage {
        topic: TOPIC,
        queue_id,
        flag: 0,
        sys_flag: SysFlag::NONE,
        born_timestamp: 1_700_000_000_000,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: LogPosition::ZERO,
        body: &vec![b'x'; body],
        properties: &["UNIQ_KEY\u{1}7F0000010A2B18B4AAC2000000000001\u{2}WAIT\u{1}true\u{2}".into()],
    };
    let mut record = Vec::new();
    message.encode(&mut record).expect("it fits");
    record
}

fn open(folder: &tempfile::TempDir) -> Store {
    let mut options = StoreOptions::new(folder.path());
    options.commit_log_file_size = 256 << 20;
    Store::open(options).expect("a new store")
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for body in [128, 1024] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        let mut record = record(QUEUE, body);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(format!("{body} B")), |bencher| {
            bencher.iter(|| store.append(TOPIC, QUEUE, &mut record).expect("room"));
        });
        let mut batch = record.repeat(32);
        group.throughput(Throughput::Elements(32));
        group.bench_function(BenchmarkId::from_parameter(format!("32 x {body} B")), |bencher| {
            bencher.iter(|| store.append(TOPIC, QUEUE, &mut batch).expect("room"));
        });
        store.close().expect("a clean end");
    }
}

fn pull(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    // As a topic with eight queues is filled: neighbours in a queue are not neighbours in the log.
    let mut records: Vec<_> = (0..8).map(QueueId::new).map(|queue| (queue, record(queue, 128))).collect();
    for _ in 0..MESSAGES {
        for (queue, record) in &mut records {
            store.append(TOPIC, *queue, record).expect("room");
        }
    }
    let limits = ReadLimits { max_messages: PULLED, max_bytes: 256 * 1024 };
    let mut group = criterion.benchmark_group("pull");
    group.throughput(Throughput::Elements(PULLED as u64));
    let mut next = (0..MESSAGES - PULLED as i64).step_by(PULLED).cycle();
    group.bench_function("32 of one of 8 queues", |bencher| {
        bencher.iter_batched(
            || QueueOffset::new(next.next().unwrap_or_default()),
            |from| black_box(store.read(TOPIC, QUEUE, from, limits, |_| true)).expect("readable"),
            BatchSize::SmallInput,
        );
    });
    drop(group);
    store.close().expect("a clean end");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    append(&mut criterion);
    pull(&mut criterion);
    criterion.final_summary();
}
