//! What the store does on this machine and disk, as a table. Not a test: nothing fails for being slow.
//!
//! ```sh
//! cargo bench -p rocketmq-broker-lite --bench store -- [--quick] [--only PART] [--recover MESSAGES] [--dir FOLDER]
//! ```
//! `--quick` does a tenth of the work: a minute instead of ten at most. PART is `append`, `batch`, `sync`, `read`, `recovery` or `queues`.
//! Files, 4 GB at a time, go to a temporary folder in FOLDER (default: the system's), which should be on the disk in question; an `rm`
//! that outlives the program removes it, because 50,000 queues are 100,000 files and folders. Each line is one run; where the disk
//! sets the pace, what the disk does by itself stands beside it.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program whose output is its purpose, and that may end where something fails

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocketmq_broker_lite::store::{FlushMode, ReadLimits, Store, StoreOptions};
use rocketmq_protocol::message::{NewMessage, SysFlag};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};
use rustix::fs::Advice;

/// Runs of which the median counts, where two things are compared.
const ROUNDS: usize = 5;
const QUEUES_PER_TOPIC: usize = 100;
const BATCH: usize = 32;

struct Bench {
    dir: PathBuf,
    /// Bytes that the runs which are about bytes append.
    bytes: usize,
    /// Messages that the runs which are about messages append.
    messages: usize,
    recovered: usize,
    many_queues: usize,
    /// How long the runs take that wait for the disk.
    time: Duration,
}

