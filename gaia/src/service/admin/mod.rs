//! The admin listener: what a process tells of itself over HTTP, to Prometheus, to whoever restarts
//! it, to people.
//!
//! Kind: driver. Every answer is made from one [`Status`], asked for when the request comes;
//! `/metrics` has besides what was [`Recorded`]. The listener has no other access to the process,
//! and changes nothing in it.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | Prometheus' text format; see [`all_metrics`] |
//! | `/healthz` | 200 while the process's tasks answer, else 503 |
//! | `/readyz` | 200 when it trains or has finished, else 503 and what it waits for |
//! | `/status` | the [`Status`], as JSON |
//! | `/` | a short index |
//!
//! It is meant for a trusted network: there is neither TLS nor a password, nor anything secret to
//! see.
//!
//! **Invariant:** a client costs its connection at most. One request is answered on each
//! connection, which lives no longer than [`CONNECTION_LIMIT`]; its head fits into
//! [`HEAD_LIMIT_BYTES`] and comes within [`HEAD_LIMIT`], its body is not read; there are no more
//! than [`CONNECTIONS`], and a further one takes the place of the oldest that has not asked yet. So
//! a health probe is answered at once, whoever else is connected.

mod connections;
mod exposition;
mod metrics;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use axum::routing::get;
use datacenter::printable;
use datacenter::throttle::Throttle;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::connections::{Connection, Connections};
pub use self::exposition::{Recorded, text as metrics_text};
pub use self::metrics::all as all_metrics;
pub(super) use self::metrics::{CheckpointMetrics, WorkerMetrics, suspensions};
use crate::service::status::{Phase, Status};

/// Connections that are served at the same time.
pub const CONNECTIONS: usize = 32;
/// The longest head of a request, its path and headers.
pub const HEAD_LIMIT_BYTES: usize = 16 * 1024;
/// How long a request may take to come.
pub const HEAD_LIMIT: Duration = Duration::from_secs(1);
/// The longest life of a connection. Whoever has not asked and read by then is cut off.
pub const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// How long the process may take to tell its status.
pub const STATUS_LIMIT: Duration = Duration::from_secs(2);

/// [`HEAD_LIMIT`], [`CONNECTION_LIMIT`] and [`STATUS_LIMIT`], or what a test has in their place.
#[derive(Clone, Copy, Debug)]
struct Limits {
    head: Duration,
    connection: Duration,
    status: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: HEAD_LIMIT, connection: CONNECTION_LIMIT, status: STATUS_LIMIT }
    }
}

/// How long to wait when the system has no connection to give, as when files have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "\
/metrics  Prometheus' text format
/healthz  200 while the process's tasks answer
/readyz   200 when it trains or has finished, else what it waits for
/status   all of it, as JSON; `gaia status --url http://HOST:PORT` shows it
";

/// Who knows a process's status.
///
/// The status is put together anew for each request, and within [`STATUS_LIMIT`]: what does not
/// answer until then counts as stuck. It should ask the very tasks that do the work, so that the
/// answer means something. The future is dropped when the limit has passed or the client has gone.
pub trait StatusSource: Send + Sync + 'static {
    /// The status now.
    fn status(&self) -> BoxFuture<'_, Status>;

    /// What was recorded beside it, if anything is.
    fn recorded(&self) -> Option<&Recorded> {
        None
    }
}

impl<F, S> StatusSource for F
where
    F: Fn() -> S + Send + Sync + 'static,
    S: Future<Output = Status> + Send + 'static,
{
    fn status(&self) -> BoxFuture<'_, Status> {
        Box::pin(self())
    }
}

