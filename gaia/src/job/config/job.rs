//! Reads a job: what is trained, on what, and how. Simulation files and region files share it.

use std::path::PathBuf;

use datacenter::NonFinite;
use wan::policy::{Budget, BudgetScope, Lead, Limit, ReleaseEvery, Schedule, Significance, ValueFormat};

use super::kinds::{column, data_root, delta_bound, labels};
use crate::job::{AspGoal, AspSettings, Filter, FilterSchedule, Job, MaxDelta, TargetSettings};
use crate::learning::application::{ModelKinds, ModelSettings};
use crate::learning::data::documents::MAX_DOCUMENT_TOKENS;
use crate::learning::data::{
    BagFormat, Column, DataScope, DataSettings, DataSource, Declared, Delimiter, HashedIds, Layout, Outcome,
    Partition, RatingColumns, Scale,
};
use crate::learning::models::{MOST_RANK, MOST_TOPICS};
use crate::settings::Section;
use crate::settings::kind::{
    self, choice, duration, file, flag, list, name, one_of, path, positive, real, share, whole, word,
};
use crate::settings::units::{self, BudgetText};

/// The key under which a job stands in a file, as a table or as the path of a file of its own.
pub(super) const KEY: &str = "job";

/// Rows of a table, and ratings, that are drawn and not read: more would be a slip, and end in want
/// of memory.
const MOST_ROWS: u32 = 10_000_000;
const MOST_RATINGS: u32 = 100_000_000;
const MOST_FEATURES: u32 = 100_000;
/// Clocks of a run: thresholds that follow the learning rate and points of the curve are kept for
/// all of them.
const MOST_CLOCKS: u32 = 1_000_000;
/// Shards: each costs every worker a message at every clock.
pub(super) const MOST_SHARDS: u16 = 1024;

/// Reads the table of a job; `called` is its name where it gives none.
pub(super) fn job(s: &Section<'_>, called: Option<&str>, kinds: &ModelKinds) -> Option<Job> {
    let name = match called {
        Some(called) => Some(s.or("name", called.to_owned(), name())),
        None => s.required("name", name()),
    };
    let clocks = s.required("clocks", whole(1..=MOST_CLOCKS));
    let staleness = s.or("staleness", Some(0), whole(0..=u32::MAX).map(Some).or_word("async", None));
    let shards = s.or("shards", 1, whole(1..=MOST_SHARDS));
    let evaluate_every = s.or("evaluate_every", 1, whole(1..=u32::MAX));
    let ssp_lead = s.or("ssp_lead", 3, whole(0..=u32::MAX));
    let non_finite = s.or("non_finite", NonFinite::default(), choice(NON_FINITE));
    let max_delta = max_delta(s);
    let partition = partition(s);
    let data = s.section("data", |s| {
        // Both are read in any case, so that all keys are known.
        let (data, scope) = (data(s), s.or("scope", DataScope::default(), choice(SCOPES)));
        let data = data?;
        if scope == DataScope::Own && matches!(data.source, DataSource::Csv { scale: Scale::Standard, .. }) {
            let message = "found \"standard\" with scope = \"own\", where every region would scale by figures of its own; \
                           allowed: a number, or scope = \"shared\"";
            s.problem("scale", message.to_owned());
            return None;
        }
        Some((data, scope))
    });
    let model = s.section("model", |s| model(s, kinds));
    let target = s.section("target", target);
    let steps_per_clock = model.as_ref().and_then(|model| model.training().steps_per_clock());
    let asp = s.section("asp", |s| asp(s, steps_per_clock));
    let (data, data_scope) = data?;
    if data_scope == DataScope::Own && model.as_ref().is_some_and(|model| model.outcome() == Outcome::Ignored)
    {
        let message = "found \"own\" for a model whose first values follow from a sample of the data, which every region would \
                       draw of its own; allowed: \"shared\"";
        s.problem("data.scope", message.to_owned());
        return None;
    }
    if data.source.has_documents()
        && matches!(partition, Some(Partition::LabelSkewed | Partition::Dirichlet(_)))
    {
        let message =
            "goes by labels, which documents have not; allowed: \"random\", \"contiguous\" or \"by-key\"";
        s.problem("partition", message.to_owned());
        return None;
    }
    if data.source.has_ratings() && partition == Some(Partition::LabelSkewed) {
        let message = "found \"label-skewed\" for ratings, which have no labels; allowed: \"by-key\", which keeps the ratings of \
                       a user together, \"random\", \"contiguous\" or \"dirichlet\"";
        s.problem("partition", message.to_owned());
        return None;
    }
    Some(Job {
        name: name?,
        clocks: clocks?,
        staleness,
        shards,
        evaluate_every,
        model: model?,
        data,
        data_scope,
        partition: partition?,
        target: target?,
        asp: asp?,
        ssp_lead,
        non_finite,
        max_delta,
    })
}

