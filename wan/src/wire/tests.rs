use datacenter::Elements;

use super::*;
use crate::ledger::{Ledger, Ledgers};

fn shapes() -> Shapes {
    let tables = vec![ShardTable { slots: 100, width: 4 }, ShardTable { slots: 3, width: 1 }];
    Shapes::new(vec![(ShardId(1), tables)])
}

fn update() -> Update {
    let mut delta = Elements::new(TableId(0));
    delta.push(5, 0.25);
    delta.push(399, -1.0);
    Update {
        shard: ShardId(1),
        stream: 2,
        seq: 300,
        clock: Clock(5),
        count: 7,
        deltas: vec![delta],
        rows: None,
    }
}

#[test]
fn messages_survive_the_wire() {
    let (decoded, bytes) = decode_update(encode_update(&update()), &shapes()).unwrap();
    assert_eq!(decoded, update());
    assert_eq!(bytes, codec::compact_len(&update().deltas[0], 1) as u64);

    let control = ShardControl {
        shard: ShardId(1),
        progress: Some(Progress {
            clock: Clock(9),
            covered: Clock(7),
            covered_seq: 40,
            covered_count: 6,
            pauses: 3,
            last_seq: Some(41),
            went_on: true,
            left_out: 2,
            unstated: 15,
        }),
        barriers: vec![Barrier { table: TableId(1), slots: vec![0, 2], from_seq: 41 }],
        applied: Some(12),
        applied_stream: 9,
        returned: Some(3),
        stream: 6,
        gone: vec![Holdings { origin: DatacenterId(2), covered: 4, newest: 9 }],
        departed: vec![DatacenterId(2), DatacenterId(3)],
        wants_values: true,
    };
    let silent = ShardControl { shard: ShardId(1), ..ShardControl::default() };
    for said in [control.clone(), silent.clone()] {
        let frames = encode_control(std::slice::from_ref(&said));
        assert_eq!(frames.len(), 1);
        assert_eq!(decode_control(frames[0].clone(), &shapes()).unwrap().shards, [said]);
    }
    let twice = encode_control(&[control, silent]).remove(0);
    assert!(decode_control(twice, &shapes()).is_err(), "a shard speaks once");

    let resume = Resume {
        shard: ShardId(1),
        life: 9,
        through: 8,
        beyond: vec![10, 11],
        covered: 3,
        newest: 5,
        lost_after: Some(0),
        clock: Clock(6),
        heard_clock: Clock(4),
        heard_left_out: 3,
        went_on: true,
        is_whole: true,
        stream: 3,
    };
    let hello = Hello {
        version: VERSION,
        datacenter: "virginia".into(),
        job_digest: vec![7; 32],
        channel: Channel::Data,
        session: u64::MAX,
        server: 5,
        life: 77,
        resumes: vec![resume],
        departed: vec![DatacenterId(1), DatacenterId(300)],
    };
    assert_eq!(decode_hello(encode_hello(&hello)).unwrap(), hello);
    let twice = proto::Hello { channel: 1, departed: vec![3, 3], ..Default::default() };
    let refused = decode_hello(twice.encode_to_vec().into());
    assert!(matches!(refused, Err(WireError::Invalid { field: "departed" })));
}

#[test]
fn whole_rows_survive_the_wire() {
    for origin in [Origin::All, Origin::Sender, Origin::Receiver, Origin::Other(DatacenterId(3))] {
        let rows = Elements { table: TableId(0), indexes: (4..12).collect(), values: vec![0.5; 8] };
        let stamps = vec![vec![3, 900]];
        let rows_of = WholeRows { origin, stamps, is_last: origin == Origin::Sender, life: 1 };
        let update = Update { deltas: vec![rows], rows: Some(rows_of), ..update() };
        assert_eq!(decode_update(encode_update(&update), &shapes()).unwrap().0, update);
    }
}

#[test]
fn a_clock_message_is_small() {
    let progress = Progress {
        clock: Clock(200),
        covered: Clock(200),
        covered_seq: 200,
        covered_count: 200,
        ..Progress::default()
    };
    let control = ShardControl {
        shard: ShardId(1),
        progress: Some(progress),
        applied: Some(199),
        ..ShardControl::default()
    };
    let bytes: Vec<String> = encode_control(&[control])[0].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(bytes.concat(), "0a0d0801120608c80118c80120c701");
}

#[test]
fn what_no_correct_peer_sends_is_refused() {
    let elsewhere = Update { shard: ShardId(0), ..update() };
    assert!(matches!(
        decode_update(encode_update(&elsewhere), &shapes()),
        Err(WireError::Invalid { field: "shard" })
    ));
    let twice = Update { deltas: [update().deltas, update().deltas].concat(), ..update() };
    assert!(matches!(
        decode_update(encode_update(&twice), &shapes()),
        Err(WireError::Invalid { field: "table" })
    ));
    let mut far = update();
    far.deltas[0].indexes[1] = 400;
    assert!(matches!(decode_update(encode_update(&far), &shapes()), Err(WireError::Payload { .. })));
    assert!(decode_hello(Bytes::new()).is_err());
}

