//! Every choice that there is, and that the documentation knows all keys.

use std::collections::BTreeSet;

use wan::policy::Schedule;

use super::*;
use crate::job::{DeltaBound, FilterSchedule};
use crate::learning::Decay;
use crate::learning::application::Rule;
use crate::learning::data::{Column, DataSource, Delimiter, HashedIds, Layout, Partition, Scale};
use crate::learning::data::{Name, Names};
use crate::learning::models::{ExternalSettings, InitialValues, is_external};

/// Settings of the choices that [`SMALLEST`] leaves out.
const CHOICES: [&str; 10] = [
    "[job.data]\nformat = \"idx\"\npath = \".\"\ntrain_images = \"a\"\ntrain_labels = \"b\"\ntest_images = \"c\"\ntest_labels = \"d\"",
    "[job.data]\nformat = \"libsvm\"\npath = \".\"\ntrain = \"a\"\nfeatures = 3",
    "[job.data]\nformat = \"movielens\"\npath = \".\"\ntrain = \"a\"\ndelimiter = \"tab\"\ncolumns = { user = 2, item = \"what\" }",
    "[job.data]\nformat = \"planted\"\nusers = 1\nitems = 1\nrank = 1\nratings = 1",
    "partition = \"dirichlet\"\ndirichlet_alpha = 0.5\n[job.asp]\nschedule = \"list\"\nfactors = [1, 0.5]\n[job.asp.tables.w]\nschedule = \"list\"\nfactors = [1]",
    "[job.asp]\nschedule = \"linear\"\nto = 0.1\nover = 4\n[job.asp.tables.w]\nschedule = \"linear\"\nto = 1\nover = 2\n[job.tables.w]\nmax_delta = \"off\"",
    "regions = [{ name = \"a\", workers = 1 }]",
    "[job.data]\nformat = \"movielens\"\npath = \".\"\ntrain = \"a\"\nids = \"hashed\"\nusers = 1000\nitems = 100\nrange = [1, 5]",
    "[job.data]\nformat = \"planted-topics\"\ndocuments = 1\nwords = 2\ntopics = 1\nlength = 3",
    "[job.data]\nformat = \"uci-bag\"\npath = \".\"\ntrain = \"a\"\ntest = \"b\"\nvocabulary = \"c\"",
];

fn with_choice(choice: &str) -> String {
    let (head, data) = SMALLEST.split_once("[job.data]").expect("there is data");
    let (_, model) = data.split_once("[job.model]").expect("there is a model");
    let data = if choice.contains("[job.data]") {
        String::new()
    } else {
        SMALLEST[head.len()..].replace(model, "").replace("[job.model]", "")
    };
    format!("{head}{choice}\n{data}\n[job.model]{model}")
}

const EXTERNAL: &str = "kind = \"external\"\n[[job.model.tables]]\nname = \"conv1.weight\"\nrows = 6\nwidth = 25\n\
                        rule = \"momentum\"\nrate = 0.5\nmomentum = 0.9\ninitial = \"normal\"\nscale = 0.1\nseed = 7\n\
                        [[job.model.tables]]\nname = \"conv1.bias\"\nrows = 6\ninitial = \"constant\"\nvalue = 1\n";

fn with_model(model: &str) -> String {
    let (head, old) = SMALLEST.split_once("[job.model]").expect("there is a model");
    let rest = old.find("\n[").map_or("", |end| &old[end..]);
    format!("{head}[job.model]\n{model}\n{rest}")
}

