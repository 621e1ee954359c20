//! The program as a user meets it: exit codes, streams, and what happens when nobody reads on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

#[path = "../examples/measurements/document.rs"]
mod document;

fn gaia(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the program starts")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaia"));
    command.args(arguments).env("COLUMNS", "100").env_remove("GAIA__JOB__CLOCKS");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_is_help_and_a_wrong_word_is_an_error() {
    let output = gaia(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("Exit codes:"));
    let output = gaia(&["compar"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("compare"), "it is suggested");
}

#[test]
fn bad_settings_are_one_message_on_standard_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bad.toml");
    fs::write(&path, "name = \"Bad Name\"\nseed = true\n[job]\nclocks = 0\n").expect("a file");
    let path = path.display().to_string();
    let output = gaia(&["compare", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let message = text(&output.stderr);
    for expected in [
        ":1: name: found \"Bad Name\"",
        ":2: seed: found true",
        ":4: job.clocks: found 0",
        "regions: missing",
    ] {
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
    assert!(!message.contains('\u{1b}'), "no styles where there is no terminal");
    let output = gaia(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("failed  settings"));
}

#[test]
fn the_environment_is_a_layer() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/two-regions-thin.toml");
    let output =
        command(&["compare", file]).env("GAIA__JOB__CLOCKS", "none").output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(
        message.contains("environment variable GAIA__JOB__CLOCKS: job.clocks: found \"none\""),
        "{message}"
    );
}

#[test]
fn the_end_of_a_process_is_told_as_its_settings_ask_for_it() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/regions/virginia.toml");
    for command in ["server", "worker"] {
        let run = |more: &[&str]| gaia(&[&[command, "--config", file, "--index", "-1"], more].concat());
        let output = run(&[]);
        assert_eq!(output.status.code(), Some(2));
        let message = text(&output.stderr);
        assert!(
            message.starts_with("error: --index: found -1; allowed: a whole number from 0 to "),
            "{message}"
        );
        let output = run(&["--set", "log.format=json"]);
        assert_eq!(output.status.code(), Some(2));
        let lines = text(&output.stderr);
        let line: serde_json::Value = serde_json::from_str(&lines).expect("one line of JSON");
        assert_eq!((&line["region"], &line["role"]), (&"virginia".into(), &command.into()));
        let error = line["fields"]["error"].as_str().expect("text");
        assert_eq!(format!("error: {error}\n"), message);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    // The pipe is closed before anything is written.
    for arguments in [vec!["check", "no-such.toml"], vec!["--help"]] {
        let mut child = command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let mut message = String::new();
        child.stderr.take().expect("it is piped").read_to_string(&mut message).expect("text");
        child.wait().expect("it ends");
        assert!(!message.contains("panicked"), "{message}");
    }
}

/// A small simulation over `train.csv` in its own directory.
const SMALL: &str = r#"name = "small"
seed = 1
strategies = ["lan"]
[[regions]]
name = "a"
workers = 1
[[regions]]
name = "b"
workers = 1
[link]
rate = "10 Mbit/s"
one_way_delay = "10 ms"
[compute]
examples_per_second = 1000
[job]
name = "small"
clocks = 3
shards = 2
[job.data]
path = "."
format = "csv"
train = "train.csv"
header = true
[job.model]
kind = "softmax"
batch = 2
batches = 1
[job.model.learning_rate]
initial = 0.1
[job.target]
metric = "objective"
value = 0.5
[job.asp]
function = "absolute"
threshold = 0.01
"#;

const GOOD_CSV: &str = "x,y,label\n1,2,0\n2,3,1\n3,1,0\n5,2,1\n";

/// Compares `settings` over `csv`; yields what the program says on standard error, having found
/// nothing else wrong.
fn refused(settings: &str, csv: &[u8]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bad.toml");
    fs::write(&path, settings).expect("a file");
    fs::write(directory.path().join("train.csv"), csv).expect("a file");
    let output = gaia(&["compare", &path.display().to_string()]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty(), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

#[test]
fn bad_settings_name_file_line_and_key() {
    for (good, bad, expected) in [
        ("seed = 1", "seed = 1\nsede = 2", "bad.toml:3: sede: unknown key"),
        ("\"10 ms\"", "\"10 bananas\"", "bad.toml:12: link.one_way_delay: found \"10 bananas\""),
        ("name = \"b\"", "name = \"a\"", "bad.toml:8: regions[1].name: found \"a\" a second time"),
        ("shards = 2", "shards = 0", "bad.toml:18: job.shards: found 0"),
        ("shards = 2", "shards = 600", "job.shards: found 600; allowed: at most"),
        (
            "metric = \"objective\"",
            "metric = \"bleu\"",
            "job.target.metric: found \"bleu\"; allowed: \"objective\" or",
        ),
        (
            "threshold = 0.01",
            "threshold = 0.01\n[job.asp.tables.nope]\nthreshold = 1",
            "job.asp.tables.nope: the model has no such table",
        ),
        ("\"train.csv\"", "\"none.csv\"", "job.data.train: "),
    ] {
        let message = refused(&SMALL.replace(good, bad), GOOD_CSV.as_bytes());
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
    let no_regions =
        SMALL.replace("[[regions]]\nname = \"a\"\nworkers = 1\n[[regions]]\nname = \"b\"\nworkers = 1\n", "");
    assert!(refused(&no_regions, GOOD_CSV.as_bytes()).contains("regions: missing; allowed: at least one"));
}

#[test]
fn bad_data_names_file_and_place() {
    for (csv, expected) in [
        ("x,y,label\n1,2,0\n2,3\n", ["train.csv", "line 3"]),
        ("x,y,label\n1,2,0\n2,NaN,1\n", ["train.csv", "line 3"]),
        ("x,y,label\n1,2,0\n2,3,one\n", ["train.csv", "line 3"]),
        ("x,y,label\n1,2,0\n2,3,99999999999999999999\n", ["train.csv", "line 3"]),
        ("x,y,label\n", ["train.csv", ""]),
        ("", ["train.csv", ""]),
    ] {
        let message = refused(SMALL, csv.as_bytes());
        for part in expected {
            assert!(message.contains(part), "{csv:?}: {message}\nlacks {part}");
        }
    }
}

#[test]
fn data_is_found_unpacked_where_the_file_names_it_packed() {
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/three-regions.toml");
    let directory = tempfile::tempdir().expect("a directory");
    for set in ["train", "test"] {
        let packed = format!("{}/data/digits-{set}.csv.gz", env!("CARGO_MANIFEST_DIR"));
        let mut content = Vec::new();
        let file = fs::File::open(packed).expect("shipped");
        flate2::read::GzDecoder::new(file).read_to_end(&mut content).expect("a gzip file");
        fs::write(directory.path().join(format!("digits-{set}.csv")), content).expect("a file");
    }
    let output = gaia(&["check", settings, "--data-path", &directory.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn bad_idx_files_name_file_and_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = SMALL.replace("format = \"csv\"", "format = \"idx\"").replace(
        "train = \"train.csv\"\nheader = true",
        "train_images = \"images\"\ntrain_labels = \"labels\"",
    );
    let path = directory.path().join("idx.toml");
    fs::write(&path, settings).expect("a file");
    let images: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4];
    let labels: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1];
    for (images, labels, expected) in [
        (&images[..18], labels, "images"),
        (&images[..3], labels, "images"),
        (images, &labels[..9], "labels"),
        (images, &[0, 0, 8, 1, 0, 0, 0, 1, 0][..], "labels"),
    ] {
        fs::write(directory.path().join("images"), images).expect("a file");
        fs::write(directory.path().join("labels"), labels).expect("a file");
        let output = gaia(&["compare", &path.display().to_string()]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(output.stdout.is_empty() && !message.contains("panicked"), "{message}");
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
}

/// What a report says, however its lines are broken.
fn unwrapped(bytes: &[u8]) -> String {
    text(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_model_that_fits_no_machine_is_refused_before_it_is_made() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/two-regions-thin.toml");
    let small = ["--set", "job.data.ratings=100", "--set", "job.data.users=10000000"];
    let large = ["--set", "job.model.rank=90", "--set", "regions.singapore.workers=128"];
    let other = ["--set", "regions.sao-paulo.workers=2"];
    let output = gaia(&[&["check", file], &small[..], &large[..], &other[..]].concat());
    let message = unwrapped(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("regions[].workers: 130 workers in 2 regions, each with a copy"), "{message}");
    assert!(message.contains("would take about 1.02 TB; allowed: at most 64.0 GB"), "{message}");
}

#[test]
fn a_narrow_stretched_server_is_noted() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/three-regions.toml");
    let note = "stretched has its parameter server in 2 of the 3 regions, as job.shards is 2";
    let output = gaia(&["check", file, "--set", "job.shards=2"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(unwrapped(&output.stdout).contains(note), "{}", text(&output.stdout));
    let run = ["simulate", file, "-q", "--set", "job.clocks=1", "--strategy", "stretched"];
    let output = gaia(&[&run[..], &["--set", "job.shards=2"]].concat());
    assert!(text(&output.stderr).contains(&format!("note: {note}")), "{}", text(&output.stderr));
    assert!(
        !text(&gaia(&run).stderr).contains("note"),
        "there is nothing to say of the file as it is shipped"
    );
}

#[test]
fn documents_show_what_commands_print() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut printed = BTreeMap::new();
    let mut paths = vec![Path::new(root).join("README.md")];
    for entry in fs::read_dir(Path::new(root).join("docs")).expect("a directory") {
        paths.push(entry.expect("a file").path());
    }
    let mut commands = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("text");
        let blocks = document::blocks(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Tables take longer: `.ci/run` has the example `measurements` check them.
        for block in blocks.into_iter().filter(|block| block.command.starts_with("gaia ")) {
            let now = printed.entry(block.command.clone()).or_insert_with(|| {
                let words: Vec<&str> = block.command.split(' ').skip(1).collect();
                let output = command(&words).current_dir(root).output().expect("the program starts");
                assert!(output.status.success(), "{}: {}", block.command, self::text(&output.stderr));
                self::text(&output.stdout)
            });
            assert_eq!(
                block.text,
                *now,
                "{}:{} is out of date; `cargo run --release --example measurements` writes it anew",
                path.display(),
                block.line
            );
            commands.push(block.command);
        }
    }
    let first = "gaia compare configs/simulations/digits-mlp.toml";
    assert!(
        commands.iter().any(|command| command == first),
        "the README shows what its first command prints"
    );
}

#[test]
fn blocks_of_documents_are_found_and_replaced() {
    let text = "a\n<!-- from: gaia x -->\n\n```text\nold\n```\nb\n<!-- slowly from: sweep y -->\n| a |\n|---|\n\nc\n";
    let blocks = document::blocks(text).expect("it is well made");
    let found: Vec<_> =
        blocks.iter().map(|block| (block.line, block.is_slow, &*block.command, &*block.text)).collect();
    assert_eq!(found, [(2, false, "gaia x", "old\n"), (8, true, "sweep y", "| a |\n|---|\n")]);
    let texts: Vec<_> =
        blocks.into_iter().zip(["new\nand more\n".to_owned(), "| b |\n".to_owned()]).collect();
    let replaced = document::replaced(text, &texts);
    assert_eq!(
        replaced,
        "a\n<!-- from: gaia x -->\n\n```text\nnew\nand more\n```\nb\n<!-- slowly from: sweep y -->\n| b |\n\nc\n"
    );
    let error = document::blocks("<!-- from: gaia x -->\nwords\n").expect_err("nothing to replace");
    assert_eq!(error, "line 2: neither a fence nor a table: words");
}

/// Starts a demo whose files go below `scratch`, interrupts it some time after its first words, and
/// yields its exit code.
fn interrupted_demo(scratch: &std::path::Path, after: std::time::Duration) -> Option<i32> {
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::BufRead;
    let mut command = command(&["demo", "--no-view"]);
    command.env("TMPDIR", scratch).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut said = std::io::BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says where its files are");
    assert!(line.contains(&scratch.display().to_string()), "{line}");
    #[expect(
        clippy::disallowed_methods,
        reason = "how far a demo is by then is what is tested; nothing else runs here"
    )]
    std::thread::sleep(after);
    let pid = Pid::from_raw(child.id().try_into().expect("a small number")).expect("it runs");
    kill_process(pid, Signal::INT).expect("it runs");
    said.read_to_string(&mut line).expect("text");
    child.wait().expect("it ends").code()
}

#[test]
fn a_demo_that_is_interrupted_is_no_failure_and_leaves_nothing_behind() {
    // While it is set up, and when its processes run.
    for millis in [0, 3000] {
        let scratch = tempfile::tempdir().expect("a directory");
        assert_eq!(interrupted_demo(scratch.path(), std::time::Duration::from_millis(millis)), Some(0));
        let left: Vec<_> = fs::read_dir(scratch.path()).expect("a directory").collect();
        assert!(left.is_empty(), "after {millis} ms: {left:?}");
    }
}

#[test]
fn completions_and_pages_come_from_the_program() {
    let script = gaia(&["completions", "bash"]);
    assert_eq!(script.status.code(), Some(0));
    assert!(text(&script.stdout).contains("complete -F _gaia"), "{}", text(&script.stdout));
    let page = gaia(&["man"]);
    assert!(text(&page.stdout).contains(".TH gaia 1"), "{}", text(&page.stdout));
    assert_eq!(gaia(&["completions", "cmd.exe"]).status.code(), Some(2));
    let unwritable = gaia(&["man", "--directory", "/proc/gaia"]);
    assert_eq!(unwritable.status.code(), Some(1));
    assert!(text(&unwritable.stderr).contains("cannot write the pages into /proc/gaia"));
}

#[test]
fn errors_name_files_without_detours() {
    let directory = tempfile::tempdir().expect("a directory");
    for folder in ["jobs", "simulations"] {
        fs::create_dir(directory.path().join(folder)).expect("a directory");
    }
    let file = directory.path().join("simulations/x.toml");
    fs::write(&file, "name = \"x\"\njob = \"../jobs/none.toml\"\n").expect("a file");
    let message = text(&gaia(&["compare", &file.display().to_string()]).stderr);
    assert!(message.contains(&directory.path().join("jobs/none.toml").display().to_string()), "{message}");
    assert!(!message.contains("/../"), "{message}");
}

#[test]
fn the_first_rows_and_what_is_odd_about_the_data_are_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("years.toml");
    let settings = SMALL.replace("header = true", "label = 1\nscale = \"standard\"");
    fs::write(&path, settings).expect("a file");
    let rows: String = (1922..2012).map(|year| format!("{year}\t{}\t7\n", year % 7)).collect();
    fs::write(directory.path().join("train.csv"), format!("# songs\nyear\tloudness\tpitch\n{rows}"))
        .expect("a file");
    let path = path.display().to_string();
    let checked = unwrapped(&gaia(&["check", &path, "--set", "regions.a.workers=100"]).stdout);
    for part in [
        "ok rows columns between tabs, header `year`, `loudness`, `pitch`, the class in column 1",
        "ok rows line 3: class 1922 of 4, 7 ok rows line 4: class 1923 of 5, 7",
        "ok note the labels are 90 different numbers from 1922 to 2011, and each is a class of its own",
        "ok note of 101 workers 11 have no example and 90 have a single example",
    ] {
        assert!(checked.contains(part), "{checked}\nlacks {part}");
    }
    let compared = gaia(&["compare", &path]);
    let message = text(&compared.stderr);
    assert!(message.contains("note: the labels are 90 different numbers"), "{message}");
}

#[test]
fn names_of_several_regions_become_one_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let job = "name = \"films\"\nclocks = 1\n[data]\nformat = \"movielens\"\npath = \"PATH\"\nscope = \"own\"\n\
               train = \"train\"\nnames = \"../names.json\"\n[model]\nkind = \"factorisation\"\nrank = 1\n\
               clocks_per_epoch = 1\nlearning_rate.initial = 0.1\n";
    for (region, ratings) in [("east", "1,0,2\n2,1,4\n"), ("west", "1,1000,3\n9,1001,3\n")] {
        fs::create_dir(at(region)).expect("a directory");
        fs::write(at(&format!("{region}/train")), ratings).expect("a file");
        fs::write(at(&format!("{region}/job.toml")), job.replace("PATH", ".")).expect("a file");
    }
    let job = |region: &str| at(&format!("{region}/job.toml"));
    let early = gaia(&["check", &job("east")]);
    assert_eq!(early.status.code(), Some(2));
    let said = unwrapped(&early.stdout);
    assert!(said.contains("job.data.names: ") && said.contains("`gaia names` makes it"), "{said}");
    let found = gaia(&["names", "--output", &at("east.json"), &job("east")]);
    assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
    let merged = gaia(&["names", &at("east.json"), &job("west"), "--out", &at("names.json")]);
    assert_eq!(merged.status.code(), Some(0), "{}", text(&merged.stderr));
    assert!(text(&merged.stderr).contains("users: 1, 2, 9"), "{}", text(&merged.stderr));
    for region in ["east", "west"] {
        let checked = gaia(&["check", &job(region)]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
        let said = unwrapped(&checked.stdout);
        assert!(said.contains("users 3 x 2") && said.contains("items 4 x 2"), "{said}");
    }
    fs::write(at("classes.json"), "{\"kind\":\"classes\",\"labels\":[0,1],\"features\":2}").expect("a file");
    let mixed = gaia(&["names", &at("east.json"), &at("classes.json"), "--out", "-"]);
    assert_eq!(mixed.status.code(), Some(2));
    assert!(text(&mixed.stderr).contains("it has classes, we have ratings"), "{}", text(&mixed.stderr));
}
