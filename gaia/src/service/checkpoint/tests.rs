//! Checkpoints as files: what is written is read, and nothing else is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datacenter::Rule;
use datacenter::{Clock, DatacenterId, Elements, ShardId, TableId, TableSpec};
use object_store::memory::InMemory;
use proptest::prelude::*;
use safetensors::SafeTensors;
use wan::state::{OriginState, ReleasedTable, Remembered, ReplicaState};

use super::*;
use crate::job::region::CheckpointStart;
use crate::learning::data::DataRoot;
use crate::learning::data::{Purpose, stream};

/// Two tables on three shards, the second with a single row; three regions.
pub(super) fn subject() -> Subject {
    let table = |name: &str, rows, width| TableSpec::new(name, rows, width);
    Subject {
        job: "digits".to_owned(),
        job_digest: [0xa7; 32],
        region: "virginia".to_owned(),
        workers: 2,
        members: ["virginia", "ireland", "sao-paulo"].map(str::to_owned).into(),
        shards: 3,
        tables: vec![table("weights", 7, 3), table("bias", 1, 2)],
        vocabulary: None,
    }
}

/// What a shard might have at `clock`: values that no formatting would keep, and all kinds of
/// parts.
pub(super) fn state(shard: u16, clock: u32) -> ReplicaState {
    let shapes = subject().shapes(ShardId(shard));
    let number = |seed: u32| f32::from_bits(seed.wrapping_mul(2_654_435_761) >> 2);
    let released = |seed: u32| -> Vec<ReleasedTable> {
        let table = |shape: &datacenter::ShardTable| ReleasedTable {
            sums: (0..shape.elements() as u32).map(|i| number(i.wrapping_add(seed))).collect(),
            stamps: (0..shape.slots).map(|slot| slot.wrapping_mul(seed)).collect(),
        };
        shapes.iter().map(table).collect()
    };
    let origin = |datacenter, life, covered| OriginState {
        has_departed: false,
        datacenter: DatacenterId(datacenter),
        life,
        covered,
        heard_clock: Clock(if datacenter == 0 { 0 } else { covered }),
        included_clock: Clock(if datacenter == 0 { 0 } else { covered - 1 }),
        left_out: if datacenter == 0 { 0 } else { 1 },
        tables: released(covered),
    };
    ReplicaState {
        remembered: vec![],
        shard: ShardId(shard),
        clock: Clock(clock),
        left_out: clock % 5,
        workers: vec![Clock(clock), Clock(clock + 1)],
        values: shapes
            .iter()
            .map(|s| (0..s.elements() as u32).map(|i| number(i.wrapping_add(clock))).collect())
            .collect(),
        remainders: vec![Elements {
            table: TableId(0),
            indexes: vec![0, 4, 5],
            values: vec![-0.0, 1e-40, 3.5],
        }],
        origins: vec![origin(0, u64::MAX, clock), origin(2, 7, 3)],
    }
}

/// An archive in `directory` that keeps two.
pub(super) fn archive(directory: &Path) -> Archive {
    let location = DataRoot::Directory(directory.to_owned());
    let settings = CheckpointSettings {
        location,
        every_clocks: Some(1),
        every: None,
        keep: 2,
        start: CheckpointStart::Newest,
    };
    Archive::new(&settings, Arc::new(subject()))
}

/// What its server has counted.
fn counts() -> Counts {
    let link = LinkCounts { sent_bytes: 600, ..LinkCounts::default() };
    let links = BTreeMap::from([("ireland".to_owned(), BTreeMap::from([(0, link)]))]);
    let server = ServerCounts { sent_bytes: 700, links, ..ServerCounts::default() };
    Counts { servers: BTreeMap::from([(1, server)]), ..Counts::default() }
}

fn date() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn encoded(state: &ReplicaState) -> Vec<u8> {
    encode(&subject(), state, &counts(), date())
}

fn decoded(file: &[u8]) -> Result<Checkpoint, String> {
    decode(&subject(), ShardId(0), file).map_err(|error| crate::human::with_causes(&error))
}

fn file_of(directory: &Path, clock: u32) -> PathBuf {
    directory.join(format!("digits/virginia/shard-0/clock-{clock:06}.safetensors"))
}

