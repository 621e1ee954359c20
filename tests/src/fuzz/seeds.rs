//! Where fuzzing starts: real encodings, and files that are right.

use std::io::Write;
use std::time::Duration;

use datacenter::message::{Flush, Notice, Read, ReadReply, Request, RowGroup, Standing, Wait};
use datacenter::rows::RowBlock;
use datacenter::wire::{self as lan, OperatorHello, ToServer, ToWorker, Welcome, WorkerHello};
use datacenter::{Clock, DatacenterId, Elements, ShardId, TableId, WorkerId, codec};
use flate2::{Compression, write::GzEncoder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wan::ledger::{Ledger, Ledgers};
use wan::message::{Barrier, Holdings, Origin, Progress, Resume, ShardControl, Update, WholeRows};
use wan::outbox::{Outbox, UPDATE_TARGET_BYTES};
use wan::wire::{self, CallBack, Channel, Hello, ProbeAnswer, ProbeReport, ProbeRequest};

/// Entries of corpora: the target, a name, the bytes.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let sources = [
        ("lan_frames", lan_frames()),
        ("wan_frames", wan_frames()),
        ("payloads", payloads()),
        ("data_files", data_files()),
        ("config_files", config_files()),
        ("certificates", certificates()),
        ("checkpoints", super::checkpoints::seeds()),
        ("admin_requests", super::admin_requests::seeds()),
        ("object_names", super::object_names::seeds()),
        ("status_answers", super::status_answers::seeds()),
        ("units", super::units::seeds()),
    ];
    let machines = ["control_copies", "filters", "mirrors", "shards"].map(|target| (target, random()));
    let numbered = |(target, entries): (&'static str, Vec<Vec<u8>>)| {
        (1..).zip(entries).map(move |(number, bytes)| (target, format!("seed-{number:02}"), bytes))
    };
    sources.into_iter().chain(machines).flat_map(numbered).collect()
}

fn elements(table: u16, indexes: impl IntoIterator<Item = u32>) -> Elements {
    let mut elements = Elements::new(TableId(table));
    indexes.into_iter().for_each(|index| elements.push(index, index as f32 / 8.0 - 1.0));
    elements
}

fn lan_frames() -> Vec<Vec<u8>> {
    let shapes = [(10, 3), (4, 1)].map(|(slots, width)| datacenter::ShardTable { slots, width });
    let deltas = [elements(0, [4, 5, 29]), elements(1, 0..4)];
    let flush = Request::Flush(Flush::of_elements(WorkerId(3), Clock(7), &deltas, &shapes));
    let group =
        |table, since, slots: Vec<u32>| RowGroup { table: TableId(table), since, slots: slots.into() };
    let groups = vec![group(0, 5, vec![0, 1, 9]), group(0, 0, vec![2, 4]), group(1, 300, vec![2])];
    let read = Request::Read(Read { worker: WorkerId(0), clock: Clock(1), groups });
    let rows = group(0, 0, (0..1 << 14).collect());
    let whole = |times| {
        Request::Read(Read { worker: WorkerId(1), clock: Clock(900), groups: vec![rows.clone(); times] })
    };
    let block =
        |table, slots: Vec<u32>, values: &[f32]| RowBlock::new(TableId(table), slots, Vec::from(values));
    let held =
        [Wait::Stale, Wait::Barrier(DatacenterId(3)), Wait::MirrorClock(DatacenterId(2)), Wait::Fetching];
    let reply = ReadReply {
        shard: ShardId(0),
        worker: WorkerId(1),
        clock: Clock(9),
        version: 77,
        blocks: vec![block(0, vec![3, 9], &[0.5; 6]), block(1, vec![2], &[1.0])],
        held: held.into_iter().map(|why| (why, Duration::from_millis(30))).collect(),
        is_last: true,
    };
    let standing = |worker| Standing { shard: ShardId(1), clock: Clock(8), worker, is_new: false };
    let hello = WorkerHello {
        version: lan::VERSION,
        datacenter: "oslo".into(),
        job_digest: vec![7; 32],
        worker: WorkerId(2),
        incarnation: 1_767_225_600_000_000,
    };
    let welcome = Welcome {
        version: lan::VERSION,
        server: 1,
        incarnation: 5,
        standings: vec![standing(None), standing(Some(Clock(9)))],
    };
    let operator = OperatorHello {
        version: lan::VERSION,
        datacenter: "oslo".into(),
        leaving: "rome".into(),
        job_digest: vec![7; 32],
    };
    let (cause, reason) = ("job".to_owned(), "job digest is 0909".to_owned());
    let to_server = [
        ToServer::Hello(hello),
        ToServer::Join(Clock(9)),
        ToServer::Request(ShardId(0), read.clone()),
        ToServer::Request(ShardId(1), whole(1)),
        // Must be refused.
        ToServer::Request(ShardId(1), whole(2)),
        ToServer::Request(ShardId(2), Request::Leave(WorkerId(2))),
        ToServer::Refused { cause: cause.clone(), reason: reason.clone() },
        ToServer::Alive,
        ToServer::Operator(operator),
        ToServer::Confirm,
    ];
    let to_worker = [
        ToWorker::Welcome(welcome),
        ToWorker::Refused { cause, reason },
        ToWorker::Joined(vec![(ShardId(0), Clock(3)), (ShardId(1), Clock(4))]),
        ToWorker::Reply(reply.clone()),
        ToWorker::Accepted(ShardId(1), Clock(u32::MAX)),
        ToWorker::Notice(Notice::Leaving),
        ToWorker::Notice(Notice::Settled { lacks: None }),
        ToWorker::Notice(Notice::Settled { lacks: Some("oslo (clock 7 of 9)".into()) }),
        ToWorker::Alive,
        ToWorker::Notice(Notice::Expelled),
        ToWorker::Answer { problem: "it is the last region".into(), is_known: false },
    ];
    let stretched = [lan::encode_request(&flush), lan::encode_request(&read), lan::encode_reply(&reply)];
    let flushed = ToServer::of_request(ShardId(0), flush.clone());
    let frames =
        to_server.iter().chain(&flushed).map(ToServer::encode).chain(to_worker.iter().map(ToWorker::encode));
    frames.map(|frame| frame.to_bytes()).chain(stretched).map(Vec::from).collect()
}

