//! What `gaia status` makes of what a process says, or of what something else says where one should
//! listen.

use std::time::Duration;

use datacenter::printable;
use gaia::program::view::{History, text};
use gaia::service::admin::metrics_text;
use gaia::service::status::Status;
use gaia::service::status::fetch::{FetchError, Fetched, Target, read};

/// Two answers to the same question, some seconds apart; the second is left out if there is none.
pub fn status_answers(data: &[u8]) {
    let answers = super::files::parts(data, 2);
    let mut history = History::default();
    for (seconds, answer) in (0..).step_by(2).zip(&answers) {
        let status = read(answer);
        if let Ok(status) = &status {
            say_again(status);
        }
        history.push(Duration::from_secs(seconds), vec![fetched(status)]);
        show(&history);
    }
    // And then it is gone.
    let gone = FetchError::TimedOut(Duration::from_secs(1));
    history.push(Duration::from_secs(9), vec![fetched(Err(gone))]);
    show(&history);
}

fn fetched(status: Result<Status, FetchError>) -> Fetched {
    let url = "127.0.0.1:7500".parse().expect("it is a URL");
    Fetched { target: Target { url, name: Some(("virginia".to_owned(), "server-0".to_owned())) }, status }
}

/// What was understood is understood anew as it is written, and has no text that does harm.
fn say_again(status: &Status) {
    let json = serde_json::to_string(status).expect("a status is plain data");
    assert!(!json.contains(printable::is_hidden), "{json:?}");
    let again = read(json.as_bytes()).expect("what was accepted is accepted when it is written anew");
    assert_eq!(
        (&again.role, &again.datacenter, again.phase),
        (&status.role, &status.datacenter, status.phase)
    );
    drop(metrics_text(status));
}

fn show(history: &History) {
    for width in [1, 40, 80, 160] {
        let page = text(history, width);
        let is_harmless = |character: char| character == '\n' || !printable::is_hidden(character);
        assert!(page.chars().all(is_harmless), "{page:?}");
    }
}

/// A status with something of everything, with figures at their ends, and what is none.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    const STATUS: &str = include_str!("status.json");
    let extreme = STATUS.replace("118", "4294967295").replace("4100", "18446744073709551615");
    let tiny = STATUS.replace("118", "0").replace("0.25", "-1e300").replace("1.5", "null");
    let hidden = STATUS.replace("it does not answer", "x\\n\\u001b[2J\\u202e");
    let later = STATUS.replace("118", "127").replace("4100", "9100").replace("training", "finished");
    [
        STATUS.to_owned(),
        format!("{STATUS}\n%%\n{later}"),
        format!("{later}\n%%\n{STATUS}"),
        format!("{extreme}\n%%\n{extreme}"),
        format!("{tiny}\n%%\n{STATUS}"),
        hidden,
        "{}".to_owned(),
        "<html>404</html>".to_owned(),
        "[".repeat(200),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}