#[test]
fn an_external_model_has_its_tables_in_the_file() {
    let job = load(&with_model(EXTERNAL)).unwrap_or_else(|error| panic!("{error}")).job;
    let tables = &job.model.get::<ExternalSettings>().expect("it is external").tables;
    let [weight, bias] = &tables[..] else { panic!("{tables:?}") };
    assert_eq!((&weight.name[..], weight.rows, weight.width), ("conv1.weight", 6, 25));
    assert_eq!(weight.rule, Rule::Momentum { rate: 0.5, momentum: 0.9 });
    assert_eq!(weight.initial, InitialValues::Normal { scale: 0.1, seed: Some(7) });
    assert_eq!((bias.width, bias.rule, bias.initial), (1, Rule::Add, InitialValues::Constant { value: 1.0 }));
    assert!(is_external(&job.model));
    // Regions whose shapes differ refuse each other.
    for other in [
        ("rows = 6\nwidth", "rows = 7\nwidth"),
        ("scale = 0.1", "scale = 0.2"),
        ("rate = 0.5", "rate = 0.25"),
    ] {
        let changed =
            load(&with_model(&EXTERNAL.replace(other.0, other.1))).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(changed.job.digest(1, "asp"), job.digest(1, "asp"), "{other:?}");
    }
    for (from, to, expected) in [
        ("conv1.bias", "conv1.weight", "there are two called \"conv1.weight\""),
        ("value = 1\n", "", "tables[1].value: missing"),
        ("rate = 0.5\n", "", "tables[0].rate: missing"),
        ("rows = 6\nwidth", "rows = 0\nwidth", "tables[0].rows: found 0"),
        ("value = 1", "scale = 1", "tables[1].scale: is used with initial = \"normal\" only"),
        ("momentum = 0.9", "momentum = 1", "tables[0].momentum: found 1"),
    ] {
        let error = load(&with_model(&EXTERNAL.replacen(from, to, 1))).expect_err(to);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn every_choice_can_be_made() {
    let labels = load(&SMALLEST.replace("format = \"csv\"", "format = \"csv\"\nlabels = [\"b\", 9, \"7\"]"));
    let labels = labels.unwrap_or_else(|error| panic!("{error}")).job.data.declared.labels;
    let text = Name::Text("b".into());
    assert_eq!(labels, Some(Names::from_iter([Name::Number(7), Name::Number(9), text])));
    let job = |choice: &str| load(&with_choice(choice)).unwrap_or_else(|error| panic!("{error}")).job;
    assert!(matches!(job(CHOICES[0]).data.source, DataSource::Idx { test: Some(_), .. }));
    assert!(matches!(job(CHOICES[1]).data.source, DataSource::Libsvm { features: Some(3), .. }));
    assert!(matches!(job(CHOICES[2]).data.source, DataSource::MovieLens { test: None, .. }));
    let DataSource::MovieLens { layout, columns, .. } = job(CHOICES[2]).data.source else { panic!() };
    assert_eq!(layout, Layout { delimiter: Some(Delimiter::Tab), header: None, quotes: None });
    assert_eq!((columns.user, columns.item), (Some(Column::Number(2)), Some(Column::Named("what".into()))));
    let csv = |text: &str| {
        let text = SMALLEST.replace("format = \"csv\"", &format!("format = \"csv\"\n{text}"));
        load(&text).map(|simulation| simulation.job.data.source)
    };
    for (text, expected) in [
        ("scale = \"standard\"", (Column::Last, Scale::Standard, None)),
        ("label = \"last\"\nheader = \"auto\"", (Column::Last, Scale::Times(1.0), None)),
        ("label = 1\nheader = false", (Column::Number(1), Scale::Times(1.0), Some(false))),
        ("label = \"class\"\nscale = 2", (Column::Named("class".into()), Scale::Times(2.0), None)),
    ] {
        let Ok(DataSource::Csv { label, scale, layout, .. }) = csv(text) else { panic!("{text}") };
        assert_eq!((label, scale, layout.header), expected, "{text}");
    }
    assert!(matches!(job(CHOICES[3]).data.source, DataSource::Planted { users: 1, .. }));
    assert!(matches!(job(CHOICES[8]).data.source, DataSource::PlantedTopics { length: 3, .. }));
    assert!(matches!(job(CHOICES[9]).data.source, DataSource::Bags { test: Some(_), .. }));
    let listed = job(CHOICES[4]);
    assert_eq!(listed.partition, Partition::Dirichlet(0.5));
    assert_eq!(listed.asp.filter.schedule, FilterSchedule::Plain(Schedule::Factors([1.0, 0.5].into())));
    // What a table leaves out is as for all.
    assert_eq!(listed.asp.tables[0].1.threshold, listed.asp.filter.threshold);
    let linear = FilterSchedule::Plain(Schedule::Linear { to: 0.1, clocks: 4 });
    assert_eq!(job(CHOICES[5]).asp.filter.schedule, linear);
    let bounded = "max_delta = 2.5\n[job.tables.w]\nmax_delta = \"off\"\n[job.tables.v]\n\
                   [job.tables.x]\nmax_delta = \"1000 times the usual\"";
    let bounded = job(bounded).max_delta;
    let (fixed, times) = (Some(DeltaBound::Magnitude(2.5)), Some(DeltaBound::TimesTheUsual(1000.0)));
    assert_eq!(["u", "v", "w", "x"].map(|table| bounded.of(table)), [fixed, fixed, None, times]);
    let hashed = |text: &str| job(&format!("{}\n{text}", CHOICES[7])).data.declared.hashed;
    let ids = HashedIds { users: 1000, items: 100, mean: 3.0, range: (1.0, 5.0) };
    assert_eq!(hashed(""), Some(ids.clone()));
    assert_eq!(hashed("mean = 3.5"), Some(HashedIds { mean: 3.5, ..ids }));
    assert_eq!(
        job(&CHOICES[2].replace("delimiter", "ids = \"named\"\ndelimiter")).data.declared.hashed,
        None
    );
    let decay = |text: &str| {
        let text = SMALLEST
            .replace("learning_rate.initial = 0.1", &format!("learning_rate = {{ initial = 0.1, {text} }}"));
        load(&text).map(|simulation| simulation.job.model.training().learning_rate.decay.clone())
    };
    assert_eq!(decay("decay = \"inverse\", every = 5"), Ok(Decay::Inverse { every: 5 }));
    assert_eq!(decay("decay = \"inverse-sqrt\", every = 5"), Ok(Decay::InverseSqrt { every: 5 }));
    let exponential = Decay::Exponential { factor: 0.5, every: 5 };
    assert_eq!(decay("decay = \"exponential\", factor = 0.5, every = 5"), Ok(exponential));
    let error = decay("decay = \"inverse\"").unwrap_err();
    assert!(error.contains("job.model.learning_rate.every: missing"), "{error}");
}

#[test]
fn the_documentation_lists_the_keys_that_there_are() {
    let mut asked = BTreeSet::new();
    let mut read = |path: &Path| {
        let layers = Layers::read(path, &Overrides::default(), job::KEY).expect("TOML");
        let kinds = models::kinds();
        let reader = Reader::new(&layers);
        asked.extend(reader.keys_asked(|s| simulation::simulation(s, &kinds)));
    };
    shipped().iter().for_each(|file| read(file));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    for choice in CHOICES {
        let text = format!("{}{TRIANGLE}", with_choice(choice));
        fs::write(&path, text).expect("a file");
        read(&path);
    }
    fs::write(&path, format!("{}{TRIANGLE}", with_model(EXTERNAL))).expect("a file");
    read(&path);
    compare(&asked, &[listed("The simulation"), listed("The job")].concat());
}

#[test]
fn the_documentation_lists_the_keys_of_link_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    let outages = "outages = [{ start = \"1s\", length = \"1s\" }]";
    let text = format!(
        "link = {{ {outages} }}\nlinks = [{{ name = \"a-b\", between = [\"a\", \"b\"], rate = \"1 MB/s\", \
         one_way_delay = \"1 ms\", {outages}, forward = {{ {outages} }}, backward = {{ {outages} }}, \
         routes = [{{ listen = \"127.0.0.1:1\", target = \"b:1\" }}] }}]"
    );
    fs::write(&path, text).expect("a file");
    let layers = Layers::read(&path, &Overrides::default(), NO_INCLUDE).expect("TOML");
    let asked = Reader::new(&layers).keys_asked(relay::link_file);
    let listed = listed("Link files");
    // What may differ for a link, or for a direction of it, is listed once.
    let of_all: Vec<_> = listed.iter().filter_map(|key| key.strip_prefix("link.")).collect();
    let expand = |key: &String| match key.strip_suffix("KEY") {
        Some(table) => of_all.iter().map(|key| format!("{table}{key}")).collect(),
        None => vec![key.clone()],
    };
    compare(&asked, &listed.iter().flat_map(expand).collect::<Vec<_>>());
}

/// The keys that a chapter of the documentation lists.
pub(super) fn listed(chapter: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    let text = fs::read_to_string(path).expect("the documentation is there");
    let (_, rest) = text.split_once(&format!("\n## {chapter}\n")).expect("there is such a chapter");
    let chapter = rest.split("\n## ").next().unwrap_or(rest);
    // Tables of settings have a column for what is allowed; those of results do not.
    let is_setting = |line: &&str| line.starts_with("| `") && line.matches(" | ").count() == 3;
    let settings = chapter.lines().filter(is_setting);
    settings.filter_map(|line| line.split('`').nth(1)).map(str::to_owned).collect()
}

/// Compares the keys that are asked for with those that are documented.
#[track_caller]
pub(super) fn compare(asked: &BTreeSet<String>, listed: &[String]) {
    let listed: BTreeSet<_> = listed.iter().cloned().collect();
    // Tables are headings there, or said to exist by their keys.
    let is_table = |key: &String| {
        asked
            .iter()
            .any(|other| other.starts_with(&format!("{key}.")) || other.starts_with(&format!("{key}[].")))
    };
    let keys: BTreeSet<_> = asked.iter().filter(|key| !is_table(key)).cloned().collect();
    let missing: Vec<_> = keys.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&keys).collect();
    assert!(missing.is_empty() && stale.is_empty(), "missing there: {missing:#?}\nno such key: {stale:#?}");
}