fn begun(archive: &Archive) -> Option<u32> {
    archive.begin(ShardId(0)).expect("something can be used").checkpoint.map(|found| found.state.clock.0)
}

#[test]
fn a_process_that_has_been_replaced_neither_deletes_nor_adds_to_what_its_successor_keeps() {
    let directory = tempfile::tempdir().expect("a directory");
    let of = |life, clock| {
        let mut state = state(0, clock);
        let place = subject().datacenter(&subject().region).expect("a member");
        state.origins.iter_mut().filter(|o| o.datacenter == place).for_each(|origin| origin.life = life);
        state
    };
    assert!(of(5, 1).life_of(subject().datacenter("virginia").expect("a member")) == Some(5));
    let (former, later) = (archive(directory.path()), archive(directory.path()));
    former.write(&of(1, 10), date()).expect("there is room");
    assert_eq!(begun(&later), Some(10));
    // The former one wakes up, and is ahead.
    former.write(&of(1, 30), date()).expect("nothing of the other is there yet");
    later.write(&of(2, 20), date()).expect("there is room");
    assert!(!file_of(directory.path(), 30).exists(), "it is of a process that has been replaced");
    assert!(former.write(&of(1, 40), date()).is_err());
    assert!(file_of(directory.path(), 20).exists());
    assert_eq!(begun(&archive(directory.path())), Some(20));
}

#[test]
fn what_is_written_is_read() {
    for (shard, clock) in [(0, 0), (1, 5), (2, u32::MAX - 1)] {
        let state = state(shard, clock);
        let file = encoded(&state);
        assert!(file.len() as u64 <= subject().most_bytes(ShardId(shard)));
        let read = decode(&subject(), ShardId(shard), &file).expect("what was written");
        assert_eq!(
            read,
            Checkpoint { state, counts: counts(), written_at: date(), bytes: file.len() as u64 }
        );
    }
    let mut left = state(0, 3);
    left.origins[1].has_departed = true;
    (left.left_out, left.origins[1].left_out) = (0, 0);
    let text = |file: &[u8]| String::from_utf8_lossy(file).into_owned();
    assert!(!text(&encoded(&left)).contains("left_out"), "there is nothing to say");
    assert_eq!(decoded(&encoded(&left)).expect("what was written").state, left);
    let alone = ReplicaState { remainders: vec![], origins: vec![], ..state(0, 3) };
    assert_eq!(decoded(&encoded(&alone)).expect("what was written").state, alone);
}

#[test]
fn numbers_keep_their_bits() {
    let mut diverged = state(0, 1);
    diverged.values[0][..3].copy_from_slice(&[f32::NAN, f32::NEG_INFINITY, -f32::NAN]);
    let read = decoded(&encoded(&diverged)).expect("what was written").state;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read.values[0]), bits(&diverged.values[0]));
}

