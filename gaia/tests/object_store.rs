//! Data in a store that speaks S3, as a user reads it.
//!
//! `tests/object_store.sh` starts such a store and names it in `GAIA_S3_ENDPOINT`; without one
//! there is nothing to test.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

const NAMES: [&str; 2] = ["digits-train.csv.gz", "digits-test.csv.gz"];
const BUCKET: &str = "gaia-digits";

fn put(host: &str, path: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(host).expect("the store listens");
    let length = body.len();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    stream.write_all(body).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn gaia(endpoint: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaia"));
    command.args(words).env("COLUMNS", "100");
    let settings = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ];
    command.envs(settings).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The address of the store and its host; none, with a word about that, if there is no store.
fn store() -> Option<(String, String)> {
    let Ok(endpoint) = std::env::var("GAIA_S3_ENDPOINT") else {
        println!("skipped: GAIA_S3_ENDPOINT names no store; tests/object_store.sh starts one");
        return None;
    };
    let host = endpoint.strip_prefix("http://").expect("an address with http://").trim_end_matches('/');
    let host = host.to_owned();
    Some((endpoint, host))
}

#[test]
fn models_are_found_in_a_bucket_and_checkpoints_can_be_kept_there() {
    const MODELS: &str = "gaia-models";
    let Some((endpoint, host)) = store() else { return };
    put(&host, &format!("/{MODELS}"), b"");
    let header = r#"{"__metadata__":{"job":"tiny","digest":"00","region":"here","clock":"7"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend([0.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()));
    put(&host, &format!("/{MODELS}/a/model.safetensors"), &file);
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("w.csv");
    for place in ["a", "a/model.safetensors"] {
        let place = format!("s3://{MODELS}/{place}");
        let output = gaia(&endpoint, &["export", &place, "--out", &out.display().to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(fs::read_to_string(&out).expect("it was written"), "row,0\n0,0.5\n1,-2\n");
        fs::remove_file(&out).expect("it is there");
    }
    let region = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/regions/virginia.toml");
    let check = |bucket: &str| {
        let set = format!("checkpoint.location=s3://{bucket}/kept");
        let region = region.display().to_string();
        let output = gaia(&endpoint, &["check", &region, "--offline", "--set", &set]);
        text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let found = check(MODELS);
    assert!(found.contains(&format!("ok checkpoint s3://{MODELS}/kept can be written")), "{found}");
    let found = check("gaia-no-such-bucket");
    assert!(found.contains("failed checkpoint checkpoint.location: files cannot be written to"), "{found}");
}

#[test]
fn a_job_trains_alike_on_data_in_a_bucket_and_on_disk() {
    let Some((endpoint, host)) = store() else { return };
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    put(&host, &format!("/{BUCKET}"), b"");
    for name in NAMES {
        let body = fs::read(home.join("data").join(name)).expect("the shipped data");
        put(&host, &format!("/{BUCKET}/some/place/{name}"), &body);
    }
    let file = home.join("../configs/simulations/three-regions.toml").display().to_string();
    let bucket = format!("s3://{BUCKET}/some/place");

    let output = gaia(&endpoint, &["check", &file, "--data-path", &bucket]);
    let found = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{found}{}", text(&output.stderr));
    assert!(found.contains("1437 training examples"), "{found}");

    let simulate = ["simulate", &file, "--quiet", "--set", "job.clocks=5"];
    let on_disk = gaia(&endpoint, &simulate);
    let in_bucket = gaia(&endpoint, &[&simulate[..], &["--data-path", &bucket]].concat());
    assert_eq!(in_bucket.status.code(), Some(0), "{}", text(&in_bucket.stderr));
    assert_eq!(text(&in_bucket.stdout), text(&on_disk.stdout));

    for missing in [format!("s3://{BUCKET}/elsewhere"), "s3://no-such-bucket".to_owned()] {
        let output = gaia(&endpoint, &[&simulate[..], &["--data-path", &missing]].concat());
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        let expected = format!(
            "three-regions.toml: job.data.train: {missing}/{} cannot be read: there is no such object",
            NAMES[0]
        );
        assert!(message.contains(&expected), "{message}\nlacks {expected}");
    }
}