fn wan_frames() -> Vec<Vec<u8>> {
    let shapes = [(400, 4), (3, 1)].map(|(slots, width)| datacenter::ShardTable { slots, width });
    let mut outbox = Outbox::new(ShardId(1), &shapes);
    let ledgers = Ledgers { own: Ledger::new(&shapes), mirrors: Vec::new() };
    let mut frames = Vec::new();
    for indexes in [vec![0, 1, 2, 399], (0..100).collect(), vec![7, 90, 300]] {
        outbox.push(&elements(0, indexes));
        outbox.push(&elements(1, [1]));
        let outgoing =
            outbox.poll_update(7, &ledgers, 0, true, UPDATE_TARGET_BYTES).expect("something waits");
        frames.push(wire::encode_outgoing(&outgoing));
    }
    let origins = [Origin::Receiver, Origin::Other(DatacenterId(2)), Origin::Sender, Origin::All];
    let rows = origins.map(|origin| Update {
        shard: ShardId(1),
        stream: 1,
        seq: 3,
        clock: Clock(9),
        count: 11,
        deltas: vec![elements(0, 8..16)],
        rows: Some(WholeRows { origin, stamps: vec![vec![4, 700]], is_last: true, life: 5 }),
    });
    frames.extend(rows.iter().map(wire::encode_update));
    let progress = |clock, covered| Progress {
        clock: Clock(clock),
        covered: Clock(covered),
        covered_seq: 200,
        covered_count: covered,
        pauses: 3,
        last_seq: Some(201),
        went_on: true,
        left_out: covered / 2,
        unstated: 7,
    };
    let barrier = |table, slots| Barrier { table: TableId(table), slots, from_seq: 41 };
    let of = |shard| ShardControl { shard: ShardId(shard), ..ShardControl::default() };
    let controls = [
        vec![ShardControl {
            progress: Some(Progress { pauses: 0, last_seq: None, ..progress(200, 200) }),
            applied: Some(199),
            ..of(1)
        }],
        vec![
            ShardControl { progress: Some(progress(9, 7)), barriers: vec![barrier(1, vec![0, 2])], ..of(1) },
            ShardControl {
                barriers: vec![barrier(0, (0..20_000).collect()), barrier(1, vec![39])],
                ..of(300)
            },
        ],
        vec![of(1), ShardControl { applied: Some(u64::MAX), ..of(300) }],
        vec![ShardControl {
            stream: 2,
            returned: Some(40),
            gone: vec![Holdings { origin: DatacenterId(2), covered: 30, newest: 31 }],
            departed: vec![DatacenterId(2), DatacenterId(4)],
            ..of(1)
        }],
    ];
    frames.extend(controls.iter().flat_map(|controls| wire::encode_control(controls)));
    let resume = |shard, beyond| Resume {
        shard: ShardId(shard),
        life: 1_767_225_600_000_000,
        through: 8,
        beyond,
        covered: 7,
        newest: 9,
        lost_after: Some(3),
        clock: Clock(9),
        ..Resume::default()
    };
    let hello = |channel, resumes| Hello {
        version: wire::VERSION,
        datacenter: "virginia".into(),
        server: 5,
        job_digest: vec![7; 32],
        channel,
        session: u64::MAX,
        life: 1_767_225_600_000_001,
        resumes,
        departed: vec![DatacenterId(2)],
    };
    let hellos = [
        hello(Channel::Control, vec![resume(1, vec![10, 11]), resume(300, vec![])]),
        hello(Channel::Data, vec![]),
        hello(Channel::Probe, vec![]),
    ];
    frames.extend(hellos.iter().map(wire::encode_hello));
    frames.push(wire::encode_probe_request(ProbeRequest { bytes: 4_000_000, call_back: true }));
    let answer = ProbeAnswer { unix_millis: 1_767_225_600_000, linked: true, granted_bytes: 262_144 };
    frames.push(wire::encode_probe_answer(answer));
    for call_back in [CallBack::NoAddress, CallBack::Reached, CallBack::Failed("it does not answer".into())] {
        frames.push(wire::encode_probe_report(&ProbeReport { bytes: 131_072, micros: 90_000, call_back }));
    }
    frames.into_iter().map(Vec::from).collect()
}

