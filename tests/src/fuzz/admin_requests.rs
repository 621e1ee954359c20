//! What somebody sends to the admin listener.

use std::str;
use std::sync::Arc;
use std::time::Duration;

use datacenter::printable;
use gaia::service::admin::{CONNECTION_LIMIT, serve_connection};
use gaia::service::status::{LinkStatus, Phase, ServerStatus, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime;
use tokio::time::{Instant, timeout};

/// What a socket holds that nobody reads from.
const BUFFER_BYTES: usize = 1 << 20;

/// What the listener answers with, whatever it is asked; 400 and 431 are hyper's, of heads that are
/// wrong or too long.
const CODES: [&str; 8] = ["200", "400", "404", "405", "414", "431", "501", "503"];

/// The first byte says how many bytes come at a time, or 0 for all at once; the others are a
/// request.
pub fn admin_requests(data: &[u8]) {
    let Some((piece, request)) = data.split_first() else { return };
    let whole = answer(request, request.len());
    check(&whole);
    if *piece > 0 {
        let split = answer(request, usize::from(*piece));
        // What is no request, or too long, is refused one way or another, or hung up on: hyper goes
        // by what it has seen of it.
        let is_wrong = |answer: &[u8]| answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(
            is_wrong(&split) && is_wrong(&whole) || without_date(&split) == without_date(&whole),
            "however it is cut, it is one request"
        );
    }
}

/// What comes back for `request`, in pieces of so many bytes, from a client that never hangs up.
fn answer(request: &[u8], piece: usize) -> Vec<u8> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without sockets can be made").block_on(async {
        let (client, server) = duplex(BUFFER_BYTES);
        let (mut read, mut write) = tokio::io::split(client);
        let asking = async {
            for piece in request.chunks(piece.max(1)) {
                // Whoever has been answered need not be listened to.
                if write.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let start = Instant::now();
        let mut answer = Vec::new();
        let listening = async {
            _ = read.read_to_end(&mut answer).await;
            assert!(start.elapsed() <= CONNECTION_LIMIT + Duration::from_millis(1), "it has its limit");
        };
        let serving = serve_connection(server, Arc::new(async || status()));
        let all = async { tokio::join!(serving, asking, listening) };
        timeout(2 * CONNECTION_LIMIT, all).await.expect("a connection ends by itself");
        answer
    })
}

/// A process with texts that others have chosen.
fn status() -> Status {
    let evil = || "x\n\u{1b}[2J\u{202e}".to_owned();
    let link = LinkStatus { datacenter: evil(), problem: Some(evil()), ..LinkStatus::default() };
    let server = ServerStatus { links: vec![link], ..ServerStatus::default() };
    Status {
        phase: Phase::Waiting,
        role: "server-0".to_owned(),
        waiting_for: vec![evil()],
        servers: vec![server],
        ..Status::default()
    }
}

/// Nothing, or one answer: whole, of one of a few kinds, and harmless to show.
fn check(answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let text = str::from_utf8(answer).expect("all that is said is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().expect("a text has a line");
    let (version, rest) = status.split_once(' ').expect("a version, and a code");
    assert!(version == "HTTP/1.1" || version == "HTTP/1.0", "{status}");
    let code = rest.split(' ').next().expect("a text has a word");
    assert!(CODES.contains(&code), "{status}");
    let headers: Vec<_> = lines.map(|line| line.split_once(": ").expect("a name, and a value")).collect();
    let header = |wanted: &str| {
        let mut found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let first = found.next().map(|(_, value)| *value);
        assert!(found.next().is_none(), "{wanted} twice");
        first
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().expect("a number"));
    // A second answer would stand behind the first. To HEAD there is a length, and no body.
    assert!(body.len() == length || body.is_empty(), "{length} bytes are announced of {}", body.len());
    let is_harmless = |character| matches!(character, '\n' | '\t') || !printable::is_hidden(character);
    assert!(body.chars().all(is_harmless), "{body:?}");
    if header("content-type") == Some("application/json") && !body.is_empty() {
        serde_json::from_str::<serde_json::Value>(body).expect("it says that it is JSON");
    }
}

/// The lines of an answer in an order of our own, as metrics have none.
fn without_date(answer: &[u8]) -> Vec<&[u8]> {
    let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"date:"));
    let mut lines: Vec<&[u8]> = lines.collect();
    lines.sort_unstable();
    lines
}

/// Requests as they should be, and as they should not.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let long = format!("GET /status HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(2000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(120));
    [
        "\0GET /status HTTP/1.1\r\nHost: 127.0.0.1:7500\r\nAccept: */*\r\n\r\n",
        "\x01GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x05HEAD /readyz HTTP/1.0\r\n\r\n",
        "\0GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x07POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "\x03POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "\0POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "\0GET http://other/../status?x=%00%0a#y HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
        "\0GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade, keep-alive\r\n\r\n",
        "\0PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x02\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03",
        "\0OPTIONS * HTTP/1.1\r\n\r\n",
        "\0GET /status",
        "\0CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("\0{long}"), format!("\x40{many}")])
    .map(String::into_bytes)
    .collect()
}
