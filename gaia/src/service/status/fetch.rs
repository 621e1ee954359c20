//! Asks processes for their status, over HTTP.
//!
//! Kind: driver.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use datacenter::printable;
use futures_util::future::{join, join_all};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::Status;

/// How long a process may take to answer, where there is no hurry. More than the two seconds after
/// which it says by itself that it is stuck.
pub const TIME_LIMIT: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// A process's admin listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// A name, or an address; one of IPv6 without its brackets.
    host: String,
    port: u16,
    /// What goes before `/status`, where a proxy wants that.
    prefix: String,
}

/// Why a text is not the URL of an admin listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {reason}; write http://HOST:PORT")]
pub struct UrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for Url {
    type Err = UrlError;

    /// Reads `http://HOST:PORT` or `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let wrong = |reason| UrlError { text: text.to_owned(), reason };
        let uri = if text.contains("://") { text.parse() } else { format!("http://{text}").parse() };
        let uri: Uri = uri.map_err(|_| wrong("is no URL"))?;
        if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
            return Err(wrong("is not plain HTTP, which is all that admin listeners speak"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().ok_or_else(|| wrong("names no port"))?;
        let path = uri.path().trim_end_matches('/');
        Ok(Self { host, port, prefix: path.strip_suffix("/status").unwrap_or(path).to_owned() })
    }
}

impl Url {
    /// Host and port, as the header `Host` has them.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.prefix)
    }
}

/// A process to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it answers.
    pub url: Url,
    /// Which one it should be, where that is known: its region, and its role as in
    /// [`Status::role`]. Said of a process that does not answer.
    pub name: Option<(String, String)>,
}

impl From<Url> for Target {
    fn from(url: Url) -> Self {
        Self { url, name: None }
    }
}

/// What came of asking one process.
#[derive(Debug)]
pub struct Fetched {
    /// Who was asked.
    pub target: Target,
    /// What it said.
    pub status: Result<Status, FetchError>,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens there, or the name is not known.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The conversation broke.
    #[error("the conversation broke")]
    Http(#[source] hyper::Error),
    /// The answer did not end, or was too long.
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered something else than 200.
    #[error("{code}: {text}")]
    Refused {
        /// The code.
        code: StatusCode,
        /// The first line of the answer.
        text: String,
    },
    /// It answered something that is no status: another program, or one of another version.
    #[error("this is no status")]
    Json(#[source] serde_json::Error),
}

/// Asks all of `targets` at the same time; answers in their order, after `limit` at the latest.
pub async fn fetch(targets: &[Target], limit: Duration) -> Vec<Fetched> {
    join_all(targets.iter().map(async |target| {
        let status = tokio::time::timeout(limit, ask(&target.url)).await;
        let status = status.unwrap_or(Err(FetchError::TimedOut(limit)));
        Fetched { target: target.clone(), status }
    }))
    .await
}

async fn ask(url: &Url) -> Result<Status, FetchError> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(FetchError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
    let request = Request::get(format!("{}/status", url.prefix))
        .header(header::HOST, url.authority())
        .body(Empty::<Bytes>::new())
        .expect("a URL was parsed");
    let exchange = async move {
        let answer = sender.send_request(request).await.map_err(FetchError::Http)?;
        let code = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT_BYTES).collect().await;
        // The sender goes here, and with it the connection.
        Ok((code, body.map_err(FetchError::Body)?.to_bytes()))
    };
    // How the connection ends does not matter once there is an answer.
    let (answer, _) = join(exchange, connection).await;
    let (code, body) = answer?;
    if code != StatusCode::OK {
        let text = String::from_utf8_lossy(&body);
        let text = printable::line(text.lines().next().unwrap_or_default()).into_owned();
        return Err(FetchError::Refused { code, text });
    }
    read(&body)
}

/// What a process answers, with its texts as they may be shown: whatever listens there has written
/// them.
///
/// # Errors
///
/// If it is no status.
pub fn read(body: &[u8]) -> Result<Status, FetchError> {
    let mut answer: Value = serde_json::from_slice(body).map_err(FetchError::Json)?;
    make_printable(&mut answer);
    serde_json::from_value(answer).map_err(FetchError::Json)
}

fn make_printable(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable::line_of(std::mem::take(text)),
        Value::Array(values) => values.iter_mut().for_each(make_printable),
        Value::Object(fields) => {
            let named = std::mem::take(fields).into_iter();
            fields.extend(named.map(|(name, mut value)| {
                make_printable(&mut value);
                (printable::line_of(name), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::made_up;

    #[test]
    fn what_a_process_says_of_itself_moves_no_cursor() {
        let evil = "x\n\u{1b}[2J\u{9b}31m\u{202e}y";
        let mut answer = serde_json::to_value(made_up::whole_region()).unwrap();
        replace_texts(&mut answer, evil);
        let status = read(&serde_json::to_vec(&answer).unwrap());
        let told = match status {
            Ok(status) => serde_json::to_string(&status).unwrap(),
            Err(error) => crate::human::with_causes(&error),
        };
        assert!(told.contains("u{1b}[2J") && !told.contains(printable::is_hidden), "{told}");
    }

    fn replace_texts(value: &mut Value, evil: &str) {
        match value {
            // What is one of a few words stays one.
            Value::String(text) if text.contains(' ') || text.contains('-') => evil.clone_into(text),
            Value::Array(values) => values.iter_mut().for_each(|value| replace_texts(value, evil)),
            Value::Object(fields) => fields.values_mut().for_each(|value| replace_texts(value, evil)),
            _ => {}
        }
    }
}
