//! What the significance filter costs beside what it cannot do without: memory.
//!
//! A clock's updates of a whole table are offered and released, by an absolute threshold; beside it a vector is added to another
//! (`y += a x`) and copied. All are measured by turns, and what counts is the fastest of many runs of each: what else runs on
//! the machine slows some of them, and none is ever too fast.

use std::hint::black_box;
use std::time::{Duration, Instant};

use datacenter::{Clock, Elements, Numbers, ShardTable, TableId};
use wan::filter::Filter;
use wan::leeway::Leeway;
use wan::policy::{FilterConfig, Goal, Schedule, Selection, Significance, ValueFormat};

fn main() {
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>8} {:>8}  of axpy (ns an element)",
        "elements", "shipped", "filter", "offer", "axpy", "copy"
    );
    for (slots, width) in [(785, 64), (1 << 15, 32), (1 << 19, 32)] {
        // Updates of up to so many times the threshold: some of the elements pass at each clock, most, or none ever.
        for largest in [1.0 / 16.0, 1.0, 1e-9] {
            measure(ShardTable { slots, width }, largest);
        }
    }
}

fn measure(shape: ShardTable, largest: f32) {
    let elements = shape.elements();
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut deltas = Elements::new(TableId(0));
    (0..elements as u32).for_each(|index| deltas.push(index, largest * (random() + 1e-3)));
    let values = vec![1.0f32; elements];
    let config = FilterConfig {
        function: Significance::Absolute,
        threshold: 1.0,
        schedule: Schedule::Constant,
        values: ValueFormat::F32,
        numbers: Numbers::Real,
    };
    let selection =
        Selection::Significant { filters: vec![config], goal: Goal::Cheapest, leeway: Leeway::default() };
    let mut filter = Filter::new(&selection, vec![shape], 1);
    let mut idle = Filter::new(&Selection::Everything, vec![shape], 1);
    let mut sum = vec![0.0f32; elements];
    let (mut clocks, mut out) = (0, Vec::new());
    let runs = (20_000_000 / elements).clamp(20, 2000);
    let mut best = [Duration::MAX; 4];
    for _ in 0..runs {
        let times = [
            time(|| {
                filter.offer(black_box(&deltas));
                out.clear();
                filter.release(Clock(1), black_box(&[&values]), &mut out);
                clocks += 1;
            }),
            time(|| idle.offer(black_box(&deltas))),
            time(|| black_box(&mut sum).iter_mut().zip(&deltas.values).for_each(|(y, x)| *y += 0.5 * x)),
            time(|| black_box(&mut sum).copy_from_slice(black_box(&values))),
        ];
        best.iter_mut().zip(times).for_each(|(best, time)| *best = (*best).min(time));
    }
    let shipped = filter.counters().elements_shipped as f64 / (elements as f64 * f64::from(clocks));
    let [filter, offer, axpy, copy] = best.map(|time| time.as_secs_f64() * 1e9 / elements as f64);
    println!(
        "{elements:>9} {:>6.1} % {filter:>8.3} {offer:>8.3} {axpy:>8.3} {copy:>8.3}  {:>5.1}",
        100.0 * shipped,
        filter / axpy
    );
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}
