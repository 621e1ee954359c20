use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ::metrics::with_local_recorder;
use datacenter::message::{ReadReply, Wait};
use datacenter::metrics::{Holds, Kind, Metric, REASONS, Unit, flush_bytes};
use datacenter::refusals::{Refusals, Refused, Scope};
use datacenter::{Clock, DatacenterId, ShardId, WorkerId};
use metrics_exporter_prometheus::PrometheusRecorder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wan::message::ServerId;
use wan::metrics::LinkLabels;

use super::metrics::{CAUSES, STATE, begin_refusals};
use super::*;
use crate::service::status::fetch::{FetchError, Target, fetch};
use crate::service::status::made_up;

/// One series of a text that was read: its labels and its value.
type Series = (BTreeMap<String, String>, f64);

/// A family of a text that was read.
struct Family {
    kind: String,
    help: String,
    series: Vec<Series>,
}

/// Reads Prometheus' text format, version 0.0.4, and is strict about it: help and type of a family
/// come once and before its series, which stand together; names, labels and values have the form
/// that the format gives them; no series comes twice. Of histograms the series have their part of
/// the name as the label `part`; buckets ascend to all that there is.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && is_name(name), "{line}");
            let family = Family { kind: String::new(), help: help.to_owned(), series: vec![] };
            assert!(families.insert(name.to_owned(), family).is_none(), "twice: {line}");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, current, "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.get_mut(name).expect("help comes first").kind = kind.to_owned();
        } else {
            let name_ends = line.find(['{', ' ']).expect("a value");
            let (name, rest) = line.split_at(name_ends);
            let family = families.get_mut(&current).expect("help comes first");
            assert!(!family.kind.is_empty(), "{line}");
            let part = match family.kind.as_str() {
                "histogram" => name.strip_prefix(&format!("{current}_")).unwrap_or_else(|| panic!("{line}")),
                _ => "",
            };
            assert!(
                part.is_empty() && name == current || ["bucket", "sum", "count"].contains(&part),
                "{line}"
            );
            let (mut labels, value) = match rest.strip_prefix('{') {
                Some(rest) => labels(rest),
                None => (BTreeMap::new(), rest),
            };
            let value = value.strip_prefix(' ').expect("a space before the value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert_eq!(labels.contains_key("le"), part == "bucket", "{line}");
            if !part.is_empty() {
                labels.insert("part".to_owned(), part.to_owned());
            }
            assert!(family.series.iter().all(|(other, _)| *other != labels), "twice: {line}");
            family.series.push((labels, value));
        }
    }
    families.values().filter(|family| family.kind == "histogram").for_each(check_histogram);
    families
}

/// Buckets of each series stand together, with their bounds and counts ascending up to all.
fn check_histogram(family: &Family) {
    let of_part = |part: &'static str| family.series.iter().filter(move |(labels, _)| labels["part"] == part);
    let without = |labels: &BTreeMap<String, String>| {
        let mut labels = labels.clone();
        labels.retain(|name, _| !["part", "le"].contains(&name.as_str()));
        labels
    };
    for (labels, count) in of_part("count") {
        let is_its = |other: &&Series| without(&other.0) == without(labels);
        let buckets: Vec<(f64, f64)> = of_part("bucket")
            .filter(is_its)
            .map(|(labels, count)| (labels["le"].parse().expect("a bound"), *count))
            .collect();
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{labels:?}");
        assert_eq!(of_part("sum").filter(is_its).count(), 1, "{labels:?}");
    }
}

/// What is between braces, and what comes behind them.
fn labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name) && !name.contains(':'), "{name}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().expect("a quote ends the value") {
                (at, '"') => break at + 1,
                (_, '\\') => match characters.next().expect("something is escaped").1 {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("\\{other} is no escape"),
                },
                (_, character) => value.push(character),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        match after[end..].strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, after[end..].strip_prefix('}').expect("a brace ends the labels")),
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_start = |character: char| character.is_ascii_alphabetic() || "_:".contains(character);
    name.starts_with(is_start)
        && name.chars().all(|character| is_start(character) || character.is_ascii_digit())
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted = |series: &&Series| {
        labels.iter().all(|(name, value)| series.0.get(*name).map(String::as_str) == Some(*value))
    };
    families.get(name)?.series.iter().find(wanted).map(|(_, value)| *value)
}