#[test]
fn other_tools_can_open_it() {
    let state = state(0, 120);
    let file = encoded(&state);
    let tensors = SafeTensors::deserialize(&file).expect("safetensors");
    let weights = tensors.tensor("weights").expect("a table");
    assert_eq!(weights.shape(), [3, 3]);
    let values: Vec<u8> = state.values[0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(weights.data(), values);
    let mut names = tensors.names();
    names.sort_unstable();
    let expected = [
        "bias",
        "indexes.weights",
        "released.sao-paulo.bias",
        "released.sao-paulo.weights",
        "released.virginia.bias",
        "released.virginia.weights",
        "remainder.weights",
        "stamps.sao-paulo.bias",
        "stamps.sao-paulo.weights",
        "stamps.virginia.bias",
        "stamps.virginia.weights",
        "weights",
    ];
    assert_eq!(names, expected);
    let (_, header) = SafeTensors::read_metadata(&file).expect("safetensors");
    let mut texts: Vec<_> =
        header.metadata().iter().flatten().map(|(key, text)| format!("{key}: {text}")).collect();
    texts.sort_unstable();
    texts.retain(|text| !text.starts_with("sha256"));
    let digest = format!("digest: {}", "a7".repeat(32));
    let expected = [
        "checkpoint: 1",
        "clock: 120",
        "counts: {\"servers\":{\"1\":{\"sent_bytes\":700,\"received_bytes\":0,\"links\":{\"ireland\":{\"0\":\
         {\"sent_bytes\":600,\"received_bytes\":0,\"payload_bytes\":0,\"repeated_bytes\":0,\"naive_bytes\":0,\
         \"announced_rows\":0}}}}},\"shards\":{}}",
        &digest,
        "job: digits",
        "origins: [{\"datacenter\":\"virginia\",\"life\":18446744073709551615,\"covered\":120},\
         {\"datacenter\":\"sao-paulo\",\"life\":7,\"covered\":3,\"heard\":3,\"included\":2,\"left_out\":1}]",
        "region: virginia",
        "shard: 0",
        "shards: 3",
        "tables: [\"weights\",\"bias\"]",
        "workers: [120,121]",
        "written_at: 2027-01-15T08:00:00Z",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn every_cut_and_any_flipped_bit_is_found_and_the_former_one_is_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let archive = archive(directory.path());
    for clock in [10, 20] {
        archive.write(&state(0, clock), date()).expect("there is room");
    }
    let newest = file_of(directory.path(), 20);
    let whole = fs::read(&newest).expect("it was written");
    let is_passed_over = |file: &[u8], how: &str| {
        fs::write(&newest, file).expect("there is room");
        let begun = archive.begin(ShardId(0)).expect("the former one can be used");
        assert_eq!(begun.checkpoint.expect("there is one").state, state(0, 10), "{how}");
        assert_eq!(begun.passed_over.len(), 1);
        assert_eq!(begun.passed_over[0].file, newest.display().to_string());
    };
    for length in 0..whole.len() {
        assert!(decoded(&whole[..length]).is_err(), "cut to {length}");
        if length % 97 == 0 {
            is_passed_over(&whole[..length], &format!("cut to {length}"));
        }
    }
    let mut flipped = whole.clone();
    for bit in 0..whole.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decoded(&flipped).is_err(), "bit {bit}");
        if bit % 997 == 0 {
            is_passed_over(&flipped, &format!("bit {bit}"));
        }
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    is_passed_over(&[&whole[..], &[0]].concat(), "a byte more");
    fs::write(&newest, &whole).expect("there is room");
    assert_eq!(begun(&archive), Some(20));
}

#[test]
fn what_is_wrong_is_said() {
    let file = encoded(&state(0, 20));
    let mut damaged = file.clone();
    *damaged.last_mut().expect("it is not empty") ^= 1;
    assert_eq!(decoded(&damaged).unwrap_err(), "is damaged: its content is not what its checksum says");
    let of = |change: fn(&mut Subject)| {
        let mut other = subject();
        change(&mut other);
        let error = decode(&other, ShardId(0), &file).expect_err("it is of another subject");
        error.to_string()
    };
    for (found, expected) in [
        (
            of(|other| other.job_digest = [1; 32]),
            "is of another job: the job's digest is 0101010101010101 here, a7a7a7a7a7a7a7a7 there",
        ),
        (
            of(|other| other.region = "ireland".to_owned()),
            "is of shard 0 of 3 of virginia, not of shard 0 of 3 of ireland",
        ),
        (of(|other| other.shards = 2), "is of shard 0 of 3 of virginia, not of shard 0 of 2 of virginia"),
        (
            of(|other| other.workers = 3),
            "has \"[20,21]\" at `workers` in its metadata; allowed: an array of 3 clocks",
        ),
        (
            of(|other| other.tables[0].rows = 99),
            "has a tensor `weights` of F32 [3, 3]; expected: F32 [33, 3]",
        ),
        (of(|other| other.tables[1].name = "biases".to_owned()), "has no tensor `biases`"),
        (of(|other| drop(other.tables.pop())), "has a tensor `bias`, which nothing is known of"),
        (
            of(|other| drop(other.members.pop())),
            "has \"sao-paulo\" at `origins` in its metadata; allowed: the regions of the job, each once and in its order",
        ),
    ] {
        assert_eq!(found, expected);
    }
    let error = decode(&subject(), ShardId(1), &file).expect_err("it is of shard 0").to_string();
    assert_eq!(error, "is of shard 0 of 3 of virginia, not of shard 1 of 3 of virginia");
    assert_eq!(decoded(b"").unwrap_err(), "is no safetensors file: header too small");
    let mut newer = replaced(&file, "\"checkpoint\":\"1\"", "\"checkpoint\":\"2\"");
    assert!(seal(&mut newer));
    assert_eq!(decoded(&newer).unwrap_err(), "is of version 2 of the format; this program reads version 1");
    let mut unknown = replaced(&file, "remainder.weights", "remainder.elsewhe");
    assert!(seal(&mut unknown));
    assert_eq!(decoded(&unknown).unwrap_err(), "has a tensor `indexes.weights`, which nothing is known of");
    // Of another program.
    let alien =
        safetensors::serialize(Vec::<(String, super::format::Tensor<'_>)>::new(), None).expect("empty");
    assert_eq!(decoded(&alien).unwrap_err(), "has no `checkpoint` in its metadata");
}

/// `file` with another text of the same length.
fn replaced(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = file.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
    let mut file = file.to_vec();
    file[at..at + to.len()].copy_from_slice(to.as_bytes());
    file
}

#[test]
fn a_remainder_stays_inside_of_its_table() {
    for indexes in [[0, 4, 9], [4, 4, 5], [5, 4, 6], [0, 1, u32::MAX]] {
        let mut wrong = state(0, 1);
        wrong.remainders[0].indexes = indexes.into();
        let error = decoded(&encoded(&wrong)).unwrap_err();
        assert!(error.contains("do not ascend inside of the table"), "{indexes:?}: {error}");
    }
}

#[test]
fn if_none_can_be_used_that_is_an_error_and_starting_over_a_choice() {
    let directory = tempfile::tempdir().expect("a directory");
    let archive = archive(directory.path());
    assert_eq!(begun(&archive), None);
    for clock in [10, 20] {
        archive.write(&state(0, clock), date()).expect("there is room");
        fs::write(file_of(directory.path(), clock), "x").expect("it is there");
    }
    let error = archive.begin(ShardId(0)).expect_err("neither can be used").to_string();
    let expected = format!(
        "shard 0 has checkpoints, and none can be used\n  {} is no safetensors file: header too small\n  {} is no \
         safetensors file: header too small\n  to begin at clock 0 all the same, say checkpoint.start = \"zero\"",
        file_of(directory.path(), 20).display(),
        file_of(directory.path(), 10).display()
    );
    assert_eq!(error, expected);
    let location = DataRoot::Directory(directory.path().to_owned());
    let settings = CheckpointSettings {
        location,
        every_clocks: None,
        every: None,
        keep: 2,
        start: CheckpointStart::Zero,
    };
    let over = Archive::new(&settings, Arc::new(subject()));
    assert_eq!(begun(&over), None);
    over.write(&state(0, 5), date()).expect("there is room");
    assert_eq!(archive.clocks(ShardId(0)).expect("a directory"), [Clock(5)], "the others would come first");
    assert_eq!(begun(&archive), Some(5));
}

#[test]
fn a_file_under_another_name_is_not_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let archive = archive(directory.path());
    archive.write(&state(0, 10), date()).expect("there is room");
    fs::copy(file_of(directory.path(), 10), file_of(directory.path(), 30)).expect("there is room");
    for name in ["clock-40.safetensors", "clock-+00050.safetensors", "notes.txt", ".partial-x"] {
        fs::write(file_of(directory.path(), 10).with_file_name(name), "x").expect("there is room");
    }
    assert_eq!(archive.clocks(ShardId(0)).expect("a directory"), [Clock(10), Clock(30)]);
    let begun = archive.begin(ShardId(0)).expect("that of clock 10 can be used");
    let passed: Vec<_> = begun.passed_over.iter().map(ToString::to_string).collect();
    assert!(
        passed[0].ends_with("is not consistent: its name says clock 30, and its content clock 10"),
        "{passed:?}"
    );
    assert_eq!(begun.checkpoint.expect("there is one").state.clock, Clock(10));
    let half_written = file_of(directory.path(), 10).with_file_name(".partial-x");
    assert!(!half_written.exists(), "it is nobody's any more");
    assert!(file_of(directory.path(), 10).with_file_name("notes.txt").exists());
}

#[test]
fn the_newest_are_kept_and_the_shards_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let archive = archive(directory.path());
    for clock in [5, 10, 1_000_000, 1_000_001] {
        archive.write(&state(0, clock), date()).expect("there is room");
        archive.write(&state(1, clock / 2), date()).expect("there is room");
    }
    assert_eq!(archive.clocks(ShardId(0)).expect("a directory"), [Clock(1_000_000), Clock(1_000_001)]);
    assert_eq!(archive.clocks(ShardId(1)).expect("a directory"), [Clock(5), Clock(500_000)]);
    assert_eq!(begun(&archive), Some(1_000_001));
    // Once more at the same clock, as after a start from it.
    let again = ReplicaState { remainders: vec![], ..state(0, 1_000_001) };
    archive.write(&again, date()).expect("there is room");
    assert_eq!(archive.read(ShardId(0), Clock(1_000_001)).expect("it is there").state, again);
    assert_eq!(archive.clocks(ShardId(0)).expect("a directory").len(), 2);
}

#[test]
fn a_full_disk_leaves_what_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let archive = archive(directory.path());
    archive.write(&state(0, 10), date()).expect("there is room");
    let before = fs::read(file_of(directory.path(), 10)).expect("it is there");
    for clock in [10, 20] {
        let name = format!("digits/virginia/shard-0/clock-{clock:06}.safetensors");
        let error = place::write(directory.path(), &name, |file| {
            file.write_all(&before[..before.len() / 2])?;
            fs::OpenOptions::new().write(true).open("/dev/full")?.write_all(b"x")
        });
        assert_eq!(error.expect_err("there is no room").kind(), io::ErrorKind::StorageFull);
    }
    let folder = file_of(directory.path(), 10);
    let left = fs::read_dir(folder.parent().expect("a folder")).expect("it is there").count();
    assert_eq!(left, 1, "nothing half written stays");
    assert_eq!(fs::read(file_of(directory.path(), 10)).expect("it is there"), before);
    assert_eq!(begun(&archive), Some(10));
}