fn main() {
    let mut quick = false;
    let mut only = None;
    let mut recovered = None;
    let mut dir = std::env::temp_dir();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--only" => only = Some(arguments.next().unwrap()),
            "--recover" => recovered = Some(arguments.next().unwrap().parse().unwrap()),
            "--dir" => dir = arguments.next().unwrap().into(),
            "--start" => return start_many(&PathBuf::from(arguments.next().unwrap())),
            "--bench" => {} // from cargo
            unknown => {
                eprintln!(
                    "{unknown}: only --quick, --only PART, --recover MESSAGES and --dir FOLDER are known"
                );
                std::process::exit(2);
            }
        }
    }
    let folder = tempfile::Builder::new().prefix("store-bench-").tempdir_in(dir).unwrap();
    let scale = if quick { 1 } else { 10 };
    let bench = Bench {
        dir: folder.path().to_owned(),
        bytes: scale * 100_000_000,
        messages: scale * 100_000,
        recovered: recovered.unwrap_or(scale * 1_000_000),
        many_queues: scale * 5_000,
        time: Duration::from_millis(scale as u64 * 200),
    };
    println!("load before: {}", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    type Part = (&'static str, fn(&Bench));
    let parts: [Part; 6] = [
        ("append", |bench| [128, 1024, 4096].into_iter().for_each(|size| bench.append(size))),
        ("batch", Bench::batches_against_the_disk),
        ("sync", Bench::sync_flush),
        ("read", Bench::reads),
        ("recovery", Bench::recovery),
        ("queues", Bench::many_queues),
    ];
    let start = Instant::now();
    for (_, run) in parts.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        run(&bench);
    }
    println!("took {:.0} s", start.elapsed().as_secs_f64());
    let mut rm = Command::new("rm");
    rm.arg("-rf").arg(folder.keep()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[expect(clippy::zombie_processes, reason = "it outlives this program")]
    let _outlives_us = rm.spawn().unwrap();
}

fn line(what: &str, value: impl std::fmt::Display) {
    println!("{what:<58} {value}");
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn per_second(count: usize, time: Duration) -> String {
    format!("{:>10.0} /s", rate(count, time))
}

fn megabytes(bytes: usize, time: Duration) -> String {
    format!("{:>10.0} MB/s", rate(bytes, time) / 1e6)
}

/// Encoded messages of one topic, back to back. Appending the same bytes again is fine: the store fills in what differs.
fn records(topic: &str, body: usize, count: usize) -> Vec<u8> {
    let host = "127.0.0.1:10911".parse().unwrap();
    let mut records = Vec::new();
    for _ in 0..count {
        NewMessage {
            topic,
            queue_id: QueueId::ZERO,
            flag: 0,
            sys_flag: SysFlag::default(),
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: &vec![b'x'; body],
            properties: &["TAGS\u{1}A\u{2}KEYS\u{1}k1\u{2}".into()],
        }
        .encode(&mut records)
        .unwrap();
    }
    records
}

fn options(root: &Path) -> StoreOptions {
    let mut options = StoreOptions::new(root);
    options.commit_log_file_size = 256 << 20;
    options
}

/// Opens a store of very many queues.
fn start_many(root: &Path) {
    let (before, start) = (resident_kib(), Instant::now());
    let store = Store::open(options(root)).unwrap();
    let (time, after) = (start.elapsed(), resident_kib());
    let queues = store.queues().len();
    line(
        &format!("start with {queues} queues, after an orderly stop"),
        format!("{:>10.2} s", time.as_secs_f64()),
    );
    line("  memory", format!("{:>10.1} MiB", (after - before) as f64 / 1024.0));
}

impl Bench {
    fn options(&self, name: &str) -> StoreOptions {
        options(&self.dir.join(name))
    }

    fn remove(&self, name: &str) {
        fs::remove_dir_all(self.dir.join(name)).unwrap();
    }

    fn append(&self, body: usize) {
        let store = Store::open(self.options("append")).unwrap();
        let mut record = records("bench", body, 1);
        let count = self.messages.min(self.bytes / record.len());
        let start = Instant::now();
        for _ in 0..count {
            store.append("bench", QueueId::ZERO, &mut record).unwrap();
        }
        let time = start.elapsed();
        line(
            &format!("append, {body} B, one thread"),
            per_second(count, time) + &megabytes(count * record.len(), time),
        );
        drop(store);
        self.remove("append");
    }

    fn batches_against_the_disk(&self) {
        let disk = self.disk_bytes();
        let store = Store::open(self.options("batch")).unwrap();
        let mut batch = records("bench", 4096, BATCH);
        let count = self.bytes / batch.len();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let start = Instant::now();
        let mut end = LogPosition::ZERO;
        for _ in 0..count {
            end = store.append("bench", QueueId::ZERO, &mut batch).unwrap().end;
        }
        // Whatever it takes: one run is one flush.
        while runtime.block_on(store.flushed(end)).is_err() {}
        let time = start.elapsed();
        drop(store);
        self.remove("batch");
        line(
            "the disk alone: 1 MiB writes and one fdatasync",
            megabytes(1, Duration::from_secs_f64(1.0 / disk)),
        );
        line("append, batches of 32 x 4 KiB, until on disk", megabytes(count * batch.len(), time));
        line("  ratio", format!("{:>10.2}", rate(count * batch.len(), time) / disk));
    }

    /// Bytes per second, as `dd bs=1M conv=fdatasync` would have it.
    fn disk_bytes(&self) -> f64 {
        let path = self.dir.join("plain");
        let block = vec![b'x'; 1 << 20];
        let count = self.bytes / block.len();
        let start = Instant::now();
        let mut file = File::create(&path).unwrap();
        for _ in 0..count {
            file.write_all(&block).unwrap();
        }
        file.sync_data().unwrap();
        let bytes = rate(count * block.len(), start.elapsed());
        fs::remove_file(path).unwrap();
        bytes
    }

    fn sync_flush(&self) {
        let path = self.dir.join("plain");
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![0; 64 << 20]).unwrap();
        file.sync_all().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let (start, mut syncs) = (Instant::now(), 0);
        while start.elapsed() < self.time && syncs < (64 << 20) / 1200 {
            file.write_all(&[b'x'; 1200]).unwrap();
            file.sync_data().unwrap();
            syncs += 1;
        }
        line("the disk alone: fdatasync after each 1200 B", per_second(syncs, start.elapsed()));
        fs::remove_file(path).unwrap();
        for waiters in [1, 16, 256] {
            let mut options = self.options("sync");
            options.flush_mode = FlushMode::Sync;
            let store = Arc::new(Store::open(options).unwrap());
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (start, time) = (Instant::now(), self.time);
            let sending: Vec<_> = (0..waiters)
                .map(|_| {
                    let store = Arc::clone(&store);
                    runtime.spawn(async move {
                        let (mut record, mut sent) = (records("bench", 1024, 1), 0);
                        while start.elapsed() < time {
                            let end = store.append("bench", QueueId::ZERO, &mut record).unwrap().end;
                            store.flushed(end).await.unwrap();
                            sent += 1;
                        }
                        sent
                    })
                })
                .collect();
            let sent = runtime.block_on(async {
                let mut all = 0;
                for one in sending {
                    all += one.await.unwrap();
                }
                all
            });
            line(
                &format!("append, 1 KiB, each waits for the disk, {waiters} at once"),
                per_second(sent, start.elapsed()),
            );
            drop((runtime, store));
            self.remove("sync");
        }
    }

    fn reads(&self) {
        let options = self.options("read");
        let store = Store::open(options.clone()).unwrap();
        let mut record = records("bench", 1024, 1);
        let count = (self.bytes / record.len()).min(self.messages);
        for _ in 0..count {
            store.append("bench", QueueId::ZERO, &mut record).unwrap();
        }
        store.close().unwrap();
        drop(store);
        forget_cached(&options.root);
        let store = Store::open(options).unwrap();
        for how in ["cold", "hot"] {
            let (start, mut offset, mut bytes, mut sum) = (Instant::now(), QueueOffset::ZERO, 0, 0);
            while (offset.get() as usize) < count {
                let limits = ReadLimits { max_messages: 32, max_bytes: 262_144 };
                let read = store.read("bench", QueueId::ZERO, offset, limits, |_| true).unwrap();
                offset = read.next_offset;
                bytes += read.bytes;
                // A byte of each page, or nothing was read.
                sum += read
                    .records
                    .iter()
                    .flat_map(|run| run.iter().step_by(4096))
                    .map(|byte| u64::from(*byte))
                    .sum::<u64>();
            }
            let time = start.elapsed();
            std::hint::black_box(sum);
            line(
                &format!("read, 1 KiB, 32 at a time, {how}"),
                per_second(count, time) + &megabytes(bytes, time),
            );
        }
        drop(store);
        self.remove("read");
    }

    fn recovery(&self) {
        let mut options = self.options("recovery");
        // Nothing of the queues gets to disk: all of the log has to be read.
        options.queue_flush_interval = Duration::from_secs(100_000);
        let store = Store::open(options.clone()).unwrap();
        let mut batch = records("bench", 128, BATCH);
        for _ in 0..self.recovered / BATCH {
            store.append("bench", QueueId::ZERO, &mut batch).unwrap();
        }
        drop(store); // as if killed
        let start = Instant::now();
        let store = Store::open(options.clone()).unwrap();
        let time = start.elapsed();
        let recovered = store.max_offset("bench", QueueId::ZERO).get() as usize;
        line(
            &format!("recovery of {recovered} messages, 128 B, after a kill"),
            format!("{:>10.2} s  {}", time.as_secs_f64(), per_second(recovered, time)),
        );
        store.close().unwrap();
        drop(store);
        let start = Instant::now();
        drop(Store::open(options).unwrap());
        line("  after an orderly stop", format!("{:>10.4} s", start.elapsed().as_secs_f64()));
        self.remove("recovery");
    }

    fn many_queues(&self) {
        let (few, many) = (Spread::new(self, "few", 8), Spread::new(self, "many", self.many_queues));
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            // In turn, so that what else the machine does meets both.
            for (spread, rates) in [&few, &many].into_iter().zip(&mut rates) {
                rates.push(spread.run(self.messages));
            }
        }
        let [few_rate, many_rate] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        line("append, 128 B, over 8 queues", format!("{few_rate:>10.0} /s"));
        line(&format!("append, 128 B, over {} queues", self.many_queues), format!("{many_rate:>10.0} /s"));
        line("  ratio", format!("{:>10.2}", many_rate / few_rate));
        let start = Instant::now();
        for spread in [few, many] {
            spread.store.close().unwrap();
        }
        line("  an orderly stop of both", format!("{:>10.2} s", start.elapsed().as_secs_f64()));
        // In a process of its own: this one has memory to spare by now.
        let this = std::env::current_exe().unwrap();
        let started = Command::new(this).arg("--start").arg(self.dir.join("many")).output().unwrap();
        print!("{}", String::from_utf8(started.stdout).unwrap());
    }
}

