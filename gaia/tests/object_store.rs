//! Data in a store that speaks S3, as a user reads it.
//!
//! `tests/object_store.sh` starts such a store and names it in `GAIA_S3_ENDPOINT`; without one there is nothing to test.

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

#[test]
fn a_job_trains_alike_on_data_in_a_bucket_and_on_disk() {
    let Ok(endpoint) = std::env::var("GAIA_S3_ENDPOINT") else {
        return println!("skipped: GAIA_S3_ENDPOINT names no store; tests/object_store.sh starts one");
    };
    let host = endpoint.strip_prefix("http://").expect("an address with http://").trim_end_matches('/');
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    put(host, &format!("/{BUCKET}"), b"");
    for name in NAMES {
        let body = fs::read(home.join("data").join(name)).expect("the shipped data");
        put(host, &format!("/{BUCKET}/some/place/{name}"), &body);
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