#[test]
fn a_store_keeps_the_same_as_a_directory() {
    let place = Place::of_store(Arc::new(InMemory::new()));
    let archive = archive(Path::new("nowhere")).at(place.clone());
    place.prepare().expect("it can be written");
    assert_eq!(begun(&archive), None);
    for clock in [10, 20, 30] {
        archive.write(&state(0, clock), date()).expect("there is room");
        archive.write(&state(1, clock), date()).expect("there is room");
    }
    assert_eq!(archive.clocks(ShardId(0)).expect("a store"), [Clock(20), Clock(30)]);
    assert_eq!(begun(&archive), Some(30));
    let name = "digits/virginia/shard-0/clock-000030.safetensors";
    let whole = place.get(name, 1 << 20).expect("it is there");
    let entry = place.list("digits/virginia/shard-0").expect("a store").pop().expect("it is there");
    assert_eq!((entry.name.as_str(), entry.bytes), (name, whole.len() as u64));
    assert_eq!(place.start_of(&entry, 10).expect("it is there"), whole[..10]);
    assert_eq!(place.get(name, 10).expect_err("it is longer").kind(), io::ErrorKind::FileTooLarge);
    place.put(name, whole[..100].to_vec()).expect("there is room");
    assert_eq!(begun(&archive), Some(20));
}

