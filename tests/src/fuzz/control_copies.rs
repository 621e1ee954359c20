//! Control messages on a stream, and copies of them in datagrams that are lost, doubled and late.

use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use wan::transport::{Arrivals, MAX_CONTROL_BYTES};

use super::operations::operations;

#[derive(Arbitrary, Debug)]
enum Operation {
    /// A message of so many bytes goes to the stream, or several.
    Send { bytes: u16, count: u8 },
    /// Copies of the messages from so many before the last one on.
    Copy { back: u8, count: u8 },
    /// The next bytes of the stream come.
    Stream { bytes: u16 },
    /// A datagram comes, or comes for the first of two times.
    Datagram { place: u8, again: bool },
}

/// The first byte chooses: what an honest sender sends, in some order, or whatever a hostile one
/// does.
pub fn control_copies(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let mut bytes = Unstructured::new(rest);
    match choice % 2 {
        0 => honest(operations(&mut bytes)),
        _ => hostile(operations(&mut bytes)),
    }
}

/// A message says its number, so that it can be told how often it came.
fn message(number: u32, bytes: u16) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(message.len().max(bytes.into()), 7);
    message
}

/// A message behind its length, LEB128.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut length = message.len();
    while length >= 0x80 {
        frame.push(length as u8 | 0x80);
        length >>= 7;
    }
    frame.push(length as u8);
    frame.extend_from_slice(message);
    frame
}

fn honest(operations: Vec<Operation>) {
    let (mut arrivals, mut sent, mut stream) = (Arrivals::default(), Vec::new(), VecDeque::new());
    let (mut datagrams, mut came) = (Vec::<Bytes>::new(), Vec::new());
    for operation in operations {
        match operation {
            Operation::Send { bytes, count } => {
                for _ in 0..=count {
                    let frame = framed(&message(sent.len() as u32, bytes % 1000));
                    stream.extend(&frame);
                    came.push(false);
                    sent.push(frame);
                }
            }
            Operation::Copy { back, count } => {
                let first = sent.len().saturating_sub(usize::from(back));
                let mut datagram = (first as u32).to_be_bytes().to_vec();
                datagram.extend(sent.iter().skip(first).take(usize::from(count)).flatten());
                datagrams.push(datagram.into());
            }
            Operation::Stream { bytes } => {
                let next: Vec<u8> = stream.drain(..stream.len().min(bytes.into())).collect();
                arrivals.handle_stream(&next).expect("it is well formed");
            }
            Operation::Datagram { place, again } => {
                if let Some(place) = usize::from(place).checked_rem(datagrams.len()) {
                    let datagram =
                        if again { datagrams[place].clone() } else { datagrams.swap_remove(place) };
                    arrivals.handle_datagram(datagram).expect("it is well formed");
                }
            }
        }
        collect(&mut arrivals, &sent, &mut came);
    }
    arrivals.handle_stream(&Vec::from(stream)).expect("it is well formed");
    collect(&mut arrivals, &sent, &mut came);
    assert!(came.iter().all(|came| *came), "all come at last");
    assert!(arrivals.is_between_messages());
}

/// Each message comes once, as it was sent.
fn collect(arrivals: &mut Arrivals, sent: &[Vec<u8>], came: &mut [bool]) {
    while let Some(message) = arrivals.poll_message() {
        let number = u32::from_be_bytes(message[..4].try_into().expect("its number")) as usize;
        assert_eq!(framed(&message), sent[number]);
        assert!(!std::mem::replace(&mut came[number], true), "message {number} came again");
    }
}

/// Bytes of any kind, on the stream or as a datagram: refused, or messages of which none is too
/// long.
fn hostile(pieces: Vec<(bool, Vec<u8>)>) {
    let (mut arrivals, mut bytes) = (Arrivals::default(), 0);
    for (is_datagram, piece) in pieces {
        bytes += piece.len();
        let taken = match is_datagram {
            true => arrivals.handle_datagram(piece.into()),
            false => arrivals.handle_stream(&piece),
        };
        let mut came = 0;
        while let Some(message) = arrivals.poll_message() {
            assert!(message.len() <= MAX_CONTROL_BYTES);
            came += message.len() + 1;
        }
        assert!(came <= bytes, "{came} bytes of messages in {bytes}");
        if taken.is_err() {
            return;
        }
    }
}
