//! Frames between the processes of one datacenter.

use datacenter::ShardTable;
use datacenter::message::{ReadReply, Request};
use datacenter::rows::RowBlock;
use datacenter::wire::{
    Shapes, ToServer, ToWorker, decode_reply, decode_request, encode_reply, encode_request,
    reply_payload_len, request_payload_len,
};

use super::reread;

/// Shapes of three shards: small tables, a table whose rows a few bytes can name all, and none.
fn shapes() -> Shapes {
    let small = vec![ShardTable { slots: 10, width: 3 }, ShardTable { slots: 4, width: 1 }];
    let large = vec![ShardTable { slots: 1 << 14, width: 2 }, ShardTable { slots: 0, width: 7 }];
    Shapes(vec![small, large, vec![]])
}

/// Bytes as a server, a worker and either end of a stretched parameter server would read them.
pub fn lan_frames(data: &[u8]) {
    let shapes = shapes();
    let server =
        reread(data, |frame| ToServer::decode(frame, &shapes), |message| message.encode().to_bytes());
    match server {
        Some(ToServer::Request(shard, request)) => {
            assert!(!matches!(request, Request::Flush(_)), "it comes in parts");
            check_request(&request, &shapes.0[shard.index()], data);
        }
        Some(ToServer::Flush { shard, deltas, .. }) => check_rows(&deltas, &shapes.0[shard.index()], data),
        _ => {}
    }
    let worker =
        reread(data, |frame| ToWorker::decode(frame, &shapes), |message| message.encode().to_bytes());
    if let Some(ToWorker::Reply(reply)) = worker {
        check_reply(&reply, &shapes, data);
    }
    for tables in &shapes.0 {
        if let Some(request) = reread(data, |frame| decode_request(frame, tables), encode_request) {
            check_request(&request, tables, data);
        }
    }
    if let Some(reply) = reread(data, |frame| decode_reply(frame, &shapes.0), encode_reply) {
        check_reply(&reply, &shapes, data);
    }
}

/// Elements take four bytes of the frame each; rows without values are named once at most.
fn check_request(request: &Request, tables: &[ShardTable], frame: &[u8]) {
    match request {
        Request::Flush(flush) => {
            let deltas = flush.elements();
            assert!(deltas.iter().map(|delta| delta.len()).sum::<usize>() <= frame.len() / 4);
            for delta in &deltas {
                let elements = tables[delta.table.index()].elements();
                assert!(delta.indexes.last().is_none_or(|last| (*last as usize) < elements));
            }
        }
        Request::Read(read) => {
            let named: usize = read.groups.iter().map(|group| group.slots.len()).sum();
            assert!(named <= tables.iter().map(|table| table.slots as usize).sum());
        }
        Request::Leave(_) => {}
    }
    assert!(request_payload_len(request) <= encode_request(request).len());
}

fn check_reply(reply: &ReadReply, shapes: &Shapes, frame: &[u8]) {
    let tables = &shapes.0[reply.shard.index()];
    check_rows(&reply.blocks, tables, frame);
    assert!(reply_payload_len(reply) <= encode_reply(reply).len());
}

fn check_rows(blocks: &[RowBlock], tables: &[ShardTable], frame: &[u8]) {
    assert!(blocks.iter().map(|block| block.values().len()).sum::<usize>() <= frame.len() / 4);
    for block in blocks {
        let shape = tables[block.table().index()];
        assert_eq!(block.values().len(), block.slots().len() * shape.width as usize);
        assert!(block.slots().last().is_none_or(|last| last < shape.slots));
    }
}
