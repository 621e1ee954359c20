//! Shards in another datacenter, reached over the WAN: what the stretched parameter server is made of.
//!
//! A worker opens one bidirectional stream to each datacenter on the data connection and speaks the LAN's own
//! protocol on it, requests one way and answers the other, both in order. The stream begins with a frame that names
//! the worker; each request is preceded by its shard.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use datacenter::message::{ReadReply, Request};
use datacenter::wire::{self, WireError};
use datacenter::{ShardId, ShardTable, WorkerId};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tracing::warn;

use crate::driver::frames::{self, FrameError};
use crate::driver::link::LinkError;

/// Shapes of the tables of every shard, by shard.
pub type ShardShapes = Arc<Vec<Vec<ShardTable>>>;

/// Answers for remote workers, until their streams come for them.
pub type Answers = Arc<Mutex<BTreeMap<WorkerId, mpsc::Receiver<ReadReply>>>>;

/// The largest header of a stream.
const HEADER_BYTES: usize = size_of::<u32>();

/// Carries `worker`'s requests to shards behind `connection`, and their answers back, until either side closes. The
/// payload of what is sent is added to `payload_bytes`.
///
/// # Errors
///
/// If the connection breaks or the other side does not keep to the protocol.
pub async fn call(
    connection: Connection,
    worker: WorkerId,
    shapes: ShardShapes,
    mut requests: mpsc::Receiver<(ShardId, Request)>,
    replies: mpsc::Sender<ReadReply>,
    payload_bytes: Arc<AtomicU64>,
) -> Result<(), LinkError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    frames::write(&mut send, [Bytes::copy_from_slice(&worker.0.to_le_bytes())]).await?;
    let sending = async {
        while let Some((shard, request)) = requests.recv().await {
            payload_bytes.fetch_add(wire::request_payload_len(&request) as u64, Ordering::Relaxed);
            let encoded = wire::encode_request(&request);
            let mut frame = BytesMut::with_capacity(size_of::<u16>() + encoded.len());
            frame.put_u16_le(shard.0);
            frame.put(encoded);
            frames::write(&mut send, [frame.freeze()]).await?;
        }
        Ok::<_, LinkError>(())
    };
    let receiving = async {
        while let Some(frame) = frames::read(&mut receive, max_frame_bytes(&shapes)).await? {
            let reply = wire::decode_reply(frame, &shapes)?;
            if replies.send(reply).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving).map(|_| ())
}

/// Serves remote workers that open streams on `connection`: their requests go to `requests`, and what is in `answers`
/// for them goes back. The payload of what is sent is added to `payload_bytes`.
///
/// # Errors
///
/// When the connection ends.
pub async fn serve(
    connection: Connection,
    shapes: ShardShapes,
    requests: mpsc::Sender<(ShardId, Request)>,
    answers: Answers,
    payload_bytes: Arc<AtomicU64>,
) -> Result<(), LinkError> {
    loop {
        let (send, receive) = connection.accept_bi().await?;
        let (shapes, requests, answers) = (shapes.clone(), requests.clone(), answers.clone());
        let payload_bytes = payload_bytes.clone();
        tokio::spawn(async move {
            let served = serve_worker(send, receive, shapes, requests, answers, payload_bytes);
            if let Err(error) = served.await {
                warn!(%error, "a remote worker's stream ended");
            }
        });
    }
}

async fn serve_worker(
    mut send: SendStream,
    mut receive: RecvStream,
    shapes: ShardShapes,
    requests: mpsc::Sender<(ShardId, Request)>,
    answers: Answers,
    payload_bytes: Arc<AtomicU64>,
) -> Result<(), LinkError> {
    let header = frames::read(&mut receive, HEADER_BYTES).await?.ok_or(FrameError::Truncated)?;
    let header = header.as_ref().try_into().map_err(|_| WireError::Invalid { field: "worker" })?;
    let worker = WorkerId(u32::from_le_bytes(header));
    let waiting = answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    let mut replies = waiting.ok_or(WireError::Invalid { field: "worker" })?;
    let receiving = async {
        while let Some(mut frame) = frames::read(&mut receive, max_frame_bytes(&shapes)).await? {
            let shard = ShardId(frame.try_get_u16_le().map_err(|_| WireError::Invalid { field: "shard" })?);
            let tables = shapes.get(shard.index()).ok_or(WireError::Invalid { field: "shard" })?;
            let request = wire::decode_request(frame, tables)?;
            requests.send((shard, request)).await.map_err(|_| LinkError::Unwanted)?;
        }
        Ok::<_, LinkError>(())
    };
    let sending = async {
        while let Some(reply) = replies.recv().await {
            payload_bytes.fetch_add(wire::reply_payload_len(&reply) as u64, Ordering::Relaxed);
            frames::write(&mut send, [wire::encode_reply(&reply)]).await?;
        }
        Ok(())
    };
    tokio::try_join!(receiving, sending).map(|_| ())
}

/// The longest frame that a correct side could send: every element of the largest shard with its index.
fn max_frame_bytes(shapes: &[Vec<ShardTable>]) -> usize {
    let elements = |tables: &Vec<ShardTable>| tables.iter().map(|t| t.elements()).sum::<usize>();
    shapes.iter().map(elements).max().unwrap_or(0).saturating_mul(8).saturating_add(64 * 1024)
}