/// Index sets for which each of the encodings is the smallest, with and without values.
fn payloads() -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut scattered =
        |share: f64, below: u32| (0..below).filter(|_| rng.random_bool(share)).collect::<Vec<_>>();
    let sets = [
        vec![],
        vec![5],
        (0..40).collect(),
        (10..13).chain(17..217).chain([1217]).collect(),
        vec![7, 8, 10, 11, 16],
        vec![7, 100, 300],
        scattered(0.01, 5000),
        scattered(0.4, 300),
    ];
    let written = |indexes: Vec<u32>| {
        let (mut set, mut payload, mut compact) = (vec![3], vec![3], vec![3]);
        codec::encode_indexes(&indexes, &mut set);
        let mut elements = elements(0, indexes);
        codec::encode(&elements, &mut payload);
        elements.values.iter_mut().enumerate().for_each(|(i, value)| *value = [0.5, -0.5, 1.0][i % 3]);
        codec::encode_compact(&elements, 8, &mut compact);
        [set, payload, compact]
    };
    sets.into_iter().flat_map(written).collect()
}

fn data_files() -> Vec<Vec<u8>> {
    let images = |count: u8| {
        [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 3], &[9; 9][..3 * usize::from(count)]].concat()
    };
    let labels: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 4, 9];
    let packed = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes()).expect("memory");
        encoder.finish().expect("memory")
    };
    let csv = "1, 0,3\r\n\n-2,4e0,5.0\n0,0,3\n";
    let idx = [&images(2), labels].join(&b"\n%%\n"[..]);
    let texts = [
        format!("\0{csv}\n%%\n7,1,5\n"),
        format!("\x01x,y,class\n{csv}"),
        "\x02-1 1:0.5 3:2 # why\n\n+1 2:-1e-1 \n\n%%\n1 7:1\n".to_owned(),
        "\x031 299:1 300:-3.5\n2\n".to_owned(),
        "\x049\t7\t3\t881250949\n2\t70\t5\t881250950\n\n%%\n2\t7\t1\t0\n".to_owned(),
        "\x04userId,movieId,rating,timestamp\n9,7,3.0,881250949\r\n2,70,5.0,881250950\r\n".to_owned(),
        "\x049::7::3::881250949\n2::70::5::881250950\n".to_owned(),
    ];
    let mut entries: Vec<_> = texts.into_iter().map(String::into_bytes).collect();
    entries.push([&[5], idx.as_slice()].concat());
    entries.push([&[5], idx.as_slice(), b"\n%%\n", idx.as_slice()].concat());
    entries.push([&[0], packed(csv).as_slice()].concat());
    entries.push([&[2], packed("1 1:1\n").as_slice(), packed("2 1:1\n").as_slice()].concat());
    let bags: [(u8, &str); 2] = [
        (255, "3\n5\n3\n1 2 1\n1 5 3\n3 1 2\n\n%%\n1\n5\n1\n1 1 1\n\n%%\na\nb\nc\nd\ne\n"),
        (254, "2 1:1 4:3\n0\n1 0:2\n\n%%\n1 0:1\n\n%%\na\nb\nc\nd\ne\n"),
    ];
    entries.extend(bags.map(|(format, text)| [&[format], text.as_bytes()].concat()));
    // Other dialects: what is found in the file, and what the settings say.
    let dialects = [
        "\x04\"UserID\";MovieID;Rating\n\"1\";31;2.5\n1;31;4\n2.0;AX;4\n\n%%\nitem_id:token;user_id:token;rating:float\n31;1;2\n",
        "\x28user,rating,class,other\nAX,3,B,1\nAX,4,C,2\n",
        "\x1ex::class::y\n1::setosa::3\n2::virginica::5\n\n%%\nx::class::y\n7::setosa::1\n",
        "\x19# iris\n5.1  3.5 a\n4.9 3.0 b\n",
    ];
    entries.extend(dialects.map(|text| text.as_bytes().to_vec()));
    entries
}