#[tokio::test]
async fn a_runtime_around_a_store_does_not_matter() {
    let archive = archive(Path::new("nowhere")).at(Place::of_store(Arc::new(InMemory::new())));
    archive.write(&state(0, 10), date()).expect("there is room");
    assert_eq!(begun(&archive), Some(10));
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        count in 0..40usize,
        seed in any::<u64>(),
    ) {
        let _ = decoded(&bytes);
        // Bytes that begin as a header does.
        let mut header = (bytes.len() as u64).to_le_bytes().to_vec();
        header.extend(&bytes);
        let _ = decoded(&header);
        // A checkpoint with some bytes changed, sealed as if it had been written so.
        let mut file = encoded(&state(0, 20));
        let start = at.index(file.len());
        for (byte, from) in file[start..].iter_mut().zip(bytes.iter().take(count)) {
            *byte = *from;
        }
        seal(&mut file);
        let _ = decoded(&file);
        // And one with other digits.
        let mut file = encoded(&state(0, 20));
        let mut random = stream(seed, Purpose::Order, 0);
        for byte in &mut file {
            if byte.is_ascii_digit() && rand::RngExt::random_bool(&mut random, 0.02) {
                *byte = rand::RngExt::random_range(&mut random, b'0'..=b'9');
            }
        }
        seal(&mut file);
        let _ = decoded(&file);
    }
}

