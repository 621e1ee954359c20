use std::time::Instant;

use super::*;
use crate::shard::{Open, Shard};
use crate::{Rule, shard_tables};

const TABLE: TableId = TableId(0);

fn specs() -> Vec<TableSpec> {
    vec![TableSpec::new("weights", 5, 2)]
}

/// Two shards of the five rows, and one client for each of `workers`.
fn cluster(workers: u32, staleness: Option<u32>) -> (Vec<Shard>, Vec<Client>) {
    let placement = Placement::new(2);
    let shards = (0..2).map(|i| {
        let shapes = shard_tables(&specs(), placement, ShardId(i));
        let initial = shapes.iter().map(|s| vec![0.0; s.elements()]).collect();
        Shard::new(ShardId(i), &shapes, initial, workers as usize, staleness)
    });
    let clients = (0..workers).map(|w| Client::new(WorkerId(w), &specs(), placement, staleness));
    (shards.collect(), clients.collect())
}

fn fetch(client: &mut Client, shards: &mut [Shard], rows: &[u32]) -> usize {
    let reads = client.plan([(TABLE, rows)].into_iter());
    let asked = reads.iter().flat_map(|(_, r)| &r.groups).map(|g| g.slots.len()).sum();
    for (shard, read) in reads {
        let reply = shards[shard.index()].handle_read(read, Instant::now(), &Open).unwrap();
        client.absorb(&reply.expect("not held")).unwrap();
    }
    asked
}

fn clock(client: &mut Client, shards: &mut [Shard]) {
    for (shard, flush) in client.flush().unwrap() {
        shards[shard.index()].handle_flush(&flush).unwrap();
    }
}

#[test]
fn a_worker_sees_its_own_deltas_at_once_and_others_after_their_flush() {
    let (mut shards, mut clients) = cluster(2, Some(0));
    let [a, b] = &mut clients[..] else { unreachable!() };
    fetch(a, &mut shards, &[0, 3, 4]);
    fetch(b, &mut shards, &[3]);
    a.add(TABLE, 3, &[1.0, 0.0]);
    a.add(TABLE, 3, &[1.0, 5.0]);
    assert_eq!(a.row(TABLE, 3), [2.0, 5.0]);
    assert_eq!(b.row(TABLE, 3), [0.0, 0.0]);
    clock(a, &mut shards);
    b.add(TABLE, 3, &[0.0, -1.0]);
    clock(b, &mut shards);
    fetch(a, &mut shards, &[3]);
    fetch(b, &mut shards, &[3]);
    assert_eq!(a.row(TABLE, 3), [2.0, 4.0]);
    assert_eq!(b.row(TABLE, 3), [2.0, 4.0]);
}

#[test]
fn unflushed_deltas_survive_a_fetch() {
    let (mut shards, mut clients) = cluster(1, None);
    let a = &mut clients[0];
    fetch(a, &mut shards, &[1]);
    a.add(TABLE, 1, &[3.0, 0.0]);
    fetch(a, &mut shards, &[1]);
    assert_eq!(a.row(TABLE, 1), [3.0, 0.0]);
    clock(a, &mut shards);
    fetch(a, &mut shards, &[1]);
    assert_eq!(a.row(TABLE, 1), [3.0, 0.0], "counted once");
}

#[test]
fn a_fresh_row_is_not_asked_for_again() {
    let (mut shards, mut clients) = cluster(1, Some(2));
    let a = &mut clients[0];
    assert_eq!(fetch(a, &mut shards, &[0, 1, 2]), 3);
    for expected in [0, 0, 3, 0, 0, 3] {
        clock(a, &mut shards);
        assert_eq!(fetch(a, &mut shards, &[0, 1, 2]), expected, "at {}", a.clock());
    }
}

#[test]
fn a_flush_goes_to_every_shard_and_carries_each_delta_once() {
    let (_, mut clients) = cluster(1, None);
    let a = &mut clients[0];
    a.add(TABLE, 4, &[1.0, 2.0]);
    a.add(TABLE, 2, &[0.0, 7.0]);
    let flushes = a.flush().unwrap();
    let even = &flushes[0].1.elements()[0];
    assert_eq!((even.indexes.as_slice(), even.values.as_slice()), (&[3, 4, 5][..], &[7.0, 1.0, 2.0][..]));
    assert!(flushes[1].1.deltas.is_empty());
    assert!(a.flush().unwrap().iter().all(|(_, f)| f.deltas.is_empty() && f.clock == Clock(2)));
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let (mut shards, mut clients) = cluster(1, None);
    let a = &mut clients[0];
    let (shard, read) = a.plan([(TABLE, &[0, 2][..])].into_iter()).remove(0);
    let mut reply = shards[shard.index()].handle_read(read, Instant::now(), &Open).unwrap().unwrap();
    let values = reply.blocks[0].values().clone();
    reply.blocks[0] = RowBlock::new(TABLE, [1, 2], values);
    assert!(a.absorb(&reply).is_err());
    assert!(a.absorb(&reply).is_err(), "nothing is asked any more");
}

