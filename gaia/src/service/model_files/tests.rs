//! Models as files: put together from shards, written, and put together again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use datacenter::{Clock, DatacenterId, Placement, ShardId, TableSpec, shard_tables};
use wan::state::{OriginState, ReleasedTable, ReplicaState};

use super::*;
use crate::job::region::{CheckpointSettings, CheckpointStart};
use crate::learning::data::DataRoot;
use crate::learning::data::{Name, Names};
use crate::service::checkpoint::{Archive, Subject, Tensor};

const SHARDS: u16 = 3;

fn specs() -> Vec<TableSpec> {
    let table = |name: &str, rows, width| TableSpec::new(name, rows, width);
    vec![table("users", 7, 2), table("items", 2, 3)]
}

/// The value of an element of the whole model.
fn value(table: usize, row: u32, column: u32, clock: u32) -> f32 {
    (clock * 1000) as f32 + (table * 100) as f32 + (row * 10 + column) as f32 + 0.5
}

/// What its rows stand for.
fn vocabulary() -> Vocabulary {
    let names = |count| (0..count).map(|id| Name::Number(10 * id)).collect::<Names>();
    Vocabulary::Ratings { users: names(7), items: names(2), mean: 3.5, range: (1.0, 5.0) }
}

fn whole(clock: u32) -> Trained {
    let tables = specs().into_iter().enumerate().map(|(place, spec)| Table {
        rows: spec.rows as usize,
        width: spec.width as usize,
        values: (0..spec.rows)
            .flat_map(|row| (0..spec.width).map(move |column| value(place, row, column, clock)))
            .collect(),
        name: spec.name,
    });
    Trained {
        job: "ratings".to_owned(),
        digest: "0909090909090909".to_owned(),
        region: "virginia".to_owned(),
        clock,
        regions: BTreeMap::from([("virginia".to_owned(), clock), ("ireland".to_owned(), clock - 1)]),
        left_out: BTreeMap::from([("virginia".to_owned(), 2)]),
        vocabulary: Some(vocabulary()),
        tables: tables.collect(),
    }
}

/// The tables of one shard.
fn shard(shard: u16, clock: u32) -> Vec<Vec<f32>> {
    let placement = Placement::new(SHARDS);
    let tables = specs().into_iter().enumerate().map(|(place, spec)| {
        let slots = placement.slot_count(ShardId(shard), spec.rows);
        let rows = (0..slots).map(|slot| placement.row_at(ShardId(shard), slot));
        rows.flat_map(|row| (0..spec.width).map(move |column| value(place, row, column, clock))).collect()
    });
    tables.collect()
}

/// Nothing that another region has released to a shard.
fn released(shard: u16) -> Vec<ReleasedTable> {
    let tables = shard_tables(&specs(), Placement::new(SHARDS), ShardId(shard)).into_iter();
    tables
        .map(|t| ReleasedTable { sums: vec![0.0; t.elements()], stamps: vec![0; t.slots as usize] })
        .collect()
}

/// Keeps a checkpoint of a shard.
fn keep(directory: &Path, region: &str, at: u16, clock: u32) {
    let subject = Subject {
        job: "ratings".to_owned(),
        job_digest: [9; 32],
        region: region.to_owned(),
        workers: 1,
        members: vec!["virginia".to_owned(), "ireland".to_owned()],
        shards: SHARDS,
        tables: specs(),
        vocabulary: Some(vocabulary().to_json()),
    };
    let location = DataRoot::Directory(directory.to_owned());
    let settings = CheckpointSettings {
        location,
        every_clocks: None,
        every: None,
        keep: 9,
        start: CheckpointStart::Newest,
    };
    let state = ReplicaState {
        remembered: vec![],
        shard: ShardId(at),
        clock: Clock(clock),
        left_out: u32::from(at),
        workers: vec![Clock(clock)],
        values: shard(at, clock),
        remainders: vec![],
        origins: vec![OriginState {
            datacenter: DatacenterId(1),
            life: 0,
            covered: 0,
            heard_clock: Clock(clock),
            included_clock: Clock(clock - 1),
            left_out: 0,
            tables: released(at),
            has_departed: false,
        }],
    };
    Archive::new(&settings, Arc::new(subject)).write(&state, SystemTime::UNIX_EPOCH).expect("there is room");
}

