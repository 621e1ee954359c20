//! What the significance filter costs: one clock of updates offered and released.
//!
//! The times of 1 % and 100 % of one table, divided by the number of elements touched, show that the cost follows the
//! updates and not the model.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datacenter::{Clock, Elements, Numbers, ShardTable, TableId};
use wan::filter::Filter;
use wan::leeway::Leeway;
use wan::policy::{FilterConfig, Goal, Schedule, Selection, Significance, ValueFormat};

/// Each of `of` indexes with a probability of `1 / every`, the same in every run.
fn scattered(of: u32, every: u64) -> Elements {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut elements = Elements::new(TableId(0));
    for index in 0..of {
        if random() % every == 0 {
            // Of these one in about thirty passes a threshold of one.
            elements.push(index, (random() % 1000) as f32 / 970.0 + 1e-3);
        }
    }
    elements
}

fn filter(selection: &Selection, shape: ShardTable) -> Filter {
    Filter::new(selection, vec![shape], 1)
}

fn significant(function: Significance) -> Selection {
    let config = FilterConfig {
        function,
        threshold: 1.0,
        schedule: Schedule::Constant,
        values: ValueFormat::F32,
        numbers: Numbers::Real,
    };
    Selection::Significant { filters: vec![config], goal: Goal::Cheapest, leeway: Leeway::default() }
}

fn clocks(c: &mut Criterion) {
    let small = ShardTable { slots: 785, width: 64 };
    let large = ShardTable { slots: 1 << 15, width: 32 };
    let cases = [("50 k, all", small, 1), ("1 M, all", large, 1), ("1 M, 1 %", large, 100)];
    let selections = [
        ("everything", Selection::Everything),
        ("relative", significant(Significance::Relative)),
        ("absolute", significant(Significance::Absolute)),
        ("rms of the row", significant(Significance::RowRms)),
        ("rms of the table", significant(Significance::TableRms)),
    ];
    let mut group = c.benchmark_group("filter");
    for (name, shape, every) in cases {
        let deltas = scattered(shape.elements() as u32, every);
        let values = vec![1.0f32; shape.elements()];
        group.throughput(Throughput::Elements(deltas.len() as u64));
        let mut idle = filter(&Selection::Everything, shape);
        group.bench_function(BenchmarkId::new("offer alone", name), |b| {
            b.iter(|| idle.offer(black_box(&deltas)));
        });
        for (function, selection) in &selections {
            let mut out = Vec::new();
            let mut filter = filter(selection, shape);
            group.bench_function(BenchmarkId::new(*function, name), |b| {
                b.iter(|| {
                    filter.offer(black_box(&deltas));
                    out.clear();
                    filter.release(Clock(1), black_box(&[&values]), &mut out);
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    targets = clocks
}
criterion_main!(benches);
