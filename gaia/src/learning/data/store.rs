//! Files in object stores, read as they come.
//!
//! Kind: driver.
//!
//! Loaders read one file from its beginning to its end, and block. Object stores are asked
//! asynchronously. So each file has a thread with a small runtime of its own, which hands over what
//! has arrived through a bounded channel: a loader never has more than a few megabytes of a file
//! before it, however large that is, and nothing of it touches the clock or the runtime of whoever
//! loads. Requests that fail are repeated by the client, and a download that breaks off is taken up
//! where it broke where the store names versions (ETag).
//!
//! Settings and credentials come from where each store's other tools take them: `AWS_...`,
//! `GOOGLE_...` and `AZURE_...` variables, and the machine's metadata service.

use std::error::Error as _;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, Error, GetResult, ObjectStore, ObjectStoreExt};
use object_store::{ObjectStoreScheme, RetryConfig};
use url::{Position, Url};

/// Pieces that wait for the loader. Each is what the client has read at a time, at most about 400
/// kB.
const PIECES: usize = 8;
/// A store that sends nothing for so long is asked again. There is no limit to a whole download.
const READ_TIMEOUT: &str = "30 s";
/// The same for one that is given an object, as it says nothing before it has all of it.
pub(crate) const PUT_TIMEOUT: &str = "15 min";
const NO_TIMEOUT: &str = "1000 days";
/// With pauses of 0.1 s and growing: about half a minute at the most, in which a store that
/// restarts is back.
const RETRIES: usize = if cfg!(test) { 2 } else { 8 };
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// An object as a stream of bytes.
pub(super) struct StoreReader {
    pieces: Receiver<Piece>,
    /// What of the last piece has not been read.
    rest: Bytes,
    is_over: bool,
}

/// The next bytes, or nothing at the end of the object.
type Piece = io::Result<Option<Bytes>>;

/// Opens the object at `url`. Where there is none, it may stand there packed, or unpacked, with
/// `.gz` after its name or without.
pub(super) fn open(url: &Url) -> io::Result<StoreReader> {
    let (sender, pieces) = sync_channel(PIECES);
    let url = url.clone();
    start(move || {
        // A loader that is gone wants no more, and has its reasons.
        let _ = match download(&url, &sender) {
            Ok(()) => sender.send(Ok(None)),
            Err(error) => sender.send(Err(explain(&url, &error))),
        };
    })?;
    let mut reader = StoreReader { pieces, rest: Bytes::new(), is_over: false };
    // Whether there is such an object is known before its first line, and whether it is packed from
    // two bytes.
    let mut first = BytesMut::new();
    while first.len() < 2 && !reader.is_over {
        reader.receive()?;
        first.extend_from_slice(&reader.rest);
    }
    reader.rest = first.freeze();
    Ok(reader)
}

/// Asks whether [`open`] would find an object at `url`.
pub(super) fn look(url: &Url) -> io::Result<()> {
    let url = url.clone();
    let looking = start(move || {
        let found = block_on(async {
            let (store, path) = store(&url, READ_TIMEOUT)?;
            match store.head(&path).await {
                Err(error @ Error::NotFound { .. }) => store.head(&repacked(&path)).await.map_err(|_| error),
                found => found,
            }
        });
        found.map(drop).map_err(|error| explain(&url, &error))
    })?;
    looking.join().unwrap_or_else(|_| Err(io::Error::other(BROKEN)))
}

const BROKEN: &str = "the download ended without a word";

pub(crate) fn start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name("data".to_owned()).spawn(work)
}

pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    // The client takes whatever provider of TLS the process has; this one, unless somebody chose
    // another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Generic { store: "runtime", source: error.into() })?;
    runtime.block_on(work)
}

fn download(url: &Url, pieces: &SyncSender<Piece>) -> Result<(), Error> {
    block_on(async {
        let (store, path) = store(url, READ_TIMEOUT)?;
        let mut body = get(&*store, &path).await?.into_stream();
        while let Some(piece) = body.next().await {
            // Waits for the loader, in a thread that has nothing else to do.
            if pieces.send(Ok(Some(piece?))).is_err() {
                break;
            }
        }
        Ok(())
    })
}

async fn get(store: &dyn ObjectStore, path: &Path) -> Result<GetResult, Error> {
    match store.get(path).await {
        Err(error @ Error::NotFound { .. }) => store.get(&repacked(path)).await.map_err(|_| error),
        found => found,
    }
}