/// What a process has recorded in which one of everything has happened.
fn recorded() -> (PrometheusRecorder, Recorded) {
    let (recorder, recorded) = Recorded::recorder("virginia", "region");
    with_local_recorder(&recorder, || {
        begin_refusals();
        let (lan, wan) = (Refusals::default(), Refusals::new(Scope::Wan));
        lan.count(Refused::by_them("a new cause"));
        (0..3).for_each(|_| wan.count(Refused { cause: "expired", by_us: true }));
        let held = vec![(Wait::Stale, Duration::from_millis(20)), (Wait::Fetching, Duration::from_secs(200))];
        let (shard, worker) = (ShardId(1), WorkerId(0));
        Holds::new([shard]).record(&ReadReply {
            shard,
            worker,
            clock: Clock(1),
            version: 1,
            blocks: vec![],
            held,
            is_last: true,
        });
        flush_bytes(0).record(1024.0);
        let link = LinkLabels::new(1, ["virginia", "ireland"].map(str::to_owned));
        let link = link.link(ServerId { datacenter: DatacenterId(1), index: 1 });
        link.connects.increment(2);
        [90.0, 5e6, 1e9].into_iter().for_each(|bytes| link.sent_update_bytes.record(bytes));
        let worker = WorkerMetrics::new(2);
        worker.compute_seconds.record(Duration::from_millis(2));
        worker.processed_examples.increment(64);
        CheckpointMetrics::new(shard).failures.increment(1);
        suspensions(1).increment(1);
    });
    (recorder, recorded)
}

/// A page whose families, and the series of each, are in the order of their names: the exporter's
/// is another one each time.
fn sorted(page: &str) -> String {
    // What comes behind the labels that a histogram's series have in common.
    let series =
        |line: &&str| line.split_once(",le=").map_or(line.to_string(), |(series, _)| series.to_owned());
    let without_part = |line: &&str| {
        let of_series = series(line).replacen("_bucket{", "{", 1).replacen("_sum{", "{", 1);
        let of_series = of_series.replacen("_count{", "{", 1);
        (!line.starts_with('#'), of_series.split('}').next().unwrap_or_default().to_owned())
    };
    let mut families: Vec<Vec<&str>> = page.split("\n\n").map(|family| family.lines().collect()).collect();
    families.retain(|family| !family.is_empty());
    families.iter_mut().for_each(|family| family.sort_by_key(without_part));
    families.sort();
    families.iter().map(|family| format!("{}\n\n", family.join("\n"))).collect()
}

#[test]
fn a_full_page_has_all_metrics_and_can_be_parsed() {
    let (_recorder, recorded) = recorded();
    let page = exposition::page(&made_up::whole_region(), Some(&recorded));
    let families = parse(&page);
    let found: Vec<_> = families.keys().map(String::as_str).collect();
    let known: BTreeSet<_> = all_metrics().map(|metric| metric.name).collect();
    assert_eq!(found, Vec::from_iter(known), "every metric, and no other");
    for metric in all_metrics() {
        let family = &families[metric.name];
        assert_eq!((family.kind.as_str(), family.help.as_str()), (metric.kind.name(), metric.help));
        let labels: BTreeSet<_> = metric.labels.iter().chain(&["datacenter", "role"]).copied().collect();
        for (found, _) in &family.series {
            let of_histograms = ["part", "le"];
            let found_names = found.keys().map(String::as_str).filter(|name| !of_histograms.contains(name));
            assert_eq!(found_names.collect::<BTreeSet<_>>(), labels, "{}", metric.name);
            assert_eq!((found["datacenter"].as_str(), found["role"].as_str()), ("virginia", "region"));
        }
        if let Kind::Histogram(bounds) = metric.kind {
            let first = family.series[0].0.clone();
            let of_first = |series: &&Series| {
                let is_other = |name: &str| series.0.get(name) != first.get(name);
                series.0["part"] == "bucket" && !metric.labels.iter().any(|name| is_other(name))
            };
            let buckets = family.series.iter().filter(of_first);
            let found: Vec<f64> = buckets.map(|(labels, _)| labels["le"].parse().expect("a bound")).collect();
            assert_eq!(found, [bounds, &[f64::INFINITY]].concat(), "{}", metric.name);
        }
    }
    // `promtool check metrics` reads it too.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/service/admin/snapshots/metrics.txt");
    let page = sorted(&page);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &page).expect("a snapshot");
    }
    assert_eq!(page, fs::read_to_string(path).unwrap_or_default(), "UPDATE_SNAPSHOTS=1 accepts it");
}