/// A store of many queues, which get a message each in turn.
struct Spread {
    store: Store,
    queues: usize,
    /// Each with a record for it.
    topics: Vec<(String, Vec<u8>)>,
}

impl Spread {
    fn new(bench: &Bench, name: &str, queues: usize) -> Self {
        let names = (0..queues.div_ceil(QUEUES_PER_TOPIC)).map(|topic| format!("topic{topic:05}"));
        let topics = names.map(|name| (name.clone(), records(&name, 128, 1))).collect();
        let spread = Self { store: Store::open(bench.options(name)).unwrap(), queues, topics };
        spread.run(queues); // all are there before the time is taken
        spread
    }

    /// Messages per second.
    fn run(&self, messages: usize) -> f64 {
        let per_topic = self.queues.min(QUEUES_PER_TOPIC);
        let mut record = self.topics[0].1.clone();
        let start = Instant::now();
        for at in 0..messages {
            let (topic, id) = (at / per_topic % self.topics.len(), (at % per_topic) as i32);
            let (topic, encoded) = &self.topics[topic];
            record.copy_from_slice(encoded);
            record[12..16].copy_from_slice(&id.to_be_bytes());
            self.store.append(topic, QueueId::new(id), &mut record).unwrap();
        }
        rate(messages, start.elapsed())
    }
}

/// Lets the kernel drop what it has of the files below `folder`.
fn forget_cached(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            forget_cached(&path);
        } else {
            let file = File::open(path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}

/// Memory of this process that belongs to no file.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