#[test]
fn counts_go_on_from_the_newest_checkpoint_or_from_what_was_told_since() {
    let directory = tempfile::tempdir().expect("a directory");
    let of = |bytes| {
        let mut counts = counts();
        counts.servers.get_mut(&1).expect("it is there").sent_bytes = bytes;
        counts
    };
    let begin = |index, servers| {
        let archive = archive(directory.path());
        (0..3).filter(|shard| shard % servers == index).for_each(|shard| {
            archive.begin(ShardId(shard)).expect("something can be used");
        });
        (archive.begin_counts(index, servers).total().sent_bytes, archive)
    };
    let (nothing, first) = begin(1, 2);
    assert_eq!(nothing, 0);
    first.count(&of(1000));
    first.write(&state(1, 10), date()).expect("there is room");
    assert_eq!(begin(1, 2).0, 1000, "from its checkpoint");
    // Somebody is told more, and then the process dies.
    first.count(&of(1500));
    first.keep_counts(1).expect("there is room");
    let (told, second) = begin(1, 2);
    assert_eq!(told, 1500);
    // One that was replaced tells of what it knows, and does not take back what is more.
    second.count(&of(1200));
    second.keep_counts(1).expect("there is room");
    assert_eq!(begin(1, 2).0, 1500);
    // With one server, and then two again, it is the same money.
    assert_eq!(begin(0, 2).0, 0);
    assert_eq!(begin(0, 1).0, 1500);

    let file = directory.path().join("digits/virginia/counts/server-1.json");
    for broken in ["", "{", "[]", r#"{"digest":"00","counts":{"servers":{"1":{"sent_bytes":9999}}}}"#] {
        fs::write(&file, broken).expect("there is room");
        assert_eq!(begin(1, 2).0, 1000, "{broken:?} is passed over");
    }
}

/// As it was before there were counts in it.
#[test]
fn a_checkpoint_of_before_is_read() {
    let state = state(0, 7);
    let file = encoded(&state);
    let (length, header) = SafeTensors::read_metadata(&file).expect("safetensors");
    let mut texts = header.metadata().clone().expect("there are texts");
    texts.remove("counts").expect("it is there");
    let tensors = SafeTensors::deserialize(&file).expect("safetensors");
    assert!(length > 0);
    let mut before = safetensors::serialize(tensors.tensors(), Some(texts)).expect("tensors");
    assert!(seal(&mut before));
    let read = decoded(&before).expect("as good as ever");
    assert_eq!((read.state, read.counts), (state, Counts::default()));
}

#[test]
fn what_rules_remember_is_kept() {
    let mut with_rule = subject();
    with_rule.tables[0].rule = Rule::Adagrad { rate: 0.1 };
    let shard = ShardId(1);
    let elements = with_rule.shapes(shard)[0].elements();
    let squares = |size| Remembered {
        table: TableId(0),
        what: "squares".to_owned(),
        values: (0..size).map(|i| i as f32 / 3.0).collect(),
    };
    let state = ReplicaState { remembered: vec![squares(elements)], ..state(1, 5) };
    let file = encode(&with_rule, &state, &Counts::default(), std::time::UNIX_EPOCH);
    assert_eq!(decode(&with_rule, shard, &file).expect("it was written here").state, state);
    // A job whose table has no rule is another one, and so is one that has.
    let error = decode(&subject(), shard, &file).expect_err("there is something unknown in it").to_string();
    assert!(error.contains("rule.squares.weights"), "{error}");
    let without = encode(&subject(), &self::state(1, 5), &Counts::default(), std::time::UNIX_EPOCH);
    let error = decode(&with_rule, shard, &without).expect_err("what was remembered is missing").to_string();
    assert!(error.contains("rule.squares.weights"), "{error}");
}