/// The shipped files, and flags over them.
fn config_files() -> Vec<Vec<u8>> {
    const JOB: &str = include_str!("../../../configs/jobs/digits.toml");
    const FLAGS: &str =
        "job.clocks=5\nregions.ireland.workers=2\nseed=3\njob.asp=off\npeers.ireland.link.rate=1 Gbit/s\n";
    let region =
        include_str!("../../../configs/regions/virginia.toml").replace("../jobs/digits.toml", "job.toml");
    let simulation = include_str!("../../../configs/simulations/three-regions.toml")
        .replace("../jobs/digits.toml", "job.toml");
    let entries = [
        format!("\0{}\n%%\n{JOB}\n%%\n{FLAGS}", plain(&simulation)),
        format!("\0{}", plain(include_str!("../../../configs/simulations/movielens-mf.toml"))),
        format!(
            "\0{}\n%%\n{}",
            plain(include_str!("../../../configs/simulations/two-regions-thin.toml")),
            plain(JOB)
        ),
        format!("\x01{}\n%%\n{}", plain(&region), plain(JOB)),
        format!("\x01{}\n%%\n{}\n%%\n{FLAGS}", plain(&region), plain(JOB)),
        format!("\x02{}", plain(JOB)),
        format!("\x03{}", plain(include_str!("../../../configs/links/three-regions.toml"))),
    ];
    entries.into_iter().map(String::into_bytes).collect()
}

/// Without comments, which would only be mutated.
fn plain(toml: &str) -> String {
    let lines = toml.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// An authority of its own, a process's files, and a revocation list. Keys are made anew each time.
fn certificates() -> Vec<Vec<u8>> {
    use datacenter::identity::{Date, Dates};
    use gaia::service::certificates::{Authority, Validity};
    use quinn::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};

    let now = Date::from(Dates::SIMULATED.now());
    let validity = Validity { now, days: 3650 };
    let (authority, root) = Authority::create(validity).expect("the system has randomness");
    let issue = |process: &str| {
        authority.issue(&process.parse().expect("a name"), validity).expect("the system has randomness")
    };
    let (own, other) = (issue("virginia-server-0"), issue("us-east-1-worker-12"));
    let list = authority.revocation_list(&[(other.serial.clone(), now)], 7, now).expect("a list");
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec();
    let list_der = CertificateRevocationListDer::from_pem_slice(list.as_bytes()).expect("a list").to_vec();
    let files = |certificate: &str, key: &str, list: &str| {
        [&root.certificate, certificate, key, list].join("\n%%\n").into_bytes()
    };
    vec![
        [vec![0], der(&root.certificate)].concat(),
        [vec![0], der(&own.certificate)].concat(),
        [vec![0], der(&other.certificate)].concat(),
        [vec![1], list_der].concat(),
        [vec![2], files(&own.certificate, &own.key, &list)].concat(),
        [vec![2], files(&own.certificate, &own.key, "")].concat(),
        [vec![2], files(&own.certificate, &other.key, &list)].concat(),
        [vec![2], files(&other.certificate, &other.key, &list)].concat(),
    ]
}

/// Any bytes are operations.
fn random() -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    [20, 100, 400, 1000].map(|bytes| (0..bytes).map(|_| rng.random()).collect()).into()
}