#[test]
fn names_follow_prometheus_conventions() {
    let mut names = BTreeSet::new();
    for metric in all_metrics() {
        let Metric { name, kind, unit, help, .. } = metric;
        assert!(names.insert(name), "{name} twice");
        assert!(name.starts_with("gaia_") && is_name(name), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(name.trim_end_matches("_total").ends_with(unit.suffix()), "{name} lacks its unit");
        let says_a_unit = name.contains("seconds") || name.contains("bytes");
        assert_eq!(says_a_unit, *unit != Unit::None, "{name}");
        assert!(!help.ends_with('.') && !help.starts_with(char::is_lowercase), "{help}");
    }
}

#[test]
fn what_happens_is_counted() {
    let (_recorder, recorded) = recorded();
    let families = parse(&exposition::page(&made_up::whole_region(), Some(&recorded)));
    let value = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    let held = |reason: &str, part: &str, le: Option<&str>| {
        let mut labels = vec![("shard", "1"), ("reason", reason), ("part", part)];
        labels.extend(le.map(|le| ("le", le)));
        value("gaia_hold_seconds", &labels)
    };
    assert_eq!(held("stale", "sum", None), Some(0.02));
    assert_eq!(
        (held("stale", "bucket", Some("0.01")), held("stale", "bucket", Some("0.03"))),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(
        (held("fetching", "bucket", Some("100")), held("fetching", "count", None)),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(held("barrier", "count", None), Some(0.0), "so that a rate sees the first");
    let sent = |part: &str| value("gaia_link_sent_update_bytes", &[("peer", "ireland"), ("part", part)]);
    assert_eq!((sent("count"), sent("sum")), (Some(3.0), Some(90.0 + 5e6 + 1e9)));
    assert_eq!(value("gaia_worker_processed_examples_total", &[("worker", "2")]), Some(64.0));
    let refused = |scope: &str, cause: &str, by: &str| {
        value("gaia_refusals_total", &[("scope", scope), ("cause", cause), ("by", by)])
    };
    assert_eq!(refused("wan", "expired", "us"), Some(3.0));
    assert_eq!(refused("wan", "revoked", "us"), Some(0.0));
    assert_eq!(refused("lan", "other", "them"), Some(1.0), "what is not known has no name");
}

#[test]
fn values_are_those_of_the_status() {
    let families = parse(&metrics_text(&made_up::whole_region()));
    let value = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    assert_eq!(value("gaia_phase", &[("phase", "training")]), Some(1.0));
    assert_eq!(value("gaia_phase", &[("phase", "waiting")]), Some(0.0));
    assert_eq!(value("gaia_shard_clock", &[("shard", "3")]), Some(122.0));
    assert_eq!(value("gaia_mirror_lead", &[("shard", "0"), ("peer", "singapore")]), Some(6.0));
    assert_eq!(value("gaia_holds", &[("shard", "1"), ("reason", "mirror_clock")]), Some(2.0));
    assert_eq!(value("gaia_holds", &[("shard", "0"), ("reason", "barrier")]), Some(0.0));
    let longest = value("gaia_hold_longest_seconds", &[("shard", "1"), ("reason", "mirror_clock")]);
    assert_eq!(longest, Some(0.31));
    let link = [("server", "1"), ("peer", "ireland"), ("peer_server", "1")];
    assert_eq!(value("gaia_link_up", &link), Some(1.0));
    assert_eq!(value("gaia_link_naive_bytes_total", &link), Some(90_500.0 * 123.0));
    assert_eq!(value("gaia_model_metric", &[("metric", "accuracy"), ("worker", "1")]), None);
}

#[test]
fn whatever_a_status_says_can_be_scraped() {
    let mut status = made_up::whole_region();
    status.datacenter = "a \"quoted\"\\\nname".to_owned();
    status.servers[0].links[0].datacenter = "}".to_owned();
    status.servers[0].links[0].backlog_seconds = f64::INFINITY;
    status.servers[0].links[0].rate_bytes_per_sec = Some(f64::NAN);
    // The same thing twice.
    status.workers.extend(status.workers.clone());
    status.servers.extend(status.servers.clone());
    let families = parse(&metrics_text(&status));
    assert_eq!(
        value(&families, "gaia_uptime_seconds", &[("datacenter", &printable::line(&status.datacenter))]),
        Some(status.uptime_seconds)
    );
    let odd = |name: &str| value(&families, name, &[("server", "0"), ("peer", "}")]);
    assert_eq!(odd("gaia_link_backlog_seconds"), Some(f64::INFINITY));
    assert!(odd("gaia_link_rate_bytes_per_second").is_some_and(f64::is_nan));
    let families = parse(&metrics_text(&Status::default()));
    assert_eq!(value(&families, "gaia_phase", &[("phase", "starting")]), Some(1.0));
    assert_eq!(value(&families, "gaia_job_clocks", &[]), None, "no job is known yet");
}

#[test]
fn the_documentation_lists_the_metrics_that_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    let text = fs::read_to_string(path).expect("the documentation is there");
    let (_, section) = text.split_once("\n## Metrics\n").expect("metrics are documented");
    let section = section.split("\n## ").next().expect("a section");
    let listed: Vec<(String, String, BTreeSet<String>)> = section
        .lines()
        .filter(|line| line.starts_with("| `gaia_"))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 7, "name, type, labels, meaning, what to do: {line}");
            assert!(!cells[4].is_empty(), "{line}");
            let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
            let labels = labels.filter(|label| !label.is_empty()).collect();
            (cells[1].trim_matches('`').to_owned(), cells[2].to_owned(), labels)
        })
        .collect();
    let known: Vec<_> = all_metrics()
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            (metric.name.to_owned(), metric.kind.name().to_owned(), labels)
        })
        .collect();
    let missing: Vec<_> = known.iter().filter(|metric| !listed.contains(metric)).collect();
    let stale: Vec<_> = listed.iter().filter(|metric| !known.contains(metric)).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "missing there: {missing:#?}\nno such metric: {stale:#?}"
    );
    assert_eq!(listed.len(), known.len(), "each once");
    for reason in REASONS {
        assert!(text.contains(&format!("### `{reason}`")), "what to do about {reason}");
    }
    for cause in CAUSES {
        assert!(text.contains(&format!("| `{cause}` |")), "what to do about {cause}");
    }
}

