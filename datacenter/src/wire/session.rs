//! Frames of a connection between a worker's process and a server's.
//!
//! Kind: time-free.

use bytes::Bytes;
use prost::Message;

use super::frame::{self, Frame};
use super::{WireError, held_message, held_of, proto, request_message, request_of};
use crate::buffer::{Buffer, Guard, PIECE};
use crate::message::{Notice, ReadReply, Request, Standing};
use crate::printable::line_of;
use crate::rows::RowBlock;
use crate::{Clock, ShardId, ShardTable, WorkerId};

/// The version of the protocol inside a datacenter; the hello refuses any other.
pub const VERSION: u32 = 4;

/// What a frame takes besides rows.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// What a row takes at most besides its values: its slot, and that there is another group or block
/// for it.
const SLOT_BYTES: usize = 24;

/// Shapes of the tables of every shard, by shard: what decoding checks against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes(pub Vec<Vec<ShardTable>>);

impl Shapes {
    /// The longest frame that a correct side could send: a piece of rows, or one that is longer,
    /// with the slot of each; or a question after every row.
    pub fn max_frame_bytes(&self) -> usize {
        let tables = || self.0.iter().flatten();
        let widest = tables().map(|table| table.width as usize).max().unwrap_or(0);
        let rows = |tables: &Vec<ShardTable>| tables.iter().map(|table| table.slots as usize).sum::<usize>();
        let most_rows = self.0.iter().map(rows).max().unwrap_or(0);
        let values = PIECE.max(widest).saturating_mul(size_of::<f32>());
        let slots = most_rows.saturating_mul(SLOT_BYTES);
        values.saturating_add(slots).saturating_add(ENVELOPE_BYTES)
    }

    /// How many bytes the values of the largest shard have.
    pub(crate) fn max_values_bytes(&self) -> usize {
        let elements = |tables: &Vec<ShardTable>| tables.iter().map(|t| t.elements()).sum::<usize>();
        self.0.iter().map(elements).max().unwrap_or(0).saturating_mul(size_of::<f32>())
    }

    fn of(&self, shard: u32) -> Result<(ShardId, &[ShardTable]), WireError> {
        let id = u16::try_from(shard).map(ShardId).map_err(|_| WireError::Invalid { field: "shard" })?;
        let tables = self.0.get(id.index()).ok_or(WireError::Invalid { field: "shard" })?;
        Ok((id, tables))
    }
}

/// First on each connection, from the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerHello {
    /// The worker's protocol version.
    pub version: u32,
    /// Its datacenter.
    pub datacenter: String,
    /// What all regions must agree on, hashed.
    pub job_digest: Vec<u8>,
    /// Who it is.
    pub worker: WorkerId,
    /// When its process started, in microseconds since 1970: of two with the same index the later
    /// one counts.
    pub incarnation: u64,
}

/// First on a connection of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorHello {
    /// The operator's protocol version.
    pub version: u32,
    /// Whose server this should be.
    pub datacenter: String,
    /// Which datacenter is to leave the job for good.
    pub leaving: String,
    /// The digest of the job that the operator means, or at least its first
    /// [`Self::MIN_DIGEST_BYTES`].
    pub job_digest: Vec<u8>,
}

impl OperatorHello {
    /// As much of a digest as people are shown.
    pub const MIN_DIGEST_BYTES: usize = 8;

    /// Whether it means the job with this digest.
    pub fn means(&self, job_digest: &[u8]) -> bool {
        self.job_digest.len() >= Self::MIN_DIGEST_BYTES && job_digest.starts_with(&self.job_digest)
    }
}

/// The answer to a [`WorkerHello`] that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The server's protocol version.
    pub version: u32,
    /// Its index in the datacenter.
    pub server: u16,
    /// Chosen at random when the process starts: one that starts anew is another.
    pub incarnation: u64,
    /// How far its shards are.
    pub standings: Vec<Standing>,
}

/// From a worker's process to a server's.
#[derive(Clone, Debug, PartialEq)]
pub enum ToServer {
    /// Who comes.
    Hello(WorkerHello),
    /// The worker trains from now on, and is at this clock.
    Join(Clock),
    /// To one of the shards; no flush.
    Request(ShardId, Request),
    /// Some rows of a flush to one of the shards, and whether they are the last.
    Flush {
        /// The shard.
        shard: ShardId,
        /// The clock that the worker has reached with the flush.
        clock: Clock,
        /// The rows.
        deltas: Vec<RowBlock>,
        /// Whether the flush is complete with them.
        is_last: bool,
    },
    /// The server is not who it should be; the connection is closed behind this.
    Refused {
        /// As metrics name it.
        cause: String,
        /// In words, to the server.
        reason: String,
    },
    /// Nothing; only that somebody is there.
    Alive,
    /// An operator comes, and asks whether something can be done.
    Operator(OperatorHello),
    /// It should be done.
    Confirm,
}

