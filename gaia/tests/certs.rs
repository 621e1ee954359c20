//! `gaia certs` as an operator meets it: from an empty directory to a revoked certificate.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn certs(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaia"));
    command.current_dir(directory).arg("certs").args(arguments).env("RUST_LOG", "trace");
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of what must succeed.
fn done(directory: &Path, arguments: &[&str]) -> String {
    let output = certs(directory, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(!all.contains("PRIVATE"), "a key is shown by {arguments:?}");
    text(&output.stdout)
}

/// Standard error of what must fail, with its exit code.
fn failed(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let output = certs(directory, arguments);
    let code = output.status.code().expect("an exit code");
    assert_ne!(code, 0, "{arguments:?}: {}", text(&output.stdout));
    (code, text(&output.stderr))
}

#[test]
fn from_nothing_to_a_revoked_certificate() {
    let temporary = tempfile::tempdir().unwrap();
    let here = temporary.path();
    let (code, message) = failed(here, &["issue", "virginia", "server", "0"]);
    assert_eq!(
        (code, message.as_str()),
        (2, "error: there is no authority in certs; `gaia certs init` makes one\n")
    );

    assert!(done(here, &["init"]).contains("certs/ca.key"));
    let written = done(here, &["issue", "virginia", "--servers", "2", "--workers", "1"]);
    assert_eq!(
        written,
        "certs/virginia-server-0.pem and certs/virginia-server-0.key: virginia.server.gaia\n\
         certs/virginia-server-1.pem and certs/virginia-server-1.key: virginia.server.gaia\n\
         certs/virginia-worker-0.pem and certs/virginia-worker-0.key: virginia.worker.gaia\n"
    );
    done(here, &["issue", "us-east-1", "operator", "0", "--days", "7"]);
    for name in ["ca.pem", "ca.key", "crl.pem", "issued.json", "us-east-1-operator-0.key"] {
        assert!(here.join("certs").join(name).exists(), "{name}");
    }

    let key = fs::read(here.join("certs/virginia-server-0.key")).unwrap();
    let (code, message) = failed(here, &["issue", "virginia", "server", "0"]);
    assert_eq!(code, 2);
    assert!(
        message.contains("virginia-server-0.key exists already; `gaia certs renew` or --force"),
        "{message}"
    );
    let (code, _) = failed(here, &["init"]);
    assert_eq!(code, 2);
    assert_eq!(fs::read(here.join("certs/virginia-server-0.key")).unwrap(), key);

    let shown = done(here, &["show"]);
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[1][0], lines[1].len()), ("ca.pem", 5), "{shown}");
    assert!(shown.lines().all(|line| line.len() <= 80), "it fits a terminal:\n{shown}");
    let of = |file: &str| lines.iter().find(|line| line[0] == file).expect(file);
    assert!(
        of("virginia-worker-0.pem").ends_with(&["90", "ok"])
            || of("virginia-worker-0.pem").ends_with(&["89", "ok"])
    );
    assert!(of("us-east-1-operator-0.pem").ends_with(&["expires", "soon"]));
    fs::copy(here.join("certs/virginia-worker-0.pem"), here.join("certs/ireland-worker-0.pem")).unwrap();
    let misnamed = done(here, &["show"]);
    let line = misnamed.lines().find(|line| line.starts_with("ireland-worker-0.pem")).expect("a line");
    assert!(line.ends_with("ok, of virginia.worker.gaia"), "{misnamed}");
    fs::remove_file(here.join("certs/ireland-worker-0.pem")).unwrap();

    let renewed = done(here, &["renew"]);
    assert!(
        renewed.starts_with("certs/us-east-1-operator-0.pem") && renewed.lines().count() == 1,
        "{renewed}"
    );
    assert_eq!(done(here, &["renew"]), "nothing expires within 30days\n");
    done(here, &["renew", "virginia-server-0"]);
    assert_ne!(fs::read(here.join("certs/virginia-server-0.key")).unwrap(), key, "a new key");

    let revoked = done(here, &["revoke", "virginia-server-0"]);
    assert!(revoked.starts_with("virginia-server-0: revoked "), "{revoked}");
    assert_eq!(revoked.lines().next().unwrap().split(", ").count(), 2, "also what was renewed");
    let shown = done(here, &["show"]);
    let revoked: Vec<_> = shown.lines().filter(|line| line.ends_with("revoked")).collect();
    assert!(revoked.len() == 1 && revoked[0].starts_with("virginia-server-0.pem"), "{shown}");
}

#[test]
fn regions_say_who_needs_a_certificate() {
    let temporary = tempfile::tempdir().unwrap();
    let here = temporary.path();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/regions");
    let file = |region: &str| format!("{shipped}/{region}.toml");
    done(here, &["init"]);
    let (virginia, ireland) = (file("virginia"), file("ireland"));
    // One that is named twice is issued to once.
    let written = done(
        here,
        &["issue", "--config", &virginia, "--config", &ireland, "--config", &virginia, "--days", "30"],
    );
    let names: Vec<_> = written.lines().filter_map(|line| line.rsplit(": ").next()).collect();
    let of = |region: &str| {
        let servers = vec![format!("{region}.server.gaia"); 2];
        servers.into_iter().chain(vec![format!("{region}.worker.gaia"); 3])
    };
    assert_eq!(names, of("virginia").chain(of("ireland")).collect::<Vec<_>>());
    for name in ["virginia-server-1", "virginia-worker-2", "ireland-server-0", "ireland-worker-0"] {
        assert!(here.join(format!("certs/{name}.key")).exists(), "{name}");
    }
    let (code, message) = failed(here, &["issue", "--config", &file("atlantis")]);
    assert!(code == 2 && message.contains("atlantis.toml"), "{message}");
}

#[test]
fn wrong_words_are_explained() {
    let temporary = tempfile::tempdir().unwrap();
    let here = temporary.path();
    done(here, &["init", "--directory", "elsewhere"]);
    for (arguments, expected) in [
        (&["issue", "virginia", "-d", "elsewhere"][..], "required"),
        (&["issue", "-d", "elsewhere"], "required"),
        (&["issue", "virginia", "--config", "virginia.toml"], "cannot be used with"),
        (&["issue", "virginia", "server", "-d", "elsewhere"], "<INDEX>"),
        (&["issue", "virginia", "king", "0"], "allowed: server, worker, operator"),
        (&["issue", "Virginia", "server", "0", "-d", "elsewhere"], "cannot name a datacenter"),
        (&["issue", "virginia", "server", "0", "--servers", "2"], "cannot be used with"),
        (&["issue", "virginia", "server", "0", "--days", "0"], "0 is not in 1..=36500"),
        (&["renew", "virginia", "-d", "elsewhere"], "such as virginia-server-0"),
        (&["renew", "virginia-server-0", "-d", "elsewhere"], "neither a name nor a serial number"),
        (&["renew", "--within", "soon"], "--within"),
        (&["revoke", "-d", "elsewhere"], "<NAME>"),
    ] {
        let (code, message) = failed(here, arguments);
        assert_eq!(code, 2, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    let (code, message) = failed(here, &["show"]);
    assert_eq!(code, 1);
    assert!(message.contains("cannot read certs"), "{message}");
}