/// Reads the largest deltas that may be; a table that says nothing is as the others.
fn max_delta(s: &Section<'_>) -> MaxDelta {
    let kind = || delta_bound().map(Some).or_word("off", None);
    let all = s.or("max_delta", None, kind());
    let tables =
        s.entries("tables", "<table>", |table, s| Some((table.to_owned(), s.or("max_delta", all, kind()))));
    MaxDelta { all, tables: tables.into_iter().flatten().collect() }
}

const NON_FINITE: &[(&str, NonFinite)] = &[("refuse", NonFinite::Refuse), ("pass", NonFinite::Pass)];

const SCOPES: &[(&str, DataScope)] = &[("shared", DataScope::Shared), ("own", DataScope::Own)];

fn partition(s: &Section<'_>) -> Option<Partition> {
    // Dirichlet's concentration is a key of its own; the one here only stands in for it.
    const KINDS: &[(&str, Partition)] = &[
        ("random", Partition::Random),
        ("contiguous", Partition::Contiguous),
        ("by-key", Partition::ByKey),
        ("label-skewed", Partition::LabelSkewed),
        ("dirichlet", Partition::Dirichlet(1.0)),
    ];
    let Some(chosen) = s.chosen("partition", Partition::Random, choice(KINDS)) else {
        s.undecided(&["dirichlet_alpha"]);
        return None;
    };
    match chosen {
        Partition::Dirichlet(_) => s.required("dirichlet_alpha", positive()).map(Partition::Dirichlet),
        partition => {
            s.only_with("partition = \"dirichlet\"", &["dirichlet_alpha"]);
            Some(partition)
        }
    }
}

