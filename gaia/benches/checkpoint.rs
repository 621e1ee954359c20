//! How long a shard of 100 MB takes to be kept and to be had again: as bytes, and with a disk.

use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datacenter::{Clock, DatacenterId, Elements, ShardId, TableId, TableSpec};
use gaia::job::region::{CheckpointSettings, CheckpointStart};
use gaia::learning::data::DataRoot;
use gaia::service::checkpoint::{Archive, Counts, Subject, decode, encode};
use wan::state::{OriginState, ReleasedTable, ReplicaState};

const ROWS: u32 = 120_000;
const WIDTH: u32 = 50;

fn subject() -> Subject {
    Subject {
        job: "bench".to_owned(),
        job_digest: [7; 32],
        region: "virginia".to_owned(),
        workers: 4,
        members: ["virginia", "ireland", "singapore"].map(str::to_owned).into(),
        shards: 1,
        tables: vec![TableSpec::new("weights", ROWS, WIDTH)],
        vocabulary: None,
    }
}

/// Values, three origins, and a tenth of the elements held back.
fn state() -> ReplicaState {
    let count = ROWS * WIDTH;
    let values: Vec<f32> = (0..count).map(|i| (i as f32).sqrt()).collect();
    let origin = |datacenter| OriginState {
        has_departed: false,
        datacenter: DatacenterId(datacenter),
        life: 1,
        covered: 100,
        heard_clock: Clock(100),
        included_clock: Clock(100),
        left_out: 0,
        tables: vec![ReleasedTable { sums: values.clone(), stamps: (0..ROWS).collect() }],
    };
    let indexes: Vec<u32> = (0..count).step_by(10).collect();
    let remainder = Elements { table: TableId(0), values: vec![0.5; indexes.len()], indexes };
    ReplicaState {
        remembered: vec![],
        shard: ShardId(0),
        clock: Clock(100),
        left_out: 0,
        workers: vec![Clock(100); 4],
        remainders: vec![remainder],
        origins: (0..3).map(origin).collect(),
        values: vec![values],
    }
}

fn checkpoints(c: &mut Criterion) {
    let (subject, state, date) = (subject(), state(), SystemTime::UNIX_EPOCH);
    let file = encode(&subject, &state, &Counts::default(), date);
    println!("a file of {} bytes", file.len());
    let mut group = c.benchmark_group("checkpoint");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("encode", |b| {
        b.iter(|| encode(&subject, black_box(&state), &Counts::default(), date))
    });
    group.bench_function("decode", |b| b.iter(|| decode(&subject, ShardId(0), black_box(&file))));
    let directory = tempfile::tempdir().expect("a directory");
    let location = DataRoot::Directory(directory.path().to_owned());
    let settings = CheckpointSettings {
        location,
        every_clocks: None,
        every: None,
        keep: 2,
        start: CheckpointStart::Newest,
    };
    let archive = Archive::new(&settings, Arc::new(subject));
    group.bench_function("write to a disk", |b| b.iter(|| archive.write(black_box(&state), date)));
    group.bench_function("read from a disk", |b| b.iter(|| archive.begin(ShardId(0))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(5));
    targets = checkpoints
}
criterion_main!(benches);