/// A process whose tasks answer unless they are told not to.
#[derive(Default)]
struct Fake {
    is_stuck: AtomicBool,
    is_waiting: AtomicBool,
    panics: AtomicBool,
}

impl StatusSource for Fake {
    fn status(&self) -> BoxFuture<'_, Status> {
        Box::pin(async {
            if self.is_stuck.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            assert!(!self.panics.load(Ordering::Relaxed), "as told");
            let mut status = made_up::whole_region();
            if self.is_waiting.load(Ordering::Relaxed) {
                status.phase = Phase::Waiting;
            }
            status
        })
    }
}

/// Short, so that tests see them reached.
const TEST_LIMITS: Limits = Limits {
    head: Duration::from_secs(2),
    connection: Duration::from_secs(30),
    status: Duration::from_millis(500),
};

struct Admin {
    fake: Arc<Fake>,
    address: std::net::SocketAddr,
    _tasks: JoinSet<()>,
}

impl Admin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let fake = Arc::new(Fake::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_within(TEST_LIMITS, listener, Arc::clone(&fake) as _));
        Self { fake, address, _tasks: tasks }
    }

    /// What comes back for these bytes, until the connection ends.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        // It may have been closed already, with an answer.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (code, body.to_owned())
    }
}

#[tokio::test]
async fn every_path_answers() {
    let admin = Admin::start().await;
    let (code, index) = admin.get("/").await;
    assert_eq!((code, index.as_str()), (200, INDEX));
    let (code, metrics) = admin.get("/metrics").await;
    assert_eq!((code, parse(&metrics).len()), (200, STATE.len()), "nothing is recorded here");
    let (code, json) = admin.get("/status?pretty").await;
    assert_eq!(code, 200);
    assert_eq!(serde_json::from_str::<Status>(&json).expect("JSON"), made_up::whole_region());
    assert_eq!(admin.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(admin.get("/readyz").await, (200, "training\nwaits for server 1 of ireland\n".to_owned()));
    admin.fake.is_waiting.store(true, Ordering::Relaxed);
    assert_eq!(admin.get("/readyz").await, (503, "waiting\nwaits for server 1 of ireland\n".to_owned()));
    assert_eq!(admin.get("/healthz").await.0, 200, "waiting is no reason to be restarted");
    assert_eq!(admin.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn a_process_that_is_stuck_says_so() {
    let admin = Admin::start().await;
    admin.fake.is_stuck.store(true, Ordering::Relaxed);
    for path in ["/healthz", "/readyz", "/metrics", "/status"] {
        let (code, text) = admin.get(path).await;
        assert_eq!((code, text.as_str()), (503, "the process's tasks have not answered within 500ms\n"));
    }
    admin.fake.is_stuck.store(false, Ordering::Relaxed);
    assert_eq!(admin.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn nothing_that_is_sent_harms_the_process() {
    let admin = Admin::start().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * HEAD_LIMIT_BYTES));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(2000));
    for (bytes, expected) in [
        (long.as_bytes(), "HTTP/1.1 4"),
        (many.as_bytes(), "HTTP/1.1 431"),
        (b"POST /status HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", "HTTP/1.1 405"),
        (b"POST /status HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", "HTTP/1.1 405"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200"),
        (b"GET /status HTTP/9.9\r\n\r\n", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400"),
        (b"\r\n\r\n", ""),
    ] {
        let answer = admin.send(bytes).await;
        assert!(answer.starts_with(expected), "{}: {answer}", String::from_utf8_lossy(bytes));
    }
    // Nor does one who asks for much and reads nothing of it: it is cut off like the others.
    let mut deaf = TcpStream::connect(admin.address).await.expect("it listens");
    deaf.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.expect("it takes that");
    // Those who say nothing hold their connections, and no more than that.
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS - 2 {
        silent.push(TcpStream::connect(admin.address).await.expect("it listens"));
    }
    assert_eq!(admin.get("/healthz").await.0, 200);
    // A mistake in the process costs that request.
    admin.fake.panics.store(true, Ordering::Relaxed);
    assert_eq!(admin.get("/healthz").await.0, 0);
    admin.fake.panics.store(false, Ordering::Relaxed);
    assert_eq!(admin.get("/healthz").await.0, 200);
    // When they are too many, the first of them makes room, and whoever asks is answered at once
    // all the same.
    for _ in 0..2 * CONNECTIONS {
        let start = tokio::time::Instant::now();
        silent.push(TcpStream::connect(admin.address).await.expect("it listens"));
        assert_eq!(admin.get("/healthz").await.0, 200);
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(1), "{waited:?}");
    }
    let mut first = silent.remove(0);
    assert!(matches!(first.read(&mut [0]).await, Ok(0) | Err(_)), "it is closed");
    // Nor does it help to say a little.
    let mut slow = TcpStream::connect(admin.address).await.expect("it listens");
    slow.write_all(b"GET /healthz HT").await.expect("it takes that");
    let closed = tokio::time::timeout(2 * TEST_LIMITS.head, slow.read(&mut [0])).await;
    assert!(closed.is_ok(), "a head has to come in time");
}

#[tokio::test]
async fn statuses_are_fetched_from_those_who_answer() {
    let (well, stuck) = (Admin::start().await, Admin::start().await);
    stuck.fake.is_stuck.store(true, Ordering::Relaxed);
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let unbound = nobody.local_addr().expect("it is bound");
    drop(nobody);
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let black_hole = other.local_addr().expect("it is bound");
    let target =
        |text: String| Target::from(text.parse::<crate::service::status::fetch::Url>().expect("a URL"));
    let targets = [
        target(format!("http://{}", well.address)),
        target(format!("localhost:{}/status", well.address.port())),
        target(stuck.address.to_string()),
        target(unbound.to_string()),
        target(format!("{}/nothing", well.address)),
        target(black_hole.to_string()),
    ];
    let fetched = fetch(&targets, Duration::from_secs(3)).await;
    assert_eq!(fetched[0].status.as_ref().expect("it answers"), &made_up::whole_region());
    assert!(fetched[1].status.is_ok(), "{fetched:?}");
    let reason = |at: usize| fetched[at].status.as_ref().expect_err("no status");
    assert!(matches!(reason(2), FetchError::Refused { code, .. } if code.as_u16() == 503));
    assert!(matches!(reason(3), FetchError::Connect(_)));
    assert!(matches!(reason(4), FetchError::Refused { code, .. } if code.as_u16() == 404));
    assert!(matches!(reason(5), FetchError::TimedOut(_)));
}

#[test]
fn urls_are_read_and_written() {
    let read = |text: &str| text.parse::<crate::service::status::fetch::Url>().map(|url| url.to_string());
    for (text, expected) in [
        ("127.0.0.1:7500", "http://127.0.0.1:7500"),
        ("http://host:1/", "http://host:1"),
        ("http://[::1]:7500", "http://[::1]:7500"),
        ("http://host:1/gaia/0/status", "http://host:1/gaia/0"),
    ] {
        assert_eq!(read(text).as_deref(), Ok(expected));
    }
    for text in ["", "host", "https://host:1", "http://:1", "http://host:port", "host:99999", "a b:1"] {
        let error = read(text).expect_err("no URL").to_string();
        assert!(error.ends_with("write http://HOST:PORT"), "{error}");
    }
}

#[test]
fn labels_move_no_cursor() {
    let mut status = made_up::whole_region();
    status.servers[0].links[0].datacenter = "x\n\u{1b}[2J\u{202e}y".to_owned();
    let text = metrics_text(&status);
    assert!(text.contains("peer=\"x\\\\n\\\\u{1b}[2J\\\\u{202e}y\""), "{text}");
    assert!(!text.contains(|character| character != '\n' && printable::is_hidden(character)), "{text}");
}