fn data(s: &Section<'_>) -> Option<DataSettings> {
    #[derive(Clone, Copy)]
    enum Format {
        Idx,
        Libsvm,
        Csv,
        MovieLens,
        Planted,
        PlantedLinear,
        Bags(BagFormat),
        PlantedTopics,
        Own,
    }
    const FORMATS: &[(&str, Format)] = &[
        ("idx", Format::Idx),
        ("libsvm", Format::Libsvm),
        ("csv", Format::Csv),
        ("movielens", Format::MovieLens),
        ("planted", Format::Planted),
        ("planted-linear", Format::PlantedLinear),
        ("uci-bag", Format::Bags(BagFormat::Uci)),
        ("lda-c", Format::Bags(BagFormat::LdaC)),
        ("planted-topics", Format::PlantedTopics),
        ("own", Format::Own),
    ];
    let format = s.required("format", choice(FORMATS));
    let root = match format {
        // Nothing is read: a path does no harm, so that --data-path may stand in a script for all
        // files.
        Some(Format::Planted | Format::PlantedLinear | Format::PlantedTopics | Format::Own) => {
            Some(s.or("path", PathBuf::from(".").into(), data_root()))
        }
        Some(_) | None => s.required("path", data_root()),
    };
    let Some(format) = format else {
        s.undecided(&DATA_KEYS);
        return None;
    };
    let source = match format {
        Format::Idx => idx(s),
        Format::Libsvm => {
            let train = s.required("train", file());
            let test = s.optional("test", file());
            let features = s.optional("features", whole(1..=u32::MAX));
            Some(DataSource::Libsvm { train: train?, test, features })
        }
        Format::Csv => {
            let train = s.required("train", file());
            let test = s.optional("test", file());
            let layout = layout(s);
            let label = column().or_word("last", Column::Last).or_word("none", Column::Absent);
            let label = s.or("label", Column::Last, label);
            let scale = positive().map(Scale::Times).or_word("standard", Scale::Standard);
            let scale = s.or("scale", Scale::default(), scale);
            Some(DataSource::Csv { train: train?, test, layout, label, scale })
        }
        Format::MovieLens => {
            let train = s.required("train", file());
            let test = s.optional("test", file());
            let layout = layout(s);
            let columns = s.section("columns", |s| {
                let [user, item, rating] = ["user", "item", "rating"].map(|name| s.optional(name, column()));
                Some(RatingColumns { user, item, rating })
            });
            Some(DataSource::MovieLens { train: train?, test, layout, columns: columns? })
        }
        Format::Planted => {
            let users = s.required("users", whole(1..=MOST_ROWS));
            let items = s.required("items", whole(1..=MOST_ROWS));
            let rank = s.required("rank", whole(1..=MOST_RANK));
            let ratings = s.required("ratings", whole(1..=MOST_RATINGS));
            let noise = s.or("noise", 0.1, real(0.0..=f64::INFINITY));
            Some(DataSource::Planted { users: users?, items: items?, rank: rank?, ratings: ratings?, noise })
        }
        Format::PlantedLinear => {
            let examples = s.required("examples", whole(1..=MOST_ROWS));
            let features = s.required("features", whole(1..=MOST_FEATURES));
            let noise = s.or("noise", 0.1, real(0.0..=f64::INFINITY));
            Some(DataSource::PlantedLinear { examples: examples?, features: features?, noise })
        }
        Format::Bags(format) => {
            let train = s.required("train", file());
            let test = s.optional("test", file());
            let vocabulary = s.required("vocabulary", file());
            Some(DataSource::Bags { format, train: train?, test, vocabulary: vocabulary? })
        }
        Format::PlantedTopics => {
            let documents = s.required("documents", whole(1..=MOST_ROWS));
            let words = s.required("words", whole(1..=MOST_ROWS));
            let topics = s.required("topics", whole(1..=MOST_TOPICS));
            let length = s.required("length", whole(1..=MAX_DOCUMENT_TOKENS));
            Some(DataSource::PlantedTopics {
                documents: documents?,
                words: words?,
                topics: topics?,
                length: length?,
            })
        }
        Format::Own => Some(DataSource::Own),
    };
    let has_names = !matches!(
        format,
        Format::Planted | Format::PlantedLinear | Format::Bags(_) | Format::PlantedTopics | Format::Own
    );
    let mut declared = declared(s, !matches!(format, Format::MovieLens), has_names);
    match format {
        Format::MovieLens => declared.hashed = hashed(s)?,
        Format::Idx
        | Format::Libsvm
        | Format::Csv
        | Format::Planted
        | Format::PlantedLinear
        | Format::Bags(_)
        | Format::PlantedTopics
        | Format::Own => {
            s.only_with("format = \"movielens\"", &["ids", "range", "mean"]);
        }
    }
    Some(DataSettings { root: root?, source: source?, declared })
}

/// The names that are said; data that is drawn has none.
fn declared(s: &Section<'_>, has_classes: bool, has_names: bool) -> Declared {
    if !has_names {
        return Declared::default();
    }
    let labels = if has_classes { s.optional("labels", labels()) } else { None };
    let file = s.optional("names", path());
    if has_classes && s.has("labels") && s.has("names") {
        s.problem(
            "labels",
            "stands beside names, which has labels too; allowed: one or the other".to_owned(),
        );
    }
    Declared { labels, file, hashed: None }
}

/// How ids become rows; `None` if that could not be read.
///
/// Where rows follow from hashes, nothing of the model follows from files: so the figures that else
/// do are said too.
fn hashed(s: &Section<'_>) -> Option<Option<HashedIds>> {
    const IDS: &[(&str, bool)] = &[("named", false), ("hashed", true)];
    const KEYS: [&str; 4] = ["users", "items", "range", "mean"];
    /// No scale of ratings goes further.
    const MOST_RATING: f64 = 1e9;
    let Some(is_hashed) = s.chosen("ids", false, choice(IDS)) else {
        s.undecided(&KEYS);
        return None;
    };
    if !is_hashed {
        s.only_with("ids = \"hashed\"", &KEYS);
        return Some(None);
    }
    let users = s.required("users", whole(1..=MOST_ROWS));
    let items = s.required("items", whole(1..=MOST_ROWS));
    let rating = || real(-MOST_RATING..=MOST_RATING);
    let ends = "; two: the lowest and the highest rating";
    let range = list(rating()).only(ends, |range| matches!(range.as_slice(), [low, high] if low < high));
    let range = s.required("range", range).map(|range| (range[0] as f32, range[1] as f32));
    let mean = s.optional("mean", rating());
    if s.has("names") {
        s.problem(
            "names",
            "stands beside ids = \"hashed\", which needs no names; allowed: one or the other".to_owned(),
        );
        return None;
    }
    let (low, high) = range?;
    // The best guess where nothing is known.
    let mean = mean.map_or(f32::midpoint(low, high), |mean| mean as f32);
    Some(Some(HashedIds { users: users?, items: items?, mean, range: (low, high) }))
}

