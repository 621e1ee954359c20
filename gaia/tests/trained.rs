//! A job as a user runs it, and then what came of it: evaluated, exported, and predicted with.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::SystemTime;

use datacenter::{Clock, ShardId};
use gaia::job::config::load_region;
use gaia::job::region::{CheckpointSettings, CheckpointStart};
use gaia::learning::models;
use gaia::service::checkpoint::{Archive, Subject};
use gaia::service::model_files::{Source, Wanted, read};
use gaia::service::{Part, Setup};
use gaia::settings::Overrides;
use wan::state::ReplicaState;

const REGION: &str = r#"datacenter = "alone"
job = "job.toml"
[servers]
addresses = ["127.0.0.1:PORT"]
[tls]
lan = "plaintext"
[output]
directory = "out"
[checkpoint]
location = "kept"
"#;

fn gaia(directory: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaia"));
    command.args(words).current_dir(directory).env("COLUMNS", "100");
    command.output().expect("the program starts")
}

/// What it prints, if all went well.
fn said(directory: &Path, words: &[&str]) -> String {
    let output = gaia(directory, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// A job of one region on the digits, run to its end; yields its directory and what it printed.
fn run() -> (tempfile::TempDir, String) {
    let job = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/jobs/digits.toml");
    let job = fs::read_to_string(job).expect("the shipped job");
    let (head, rest) = job.split_once("[[regions]]").expect("there are regions");
    let rest = &rest[rest.find("[data]").expect("there are data")..];
    let region = "[[regions]]\nname = \"alone\"\nworkers = 2\n";
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
    let job = format!("{head}{region}{rest}")
        .replace("../../gaia/data", data)
        .replace("clocks = 100", "clocks = 12");
    let directory = tempfile::tempdir().expect("a directory");
    let printed = run_job(directory.path(), &job);
    (directory, printed)
}

/// A job of one region, run to its end in `directory`; yields what it printed.
fn run_job(directory: &Path, job: &str) -> String {
    fs::write(directory.join("job.toml"), job).expect("a file");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("it is bound").port().to_string();
    fs::write(directory.join("region.toml"), REGION.replace("PORT", &port)).expect("a file");
    drop(socket);
    said(directory, &["certs", "init"]);
    said(directory, &["certs", "issue", "--config", "region.toml"]);
    said(directory, &["run", "--config", "region.toml"])
}

/// Keeps what the job has left as if it were a checkpoint of `clock`, of a job that has begun anew.
fn keep(directory: &Path, clock: u32) {
    let region = load_region(&directory.join("region.toml"), &Overrides::default(), &models::kinds())
        .expect("settings");
    let settings = region.checkpoint.clone().expect("there is a table");
    let settings = CheckpointSettings { start: CheckpointStart::Zero, ..settings };
    let setup = Setup::new(region, Part::Region).expect("data");
    let archive = Archive::new(&settings, Arc::new(Subject::from(&setup)));
    let source = Source::named(&directory.join("out").display().to_string()).expect("a path");
    let model = read(&[source], &Wanted::default()).expect("the job has left it").model;
    let [weights] = model.tables.as_slice() else { panic!("{:?}", model.tables.len()) };
    for shard in 0..4 {
        let rows = weights.values.chunks_exact(weights.width).skip(shard).step_by(4);
        let state = ReplicaState {
            remembered: vec![],
            shard: ShardId(shard as u16),
            clock: Clock(clock),
            left_out: 0,
            workers: vec![Clock(clock); 2],
            values: vec![rows.flatten().copied().collect()],
            remainders: vec![],
            origins: vec![],
        };
        archive.begin(state.shard).expect("it can be listed");
        archive.write(&state, SystemTime::UNIX_EPOCH).expect("there is room");
    }
}

#[test]
fn what_a_job_has_learned_is_evaluated_exported_and_asked() {
    let (home, printed) = run();
    let home = home.path();
    let json = |words: &[&str]| -> serde_json::Value {
        let words = [&["evaluate", "--config", "region.toml", "--json", "-"], words].concat();
        serde_json::from_str(&said(home, &words)).expect("JSON")
    };
    // As the run has printed it: "clock 12: objective 0.372145, accuracy 0.8694".
    let line = |found: &serde_json::Value| {
        let (objective, accuracy) = (&found["objective"], &found["metric"]["value"]);
        let figures = (objective.as_f64().expect("a number"), accuracy.as_f64().expect("a number"));
        format!("clock {}: objective {:.6}, accuracy {:.4}\n", found["clock"], figures.0, figures.1)
    };
    let of_output = json(&[]);
    assert_eq!(line(&of_output), printed);
    assert_eq!((&of_output["region"], &of_output["test_examples"]), (&"alone".into(), &360.into()));
    assert_eq!(of_output["files"].as_array().map(Vec::len), Some(4));

    // From checkpoints, once there are any, of the clock that they are of.
    keep(home, 5);
    let of_checkpoint = json(&[]);
    assert_eq!(line(&of_checkpoint), printed.replace("clock 12", "clock 5"));
    let shown = said(home, &["evaluate", "--config", "region.toml", "out"]);
    assert!(shown.starts_with("digits of alone at clock 12\n"), "{shown}");
    assert!(shown.contains("objective") && shown.contains("test examples"), "{shown}");

    let exported = said(home, &["export", "out", "--out", "model.safetensors"]);
    assert!(exported.contains("digits of alone at clock 12: weights 65 x 10"), "{exported}");
    let of_export = json(&["model.safetensors"]);
    assert_eq!(line(&of_export), printed);
    said(home, &["export", "--config", "region.toml", "--out", "weights.csv"]);

    // Predictions of the training data, against a plain computation from the weights as text.
    let train = concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits-train.csv.gz");
    let of_training = json(&["model.safetensors", "--data", train, "--predictions", "predictions.csv"]);
    assert_eq!(of_training["objective"], of_output["objective"], "it is what the model was trained on");
    assert_eq!(of_training["test_examples"], 1437);
    // The data that it was trained on is not needed for that: what its rows and columns stand for
    // is with the model.
    for model in [&["model.safetensors"][..], &["out"], &[]] {
        let without = json(&[model, &["--data", train, "--data-path", "nowhere"]].concat());
        assert_eq!(
            (&without["objective"], &without["metric"]),
            (&of_training["objective"], &of_training["metric"])
        );
    }
    assert_eq!(
        gaia(home, &["evaluate", "--config", "region.toml", "--data-path", "nowhere"]).status.code(),
        Some(2)
    );
    let rows = |text: &str| -> Vec<Vec<f64>> {
        let numbers = |line: &str| line.split(',').map(|cell| cell.parse().expect("a number")).collect();
        text.lines().map(numbers).collect()
    };
    let without_header = |name: &str| {
        let text = fs::read_to_string(home.join(name)).expect("it was written");
        text.split_once('\n').map(|(header, rest)| (header.to_owned(), rows(rest))).expect("a header")
    };
    let (header, weights) = without_header("weights.csv");
    assert_eq!((header.as_str(), weights.len()), ("row,0,1,2,3,4,5,6,7,8,9", 65));
    let (header, predictions) = without_header("predictions.csv");
    assert!(header.starts_with("label,predicted,p(0),p(1)"), "{header}");
    let packed = fs::File::open(train).expect("the shipped data");
    let examples = rows(&std::io::read_to_string(flate2::read::GzDecoder::new(packed)).expect("text"));
    assert_eq!(predictions.len(), examples.len());
    let mut correct = 0;
    for (prediction, example) in predictions.iter().zip(&examples) {
        let logit = |class: usize| {
            let inputs = example[..64].iter().map(|x| x / 16.0).chain([1.0]);
            inputs.zip(&weights).map(|(x, row)| x * row[1 + class]).sum::<f64>()
        };
        let exponentials: Vec<f64> = (0..10).map(|class| libm::exp(logit(class))).collect();
        let sum: f64 = exponentials.iter().sum();
        for (found, expected) in prediction[2..].iter().zip(&exponentials) {
            assert!((found - expected / sum).abs() < 1e-5, "{found} is not {}", expected / sum);
        }
        assert_eq!(prediction[0], example[64]);
        correct += usize::from(prediction[0] == prediction[1]);
    }
    let accuracy = of_training["metric"]["value"].as_f64().expect("a number");
    assert!((accuracy - correct as f64 / 1437.0).abs() < 1e-12);

    for (words, expected) in [
        (&["evaluate", "--config", "region.toml", "--clock", "9"][..], "not all shards are there at clock 9"),
        (&["evaluate", "--config", "job.toml"], "nothing says where the model is"),
        (&["export", "out", "--out", "model.pt"], "allowed: a file name that ends in"),
        (
            &["export", "nowhere", "--out", "x.npy"],
            "nowhere cannot be read: there is no such file or directory",
        ),
    ] {
        let output = gaia(home, words);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
}

/// Where ids are hashed, any id has a row: a model is judged by users and items that nobody has
/// trained on.
#[test]
fn a_model_of_hashed_ids_is_judged_by_ids_that_it_has_never_seen() {
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path();
    let ratings = |users: std::ops::Range<u32>| -> String {
        users.map(|user| format!("u{user},{},{}\n", user % 7, 1 + user % 5)).collect()
    };
    fs::write(home.join("train"), ratings(0..60)).expect("a file");
    fs::write(home.join("new"), ratings(1000..1040)).expect("a file");
    let job = "name = \"films\"\nclocks = 6\n[[regions]]\nname = \"alone\"\nworkers = 2\n[data]\nformat = \"movielens\"\n\
               path = \".\"\nscope = \"own\"\ntrain = \"train\"\nids = \"hashed\"\nusers = 30\nitems = 2000\nrange = [1, 5]\n\
               [model]\nkind = \"factorisation\"\nrank = 2\nclocks_per_epoch = 1\nlearning_rate.initial = 0.1\n";
    run_job(home, job);
    let checked =
        said(home, &["check", "--offline", "region.toml"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(checked.contains("users 30 x 3, items 2000 x 3"), "{checked}");
    assert!(checked.contains("60 users in 30 rows: ") && checked.contains(" share a row ("), "{checked}");
    assert!(checked.contains("7 items in 2000 rows: 0 share a row (0 %)"), "{checked}");
    let words =
        ["evaluate", "--config", "region.toml", "--json", "-", "--data", "new", "--predictions", "told.csv"];
    let found: serde_json::Value = serde_json::from_str(&said(home, &words)).expect("JSON");
    assert_eq!((&found["test_examples"], &found["left_out"]), (&40.into(), &0.into()), "{found}");
    let told = fs::read_to_string(home.join("told.csv")).expect("it was written");
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("user_row,item_row,rating,predicted"));
    for line in lines {
        let figures: Vec<f64> = line.split(',').map(|figure| figure.parse().expect("a number")).collect();
        assert!(figures[0] < 30.0 && figures[1] < 2000.0 && (1.0..=5.0).contains(&figures[3]), "{line}");
    }
}
