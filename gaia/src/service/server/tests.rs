use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use datacenter::identity::{Date, Dates};
use datacenter::message::Flush;
use datacenter::{Elements, TableId};
use tokio::time::sleep;

use super::super::identities::Identities;
use super::super::part::Part;
use super::*;
use crate::job::config::load_region;
use crate::learning::models;
use crate::service::beginning;
use crate::service::certificates::{Directory, ProcessName, Validity};
use crate::settings::Overrides;

const PART: Part = Part::Server(0);

/// Two regions of one server and one worker each, between which nothing is significant enough to be
/// shipped.
fn write_files(directory: &Path, wan: &[SocketAddr]) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/jobs/digits.toml");
    let shipped = fs::read_to_string(shipped).unwrap();
    let (before, after) = (shipped.find("[[regions]]").unwrap(), shipped.find("[data]").unwrap());
    let regions = "[[regions]]\nname = \"a\"\nworkers = 1\n[[regions]]\nname = \"b\"\nworkers = 1\n\n";
    let job = format!("{}{regions}{}", &shipped[..before], &shipped[after..]);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let job = job
        .replace("../../gaia/data", &data.display().to_string())
        .replace("threshold = 0.05", "threshold = 1e9")
        .replace("shards = 4", "shards = 2");
    fs::write(directory.join("job.toml"), job).unwrap();
    for (name, own, other, there) in [("a", wan[0], "b", wan[1]), ("b", wan[1], "a", wan[0])] {
        let region = format!(
            "datacenter = \"{name}\"\njob = \"job.toml\"\n[servers]\ncount = 1\naddresses = [\"127.0.0.1:1\"]\n\
             listen = [\"{own}\"]\n[wan]\nlisten = [\"{own}\"]\n[peers.{other}]\nservers = [\"{there}\"]\n\
             [tls]\ndirectory = \"certs\"\n"
        );
        fs::write(directory.join(format!("{name}.toml")), region).unwrap();
    }
    let name = |region| ProcessName::new(PeerName::new(region, Role::Server).unwrap(), 0);
    let certs = Directory::new(directory.join("certs"));
    let validity = Validity { now: Date::from(Dates::System.now()), days: 1 };
    certs.init(validity, true).unwrap();
    certs.issue(&[name("a"), name("b")], validity, true).unwrap();
}

async fn start(directory: &Path, name: &str) -> Server {
    let region =
        load_region(&directory.join(format!("{name}.toml")), &Overrides::default(), &models::kinds())
            .unwrap();
    let identities = Identities::load(&region, PART).unwrap();
    let setup = Arc::new(Setup::new(region, PART).unwrap());
    let sockets = Sockets::open(&setup, 0, true).await.unwrap();
    Server::start(&setup, 0, identities.server(0).unwrap(), sockets, beginning::read(&setup, 0).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_taken_is_elsewhere_when_it_has_drained() {
    let directory = tempfile::tempdir().unwrap();
    let free = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    write_files(directory.path(), &[free(), free()]);
    let (a, b) = (start(directory.path(), "a").await, start(directory.path(), "b").await);
    let initial = b.values().await.unwrap();

    // Whole numbers add up to the same in any order.
    let worker = WorkerId(0);
    let shape = |node: &Node| node.replicas()[0].shard().shape(TableId(0)).expect("it exists");
    let shapes = [a.look(shape).await.unwrap()];
    for clock in 1..=3 {
        for shard in [ShardId(0), ShardId(1)] {
            let mut delta = Elements::new(TableId(0));
            (0..20).for_each(|index| delta.push(index, (index + clock) as f32));
            let flush = Flush::of_elements(worker, Clock(clock), &[delta], &shapes);
            a.requests.send((shard, Request::Flush(flush))).await.unwrap();
        }
    }
    let clocks = |node: &Node| node.replicas().iter().map(|r| r.shard().clock().0).min();
    while a.look(clocks).await != Some(Some(3)) {
        sleep(Duration::from_millis(50)).await;
    }
    let tables = |values: BTreeMap<u16, (Clock, ShardValues)>| {
        values.into_iter().map(|(shard, (_, tables))| (shard, tables)).collect::<Vec<_>>()
    };
    let (initial, trained) = (tables(initial), tables(a.values().await.unwrap()));
    assert_ne!(initial, trained);
    assert_eq!(tables(b.values().await.unwrap()), initial, "nothing was significant");

    // Its worker is not connected, and so not waited for.
    a.drain().await.unwrap();
    assert_eq!(tables(b.values().await.unwrap()), trained);
    a.leave().await;
}