/// Leaves what a server writes at the end of a job.
fn leave(directory: &Path, at: u16, clock: u32) {
    let (values, placement) = (shard(at, clock), Placement::new(SHARDS));
    let tensors = specs().into_iter().zip(&values).map(|(spec, values)| {
        let slots = placement.slot_count(ShardId(at), spec.rows) as usize;
        (spec.name, Tensor::floats(vec![slots, spec.width as usize], values))
    });
    let vocabulary = (at == 0).then(|| ("vocabulary", vocabulary().to_json()));
    let texts = [
        ("job", "ratings".to_owned()),
        ("digest", "0909090909090909".to_owned()),
        ("region", "virginia".to_owned()),
        ("shard", at.to_string()),
        ("shards", SHARDS.to_string()),
        ("clock", clock.to_string()),
        ("left_out", r#"{"virginia":2}"#.to_owned()),
        ("regions", format!("{{\"virginia\":{clock},\"ireland\":{}}}", clock - 1)),
    ];
    let texts = texts.into_iter().chain(vocabulary).map(|(key, text)| (key.to_owned(), text)).collect();
    let file = safetensors::serialize(tensors, Some(texts)).expect("tables");
    fs::write(directory.join(format!("ratings-virginia-shard-{at}.safetensors")), file)
        .expect("there is room");
}

fn read_at(directory: &Path, wanted: &Wanted) -> Result<Read, String> {
    let source = Source::named(&directory.display().to_string()).expect("a path");
    let prefix = format!("{}/", directory.display());
    read(&[source], wanted).map_err(|error| crate::human::with_causes(&error).replace(&prefix, ""))
}

#[test]
fn the_newest_clock_that_all_shards_have_is_read_in_the_order_of_rows() {
    let directory = tempfile::tempdir().expect("a directory");
    for (at, clock) in [(0, 10), (1, 10), (2, 10), (0, 20), (1, 20), (2, 20), (0, 30), (2, 30)] {
        keep(directory.path(), "virginia", at, clock);
    }
    let found = read_at(directory.path(), &Wanted::default()).expect("it is there");
    assert_eq!((found.model, found.files.len(), found.notes.len()), (whole(20), 3, 0));
    let at = |clock| Wanted { clock: Some(clock), ..Wanted::default() };
    assert_eq!(read_at(directory.path(), &at(10)).expect("it is there").model, whole(10));
    assert_eq!(
        read_at(directory.path(), &at(30)).expect_err("shard 1 is missing"),
        "not all shards are there at clock 30\n  shard 0: clock 10, 20, 30\n  shard 1: clock 10, 20\n  shard 2: clock \
         10, 20, 30"
    );
    let mixed = Wanted { is_mixed: true, ..Wanted::default() };
    let mixed = read_at(directory.path(), &mixed).expect("it is there").model;
    assert_eq!(mixed.clock, 20);
    assert_eq!(
        (mixed.tables[0].values[0], mixed.tables[0].values[2]),
        (value(0, 0, 0, 30), value(0, 1, 0, 20))
    );

    // A damaged one is passed over with its clock.
    let damaged = directory.path().join("ratings/virginia/shard-1/clock-000020.safetensors");
    let mut file = fs::read(&damaged).expect("it is there");
    *file.last_mut().expect("it is not empty") ^= 1;
    fs::write(&damaged, file).expect("there is room");
    let found = read_at(directory.path(), &Wanted::default()).expect("there is another");
    assert_eq!((found.model, found.notes.len()), (whole(10), 1));
    assert!(
        found.notes[0].ends_with("is damaged: its content is not what its checksum says"),
        "{:?}",
        found.notes
    );
    assert!(read_at(directory.path(), &at(20)).expect_err("it was asked for").contains("is damaged"));
}

#[test]
fn what_is_not_clear_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = read_at(directory.path(), &Wanted::default()).expect_err("nothing");
    assert!(error.starts_with("there are no safetensors files in "), "{error}");
    for region in ["virginia", "ireland"] {
        (0..SHARDS).for_each(|at| keep(directory.path(), region, at, 5));
    }
    let error = read_at(directory.path(), &Wanted::default()).expect_err("two regions");
    assert_eq!(error, "there are copies of several regions: ireland, virginia; say which with --region");
    let of = |region: &str| Wanted { region: Some(region.to_owned()), ..Wanted::default() };
    assert_eq!(read_at(directory.path(), &of("ireland")).expect("it is there").model.region, "ireland");
    let error = read_at(directory.path(), &of("singapore")).expect_err("no such region");
    assert_eq!(error, "there is nothing of region singapore; there is ireland, virginia");
    let other = Wanted { digest: Some("1111111111111111".to_owned()), ..of("ireland") };
    let found = read_at(directory.path(), &other).expect("it is there");
    assert!(found.notes[0].contains("with the digest 0909090909090909"), "{:?}", found.notes);
    fs::write(directory.path().join("x.safetensors"), b"x").expect("there is room");
    assert_eq!(read_at(directory.path(), &of("ireland")).expect("it is there").notes.len(), 1);
    let error = Source::named("ftp://host/x").expect_err("no place").to_string();
    assert!(error.starts_with("\"ftp://host/x\" is no place for files"), "{error}");
}

