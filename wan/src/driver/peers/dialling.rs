//! The side that dials: finds the peer, opens the control connection and says hello.
//!
//! Kind: driver.

use std::net::SocketAddr;
use std::time::Duration;

use datacenter::causes::with_causes;
use quinn::Connection;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::search::{Attempt, Search};
use super::{ConnectError, Peer, Peers, Turn, again, check_index};
use crate::driver::address::Address;
use crate::driver::frames::{self, FrameError};
use crate::driver::hello::{Refusal, Terms};
use crate::driver::link::{self, DataConnection, Link, OpenData};
use crate::message::ServerId;
use crate::node::Greeting;
use crate::transport::{DialError, peer_name};
use crate::wire::{self, Channel, Hello, MAX_HELLO_BYTES};

/// For how long whoever is not the first to dial waits for a link: longer than a handshake takes.
const SECOND: Duration = Duration::from_secs(3);

/// The same when the process has just started, at most: the other side may still take the link to
/// the one before it for up.
const SECOND_AT_FIRST: Duration = Duration::from_millis(500);

/// Where the path is known, so many round trips will do: a link is there one and a half after the
/// other side has dialled.
const SECOND_ROUND_TRIPS: u32 = 2;

/// How long until one that has left for good is told again, if it is there.
const DEPARTED: Duration = Duration::from_secs(60);

/// How long an address may not answer if there are others to try.
const OTHERS: Duration = Duration::from_secs(10);

/// How long the answer to a knock may take, on a path of which nothing is known.
const KNOCK: Duration = Duration::from_secs(1);

/// What is taken for the round-trip time where nobody is expected to answer: one packet is sent at
/// first, and after three times as long two more.
const BLIND_ROUND_TRIP: Duration = Duration::from_secs(1);

/// So many of these the answer may take.
const BLIND_ROUND_TRIPS: u32 = 5;

impl Peers {
    /// Dials `peer`, again and again, while there is no link to it; `rng` draws sessions and
    /// spreads the pauses.
    pub async fn dial(self, peer: Peer, turn: Turn, mut rng: ChaCha8Rng) {
        let mut search = Search::new();
        // It stays with what was good, and goes on from what was not.
        let mut failures = 0;
        self.registry.expect(peer.id);
        self.answers.know(&peer);
        let handshake = peer.path.round_trip.map(|round_trip| SECOND_ROUND_TRIPS * round_trip);
        let mut wait = handshake.map_or(SECOND_AT_FIRST, |handshake| handshake.min(SECOND_AT_FIRST));
        loop {
            self.registry.down(peer.id).await;
            let has_departed = self.has_departed(peer.id.datacenter).await;
            if has_departed {
                // It may live, be unable to dial us, and not know.
                self.registry.departed(peer.id);
            }
            if turn == Turn::Second {
                let second = SECOND.max(SECOND_ROUND_TRIPS * peer.path.first_round_trip());
                let wait = std::mem::replace(&mut wait, second);
                sleep(wait.mul_f64(rng.random_range(1.0..1.5))).await;
                if self.registry.is_up(peer.id) {
                    continue;
                }
            }
            let Some((address, round)) = candidate(&peer.addresses, failures) else { return };
            // A peer that dials us meanwhile is there: a second link would only replace its own.
            let session = rng.random();
            let attempt = search.attempt(Instant::now().into_std());
            let connected = tokio::select! {
                biased;
                connected = self.connect(&peer, address, round, session, attempt) => connected,
                () = self.registry.up_with(peer.id) => continue,
            };
            match connected {
                Ok(None) => failures += 1,
                Ok(Some(link)) => {
                    let up = Instant::now();
                    let is_silent = self.keep_while_there(link, &peer).await;
                    search.had_link(up.elapsed(), is_silent, Instant::now().into_std());
                }
                Err(
                    ConnectError::Stopping
                    | ConnectError::Dial(DialError::Connect(quinn::ConnectError::EndpointStopping)),
                ) => return,
                // We closed the connection that was to be.
                Err(_) if self.endpoint.farewell().is_some() => return,
                Err(error) => {
                    failures += 1;
                    let is_silent = matches!(error.lost(), Some(quinn::ConnectionError::TimedOut));
                    search.tried(is_silent, Instant::now().into_std());
                    self.note_failure(peer.id, address, error).await;
                }
            }
            if self.events.is_closed() {
                return;
            }
            if has_departed {
                sleep(DEPARTED.mul_f64(rng.random_range(0.5..1.0))).await;
                continue;
            }
            sleep(search.pause().mul_f64(rng.random_range(0.5..1.0))).await;
        }
    }