/// The keys that some format of data has, and not all have.
const DATA_KEYS: [&str; 30] = [
    "vocabulary",
    "documents",
    "words",
    "topics",
    "length",
    "train",
    "test",
    "train_images",
    "train_labels",
    "test_images",
    "test_labels",
    "features",
    "delimiter",
    "header",
    "quotes",
    "label",
    "labels",
    "names",
    "scale",
    "columns",
    "users",
    "items",
    "rank",
    "ratings",
    "examples",
    "noise",
    "path",
    "ids",
    "range",
    "mean",
];

/// The dialect of a table.
fn layout(s: &Section<'_>) -> Layout {
    const DELIMITERS: &[(&str, Option<Delimiter>)] = &[
        ("auto", None),
        (",", Some(Delimiter::Comma)),
        (";", Some(Delimiter::Semicolon)),
        ("tab", Some(Delimiter::Tab)),
        ("blanks", Some(Delimiter::Blanks)),
        ("::", Some(Delimiter::DoubleColon)),
    ];
    let delimiter = s.or("delimiter", None, choice(DELIMITERS));
    let header = s.or("header", None, flag().map(Some).or_word("auto", None));
    let quotes = s.or("quotes", None, flag().map(Some).or_word("auto", None));
    Layout { delimiter, header, quotes }
}

fn idx(s: &Section<'_>) -> Option<DataSource> {
    let train_images = s.required("train_images", file());
    let train_labels = s.required("train_labels", file());
    let test_images = s.optional("test_images", file());
    let test_labels = s.optional("test_labels", file());
    let test = match (s.has("test_images"), s.has("test_labels")) {
        (true, false) => s.required("test_labels", file()).map(|_| None)?,
        (false, true) => s.required("test_images", file()).map(|_| None)?,
        (false, false) => None,
        (true, true) => Some([test_images?, test_labels?]),
    };
    Some(DataSource::Idx { train: [train_images?, train_labels?], test })
}

fn model(s: &Section<'_>, kinds: &ModelKinds) -> Option<ModelSettings> {
    match s.required("kind", one_of(kinds.names())) {
        Some(kind) => kinds.read(kind, s),
        None => {
            s.accept_all();
            None
        }
    }
}

fn target(s: &Section<'_>) -> Option<TargetSettings> {
    const WITHIN: f64 = 0.01;
    let within = s.optional("within", share());
    let metric = s.optional("metric", word());
    let value = s.optional("value", real(f64::NEG_INFINITY..=f64::INFINITY));
    match (s.has("within"), s.has("metric"), s.has("value")) {
        (true, false, false) => within.map(TargetSettings::WithinLan),
        (false, true, true) => Some(TargetSettings::Value { metric: metric?, value: value? }),
        (false, false, false) => Some(TargetSettings::WithinLan(WITHIN)),
        (true, ..) => {
            s.problem("within", "stands beside metric or value; allowed: one or the other".to_owned());
            None
        }
        (false, true, false) => s.required("value", real(f64::NEG_INFINITY..=f64::INFINITY)).and(None),
        (false, false, true) => s.required("metric", word()).and(None),
    }
}

const FUNCTIONS: &[(&str, Significance)] = &[
    ("usual-update", Significance::UsualUpdate),
    ("relative", Significance::Relative),
    ("absolute", Significance::Absolute),
    ("row-rms", Significance::RowRms),
    ("table-rms", Significance::TableRms),
];