#[test]
fn what_servers_leave_and_what_is_exported_is_read_alike() {
    let directory = tempfile::tempdir().expect("a directory");
    (0..SHARDS).for_each(|at| leave(directory.path(), at, 7));
    let model = read_at(directory.path(), &Wanted::default()).expect("it is there").model;
    // Without an order of their own, tables stand in that of the alphabet.
    let mut expected = whole(7);
    expected.tables.reverse();
    assert_eq!(model, expected);
    let out = directory.path().join("exported/model.safetensors");
    fs::create_dir(out.parent().expect("a folder")).expect("a directory");
    let files = write(&whole(7), Format::Safetensors, &out, None).expect("there is room");
    assert_eq!(files, std::slice::from_ref(&out));
    assert_eq!(read_at(&out, &Wanted::default()).expect("it is there").model, whole(7));
    assert_eq!(
        read_at(out.parent().expect("a folder"), &Wanted::default()).expect("it is there").model,
        whole(7)
    );
    let tables = whole(7).into_tables(&specs()).expect("they fit");
    assert_eq!(tables.row(datacenter::TableId(1), 1)[2], value(1, 1, 2, 7));
    let mut other = specs();
    other[1].rows = 3;
    let error = whole(7).into_tables(&other).expect_err("they do not fit").to_string();
    assert_eq!(
        error,
        "the files have users 7 x 2, items 2 x 3; the job's model has users 7 x 2, items 3 x 3"
    );
    fs::remove_file(directory.path().join("ratings-virginia-shard-1.safetensors")).expect("it is there");
    fs::remove_dir_all(out.parent().expect("a folder")).expect("it is there");
    assert_eq!(
        read_at(directory.path(), &Wanted::default()).expect_err("a shard is missing"),
        "there is no clock at which all shards are there; --mixed takes the newest of each\n  shard 0: clock 7\n  \
         shard 1: none\n  shard 2: clock 7"
    );
}

#[test]
fn npy_and_csv_have_a_table_in_each_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let files = write(&whole(1), Format::Npy, &path("model.npy"), None).expect("there is room");
    let beside = path("model-vocabulary.json");
    assert_eq!(files, [path("model-users.npy"), path("model-items.npy"), beside.clone()]);
    let text = fs::read_to_string(beside).expect("it was written");
    assert_eq!(Vocabulary::from_json(&text), Ok(vocabulary()));
    let npy = fs::read(&files[1]).expect("it was written");
    assert_eq!(npy[..8], *b"\x93NUMPY\x01\x00");
    let header = u16::from_le_bytes([npy[8], npy[9]]) as usize;
    assert_eq!((10 + header) % 64, 0);
    let text = String::from_utf8_lossy(&npy[10..10 + header]);
    assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
    assert!(text.ends_with(" \n"));
    let values: Vec<f32> =
        npy[10 + header..].as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    assert_eq!(values, whole(1).tables[1].values);
    let files = write(&whole(1), Format::Csv, &path("items.csv"), Some("items")).expect("there is room");
    assert_eq!(files, [path("items.csv"), path("items-vocabulary.json")]);
    let csv = fs::read_to_string(&files[0]).expect("it was written");
    assert_eq!(csv, "row,0,1,2\n0,1100.5,1101.5,1102.5\n1,1110.5,1111.5,1112.5\n");
    let error = write(&whole(1), Format::Csv, &path("x.csv"), Some("users ")).expect_err("no such table");
    assert_eq!(error.to_string(), "there is no table users ; there is users, items");
    assert_eq!("a/b.npy".parse(), Ok(Format::Npy));
    let error = "model.pt".parse::<Format>().expect_err("no such format").to_string();
    assert_eq!(error, "found \"model.pt\"; allowed: a file name that ends in .safetensors, .npy or .csv");
}
