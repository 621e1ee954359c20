//! Files of checkpoints: refused, or states from which a replica begins, and which are written as
//! they were read.

use std::time::Duration;

use datacenter::shard::Shard;
use datacenter::{Clock, DatacenterId, Elements, ShardId, TableId, TableSpec};
use gaia::service::checkpoint::{Counts, Subject, decode, encode, seal};
use wan::policy::{Lead, Policy};
use wan::replica::Replica;
use wan::state::{OriginState, ReleasedTable, ReplicaState};

const SHARD: ShardId = ShardId(1);
const HERE: DatacenterId = DatacenterId(0);

fn subject() -> Subject {
    let table = |name: &str, rows, width| TableSpec::new(name, rows, width);
    Subject {
        job: "digits".to_owned(),
        job_digest: [7; 32],
        region: "virginia".to_owned(),
        workers: 2,
        members: ["virginia", "ireland"].map(str::to_owned).into(),
        shards: 2,
        tables: vec![table("weights", 7, 3), table("bias", 3, 1)],
        vocabulary: None,
    }
}

/// A file, as it is and with its checksum put right.
pub fn checkpoints(data: &[u8]) {
    read(data);
    let mut sealed = data.to_vec();
    if seal(&mut sealed) {
        read(&sealed);
    }
}

fn read(file: &[u8]) {
    let subject = subject();
    let Ok(checkpoint) = decode(&subject, SHARD, file) else { return };
    let written = encode(&subject, &checkpoint.state, &checkpoint.counts, checkpoint.written_at);
    let again =
        decode(&subject, SHARD, &written).expect("what was accepted is accepted when it is written anew");
    // Numbers that are not numbers are not equal to themselves.
    assert_eq!(format!("{:?}", again.state), format!("{:?}", checkpoint.state));
    assert_eq!(again.counts, checkpoint.counts);
    let shapes = subject.shapes(SHARD);
    let zeros = shapes.iter().map(|shape| vec![0.0; shape.elements()]).collect();
    let shard = Shard::new(SHARD, &shapes, zeros, subject.workers as usize, Some(0));
    let policy = Policy::naive(Lead::Unlimited);
    let replica = Replica::new(shard, &policy, [DatacenterId(1)]);
    if let Ok(replica) = replica.restored(checkpoint.state, HERE) {
        let values = replica.state(HERE).values;
        assert!(values.iter().flatten().all(|value| value.is_finite()), "{values:?}");
    }
}

/// Checkpoints of a shard at some clocks.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let subject = subject();
    let shapes = subject.shapes(SHARD);
    let numbers = |count: usize| (0..count).map(|i| i as f32 / 4.0).collect::<Vec<f32>>();
    let origin = |datacenter, covered| OriginState {
        has_departed: false,
        datacenter: DatacenterId(datacenter),
        life: 1_767_225_600_000_000,
        covered,
        heard_clock: Clock(covered),
        included_clock: Clock(covered),
        left_out: covered / 2,
        tables: shapes
            .iter()
            .map(|shape| ReleasedTable {
                sums: numbers(shape.elements()),
                stamps: (0..shape.slots).collect(),
            })
            .collect(),
    };
    let state = |clock| ReplicaState {
        remembered: vec![],
        shard: SHARD,
        clock: Clock(clock),
        left_out: clock / 3,
        workers: vec![Clock(clock); 2],
        values: shapes.iter().map(|shape| numbers(shape.elements())).collect(),
        remainders: vec![Elements { table: TableId(0), indexes: vec![0, 5], values: vec![0.5, -1.0] }],
        origins: vec![origin(0, clock), origin(1, clock / 2)],
    };
    let date = std::time::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    [0, 12, 70_000].map(|clock| encode(&subject, &state(clock), &Counts::default(), date)).into()
}
