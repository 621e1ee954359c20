use super::*;

const TABLE: TableId = TableId(0);

fn elements(pairs: &[(u32, f32)]) -> Elements {
    elements_of(TABLE, pairs)
}

fn elements_of(table: TableId, pairs: &[(u32, f32)]) -> Elements {
    let (indexes, values) = pairs.iter().copied().unzip();
    Elements { table, indexes, values }
}

fn of(peers: usize) -> Anticipation {
    Anticipation::new(&[ShardTable { slots: 2, width: 2 }], peers)
}

/// What a worker reads of a row of zeros, divided by the gain.
fn parts(anticipation: &mut Anticipation, slot: u32, accumulated: &[f32]) -> [f32; 2] {
    anticipation.tables[0].gain = 1.0;
    let mut row = [0.0; 2];
    anticipation.adjust(TABLE, slot, accumulated, &mut row);
    row
}

fn answer(anticipation: &mut Anticipation, peer: usize, clock: impl Into<Option<u32>>) -> Vec<u32> {
    let mut changed = Vec::new();
    anticipation.answer(peer, clock.into().map(Clock), &mut |_, slot| changed.push(slot));
    changed
}

#[test]
fn what_is_held_back_and_what_is_unanswered_counts_peer_by_peer() {
    let mut anticipation = of(2);
    let accumulated = [0.5, 0.0, 0.0, 0.0];
    let ignore = &mut |_, _| {};
    anticipation.release(Clock(1), &[elements(&[(0, 2.0), (3, 8.0)])], ignore);
    anticipation.release(Clock(2), &[elements(&[(0, 4.0)])], ignore);
    assert_eq!(parts(&mut anticipation, 0, &accumulated), [6.5, 0.0]);
    assert_eq!(parts(&mut anticipation, 1, &accumulated), [0.0, 8.0]);
    // One of two has answered the first clock, and then both; the second is still due from one.
    assert_eq!(answer(&mut anticipation, 0, 1), [0, 1]);
    assert_eq!(parts(&mut anticipation, 0, &accumulated), [5.5, 0.0]);
    assert_eq!(answer(&mut anticipation, 0, 1), []);
    assert_eq!(answer(&mut anticipation, 1, 2), [0, 1, 0]);
    assert_eq!(parts(&mut anticipation, 0, &accumulated), [2.5, 0.0]);
    assert_eq!(parts(&mut anticipation, 1, &accumulated), [0.0, 0.0]);
    assert_eq!(anticipation.unanswered.len(), 1);
    assert_eq!(answer(&mut anticipation, 0, 7), [0]);
    assert_eq!(parts(&mut anticipation, 0, &accumulated), [0.5, 0.0]);
    assert_eq!((anticipation.unanswered.len(), anticipation.elements), (0, 0));
}

#[test]
fn nothing_is_expected_of_a_peer_that_is_gone_and_of_one_that_is_back_only_what_is_new() {
    let mut anticipation = of(2);
    let ignore = &mut |_, _| {};
    anticipation.release(Clock(1), &[elements(&[(1, 2.0)])], ignore);
    assert_eq!(answer(&mut anticipation, 1, None), [0]);
    // The one that is left has all of it to answer.
    assert_eq!(parts(&mut anticipation, 0, &[0.0; 4]), [0.0, 2.0]);
    anticipation.release(Clock(2), &[elements(&[(1, 4.0)])], ignore);
    assert_eq!(parts(&mut anticipation, 0, &[0.0; 4]), [0.0, 6.0]);
    assert_eq!(answer(&mut anticipation, 1, 0), []);
    assert_eq!(parts(&mut anticipation, 0, &[0.0; 4]), [0.0, 3.0]);
    anticipation.release(Clock(3), &[elements(&[(1, 8.0)])], ignore);
    assert_eq!(parts(&mut anticipation, 0, &[0.0; 4]), [0.0, 11.0]);
    assert_eq!(answer(&mut anticipation, 1, 3), [0]);
    assert_eq!(answer(&mut anticipation, 0, 3), [0, 0, 0]);
    assert_eq!(parts(&mut anticipation, 0, &[0.0; 4]), [0.0, 0.0]);
    // Where nobody is there, nothing is due from anybody.
    answer(&mut anticipation, 0, None);
    answer(&mut anticipation, 1, None);
    anticipation.release(Clock(4), &[elements(&[(1, 1.0)])], ignore);
    assert_eq!(parts(&mut anticipation, 0, &[1.0; 4]), [0.0, 0.0]);
    assert_eq!(anticipation.unanswered.len(), 0);
}

#[test]
fn it_remembers_no_more_than_a_model() {
    let mut anticipation = of(1);
    let mut changed = Vec::new();
    for clock in 1..=5 {
        anticipation
            .release(Clock(clock), &[elements(&[(0, 1.0), (2, 1.0)])], &mut |_, slot| changed.push(slot));
    }
    assert_eq!((anticipation.elements, anticipation.unanswered.len()), (4, 2));
    assert_eq!(parts(&mut anticipation, 1, &[0.0; 4]), [2.0, 0.0]);
    assert_eq!(changed, [0, 1, 0, 1, 0, 1]);
    answer(&mut anticipation, 0, 9);
    assert_eq!(parts(&mut anticipation, 0, &[0.0; 4]), [0.0, 0.0]);
}