    /// Notes why there is no link with `peer`, which was dialled at `address`.
    async fn note_failure(&self, peer: ServerId, address: &Address, error: ConnectError) {
        let error = error.explained(&self.endpoint);
        let refused = error.refused();
        refused.into_iter().for_each(|refused| self.registry.refusals().count(refused));
        self.heed(&error).await;
        let is_lasting = error.is_lasting();
        let (region, server, error) = (self.region(peer), peer.index, with_causes(&error));
        if is_lasting {
            let why = format!("{region} server {server} at {address}: {error}");
            self.registry.refused(peer.datacenter, why);
        }
        let unsaid = match self.registry.has_left(peer) {
            true => None,
            false => self.unsaid(peer, refused, &error, &error),
        };
        match unsaid {
            None => debug!(peer = region, server, %address, error, "still no link"),
            Some(unsaid) => {
                let times = again(unsaid);
                warn!(peer = region, server, %address, times, error, "no link, will try again");
            }
        }
        self.registry.failed(peer, error);
    }

    /// Makes a link with `peer`; of several addresses that `to` stands for, each round tries
    /// another one. None if nobody answers a knock there.
    async fn connect(
        &self,
        peer: &Peer,
        to: &Address,
        round: usize,
        session: u64,
        attempt: Attempt,
    ) -> Result<Option<Link>, ConnectError> {
        let unresolved = |source| ConnectError::Resolve { address: to.clone(), source };
        let local = self.endpoint.local_address().map_err(unresolved)?;
        // The system puts them in order, the best one first; but it does not know which of them
        // answers.
        let found = to.resolve_with(&self.names, local).await.map_err(unresolved)?;
        self.known.find(peer.id, &found);
        let address = found[round % found.len()];
        let has_others = found.len() > 1 || peer.addresses.len() > 1;
        let path = peer.path;
        let patience = if has_others { OTHERS.max(path.handshake_timeout() / 2) } else { Duration::MAX };
        let dialled = self.dial_control(peer, (to, address), patience, attempt).await?;
        let Some(control) = dialled else { return Ok(None) };
        let hellos = timeout(path.handshake_timeout(), async {
            let greeting = self.greeting(peer.id.datacenter).await?;
            self.say_hello(&control, Channel::Control, session, greeting).await
        });
        let outcome = hellos.await.map_err(|_| ConnectError::Silent).flatten();
        let theirs = match outcome.and_then(|theirs| expect(peer, theirs)) {
            Ok(theirs) => theirs,
            Err(error) => return Err(self.refused(&control, error).await),
        };
        let data = DataConnection::default();
        if path.expects_bulk() {
            data.want();
        }
        Ok(Some(Link {
            peer: peer.id,
            control,
            data,
            open_data: Some(self.clone().open_data(peer.clone(), address, session)),
            bulk_streams: path.data().bulk_streams,
            small_bytes: path.small_bytes(),
            greeting: Greeting { life: theirs.life, resumes: theirs.resumes, departed: theirs.departed },
            session,
        }))
    }

    /// Opens a control connection to `address`, for which `to` stands now; gives up after so much
    /// `patience`, unless the attempt is a blind one. None if nobody answers a knock there.
    async fn dial_control(
        &self,
        peer: &Peer,
        (to, address): (&Address, SocketAddr),
        mut patience: Duration,
        attempt: Attempt,
    ) -> Result<Option<Connection>, DialError> {
        let path = peer.path;
        let mut settings = path.control();
        match attempt {
            Attempt::Dial => {}
            Attempt::Knock => {
                let within = KNOCK.max(2 * path.first_round_trip());
                if !self.endpoint.knock(address, within).await {
                    return Ok(None);
                }
            }
            Attempt::DialBlindly => {
                let round_trip = BLIND_ROUND_TRIP.max(path.first_round_trip());
                settings.initial_round_trip = round_trip;
                patience = BLIND_ROUND_TRIPS * round_trip;
            }
        }
        let dialled = timeout(patience, self.endpoint.connect(address, &peer.name, &settings));
        let silent = || Err(DialError::Handshake(quinn::ConnectionError::TimedOut));
        let control = tokio::select! {
            biased;
            dialled = dialled => dialled.unwrap_or_else(|_| silent()),
            () = self.stands_elsewhere(to, address) => silent(),
        }?;
        Ok(Some(control))
    }