#[test]
fn deltas_that_are_no_numbers_are_told_by_name_and_not_sent() {
    let placement = Placement::new(2);
    let client = || Client::new(WorkerId(2), &specs(), placement, None);
    for (bad, what) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "infinite")] {
        let mut a = client();
        a.flush().unwrap();
        a.add(TABLE, 4, &[1.0, 2.0]);
        a.add(TABLE, 3, &[0.0, bad]);
        let error = a.flush().unwrap_err();
        let said = format!(
            "table `weights` row 3: the delta is {what} at clock 1 of worker 2: the model has diverged; nothing of this clock is sent"
        );
        assert_eq!(error.to_string(), said);
        assert_eq!(a.clock(), Clock(1), "the clock has not ended");
        assert!(a.flush().unwrap().iter().all(|(_, flush)| flush.deltas.is_empty()), "nothing is left of it");
        let mut b = client().with_non_finite(NonFinite::Pass);
        b.add(TABLE, 3, &[0.0, bad]);
        assert_eq!(b.flush().unwrap()[1].1.elements()[0].indexes, [3]);
    }
}

#[test]
fn a_worker_that_finds_its_shards_ahead_goes_on_there() {
    let (mut shards, mut clients) = cluster(2, Some(0));
    let a = &mut clients[0];
    fetch(a, &mut shards, &[0, 3, 4]);
    assert_eq!(a.catch_up(), None);
    a.add(TABLE, 3, &[1.0, 0.0]);
    clock(a, &mut shards);
    shards.iter_mut().for_each(|shard| _ = shard.jump(Clock(5)));
    fetch(a, &mut shards, &[0]);
    assert_eq!((a.catch_up(), a.clock()), (Some(Clock(5)), Clock(5)));
    assert_eq!(a.catch_up(), None);
    assert_eq!(fetch(a, &mut shards, &[0, 3, 4]), 2, "what it has just read is fresh");
    assert_eq!(a.row(TABLE, 3), [1.0, 0.0]);
    a.add(TABLE, 3, &[1.0, 0.0]);
    clock(a, &mut shards);
    assert_eq!(shards[1].flushed(WorkerId(0)), Some(Clock(6)));
    assert_eq!(shards[1].values(TABLE)[2], 2.0);
}

#[test]
fn what_is_discarded_was_never_added_and_is_read_anew() {
    let specs = [TableSpec::new("t", 4, 2)];
    let placement = Placement::new(1);
    let mut client = Client::new(WorkerId(0), &specs, placement, Some(0));
    let table = TableId(0);
    let all: [u32; 4] = [0, 1, 2, 3];
    let read = |client: &mut Client| {
        let reads = client.plan([(table, &all[..])].into_iter());
        reads
            .into_iter()
            .map(|(_, read)| read.groups.iter().map(|g| g.slots.len()).sum::<usize>())
            .sum::<usize>()
    };
    assert_eq!(read(&mut client), 4);
    let values = vec![1.0; 8];
    let block = RowBlock::new(table, all, values);
    let reply = ReadReply {
        shard: ShardId(0),
        worker: WorkerId(0),
        clock: Clock(0),
        version: 1,
        blocks: vec![block],
        held: Vec::new(),
        is_last: true,
    };
    client.absorb(&reply).unwrap();
    assert_eq!(read(&mut client), 0, "all is fresh");
    client.add(table, 2, &[5.0, 5.0]);
    client.discard();
    assert_eq!(read(&mut client), 1, "the row that was added to");
    let flushes = client.flush().unwrap();
    assert!(flushes.iter().all(|(_, flush)| flush.deltas.is_empty()));
}

#[test]
fn gradients_are_not_seen_as_changes() {
    let specs = [TableSpec::new("t", 1, 2).with_rule(Rule::Sgd { rate: 1.0 })];
    let mut client = Client::new(WorkerId(0), &specs, Placement::new(1), Some(0));
    let table = TableId(0);
    assert_eq!(client.plan([(table, &[0][..])].into_iter()).len(), 1);
    let reply = ReadReply {
        shard: ShardId(0),
        worker: WorkerId(0),
        clock: Clock(0),
        version: 1,
        blocks: vec![RowBlock::new(table, [0], vec![1.0, 2.0])],
        held: Vec::new(),
        is_last: true,
    };
    client.absorb(&reply).unwrap();
    client.add(table, 0, &[5.0, 0.0]);
    assert_eq!(client.row(table, 0), [1.0, 2.0]);
    assert_eq!(client.flush().unwrap()[0].1.elements()[0].values, [5.0]);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_follows_the_rows_that_are_touched() {
    // A quarter of a gigabyte of values, and as much of deltas.
    let (rows, width) = (4_000_000, 16);
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells it");
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
    };
    let before = resident();
    let specs = [TableSpec::new("t", rows, width)];
    let mut client = Client::new(WorkerId(0), &specs, Placement::new(1), Some(0));
    for row in 0..1000 {
        client.add(TableId(0), row, &[1.0; 16]);
    }
    assert_eq!(client.flush().unwrap()[0].1.deltas[0].values().len(), 16_000);
    // Other tests run meanwhile.
    let taken = resident().saturating_sub(before);
    assert!(taken < 100 << 20, "{taken} bytes");
}