/// Updates of `likeness` times our own and noise beside it, from each of two peers, for so many clocks.
fn gain_after(clocks: u32, likeness: f32, noise: f32) -> f32 {
    let mut anticipation = of(2);
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    for clock in 1..=clocks {
        let own: Vec<(u32, f32)> = (0..4).map(|index| (index, random())).collect();
        anticipation.release(Clock(clock), &[elements(&own)], &mut |_, _| {});
        for peer in 0..2 {
            let other: Vec<_> = own.iter().map(|(i, b)| (*i, likeness * b + noise * random())).collect();
            anticipation.arrive(peer, &elements(&other));
            answer(&mut anticipation, peer, clock);
        }
        anticipation.end_clock().for_each(drop);
    }
    anticipation.gain(TABLE)
}

#[test]
fn the_gain_is_what_the_others_do_to_what_one_does_oneself() {
    // Alike, alike beneath noise, nothing in common, contrary, and more than there are peers.
    assert!((gain_after(200, 1.0, 0.0) - 2.0).abs() < 1e-3);
    assert!((gain_after(400, 0.5, 1.0) - 1.0).abs() < 0.3);
    assert_eq!(gain_after(1000, 0.0, 0.1), 0.0);
    // As where training has come to rest, and as where data are skewed.
    assert_eq!(gain_after(200, -0.04, 0.0), 0.0);
    assert_eq!(gain_after(200, -0.06, 0.0), -1.0);
    assert_eq!(gain_after(200, -0.6, 0.1), -1.0);
    assert_eq!(gain_after(200, 3.0, 0.0), 2.0);
    // Before it can be known, reads are as they are.
    assert_eq!(gain_after(3, 1.0, 0.0), 0.0);
}

/// A table whose updates oppose each other lets no other table run off: all are read as everybody has them, until none is opposed.
#[test]
fn one_opposed_table_is_enough_and_it_takes_more_to_end_that() {
    let shapes = [ShardTable { slots: 2, width: 2 }; 2];
    let mut anticipation = Anticipation::new(&shapes, 1);
    let mut likeness_of = |likeness: [f32; 2], clocks: std::ops::RangeInclusive<u32>| {
        for clock in clocks {
            let own = [0, 1].map(|table| elements_of(TableId(table), &[(0, 1.0)]));
            anticipation.release(Clock(clock), &own, &mut |_, _| {});
            for (table, likeness) in (0..).zip(likeness) {
                anticipation.arrive(0, &elements_of(TableId(table), &[(0, likeness)]));
            }
            anticipation.answer(0, Some(Clock(clock)), &mut |_, _| {});
            anticipation.end_clock().for_each(drop);
        }
        ([0, 1].map(|table| anticipation.gain(TableId(table))), anticipation.is_opposed())
    };
    assert_eq!(likeness_of([1.0, 0.5], 1..=20), ([1.0, 0.5], false));
    assert_eq!(likeness_of([1.0, -1.0], 21..=60), ([-1.0, -1.0], true));
    // The memory of it fades.
    let (gains, is_opposed) = likeness_of([1.0, 0.0], 61..=300);
    assert_eq!((gains, is_opposed), ([-1.0, -1.0], true), "it is near zero, and below");
    let (gains, is_opposed) = likeness_of([1.0, 0.5], 301..=400);
    assert!(!is_opposed && gains.iter().all(|gain| *gain > 0.0), "{gains:?}");
}

/// What was learned of a table that is trained no more would else decide for all others for ever.
#[test]
fn a_table_of_which_nothing_comes_any_more_says_nothing_of_others() {
    let shapes = [ShardTable { slots: 2, width: 2 }; 2];
    let mut anticipation = Anticipation::new(&shapes, 1);
    let mut train = |tables: &[(u16, f32)], clocks: std::ops::RangeInclusive<u32>| {
        for clock in clocks {
            let own: Vec<_> =
                tables.iter().map(|(table, _)| elements_of(TableId(*table), &[(0, 1.0)])).collect();
            anticipation.release(Clock(clock), &own, &mut |_, _| {});
            for (table, likeness) in tables {
                anticipation.arrive(0, &elements_of(TableId(*table), &[(0, *likeness)]));
            }
            anticipation.answer(0, Some(Clock(clock)), &mut |_, _| {});
            anticipation.end_clock().for_each(drop);
        }
        let least = anticipation.least_likeness().expect("it is known");
        (f64::round(least * 1e9) / 1e9, anticipation.is_opposed())
    };
    assert_eq!(train(&[(0, 0.75), (1, -0.5)], 1..=20), (-0.5, true));
    assert_eq!(train(&[(0, 0.75)], 21..=20 + QUIET_CLOCKS - 2), (-0.5, true), "it may only rest");
    assert_eq!(train(&[(0, 0.75)], 400..=410), (0.75, false));
    assert_eq!(train(&[(0, 0.75), (1, -0.5)], 411..=411), (-0.5, true));
}
