use datacenter::Elements;

use super::*;

fn shapes() -> Shapes {
    let tables = vec![ShardTable { slots: 100, width: 4 }, ShardTable { slots: 3, width: 1 }];
    Shapes::new(vec![(ShardId(1), tables)])
}

fn update() -> Update {
    let mut delta = Elements::new(TableId(0));
    delta.push(5, 0.25);
    delta.push(399, -1.0);
    Update { shard: ShardId(1), seq: 300, deltas: vec![delta] }
}

#[test]
fn messages_survive_the_wire() {
    let (decoded, bytes) = decode_update(encode_update(&update()), &shapes()).unwrap();
    assert_eq!(decoded, update());
    assert_eq!(bytes, codec::encoded_len(&update().deltas[0]) as u64);

    let control = ShardControl {
        shard: ShardId(1),
        progress: Some(Progress { clock: Clock(9), covered: Clock(7), covered_seq: 40 }),
        barriers: vec![Barrier { table: TableId(1), slots: vec![0, 2], from_seq: 41 }],
        applied: Some(12),
    };
    let silent = ShardControl { shard: ShardId(1), ..ShardControl::default() };
    let both = vec![control, silent];
    let frames = encode_control(&both);
    assert_eq!(frames.len(), 1);
    assert_eq!(decode_control(frames[0].clone(), &shapes()).unwrap(), both);

    let hello = Hello {
        version: VERSION,
        datacenter: "virginia".into(),
        job_digest: vec![7; 32],
        channel: Channel::Data,
        session: u64::MAX,
        resumes: vec![Resume { shard: ShardId(1), through: 8, beyond: vec![10, 11] }],
    };
    assert_eq!(decode_hello(encode_hello(&hello)).unwrap(), hello);
}

#[test]
fn a_clock_message_is_small() {
    let progress = Progress { clock: Clock(200), covered: Clock(200), covered_seq: 200 };
    let control =
        ShardControl { shard: ShardId(1), progress: Some(progress), barriers: vec![], applied: Some(199) };
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
    let progress = Progress { clock: Clock(1), covered: Clock(1), covered_seq: 1 };
    let barriers = vec![barrier(1), barrier(3)];
    let control = ShardControl {
        shard: ShardId(0),
        progress: Some(progress),
        barriers: barriers.clone(),
        applied: None,
    };
    let frames = encode_control(&[control]);
    assert!(frames.iter().all(|frame| frame.len() < 200_000));
    let decoded: Vec<_> = frames.into_iter().flat_map(|f| decode_control(f, &wide).unwrap()).collect();
    assert_eq!(decoded.iter().filter_map(|c| c.progress).collect::<Vec<_>>(), [progress]);
    let all = |wanted: &Barrier| wanted.slots.clone();
    let slots: Vec<u32> = decoded.iter().flat_map(|c| &c.barriers).flat_map(all).collect();
    assert_eq!(slots, barriers.iter().flat_map(all).collect::<Vec<_>>());
}
