//! A request over QUIC between two hosts that are 80 ms apart, over links that lose 1 % of their
//! packets, in virtual time: the same seed gives the same nanoseconds.
//!
//! `cargo run --example two_hosts`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use emulation::link::LinkConfig;
use emulation::{Network, VirtualClock, host_address};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let certified = rcgen::generate_simple_self_signed(["there".to_owned()])?;
    let (certificate, key) = (certified.cert.der().clone(), certified.signing_key.serialize_der());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;

    let clock = VirtualClock::new();
    let network = Network::new(&clock, 1);
    let (here, there) = (host_address(0), host_address(1));
    for (from, to) in [(here, there), (there, here)] {
        let link = LinkConfig { loss: 0.01, ..LinkConfig::clean(12_500_000, Duration::from_millis(40)) };
        network.set_link(from.ip(), to.ip(), link);
    }
    let took = clock.run(Duration::from_secs(60), async {
        let endpoint = |at, server| {
            let (socket, runtime) = (network.bind(at)?, Arc::new(clock.clone()));
            Endpoint::new_with_abstract_socket(EndpointConfig::default(), server, socket, runtime)
        };
        let server = ServerConfig::with_single_cert(
            vec![certificate],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(),
        )?;
        let server = endpoint(there, Some(server))?;
        tokio::spawn(async move {
            let connection = server.accept().await?.await.ok()?;
            let (mut send, mut receive) = connection.accept_bi().await.ok()?;
            let question = receive.read_to_end(1000).await.ok()?;
            send.write_all(&question).await.ok()?;
            send.finish().ok()?;
            connection.closed().await;
            Some(())
        });
        let mut client = endpoint(here, None)?;
        client.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
        let connection = client.connect(there, "there")?.await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(b"how far is it?").await?;
        send.finish()?;
        assert_eq!(receive.read_to_end(1000).await?, b"how far is it?");
        Ok::<_, Box<dyn Error>>(clock.now())
    })??;
    println!("a handshake and a request took {took:?}: two rounds of 80 ms, and what was lost");
    Ok(())
}