/// Answers on `listener` until it is dropped, and all its connections with it. Never returns.
pub async fn serve(listener: TcpListener, source: Arc<dyn StatusSource>) {
    serve_within(Limits::default(), listener, source).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, source: Arc<dyn StatusSource>) {
    let routes = routes(Asked { source, limit: limits.status });
    let mut served = Connections::new(CONNECTIONS, limits.head);
    // Dropped with this future, and ends its tasks then.
    let mut connections = JoinSet::new();
    let mut failures = Throttle::rare(Instant::now());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(unsaid) = failures.pass(Instant::now()) {
                    warn!(%error, unsaid, "the admin listener got no connection, and will try again");
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        // Whoever comes meanwhile waits in the kernel's queue.
        while let Err(until) = served.free(Instant::now()) {
            let _ = tokio::time::timeout_at(until, connections.join_next()).await;
        }
        while connections.try_join_next().is_some() {}
        let has_asked = Arc::new(AtomicBool::new(false));
        let task = connections.spawn(answer(stream, routes.clone(), limits, Arc::clone(&has_asked)));
        served.take(Connection { since: Instant::now(), has_asked, task });
    }
}

/// Serves one connection, be it a socket or not: what [`serve`] does with each.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    source: Arc<dyn StatusSource>,
) {
    let limits = Limits::default();
    answer(stream, routes(Asked { source, limit: limits.status }), limits, Arc::default()).await;
}

/// Serves one connection.
///
/// By hyper itself, as `axum::serve` knows no limits. One request for each connection makes them
/// simple: a limit on the connection's life is one on everything, be it that heads come byte by
/// byte or that answers are not read.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    limits: Limits,
    has_asked: Arc<AtomicBool>,
) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |request| {
        has_asked.store(true, Ordering::Relaxed);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_LIMIT_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an admin connection ended"),
        Err(_) => debug!("an admin connection took too long"),
    }
}

/// Whom to ask, and for how long.
#[derive(Clone)]
struct Asked {
    source: Arc<dyn StatusSource>,
    limit: Duration,
}

fn routes(asked: Asked) -> Router {
    Router::new()
        .route("/", get(async || reply(StatusCode::OK, TEXT, INDEX.to_owned())))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(async || reply(StatusCode::NOT_FOUND, TEXT, INDEX.to_owned()))
        .with_state(asked)
}

async fn metrics(State(asked): State<Asked>) -> Response<Body> {
    let status = match asked.status().await {
        Ok(status) => status,
        Err(stuck) => return stuck,
    };
    let page = exposition::page(&status, asked.source.recorded());
    reply(StatusCode::OK, exposition::CONTENT_TYPE, page)
}

async fn healthz(State(asked): State<Asked>) -> Response<Body> {
    match asked.status().await {
        Ok(_) => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Err(stuck) => stuck,
    }
}

async fn readyz(State(asked): State<Asked>) -> Response<Body> {
    let status = match asked.status().await {
        Ok(status) => status,
        Err(stuck) => return stuck,
    };
    let mut text = format!("{}\n", status.phase.name());
    for awaited in &status.waiting_for {
        let _ = writeln!(text, "waits for {awaited}");
    }
    let code = match status.phase {
        Phase::Training | Phase::Finished => StatusCode::OK,
        Phase::Starting | Phase::Waiting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    reply(code, TEXT, printable::lines(&text).into_owned())
}

async fn status(State(asked): State<Asked>) -> Response<Body> {
    match asked.status().await {
        Ok(status) => {
            let mut json = serde_json::to_string_pretty(&status).expect("a status is plain data");
            json.push('\n');
            reply(StatusCode::OK, "application/json", printable::json(&json).into_owned())
        }
        Err(stuck) => stuck,
    }
}

impl Asked {
    /// The status, or the answer if there is none in time.
    async fn status(&self) -> Result<Status, Response<Body>> {
        tokio::time::timeout(self.limit, self.source.status()).await.map_err(|_| {
            let text = format!("the process's tasks have not answered within {:?}\n", self.limit);
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        })
    }
}

fn reply(code: StatusCode, kind: &str, body: String) -> Response<Body> {
    let answer = Response::builder().status(code).header(header::CONTENT_TYPE, kind);
    answer.header(header::CACHE_CONTROL, "no-store").body(Body::from(body)).expect("headers are plain text")
}