/// The name of `path` with `.gz` after it, or without.
fn repacked(path: &Path) -> Path {
    let name = path.as_ref();
    Path::from(name.strip_suffix(".gz").map_or_else(|| format!("{name}.gz"), str::to_owned))
}

/// The store of a URL, and the object's path in it. One that does not answer within `read_timeout`
/// is asked again.
pub(crate) fn store(url: &Url, read_timeout: &str) -> Result<(Box<dyn ObjectStore>, Path), Error> {
    let (scheme, path) = ObjectStoreScheme::parse(url)?;
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let (timeout, reading) = (ClientConfigKey::Timeout, ClientConfigKey::ReadTimeout);
    let store: Box<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => Box::new(
            AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_config(AmazonS3ConfigKey::Client(timeout), NO_TIMEOUT)
                .with_config(AmazonS3ConfigKey::Client(reading), read_timeout)
                .with_retry(retry)
                .build()?,
        ),
        ObjectStoreScheme::GoogleCloudStorage => Box::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_config(GoogleConfigKey::Client(timeout), NO_TIMEOUT)
                .with_config(GoogleConfigKey::Client(reading), read_timeout)
                .with_retry(retry)
                .build()?,
        ),
        ObjectStoreScheme::MicrosoftAzure => Box::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_config(AzureConfigKey::Client(timeout), NO_TIMEOUT)
                .with_config(AzureConfigKey::Client(reading), read_timeout)
                .with_retry(retry)
                .build()?,
        ),
        ObjectStoreScheme::Http => Box::new(
            HttpBuilder::new()
                .with_url(&url[..Position::BeforePath])
                // Whoever writes http:// means it.
                .with_client_options(ClientOptions::new().with_allow_http(true))
                .with_config(timeout, NO_TIMEOUT)
                .with_config(reading, read_timeout)
                .with_retry(retry)
                .build()?,
        ),
        other => {
            let source = format!("no store of the kind {other:?}").into();
            return Err(Error::Generic { store: "URL", source });
        }
    };
    Ok((store, path))
}

/// What is wrong, in the words that files have for it, and what to do about it.
pub(crate) fn explain(url: &Url, error: &Error) -> io::Error {
    match error {
        Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, "there is no such object"),
        Error::PermissionDenied { .. } => {
            let message = format!("access is denied; {}", credentials(url));
            io::Error::new(io::ErrorKind::PermissionDenied, message)
        }
        Error::Unauthenticated { .. } => {
            let message = format!("the store wants other credentials; {}", credentials(url));
            io::Error::new(io::ErrorKind::PermissionDenied, message)
        }
        _ => {
            let mut message = format!("the store cannot be used: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                // Most causes are part of their effects' messages already.
                let text = error.to_string();
                if !message.contains(&text) {
                    message.push_str(&format!(": {text}"));
                }
                cause = error.source();
            }
            if METADATA.iter().any(|host| message.contains(host)) {
                message.push_str(&format!("; {}", credentials(url)));
            }
            io::Error::other(message)
        }
    }
}

/// Where clients look for credentials last.
const METADATA: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];

/// Where a store's credentials come from.
fn credentials(url: &Url) -> &'static str {
    match ObjectStoreScheme::parse(url) {
        Ok((ObjectStoreScheme::AmazonS3, _)) => {
            "credentials are those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's; \
             a public bucket is read with AWS_SKIP_SIGNATURE=true"
        }
        Ok((ObjectStoreScheme::GoogleCloudStorage, _)) => {
            "credentials are those of GOOGLE_APPLICATION_CREDENTIALS, or the machine's; \
             a public bucket is read with GOOGLE_SKIP_SIGNATURE=true"
        }
        Ok((ObjectStoreScheme::MicrosoftAzure, _)) => {
            "credentials are those of AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the machine's; \
             a public container is read with AZURE_SKIP_SIGNATURE=true"
        }
        _ => "web addresses are read without credentials",
    }
}

impl StoreReader {
    /// Waits for the next piece.
    fn receive(&mut self) -> io::Result<()> {
        match self.pieces.recv() {
            Ok(piece) => {
                let piece = piece?;
                self.is_over = piece.is_none();
                self.rest = piece.unwrap_or_default();
                Ok(())
            }
            Err(_) => Err(io::Error::other(BROKEN)),
        }
    }
}

impl BufRead for StoreReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() && !self.is_over {
            self.receive()?;
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, count: usize) {
        drop(self.rest.split_to(count));
    }
}

impl Read for StoreReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