/// From a server's process to a worker's.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// The hello is in order.
    Welcome(Welcome),
    /// It is not, or something that came later; the connection is closed behind this.
    Refused {
        /// As metrics name it.
        cause: String,
        /// In words, to the worker.
        reason: String,
    },
    /// The worker's clock on each shard of this server.
    Joined(Vec<(ShardId, Clock)>),
    /// Rows, some or the last of an answer.
    Reply(ReadReply),
    /// A flush has reached its shard and need not be kept any longer.
    Accepted(ShardId, Clock),
    /// How the server is.
    Notice(Notice),
    /// Nothing; only that somebody is there.
    Alive,
    /// To an operator.
    Answer {
        /// Why it cannot be done; empty if it can, or is.
        problem: String,
        /// It was done before.
        is_known: bool,
    },
}

impl ToServer {
    /// What says `request` to `shard`, in order.
    pub fn of_request(shard: ShardId, request: Request) -> Vec<Self> {
        let flush = match request {
            Request::Flush(flush) => flush,
            request => return vec![Self::Request(shard, request)],
        };
        let clock = flush.clock;
        let mut parts: Vec<Self> = in_parts(flush.deltas)
            .map(|deltas| Self::Flush { shard, clock, deltas, is_last: false })
            .collect();
        if let Some(Self::Flush { is_last, .. }) = parts.last_mut() {
            *is_last = true;
        }
        parts
    }

    /// As bytes.
    pub fn encode(&self) -> Frame {
        let mut values = None;
        let kind = match self {
            Self::Flush { shard, clock, deltas, is_last } => {
                let (rows, of_rows) = frame::rows(deltas);
                values = of_rows;
                proto::to_server::Kind::Flush(proto::FlushPart {
                    shard: shard.0.into(),
                    clock: clock.0,
                    rows,
                    is_last: *is_last,
                })
            }
            Self::Hello(hello) => proto::to_server::Kind::Hello(proto::WorkerHello {
                version: hello.version,
                datacenter: hello.datacenter.clone(),
                job_digest: hello.job_digest.clone().into(),
                worker: hello.worker.0,
                incarnation: hello.incarnation,
            }),
            Self::Join(clock) => proto::to_server::Kind::Join(proto::Join { clock: clock.0 }),
            Self::Request(shard, request) => {
                let request = Some(request_message(request));
                proto::to_server::Kind::Request(proto::ShardRequest { shard: shard.0.into(), request })
            }
            Self::Refused { cause, reason } => proto::to_server::Kind::Refused(proto::Refused {
                cause: cause.clone(),
                reason: reason.clone(),
            }),
            Self::Alive => proto::to_server::Kind::Alive(proto::Alive {}),
            Self::Operator(hello) => proto::to_server::Kind::Operator(proto::OperatorHello {
                version: hello.version,
                datacenter: hello.datacenter.clone(),
                leaving: hello.leaving.clone(),
                job_digest: hello.job_digest.clone().into(),
            }),
            Self::Confirm => proto::to_server::Kind::Confirm(proto::Confirm {}),
        };
        Frame::new(&proto::ToServer { kind: Some(kind), values: Bytes::new() }, values)
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// If it is not what [`encode`](Self::encode) makes for shards of these shapes.
    pub fn decode(frame: Bytes, shapes: &Shapes) -> Result<Self, WireError> {
        Self::decode_holding(frame, shapes, None)
    }

    /// The same; `guard` is dropped with the rows in it, or at once.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub(crate) fn decode_holding(
        frame: Bytes,
        shapes: &Shapes,
        guard: Option<Guard>,
    ) -> Result<Self, WireError> {
        let message = proto::ToServer::decode(frame)?;
        let of_rows = matches!(message.kind, Some(proto::to_server::Kind::Flush(_)));
        if !of_rows && !message.values.is_empty() {
            return Err(WireError::Invalid { field: "values" });
        }
        Ok(match message.kind.ok_or(WireError::Invalid { field: "kind" })? {
            proto::to_server::Kind::Hello(hello) => Self::Hello(WorkerHello {
                version: hello.version,
                datacenter: line_of(hello.datacenter),
                job_digest: hello.job_digest.to_vec(),
                worker: WorkerId(hello.worker),
                incarnation: hello.incarnation,
            }),
            proto::to_server::Kind::Join(join) => Self::Join(Clock(join.clock)),
            proto::to_server::Kind::Request(request) => {
                let (shard, tables) = shapes.of(request.shard)?;
                let request = request.request.ok_or(WireError::Invalid { field: "request" })?;
                match request_of(request, tables)? {
                    Request::Flush(_) => return Err(WireError::Invalid { field: "request" }),
                    request => Self::Request(shard, request),
                }
            }
            proto::to_server::Kind::Flush(flush) => {
                let (shard, tables) = shapes.of(flush.shard)?;
                let deltas = frame::blocks(&flush.rows, &message.values, tables, guard)?;
                Self::Flush { shard, clock: Clock(flush.clock), deltas, is_last: flush.is_last }
            }
            proto::to_server::Kind::Refused(refused) => {
                Self::Refused { cause: line_of(refused.cause), reason: line_of(refused.reason) }
            }
            proto::to_server::Kind::Alive(proto::Alive {}) => Self::Alive,
            proto::to_server::Kind::Operator(hello) => Self::Operator(OperatorHello {
                version: hello.version,
                datacenter: line_of(hello.datacenter),
                leaving: line_of(hello.leaving),
                job_digest: hello.job_digest.to_vec(),
            }),
            proto::to_server::Kind::Confirm(proto::Confirm {}) => Self::Confirm,
        })
    }
}

