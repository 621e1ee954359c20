//! What peers get that dial, and what those get who only seem to be peers.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::name;
use datacenter::DatacenterId;
use tokio::sync::mpsc;
use tokio::time::timeout;
use wan::driver::board::Board;
use wan::driver::hello::Terms;
use wan::driver::link::Tally;
use wan::driver::paths::Paths;
use wan::driver::peers::Peers;
use wan::driver::server::Event;
use wan::transport::{Authority, Endpoint, EndpointConfig, Entropy, Path};
use wan::wire::Shapes;

fn endpoint(authority: &Authority, region: u32) -> Endpoint {
    let config = EndpointConfig {
        identity: authority.issue(&name(region)),
        entropy: Entropy::System,
        accept: Path::default().accepted(),
    };
    Endpoint::over_udp(config, UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// A server of region 0, whose only peer is region 1.
struct Host {
    address: SocketAddr,
    _events: mpsc::Receiver<Event>,
}

impl Host {
    fn start(authority: &Authority, paths: Paths) -> Self {
        let endpoint = endpoint(authority, 0);
        let address = endpoint.local_address().unwrap();
        let (events, queue) = mpsc::channel(16);
        let terms = Terms {
            datacenter: name(0).datacenter().to_owned(),
            server: 0,
            job_digest: vec![7; 32],
            peers: vec![(name(1).datacenter().to_owned(), DatacenterId(1))],
        };
        let shapes = Shapes::new(Vec::new());
        let peers = Peers::new(endpoint, terms, shapes, events, Tally::default(), Board::default());
        tokio::spawn(peers.accept(paths));
        Self { address, _events: queue }
    }
}

/// How many bytes somebody takes who does not read them.
async fn room(from: &Endpoint, to: &Host, path: &Path) -> usize {
    let connection = from.connect(to.address, &name(0), &path.data()).await.unwrap();
    let chunk = vec![0; 100_000];
    let mut room = 0;
    for _ in 0..path.data().bulk_streams + 1 {
        let mut stream = connection.open_uni().await.unwrap();
        while let Ok(written) = timeout(Duration::from_millis(100), stream.write(&chunk)).await {
            room += written.unwrap();
        }
        // Dropped, it would be finished; that needs no room.
    }
    room
}

#[tokio::test]
async fn who_dials_gets_the_windows_of_its_path() {
    let authority = Authority::new(1);
    let wide = Path {
        rate_bytes_per_sec: Some(62_500_000),
        round_trip: Some(Duration::from_millis(160)),
        ..Path::default()
    };
    let dialer = endpoint(&authority, 1);
    let mut paths = Paths::default();
    paths.know(DatacenterId(1), wide);
    let known = room(&dialer, &Host::start(&authority, paths), &wide).await;
    let window = wide.data().connection_window_bytes as usize;
    assert!((window / 20 * 19..=window).contains(&known), "{known} of {window}");
    // Where nothing is known of it, there is less.
    let unknown = room(&dialer, &Host::start(&authority, Paths::default()), &wide).await;
    assert!(unknown <= Path::default().data().connection_window_bytes as usize, "{unknown}");
}