/// Reads how updates are held back, in a job of which a clock is so many steps of training, as far
/// as that is known.
fn asp(s: &Section<'_>, steps_per_clock: Option<u32>) -> Option<AspSettings> {
    const PRESETS: &[(&str, Significance)] =
        &[("automatic", Significance::UsualUpdate), ("paper", Significance::Relative)];
    let preset = s.or("preset", Significance::UsualUpdate, choice(PRESETS));
    if s.has("preset") && s.has("function") {
        s.problem("preset", "stands beside function; allowed: one or the other".to_owned());
    }
    let base = base_filter(s, preset, steps_per_clock);
    let follows_updates = base.as_ref().is_none_or(|base| base.function == Significance::UsualUpdate);
    let default = match follows_updates {
        true => AspSettings::automatic(steps_per_clock),
        false => AspSettings::paper(),
    };
    let inherited = base.clone().unwrap_or_default();
    let tables = s.entries("tables", "<table>", |table, s| {
        Some((table.to_owned(), table_filter(s, &inherited, steps_per_clock)?))
    });
    let soft_threshold = s.or("soft_threshold", default.soft_threshold, flag());
    let anticipation = s.or("anticipation", default.anticipation, flag());
    let clocks = whole(1..=wan::cadence::MOST_CLOCKS).map(ReleaseEvery::Clocks);
    let derived = ReleaseEvery::derived(steps_per_clock);
    let release_every = s.or("release_every", default.release_every, clocks.or_word("derived", derived));
    let budget = budget(s);
    let barrier_max_delay = s.section("barrier", |s| {
        Some(s.or("max_delay", default.barrier_max_delay, duration().map(Some).or_word("off", None)))
    });
    let lead = s.section("mirror_clock", |s| {
        let lead = whole(0..=u32::MAX).map(Lead::Limit);
        Some(s.or(
            "lead",
            default.lead,
            lead.or_word("derived", Lead::Derived).or_word("unlimited", Lead::Unlimited),
        ))
    });
    Some(AspSettings {
        filter: base?,
        tables: tables.into_iter().collect::<Option<_>>()?,
        soft_threshold,
        barrier_max_delay: barrier_max_delay?,
        lead: lead?,
        anticipation,
        release_every,
        budget,
    })
}

/// Reads what regions may send.
fn budget(s: &Section<'_>) -> Option<Budget> {
    /// What is less would go into statements of clocks and acknowledgements.
    const LEAST_BYTES: f64 = 1000.0;
    const SCOPES: &[(&str, BudgetScope)] = &[("region", BudgetScope::Region), ("link", BudgetScope::Link)];
    let stated = s.optional("budget", kind::budget());
    let price = s.optional("egress_price", kind::price());
    let scope = s.or("budget_of", BudgetScope::default(), choice(SCOPES));
    if !s.has("budget") {
        s.only_with("budget", &["egress_price", "budget_of"]);
        return None;
    }
    let (limit, of) = match stated? {
        BudgetText::Rate(rate) => (Limit::BytesPerSec(rate as f64), "budget"),
        BudgetText::PerClock(bytes) => (Limit::BytesPerClock(bytes as f64), "budget"),
        BudgetText::Dollars(per_sec) if s.has("egress_price") => {
            (Limit::BytesPerSec(per_sec / price?), "egress_price")
        }
        BudgetText::Dollars(_) => {
            let message = format!("missing beside a budget in dollars; allowed: {}", units::PRICE);
            s.problem("egress_price", message);
            return None;
        }
    };
    let (Limit::BytesPerSec(bytes) | Limit::BytesPerClock(bytes)) = limit;
    if bytes < LEAST_BYTES {
        let per = if matches!(limit, Limit::BytesPerSec(_)) { "s" } else { "clock" };
        let allowed = format!("found {bytes:.0} B/{per}; allowed: at least {LEAST_BYTES} B/{per}");
        let message = if of == "budget" { allowed } else { format!("makes the budget too small: {allowed}") };
        s.problem(of, message);
        return None;
    }
    Some(Budget { limit, scope })
}

