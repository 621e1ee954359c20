//! Length-delimited frames on QUIC streams: a LEB128 length, then that many bytes.
//!
//! Kind: driver.

use bytes::Bytes;
use datacenter::wire::WireError;
use quinn::{ReadExactError, RecvStream, SendStream, WriteError};
use thiserror::Error;

use crate::transport::not_read;

/// Why a frame could not be read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream or its connection broke.
    #[error("the stream broke: {}", not_read(_0))]
    Stream(quinn::ReadError),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The peer does not keep to the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<quinn::ReadError> for FrameError {
    fn from(error: quinn::ReadError) -> Self {
        Self::Stream(error)
    }
}

/// Writes frames, one behind the other.
///
/// # Errors
///
/// If the stream or its connection broke.
pub async fn write(
    stream: &mut SendStream,
    frames: impl IntoIterator<Item = Bytes>,
) -> Result<(), WriteError> {
    let with_length = |frame: Bytes| {
        let mut length = Vec::with_capacity(5);
        prost::encode_length_delimiter(frame.len(), &mut length).expect("a vector grows");
        [length.into(), frame]
    };
    let mut chunks: Vec<Bytes> = frames.into_iter().flat_map(with_length).collect();
    stream.write_all_chunks(&mut chunks).await
}

/// Reads one frame of at most `max_bytes`; `None` where the peer finished the stream between frames.
///
/// # Errors
///
/// If the stream broke or the frame is too long.
pub async fn read(stream: &mut RecvStream, max_bytes: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = read_length(stream).await? else { return Ok(None) };
    if length > max_bytes as u64 {
        return Err(WireError::TooLong { found: length, allowed: max_bytes }.into());
    }
    // Grows with what really comes: a claim alone costs nothing.
    let mut frame = Vec::with_capacity((length as usize).min(64 * 1024));
    let mut left = length as usize;
    while left > 0 {
        let chunk = stream.read_chunk(left, true).await?.ok_or(FrameError::Truncated)?;
        left -= chunk.bytes.len();
        if left == 0 && frame.is_empty() {
            return Ok(Some(chunk.bytes));
        }
        frame.extend_from_slice(&chunk.bytes);
    }
    Ok(Some(frame.into()))
}

async fn read_length(stream: &mut RecvStream) -> Result<Option<u64>, FrameError> {
    let mut length = 0u64;
    for place in 0..5 {
        let mut byte = [0];
        match stream.read_exact(&mut byte).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(_)) if place == 0 => return Ok(None),
            Err(ReadExactError::FinishedEarly(_)) => return Err(FrameError::Truncated),
            Err(ReadExactError::ReadError(broken)) => return Err(broken.into()),
        }
        length |= u64::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            return Ok(Some(length));
        }
    }
    Err(WireError::Invalid { field: "length" }.into())
}