impl ToWorker {
    /// What gives an answer, in order.
    pub fn of_reply(reply: ReadReply) -> Vec<Self> {
        let ReadReply { shard, worker, clock, version, blocks, held, .. } = reply;
        let part = |blocks| {
            let held = Vec::new();
            Self::Reply(ReadReply { shard, worker, clock, version, blocks, held, is_last: false })
        };
        let mut parts: Vec<Self> = in_parts(blocks).map(part).collect();
        if let Some(Self::Reply(last)) = parts.last_mut() {
            (last.held, last.is_last) = (held, true);
        }
        parts
    }

    /// As bytes.
    pub fn encode(&self) -> Frame {
        use proto::to_worker::Kind;
        let mut values = None;
        let kind = match self {
            Self::Welcome(welcome) => Kind::Welcome(proto::Welcome {
                version: welcome.version,
                server: welcome.server.into(),
                incarnation: welcome.incarnation,
                standings: welcome.standings.iter().map(standing).collect(),
            }),
            Self::Refused { cause, reason } => {
                Kind::Refused(proto::Refused { cause: cause.clone(), reason: reason.clone() })
            }
            Self::Joined(clocks) => {
                let of = |&(shard, clock)| {
                    standing(&Standing { shard, clock, worker: Some(clock), is_new: false })
                };
                Kind::Joined(proto::Joined { standings: clocks.iter().map(of).collect() })
            }
            Self::Reply(reply) => {
                let (rows, of_rows) = frame::rows(&reply.blocks);
                values = of_rows;
                Kind::Reply(proto::ReplyPart {
                    shard: reply.shard.0.into(),
                    worker: reply.worker.0,
                    clock: reply.clock.0,
                    version: reply.version,
                    rows,
                    held: held_message(&reply.held),
                    is_last: reply.is_last,
                })
            }
            Self::Accepted(shard, clock) => {
                Kind::Accepted(proto::Accepted { shard: shard.0.into(), clock: clock.0 })
            }
            Self::Notice(notice) => Kind::Notice(match notice {
                Notice::Serving => proto::Notice::Unspecified.into(),
                Notice::Leaving => proto::Notice::Leaving.into(),
                Notice::Settled { .. } => proto::Notice::Settled.into(),
                Notice::Departing => proto::Notice::Departing.into(),
                Notice::Expelled => proto::Notice::Expelled.into(),
            }),
            Self::Alive => Kind::Alive(proto::Alive {}),
            Self::Answer { problem, is_known } => {
                Kind::Answer(proto::Answer { problem: problem.clone(), is_known: *is_known })
            }
        };
        let lacks = match self {
            Self::Notice(Notice::Settled { lacks }) => lacks.clone().unwrap_or_default(),
            _ => String::new(),
        };
        Frame::new(&proto::ToWorker { kind: Some(kind), lacks, values: Bytes::new() }, values)
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// If it is not what [`encode`](Self::encode) makes for shards of these shapes.
    pub fn decode(frame: Bytes, shapes: &Shapes) -> Result<Self, WireError> {
        use proto::to_worker::Kind;
        let invalid = |field| WireError::Invalid { field };
        let message = proto::ToWorker::decode(frame)?;
        if !matches!(message.kind, Some(Kind::Reply(_))) && !message.values.is_empty() {
            return Err(invalid("values"));
        }
        Ok(match message.kind.ok_or(invalid("kind"))? {
            Kind::Welcome(welcome) => Self::Welcome(Welcome {
                version: welcome.version,
                server: u16::try_from(welcome.server).map_err(|_| invalid("server"))?,
                incarnation: welcome.incarnation,
                standings: standings(&welcome.standings, shapes)?,
            }),
            Kind::Refused(refused) => {
                Self::Refused { cause: line_of(refused.cause), reason: line_of(refused.reason) }
            }
            Kind::Joined(joined) => {
                let standings = standings(&joined.standings, shapes)?;
                Self::Joined(standings.into_iter().map(|s| (s.shard, s.clock)).collect())
            }
            Kind::Reply(reply) => {
                let (shard, tables) = shapes.of(reply.shard)?;
                Self::Reply(ReadReply {
                    shard,
                    worker: WorkerId(reply.worker),
                    clock: Clock(reply.clock),
                    version: reply.version,
                    blocks: frame::blocks(&reply.rows, &message.values, tables, None)?,
                    held: held_of(&reply.held)?,
                    is_last: reply.is_last,
                })
            }
            Kind::Accepted(accepted) => Self::Accepted(shapes.of(accepted.shard)?.0, Clock(accepted.clock)),
            Kind::Notice(notice) => Self::Notice(match proto::Notice::try_from(notice) {
                Ok(proto::Notice::Unspecified) => Notice::Serving,
                Ok(proto::Notice::Leaving) => Notice::Leaving,
                Ok(proto::Notice::Settled) => {
                    Notice::Settled { lacks: Some(line_of(message.lacks)).filter(|lacks| !lacks.is_empty()) }
                }
                Ok(proto::Notice::Departing) => Notice::Departing,
                Ok(proto::Notice::Expelled) => Notice::Expelled,
                Err(_) => return Err(invalid("notice")),
            }),
            Kind::Alive(proto::Alive {}) => Self::Alive,
            Kind::Answer(answer) => {
                Self::Answer { problem: line_of(answer.problem), is_known: answer.is_known }
            }
        })
    }
}

/// Blocks whose values lie side by side together, so that each part is a frame; at least one part.
fn in_parts(blocks: Vec<RowBlock>) -> impl Iterator<Item = Vec<RowBlock>> {
    let mut parts: Vec<(Option<Buffer>, Vec<RowBlock>)> = Vec::new();
    for block in blocks {
        let last = parts.last_mut();
        let joined =
            last.and_then(|(values, of)| Some((values.as_ref()?.joined(block.values())?, values, of)));
        match joined {
            Some((joined, values, of)) => {
                *values = Some(joined);
                of.push(block);
            }
            None => parts.push((Some(block.values().clone()), vec![block])),
        }
    }
    if parts.is_empty() {
        parts.push((None, Vec::new()));
    }
    parts.into_iter().map(|(_, blocks)| blocks)
}

fn standing(standing: &Standing) -> proto::Standing {
    let worker = standing.worker.map(|clock| clock.0);
    let Standing { shard, clock, is_new, .. } = standing;
    proto::Standing { shard: shard.0.into(), clock: clock.0, worker, is_new: *is_new }
}

fn standings(standings: &[proto::Standing], shapes: &Shapes) -> Result<Vec<Standing>, WireError> {
    let of = |standing: &proto::Standing| {
        let (shard, _) = shapes.of(standing.shard)?;
        let (clock, worker) = (Clock(standing.clock), standing.worker.map(Clock));
        Ok(Standing { shard, clock, worker, is_new: standing.is_new })
    };
    standings.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Shapes {
        Shapes(vec![vec![ShardTable { slots: 10, width: 3 }]; 2])
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn frames_of_workers_are_pinned_and_read_back() {
        let (datacenter, job_digest) = ("oslo".to_owned(), vec![7; 4]);
        let hello = WorkerHello { version: 1, datacenter, job_digest, worker: WorkerId(2), incarnation: 3 };
        let (datacenter, leaving, job_digest) = ("oslo".to_owned(), "rome".to_owned(), vec![7; 4]);
        let operator = OperatorHello { version: 1, datacenter, leaving, job_digest };
        let table = [
            (ToServer::Hello(hello), "0a12080112046f736c6f1a040707070720022803"),
            (ToServer::Join(Clock(9)), "12020809"),
            (ToServer::Request(ShardId(1), Request::Leave(WorkerId(2))), "1a080801120408022a00"),
            (ToServer::Refused { cause: "job".into(), reason: "no".into() }, "22090a036a6f6212026e6f"),
            (ToServer::Alive, "2a00"),
            (ToServer::Operator(operator), "3214080112046f736c6f1a04726f6d65220407070707"),
            (ToServer::Confirm, "3a00"),
        ];
        for (message, bytes) in table {
            assert_eq!(hex(&message.encode().to_bytes()), bytes, "{message:?}");
            assert_eq!(ToServer::decode(message.encode().to_bytes(), &shapes()).unwrap(), message);
        }
        let elsewhere = ToServer::Request(ShardId(2), Request::Leave(WorkerId(2)));
        let refused = ToServer::decode(elsewhere.encode().to_bytes(), &shapes());
        assert!(matches!(refused, Err(WireError::Invalid { field: "shard" })));
    }

    #[test]
    fn what_others_say_in_words_is_read_as_one_line() {
        let evil = "x\nvirginia INFO forged \u{1b}[31mred\u{202e}".to_owned();
        let datacenter = evil.clone();
        let hello = WorkerHello {
            version: 1,
            datacenter: datacenter.clone(),
            job_digest: Vec::new(),
            worker: WorkerId(0),
            incarnation: 0,
        };
        let (leaving, job_digest) = (evil.clone(), Vec::new());
        for message in [
            ToServer::Hello(hello),
            ToServer::Operator(OperatorHello { version: 1, datacenter, leaving, job_digest }),
            ToServer::Refused { cause: evil.clone(), reason: evil.clone() },
        ] {
            let read = ToServer::decode(message.encode().to_bytes(), &shapes()).unwrap();
            // `Debug` would escape it by itself.
            let bytes = read.encode().to_bytes();
            assert!(!bytes.contains(&b'\n') || !bytes.windows(5).any(|at| at == b"\nvirg"), "{read:?}");
            assert!(!bytes.contains(&0x1b), "{read:?}");
        }
        for message in [
            ToWorker::Refused { cause: evil.clone(), reason: evil.clone() },
            ToWorker::Answer { problem: evil, is_known: false },
        ] {
            let bytes = ToWorker::decode(message.encode().to_bytes(), &shapes()).unwrap().encode().to_bytes();
            assert!(!bytes.contains(&0x1b) && !bytes.windows(5).any(|at| at == b"\nvirg"), "{bytes:?}");
        }
    }

    #[test]
    fn an_operator_means_a_job_by_enough_of_its_digest() {
        let digest: Vec<u8> = (0..32).collect();
        for (said, is_meant) in [(32, true), (8, true), (7, false), (0, false)] {
            let job_digest = digest[..said].to_vec();
            let hello =
                OperatorHello { version: 1, datacenter: "oslo".into(), leaving: "oslo".into(), job_digest };
            assert_eq!(hello.means(&digest), is_meant, "{said}");
        }
    }

    #[test]
    fn frames_of_servers_are_pinned_and_read_back() {
        let standing = Standing { shard: ShardId(1), clock: Clock(8), worker: Some(Clock(9)), is_new: false };
        let new = Standing { is_new: true, worker: None, ..standing };
        let welcome = Welcome { version: 1, server: 1, incarnation: 5, standings: vec![standing, new] };
        let refused = ToWorker::Refused { cause: "job".into(), reason: "no".into() };
        let table = [
            (ToWorker::Welcome(welcome), "0a1608011001180522060801100818092206080110082001"),
            (refused, "12090a036a6f6212026e6f"),
            (ToWorker::Joined(vec![(ShardId(0), Clock(3))]), "1a060a0410031803"),
            (ToWorker::Accepted(ShardId(1), Clock(3)), "2a0408011003"),
            (ToWorker::Notice(Notice::Leaving), "3001"),
            (ToWorker::Notice(Notice::Settled { lacks: None }), "3002"),
            (ToWorker::Notice(Notice::Settled { lacks: Some("oslo".into()) }), "30024a046f736c6f"),
            (ToWorker::Notice(Notice::Expelled), "3004"),
            (ToWorker::Alive, "3a00"),
            (ToWorker::Answer { problem: "no".into(), is_known: true }, "42060a026e6f1001"),
        ];
        for (message, bytes) in table {
            assert_eq!(hex(&message.encode().to_bytes()), bytes, "{message:?}");
            assert_eq!(ToWorker::decode(message.encode().to_bytes(), &shapes()).unwrap(), message);
        }
        for broken in [&b""[..], b"\xff", b"\x30\x09"] {
            assert!(ToWorker::decode(Bytes::from_static(broken), &shapes()).is_err());
        }
    }
}