    /// Closes a connection that was dialled, and yields why: the peer's own words, where it has
    /// said any.
    async fn refused(&self, connection: &Connection, error: ConnectError) -> ConnectError {
        let is_cut_short = matches!(error, ConnectError::Frame(FrameError::Truncated));
        let by_peer = match error {
            // Both sides say the same.
            ConnectError::Refused(Refusal::Job { differences: Some(_), .. }) => None,
            _ => link::refusal(std::slice::from_ref(connection), is_cut_short).await,
        };
        let error = by_peer.map_or(error, |(cause, reason)| ConnectError::ByPeer { cause, reason });
        let (code, reason) = error.told();
        link::close(connection, code, &reason);
        error
    }

    /// Opens the data connection of the link with this session.
    fn open_data(self, peer: Peer, address: SocketAddr, session: u64) -> OpenData {
        Box::pin(async move {
            let dialled = self.endpoint.connect(address, &peer.name, &peer.path.data()).await;
            let connection = dialled.map_err(|error| ConnectError::from(error).explained(&self.endpoint))?;
            let hello = self.say_hello(&connection, Channel::Data, session, Greeting::default());
            let outcome = timeout(peer.path.handshake_timeout(), hello).await;
            match outcome.map_err(|_| ConnectError::Silent).flatten().and_then(|theirs| expect(&peer, theirs))
            {
                Ok(_) => Ok(connection),
                Err(error) => Err(self.refused(&connection, error).await.explained(&self.endpoint)),
            }
        })
    }

    /// The dialer's half of the hello.
    async fn say_hello(
        &self,
        connection: &Connection,
        channel: Channel,
        session: u64,
        greeting: Greeting,
    ) -> Result<Hello, ConnectError> {
        let certified = peer_name(connection)?;
        self.terms.identify(&certified)?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let hello = self.terms.hello(channel, session, greeting);
        frames::write(&mut send, [wire::encode_hello(&hello)]).await?;
        let frame = frames::read(&mut receive, MAX_HELLO_BYTES).await?.ok_or(FrameError::Truncated)?;
        let theirs = wire::decode_hello(frame)?;
        if let Err(refusal) = self.terms.check(&theirs, &certified) {
            return Err(self.with_differences(refusal, &certified, &mut send, &mut receive).await.into());
        }
        check_index(connection, theirs.server)?;
        Terms::check_answer(&hello, &theirs)?;
        Ok(theirs)
    }
}

/// Checks that the server that has answered is the one that is looked for.
fn expect(peer: &Peer, theirs: Hello) -> Result<Hello, ConnectError> {
    match theirs.server {
        found if found != peer.id.index => Err(ConnectError::Server { expected: peer.id.index, found }),
        _ => Ok(theirs),
    }
}

/// Which address to try after so many failures, and in which round: each in turn, and then all of
/// them again.
fn candidate(addresses: &[Address], failures: usize) -> Option<(&Address, usize)> {
    let round = failures.checked_div(addresses.len())?;
    Some((&addresses[failures % addresses.len()], round))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_leads_to_another_address_and_each_round_to_another_one_of_a_name() {
        let addresses: Vec<Address> = ["a:1", "b:2"].map(|name| name.parse().unwrap()).into();
        let tried: Vec<_> = (0..5)
            .filter_map(|failures| candidate(&addresses, failures))
            .map(|(address, round)| (address.to_string(), round))
            .collect();
        let expected = [("a:1", 0), ("b:2", 0), ("a:1", 1), ("b:2", 1), ("a:1", 2)];
        assert_eq!(tried, expected.map(|(address, round)| (address.to_owned(), round)));
        assert_eq!(candidate(&[], 3), None);
    }
}
