//! Names of files as a store or a directory lists them: whatever anybody has put there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path as FilePath};
use std::sync::Arc;

use datacenter::{ShardId, TableSpec};
use gaia::job::region::{CheckpointSettings, CheckpointStart};
use gaia::learning::data::{DataFile, DataRoot};
use gaia::service::checkpoint::{Archive, Entry, Place, Subject};
use gaia::service::model_files::{self, Source, Wanted};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime;

use super::files::directory;

/// Each file takes several requests.
const MAX_NAMES: usize = 12;
/// Longer parts of a name are none in a directory, and folders deeper than this are not looked into
/// there.
const MAX_PART_BYTES: usize = 255;
const DEEPEST: usize = 4;
/// What is listed where no folder is asked for; and where checkpoints are.
const FOLDERS: [&str; 3] = ["", "digits", "digits/virginia/shard-0"];

/// Each line is the name of a file, the first also a place in a store.
pub fn object_names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let names: Vec<_> = text.lines().take(MAX_NAMES).collect();
    if let Some(first) = names.first() {
        names.iter().for_each(|name| data_file(first, name));
    }
    // By the name in the store; none that begins like another's folder, of which there is no such
    // thing in a directory.
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        let Ok(path) = Path::parse(name) else { continue };
        let path = path.to_string();
        let hides =
            |one: &str, other: &str| other.strip_prefix(one).is_some_and(|rest| rest.starts_with('/'));
        // A folder that is looked into is no file.
        let is_folder = FOLDERS.iter().any(|folder| *folder == path || hides(&path, folder));
        if !path.is_empty()
            && !is_folder
            && !files.keys().any(|known| hides(known, &path) || hides(&path, known))
        {
            files.insert(path, vec![b'x'; at + 1]);
        }
    }
    let store = store(&files);
    let stored = listed(&store, &files);
    assert_eq!(stored.len(), files.len(), "all are listed");
    archive(store);
    in_directory(&files);
}

/// A file of data is where its root is, on whatever path its name leads.
fn data_file(root: &str, name: &str) {
    let Some(root) = DataRoot::parse(root, Some(FilePath::new("/data"))) else { return };
    match (&root, root.file(FilePath::new(name))) {
        (DataRoot::Directory(_), DataFile::Path(path)) => {
            assert!(!path.components().any(|part| part == Component::ParentDir), "{}", path.display());
        }
        (DataRoot::Store(root), DataFile::Object(url)) => {
            let at = |url: &url::Url| {
                (
                    url.scheme().to_owned(),
                    url.host_str().map(str::to_owned),
                    url.port(),
                    url.username().to_owned(),
                )
            };
            assert_eq!(at(root), at(&url));
            assert!(url.password().is_none() && url.query().is_none() && url.fragment().is_none(), "{url}");
        }
        (DataRoot::Directory(_), DataFile::Object(_)) | (DataRoot::Store(_), DataFile::Path(_)) => {
            panic!("a file is of its root's kind")
        }
    }
}

fn store(files: &BTreeMap<String, Vec<u8>>) -> Place {
    let store = InMemory::new();
    let runtime =
        runtime::Builder::new_current_thread().build().expect("a runtime without sockets can be made");
    runtime.block_on(async {
        for (name, content) in files {
            let path = Path::parse(name).expect("it was parsed before");
            store.put(&path, content.clone().into()).await.expect("it is in memory");
        }
    });
    Place::of_store(Arc::new(store) as Arc<dyn ObjectStore>)
}

/// All that is listed is there under that name, below the folder that was asked for, and nowhere
/// else.
fn listed(place: &Place, files: &BTreeMap<String, Vec<u8>>) -> Vec<Entry> {
    for folder in FOLDERS {
        for entry in place.list(folder).expect("it can be listed") {
            let Entry { name, bytes } = &entry;
            let below = name.strip_prefix(folder).expect("it is below the folder").trim_start_matches('/');
            assert!(below.split('/').all(|part| !matches!(part, "" | "." | "..")), "{name:?}");
            let content = files.get(name).unwrap_or_else(|| panic!("{name:?} is of none that was put there"));
            assert_eq!(place.look(name).expect("it was listed"), entry);
            assert_eq!(&place.get(name, *bytes).expect("it was listed"), content);
            assert_eq!(place.start_of(&entry, 1).expect("it was listed"), content[..1]);
        }
    }
    place.list("").expect("it can be listed")
}

