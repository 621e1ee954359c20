//! `gaia link` as a process between two sockets.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const FILE: &str = r#"
[[links]]
name = "a-b"
between = ["a", "b"]
rate = "10 Mbit/s"
one_way_delay = "5 ms"
routes = [{ listen = "127.0.0.1:0", target = "TARGET" }]
"#;

/// Ends with the test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn link(arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaia"));
    // A job's environment is none of its business.
    command.arg("link").args(arguments).env("COLUMNS", "100").env("GAIA__JOB__CLOCKS", "5");
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Process(command.spawn().expect("the program starts"))
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket
}

#[test]
fn datagrams_go_both_ways_and_are_counted_when_a_signal_ends_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let [path, counters] = ["x.toml", "counters.json"].map(|name| directory.path().join(name));
    let target = socket();
    let address = target.local_addr().expect("it is bound").to_string();
    fs::write(&path, FILE.replace("TARGET", &address)).expect("a file");
    let [path, counters] = [path, counters].map(|path| path.display().to_string());
    let mut process = link(&[&path, "--counters", &counters, "--set", "links.a-b.forward.rate=20 Mbit/s"]);
    let mut output = BufReader::new(process.0.stdout.take().expect("it is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    let listen = line.strip_prefix("a -> b: ").and_then(|rest| rest.split(' ').next());
    let listen = listen.unwrap_or_else(|| panic!("{line}")).to_owned();
    assert_eq!(line, format!("a -> b: {listen} -> {address} (20.0 Mbit/s, 5ms)\n"));

    let client = socket();
    client.connect(&listen).expect("loopback");
    let mut buffer = [0; 64];
    client.send(b"question").expect("it is sent");
    let (length, from) = target.recv_from(&mut buffer).expect("it comes");
    assert_eq!(&buffer[..length], b"question");
    target.send_to(b"answer!", from).expect("it is sent");
    let length = client.recv(&mut buffer).expect("it comes");
    assert_eq!(&buffer[..length], b"answer!");

    let id = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill is there").success());
    assert_eq!(process.0.wait().expect("it ends").code(), Some(0));
    let mut table = String::new();
    output.read_to_string(&mut table).expect("text");
    let row = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = table.lines().map(row).collect();
    assert!(rows.contains(&row("a -> b 1 1 36 B 0 0 0 0 0")), "{table}");
    assert!(rows.contains(&row("b -> a 1 1 35 B 0 0 0 0 0")), "{table}");
    let written = fs::read_to_string(counters).expect("it is written");
    let written: Value = serde_json::from_str(&written).expect("JSON");
    let link = &written["links"][0];
    assert_eq!((&link["name"], &link["between"][1]), (&"a-b".into(), &"b".into()));
    assert_eq!(link["forward"]["delivered_bytes"], 36);
    assert_eq!(link["backward"]["offered"], 1);
}

#[test]
fn what_has_to_be_put_right_is_said_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    let taken = socket().local_addr().expect("it is bound");
    let holder = UdpSocket::bind(taken).expect("it is free again");
    let text = FILE.replace("127.0.0.1:0", &taken.to_string()).replace("TARGET", "b:1");
    fs::write(&path, &text).expect("a file");
    let path = path.display().to_string();
    let run = |arguments: &[&str]| {
        let mut process = link(arguments);
        let mut message = String::new();
        process.0.stderr.take().expect("it is piped").read_to_string(&mut message).expect("text");
        (process.0.wait().expect("it ends").code(), message)
    };
    let (code, message) = run(&[&path]);
    assert_eq!(code, Some(2));
    let expected =
        format!("error: cannot listen on {taken} for a-b: it is in use; stop what listens there, or");
    assert!(message.starts_with(&expected), "{message}");
    drop(holder);
    fs::write(&path, text.replace("rate", "rat").replace("\"b:1\"", "\"b\"")).expect("a file");
    let (code, message) = run(&[&path]);
    assert_eq!(code, Some(2));
    for expected in [":5: links.a-b.rat: unknown key; did you mean `rate`?", "links.a-b.routes[0].target: "] {
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
    let (code, message) = run(&[&path, "--counters", "-"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("a file name"), "{message}");
}