#[test]
fn very_many_announced_rows_take_several_frames() {
    let rows = 100_000;
    let wide = Shapes::new(vec![(ShardId(0), vec![ShardTable { slots: 3 * rows, width: 1 }])]);
    let barrier = |step: u32| {
        let slots = (0..rows).map(|row| row * step).collect();
        Barrier { table: TableId(0), slots, from_seq: 7 }
    };
    let progress = Progress { clock: Clock(1), covered: Clock(1), covered_seq: 1, ..Progress::default() };
    let barriers = vec![barrier(1), barrier(3)];
    let control = ShardControl {
        shard: ShardId(0),
        progress: Some(progress),
        barriers: barriers.clone(),
        applied: None,
        ..ShardControl::default()
    };
    let frames = encode_control(&[control]);
    assert!(frames.iter().all(|frame| frame.len() < 200_000));
    let decoded: Vec<_> = frames.into_iter().flat_map(|f| decode_control(f, &wide).unwrap().shards).collect();
    assert_eq!(decoded.iter().filter_map(|c| c.progress).collect::<Vec<_>>(), [progress]);
    let all = |wanted: &Barrier| wanted.slots.clone();
    let slots: Vec<u32> = decoded.iter().flat_map(|c| &c.barriers).flat_map(all).collect();
    assert_eq!(slots, barriers.iter().flat_map(all).collect::<Vec<_>>());
}

#[test]
fn a_frame_that_names_rows_again_and_again_is_refused_before_it_takes_memory() {
    let huge = Shapes::new(vec![(ShardId(1), vec![ShardTable { slots: u32::MAX / 8, width: 1 }])]);
    let all: Vec<u32> = (0..MAX_FRAME_SLOTS as u32).collect();
    let barrier = Barrier { table: TableId(0), slots: vec![], from_seq: 1 };
    let (full, empty) = (encode_barrier(&barrier, &all), encode_barrier(&barrier, &[]));
    let frame = |barriers: Vec<proto::Barrier>| {
        let shard = proto::ShardControl { shard: 1, barriers, ..Default::default() };
        Bytes::from(proto::Control { shards: vec![shard], wants_data: false }.encode_to_vec())
    };
    assert!(decode_control(frame(vec![full.clone(), empty]), &huge).is_ok(), "as many as a frame may name");
    let bomb = frame(vec![full; 1000]);
    assert!(bomb.len() < 32 * 1024);
    assert!(matches!(decode_control(bomb, &huge), Err(WireError::Payload { .. })));
}

#[test]
fn the_largest_update_fits_its_frame() {
    for (slots, width) in [(50_000, 1), (3, 100_000), (700, 13)] {
        let shape = ShardTable { slots, width };
        let shapes = Shapes::new(vec![(ShardId(1), vec![shape])]);
        let mut outbox = crate::outbox::Outbox::new(ShardId(1), &[shape]);
        let indexes: Vec<u32> = (0..shape.elements() as u32).step_by(2).collect();
        let values = vec![1.0; indexes.len()];
        outbox.push(&Elements { table: TableId(0), indexes, values });
        let ledgers = Ledgers { own: Ledger::new(&[shape]), mirrors: Vec::new() };
        while let Some(outgoing) =
            outbox.poll_update(1, &ledgers, 0, true, crate::outbox::UPDATE_TARGET_BYTES)
        {
            let bytes = encode_outgoing(&outgoing).len();
            assert!(bytes <= shapes.max_update_bytes(), "{bytes} bytes of {slots} x {width}");
            outbox.handle_applied(outgoing.update.seq).expect("it was sent");
        }
    }
}

#[test]
fn what_very_many_shards_say_still_fits_the_control_channel() {
    let progress = Progress {
        clock: Clock(u32::MAX),
        covered: Clock(0),
        covered_seq: u64::MAX,
        covered_count: u32::MAX,
        pauses: u32::MAX,
        last_seq: Some(u64::MAX),
        went_on: true,
        left_out: u32::MAX,
        unstated: u32::MAX,
    };
    let slots = (0..40).collect();
    let barrier = Barrier { table: TableId(0), slots, from_seq: u64::MAX };
    let control = |shard| ShardControl {
        shard: ShardId(shard),
        progress: Some(progress),
        barriers: vec![barrier.clone()],
        applied: Some(u64::MAX),
        stream: u32::MAX,
        applied_stream: u32::MAX,
        returned: Some(u64::MAX),
        gone: vec![Holdings { origin: DatacenterId(u16::MAX), covered: 0, newest: u32::MAX }],
        departed: vec![DatacenterId(u16::MAX)],
        wants_values: true,
    };
    let controls: Vec<_> = (0..20_000).map(control).collect();
    let shapes =
        Shapes::new((0..20_000).map(|s| (ShardId(s), vec![ShardTable { slots: 40, width: 1 }])).collect());
    let mut decoded = Vec::new();
    for frame in encode_control(&controls) {
        assert!(frame.len() <= crate::transport::MAX_CONTROL_BYTES, "{}", frame.len());
        decoded.extend(decode_control(frame, &shapes).expect("each frame is valid").shards);
    }
    assert_eq!(decoded.iter().filter(|c| c.progress.is_some()).count(), controls.len());
    assert_eq!(decoded.iter().map(|c| c.barriers.len()).sum::<usize>(), controls.len());
}

#[test]
fn a_hello_names_no_more_shards_than_there_can_be() {
    let hello = |shards: u16| Hello {
        version: VERSION,
        datacenter: "virginia".into(),
        job_digest: Vec::new(),
        channel: Channel::Control,
        session: 1,
        server: 0,
        life: 1,
        departed: Vec::new(),
        resumes: (0..shards).map(|shard| Resume { shard: ShardId(shard), ..Resume::default() }).collect(),
    };
    assert!(decode_hello(encode_hello(&hello(1024))).is_ok());
    let error = decode_hello(encode_hello(&hello(1025))).unwrap_err();
    assert!(matches!(error, WireError::Invalid { field: "resumes" }), "{error}");
}
