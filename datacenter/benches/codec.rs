//! How fast payloads are written and read, and how large they are, for index sets of several kinds.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datacenter::codec::{self, IndexSizer};
use datacenter::{Elements, TableId};

/// A small generator: the sets must be the same in every run.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Each of `of` indexes with a probability of `1 / every`, in groups of `width` neighbours.
fn scattered(of: u32, every: u64, width: u32) -> Vec<u32> {
    let mut random = Lcg(7);
    let groups = (0..of / width).filter(|_| random.below(every) == 0);
    groups.flat_map(|group| group * width..(group + 1) * width).collect()
}

fn kinds() -> Vec<(&'static str, Vec<u32>)> {
    vec![
        ("dense, 1 M", (0..1_000_000).collect()),
        ("clustered: 10 % of rows of 33, of 1 M", scattered(1_000_000, 10, 33)),
        ("half of 1 M", scattered(1_000_000, 2, 1)),
        ("10 % of 1 M", scattered(1_000_000, 10, 1)),
        ("1 % of 1 M", scattered(1_000_000, 100, 1)),
        ("0.1 % of 1 M", scattered(1_000_000, 1000, 1)),
    ]
}

fn payloads(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for (name, indexes) in kinds() {
        let values = indexes.iter().map(|i| *i as f32).collect();
        let elements = Elements { table: TableId(0), indexes, values };
        let mut bytes = Vec::new();
        codec::encode(&elements, &mut bytes);
        let pairs = 8 * elements.len();
        println!(
            "{name}: {:?}, {:.2} bits an index, {:.2} of (u32, f32) pairs",
            IndexSizer::of(&elements.indexes).encoding(),
            codec::encoded_indexes_len(&elements.indexes) as f64 * 8.0 / elements.len() as f64,
            bytes.len() as f64 / pairs as f64,
        );
        group.throughput(Throughput::Elements(elements.len() as u64));
        group.bench_with_input(BenchmarkId::new("size", name), &elements, |b, elements| {
            b.iter(|| codec::encoded_len(black_box(elements)));
        });
        let mut out = Vec::with_capacity(bytes.len());
        group.bench_with_input(BenchmarkId::new("encode", name), &elements, |b, elements| {
            b.iter(|| {
                out.clear();
                codec::encode(black_box(elements), &mut out);
            });
        });
        group.bench_with_input(BenchmarkId::new("decode", name), &bytes, |b, bytes| {
            b.iter(|| codec::decode(black_box(bytes), TableId(0), 1_000_000).expect("own payload"));
        });
    }
    group.finish();
}

/// What passes a filter: one step or a few, as coded between datacenters.
fn compact(c: &mut Criterion) {
    let mut group = c.benchmark_group("compact");
    for count in [100, 10_000, 65_536, 1_000_000] {
        let mut kinds = kinds();
        kinds[0] = ("dense", (0..count).collect());
        // Only the dense set has sizes; the others are measured once.
        kinds.truncate(if count == 1_000_000 { 6 } else { 1 });
        for (name, indexes) in kinds {
            let mut random = Lcg(9);
            let mut multiple = || {
                let magnitude = 1 + (0..20).take_while(|_| random.below(10) >= 7).count();
                if random.below(2) == 0 { magnitude as f32 } else { -(magnitude as f32) }
            };
            let values = indexes.iter().map(|_| 0.25 * multiple()).collect();
            let elements = Elements { table: TableId(0), indexes, values };
            let name = format!("{name}, {} values", elements.len());
            let mut out = Vec::new();
            codec::encode_compact(&elements, 33, &mut out);
            println!(
                "{name}: {:.2} bits a value and its index",
                out.len() as f64 * 8.0 / elements.len() as f64
            );
            group.throughput(Throughput::Elements(elements.len() as u64));
            group.bench_with_input(BenchmarkId::new("decode", &name), &out, |b, bytes| {
                b.iter(|| codec::decode(black_box(bytes), TableId(0), 1_000_000).expect("own payload"));
            });
            let mut out = Vec::with_capacity(out.len());
            group.bench_with_input(BenchmarkId::new("encode", &name), &elements, |b, elements| {
                b.iter(|| {
                    out.clear();
                    codec::encode_compact(black_box(elements), 33, &mut out);
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    targets = payloads, compact
}
criterion_main!(benches);