/// Reads the filter of tables that have none of their own.
fn base_filter(s: &Section<'_>, preset: Significance, steps_per_clock: Option<u32>) -> Option<Filter> {
    const GOALS: &[(&str, AspGoal)] =
        &[("quality", AspGoal::Quality), ("balanced", AspGoal::Balanced), ("cheapest", AspGoal::Cheapest)];
    let Some(function) = s.chosen("function", preset, choice(FUNCTIONS)) else {
        s.undecided(&["goal", "threshold", "values", "schedule", "factors", "to", "over"]);
        return None;
    };
    let goal = s.or("goal", AspGoal::default(), choice(GOALS));
    let mut rest = Filter::of(function, steps_per_clock);
    match &rest.function {
        Significance::UsualUpdate if !s.has("goal") || !s.has("threshold") => {
            rest.threshold = goal.threshold(steps_per_clock);
        }
        Significance::UsualUpdate => {
            s.problem("goal", "stands beside threshold; allowed: one or the other".to_owned());
        }
        _ => s.only_with("function = \"usual-update\"", &["goal"]),
    }
    filter(s, &rest)
}

/// Reads the filter of a table; what it leaves out is as in `inherited`, where that can be meant.
fn table_filter(s: &Section<'_>, inherited: &Filter, steps_per_clock: Option<u32>) -> Option<Filter> {
    let Some(function) = s.chosen("function", inherited.function.clone(), choice(FUNCTIONS)) else {
        s.undecided(&["threshold", "values", "schedule", "factors", "to", "over"]);
        return None;
    };
    let follows_updates = |function: &Significance| *function == Significance::UsualUpdate;
    let rest = match follows_updates(&function) == follows_updates(&inherited.function) {
        true => Filter { function, ..inherited.clone() },
        false => Filter::of(function, steps_per_clock),
    };
    filter(s, &rest)
}

/// Reads a filter of which the function is known; what it leaves out is as in `rest`.
fn filter(s: &Section<'_>, rest: &Filter) -> Option<Filter> {
    const VALUES: &[(&str, ValueFormat)] = &[
        ("auto", ValueFormat::Auto),
        ("int8", ValueFormat::Int8),
        ("bf16", ValueFormat::Bf16),
        ("f32", ValueFormat::F32),
    ];
    #[derive(Clone, Copy)]
    enum Kind {
        InverseSqrt,
        Constant,
        List,
        Linear,
        LearningRate,
    }
    const SCHEDULES: &[(&str, Kind)] = &[
        ("inverse-sqrt", Kind::InverseSqrt),
        ("constant", Kind::Constant),
        ("list", Kind::List),
        ("linear", Kind::Linear),
        ("learning-rate", Kind::LearningRate),
    ];
    let threshold = s.or("threshold", rest.threshold, share());
    let values = s.or("values", rest.values, choice(VALUES));
    let has_one_bound = !matches!(rest.function, Significance::Relative | Significance::RowRms);
    if values == ValueFormat::Int8 && !has_one_bound {
        let message = "found \"int8\" beside a function that bounds each element or row by itself; allowed there: \"auto\", \
                       \"bf16\", \"f32\"";
        s.problem("values", message.to_owned());
    }
    let Some(kind) = s.chosen("schedule", None, choice(SCHEDULES).map(Some)) else {
        s.undecided(&["factors", "to", "over"]);
        return None;
    };
    let list_keys = |s: &Section<'_>| s.only_with("schedule = \"list\"", &["factors"]);
    let linear_keys = |s: &Section<'_>| s.only_with("schedule = \"linear\"", &["to", "over"]);
    let plain = |schedule| {
        list_keys(s);
        linear_keys(s);
        Some(schedule)
    };
    let schedule = match kind {
        None => plain(rest.schedule.clone()),
        Some(Kind::InverseSqrt) => plain(FilterSchedule::Plain(Schedule::InverseSqrt)),
        Some(Kind::Constant) => plain(FilterSchedule::Plain(Schedule::Constant)),
        Some(Kind::LearningRate) => plain(FilterSchedule::LearningRate),
        Some(Kind::List) => {
            linear_keys(s);
            let factors = s.required("factors", kind::not_empty(list(real(0.0..=f64::INFINITY))));
            factors.map(|factors| FilterSchedule::Plain(Schedule::Factors(factors.into())))
        }
        Some(Kind::Linear) => {
            list_keys(s);
            let to = s.required("to", share());
            let clocks = s.required("over", whole(1..=u32::MAX));
            to.zip(clocks).map(|(to, clocks)| FilterSchedule::Plain(Schedule::Linear { to, clocks }))
        }
    };
    Some(Filter { function: rest.function.clone(), threshold, schedule: schedule?, values })
}
