//! A web server of a few lines is store enough for everything but signatures.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::human::with_causes;
use crate::learning::data::load_classification;
use crate::learning::data::{DataFile, DataRoot, DataSettings, DataSource};

/// What was asked for.
struct Request {
    method: String,
    path: String,
    /// The first byte wanted, where a part is.
    start: Option<usize>,
}

type Answer = dyn Fn(&Request, &mut TcpStream) -> io::Result<()> + Send + Sync;

/// A server at a port of its own, until the process ends.
fn server(answer: impl Fn(&Request, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let answer: Arc<Answer> = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            // A client that goes away is its own business.
            thread::spawn(move || serve(stream, &*answer));
        }
    });
    format!("http://{address}")
}

fn serve(mut stream: TcpStream, answer: &Answer) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut request = Request { method: String::new(), path: String::new(), start: None };
    let mut words = first.split(' ').map(str::to_owned);
    (request.method, request.path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            request.start = range.split('-').next().and_then(|start| start.parse().ok());
        }
    }
    answer(&request, &mut stream)
}

fn respond(
    stream: &mut TcpStream,
    status: &str,
    headers: &str,
    length: usize,
    body: &[u8],
) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// A server of `files`.
fn files(files: &[(&str, &[u8])]) -> String {
    let files: BTreeMap<_, _> =
        files.iter().map(|(path, body)| ((*path).to_owned(), body.to_vec())).collect();
    server(move |request, stream| match files.get(&request.path) {
        Some(body) if request.method == "HEAD" => respond(stream, "200 OK", "", body.len(), b""),
        Some(body) => respond(stream, "200 OK", "", body.len(), body),
        None => respond(stream, "404 Not Found", "", 0, b""),
    })
}

fn object(root: &str, name: &str) -> Url {
    let root = DataRoot::parse(root, None).expect("a URL");
    match root.file(FilePath::new(name)) {
        DataFile::Object(url) => *url,
        DataFile::Path(path) => panic!("{path:?}"),
    }
}

fn content(root: &str, name: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(&object(root, name))?.read_to_end(&mut content)?;
    Ok(content)
}

#[test]
fn the_shipped_data_is_the_same_from_a_web_server() {
    let directory = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let names = ["digits-train.csv.gz", "digits-test.csv.gz"];
    let bodies = names.map(|name| std::fs::read(directory.join(name)).expect("the shipped data"));
    let root = files(&[("/d/digits-train.csv.gz", &bodies[0]), ("/d/digits-test.csv.gz", &bodies[1])]);
    let load = |root: DataRoot| {
        // One of them under the name that it does not have there.
        let source = DataSource::scaled_csv("digits-train.csv.gz", Some("digits-test.csv"), 0.0625);
        load_classification(&DataSettings::new(root, source), None).map_err(|error| with_causes(&error))
    };
    let loaded = load(DataRoot::parse(&format!("{root}/d/"), None).expect("a URL")).expect("it is there");
    assert_eq!(loaded, load(directory.into()).expect("it is there"));
    let error = load(DataRoot::parse(&format!("{root}/e"), None).expect("a URL")).expect_err("not there");
    let expected =
        format!("cannot use {root}/e/digits-train.csv.gz: cannot be opened: there is no such object");
    assert_eq!(error, expected);
}

#[test]
fn a_look_finds_what_would_be_opened() {
    let root = files(&[("/a.csv", b"1"), ("/b.csv.gz", b""), ("/c%20d", b"xyz")]);
    for (name, expected) in
        [("a.csv", true), ("a.csv.gz", true), ("b.csv", true), ("c d", true), ("c", false)]
    {
        assert_eq!(look(&object(&root, name)).is_ok(), expected, "{name}");
        assert_eq!(content(&root, name).is_ok(), expected, "{name}");
    }
    assert_eq!(content(&root, "a.csv").expect("it is there"), b"1");
    assert_eq!(content(&root, "b.csv").expect("it is there"), b"");
    assert_eq!(look(&object(&root, "c")).expect_err("no").kind(), io::ErrorKind::NotFound);
}

#[test]
fn what_the_store_refuses_is_said() {
    for (status, expected) in [
        ("403 Forbidden", "access is denied; web addresses are read without credentials"),
        ("401 Unauthorized", "the store wants other credentials; web addresses are read without credentials"),
        ("418 I'm a teapot", "418"),
    ] {
        let root = server(move |_, stream| respond(stream, status, "", 0, b""));
        for error in [look(&object(&root, "x")), open(&object(&root, "x")).map(drop)] {
            let message = error.expect_err("it is refused").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let root = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    let message = look(&object(&root, "x")).expect_err("nobody is there").to_string();
    assert!(message.starts_with("the store cannot be used: "), "{message}");
    assert!(message.to_lowercase().contains("connection refused"), "{message}");
}

/// A body with no two equal pieces.
fn long_body() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_be_bytes).collect()
}

#[test]
fn a_download_that_breaks_off_is_taken_up_again() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let root = server({
        let asked = asked.clone();
        let is_first = AtomicU32::new(0);
        move |request, stream| {
            asked.lock().expect("no panic").push(request.start);
            if is_first.fetch_add(1, Ordering::Relaxed) == 0 {
                return respond(stream, "503 Service Unavailable", "", 0, b"");
            }
            let (body, tag) = (long_body(), "ETag: \"1\"\r\n");
            match request.start {
                None => respond(stream, "200 OK", tag, body.len(), &body[..500_000]),
                Some(start) => {
                    let end = body.len() - 1;
                    let range = format!("{tag}Content-Range: bytes {start}-{end}/{}\r\n", body.len());
                    respond(stream, "206 Partial Content", &range, body.len() - start, &body[start..])
                }
            }
        }
    });
    assert!(content(&root, "x").expect("it is all there") == long_body());
    assert_eq!(*asked.lock().expect("no panic"), [None, None, Some(500_000)]);

    // Without a tag nobody knows whether the rest would be that of the same file.
    let root = server(|_, stream| respond(stream, "200 OK", "", 10, b"1,2\n"));
    let root = DataRoot::parse(&root, None).expect("a URL");
    let source = DataSource::csv("x.csv", None);
    let error = load_classification(&DataSettings::new(root, source), None).expect_err("it is cut");
    let message = with_causes(&error);
    assert!(message.contains("/x.csv: line ") && message.contains(": cannot be read: "), "{message}");
}

#[test]
fn what_is_not_read_is_not_fetched() {
    const WHOLE: usize = 256 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let root = server({
        let sent = sent.clone();
        move |_, stream| {
            respond(stream, "200 OK", "", WHOLE, b"")?;
            let piece = [b'x'; 1 << 16];
            for _ in 0..WHOLE / piece.len() {
                stream.write_all(&piece)?;
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        }
    });
    let mut reader = open(&object(&root, "x")).expect("it is there");
    // Until nothing moves any more: the channel and the kernel's buffers are full.
    let mut before = u64::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        thread::park_timeout(Duration::from_millis(300));
    }
    assert!(before < WHOLE as u64 / 4, "{before} bytes are on their way");
    assert_eq!(reader.read(&mut [0; 10]).expect("it goes on"), 10);
}

#[tokio::test]
async fn a_runtime_around_it_does_not_matter() {
    let root = files(&[("/x", b"content")]);
    assert_eq!(content(&root, "x").expect("it is there"), b"content");
    look(&object(&root, "x")).expect("it is there");
}