/// None of it is a checkpoint, and none is taken for one.
fn archive(place: Place) {
    let location = DataRoot::Directory("unused".into());
    let settings = CheckpointSettings {
        location,
        every_clocks: None,
        every: None,
        keep: 1,
        start: CheckpointStart::Newest,
    };
    let subject = Subject {
        job: "digits".to_owned(),
        job_digest: [7; 32],
        region: "virginia".to_owned(),
        workers: 1,
        members: vec!["virginia".to_owned()],
        shards: 1,
        tables: vec![TableSpec::new("weights", 2, 1)],
        vocabulary: None,
    };
    let archive = Archive::new(&settings, Arc::new(subject)).at(place);
    let clocks = archive.clocks(ShardId(0)).expect("it can be listed");
    assert!(clocks.is_sorted_by(|a, b| a < b), "a file for each clock: {clocks:?}");
    for clock in &clocks {
        let passed = archive.read(ShardId(0), *clock).expect_err("a few bytes are no checkpoint");
        let name = passed.file.rsplit('/').next().expect("a text has a last part").to_owned();
        assert!(
            matches!(passed.reason, gaia::service::checkpoint::Unusable::Decode(_)),
            "{name} is there: {passed}"
        );
    }
    assert_eq!(archive.begin(ShardId(0)).is_err(), !clocks.is_empty());
    archive.begin_counts(0, 1);
}

/// In a directory there is the same to be seen, but for what is hidden or too deep.
fn in_directory(files: &BTreeMap<String, Vec<u8>>) {
    let directory = directory([]);
    let is_possible = |name: &str| name.split('/').all(|part| part.len() <= MAX_PART_BYTES);
    let is_seen = |name: &str| {
        let parts: Vec<_> = name.split('/').collect();
        parts.len() <= DEEPEST && parts.iter().all(|part| !part.starts_with('.'))
    };
    let mut seen = BTreeSet::new();
    for (name, content) in files.iter().filter(|(name, _)| is_possible(name)) {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the directory")).expect("a folder can be made");
        fs::write(path, content).expect("a file can be written");
        if is_seen(name) {
            seen.insert(name);
        }
    }
    let place = Place::from(&DataRoot::Directory(directory.path().to_owned()));
    let names: Vec<_> = listed(&place, files).into_iter().map(|entry| entry.name).collect();
    assert!(names.iter().eq(seen.iter().copied()), "{names:?} of {seen:?}");
    archive(place);
    let source = Source::named(&directory.path().to_string_lossy()).expect("it is a directory");
    model_files::read(&[source], &Wanted::default()).expect_err("no file has a model");
}

/// Names of ours, names of others, and names that lead elsewhere.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        "digits/virginia/shard-0/clock-000120.safetensors\ndigits/virginia/shard-0/clock-000008.safetensors\n",
        "digits/virginia/shard-0/clock-1000000.safetensors\ndigits/virginia/shard-0/clock-0000008.safetensors\n\
         digits/virginia/shard-0/clock-+00008.safetensors\ndigits/virginia/shard-0/clock-99999999999.safetensors\n",
        "digits/virginia/shard-01/clock-000120.safetensors\ndigits/virginia/shard-0x/y\ndigits2/x\n",
        "digits/virginia/counts/server-0.json\ndigits/virginia/counts/server-x.json\n",
        "../secret\n./x\na/../b\na//b\n/etc/passwd\n",
        "a%2fb\na%20b\n%2e%2e/x\n[x]~{y}\n100 %.csv\nx\\..\\y\n",
        "s3://bucket/data/\n../../train 1.csv\na%2f..%2fb\nx?y#z\n",
        "https://host:8000/x\n//other/y\nhttp://other/z\n",
        "data\n/elsewhere/train.csv\n../../../../etc/passwd\n",
        ".partial-x\n.trial\nmodel.safetensors\ndigits/.hidden/x\na/b/c/d/e/f\n",
        "Zürich/東京.safetensors\nx\u{202e}y\nx\u{9b}2J\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
