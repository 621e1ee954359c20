//! All settings of a connection, derived in one place from the link's rate and round-trip time.
//!
//! Kind: time-free.
//!
//! QUIC's defaults suit a browser: on a long fat link they fill half of it, and windows that are merely large
//! make quinn close the connection, since it allows a stream's receive buffer no more than 1024 gaps. What
//! fits depends on one number, the bandwidth-delay product (BDP): rate times round-trip time. So [`Path`]
//! says what is known of a link, and [`Settings`] are what follows from it for one of the two connections
//! between a pair of datacenters.

use std::{sync::Arc, time::Duration};

use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion};

use crate::transport::SteadyConfig;

/// The largest window of one stream. A window of `W` bytes can hold `W / (2 * 1424)` gaps, when every second
/// packet is lost, and quinn closes a connection at 1024 of them: 2.9 MB.
const MAX_STREAM_WINDOW_BYTES: u64 = 2_500_000;
/// Streams that bulk data is striped over: enough that one with a hole does not hold up the rest.
const MIN_BULK_STREAMS: u64 = 4;
/// A limit on memory: 64 windows are 160 MB, enough for 4 Gbit/s over 160 ms.
const MAX_BULK_STREAMS: u64 = 64;
/// What is taken for the BDP while the rate is not known: 1 Gbit/s over 32 ms, or 200 Mbit/s over 160 ms.
const UNKNOWN_BDP_BYTES: u64 = 4_000_000;
/// The first window while the rate is not known: 32 packets.
const UNKNOWN_INITIAL_WINDOW_BYTES: u64 = 32 * 1200;
/// RFC 9002, section 7.2.
const MIN_INITIAL_WINDOW_BYTES: u64 = 14_720;
/// Control is sparse: its first window need only hold a hello or a list of rows.
const CONTROL_WINDOW_BYTES: u64 = 128 * 1024;
/// A model from which on bulk is expected.
const BULK_MODEL_BYTES: u64 = 256 * 1024;
/// The least and the most that may go beside control, and how much while the rate is not known.
const SMALL_BYTES: (u64, u64) = (1000, 16 * 1024);
const UNKNOWN_SMALL_BYTES: u64 = 4 * 1200;
/// What is taken for the round-trip time while it is not known: that between two regions of a continent.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(100);
/// A link may turn out to be faster than stated.
const MIN_SEND_WINDOW_BYTES: u64 = 4_000_000;
/// A packet before a larger MTU has been found, IP and UDP headers included.
const FIRST_PACKET_BYTES: u64 = 1228;
/// Packets of both connections' handshakes that may be under way in one direction at a time.
const FIRST_PACKETS: u32 = 4;
/// A handshake takes two round trips, and some more where packets are lost.
const HANDSHAKE_ROUND_TRIPS: u32 = 6;
/// How long a handshake may take on any path, over several round trips and losses.
const MIN_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Payload of a typical packet of bulk data.
const PACKET_BYTES: u64 = 1424;

/// Which congestion controller a connection has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Our own, [`crate::transport::Steady`]: fills long links, also lossy ones, and keeps queues short.
    #[default]
    Steady,
    /// quinn's default. Halves its rate at each loss: at 160 ms, 0.1 % of loss leaves 4 Mbit/s.
    Cubic,
    /// The classic. Like Cubic, and slower to recover.
    NewReno,
    /// quinn's experimental BBR: indifferent to loss, and keeps queues full.
    Bbr,
}

/// What is known of the path to a peer, configured or measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Bytes a second, headers included.
    pub rate_bytes_per_sec: Option<u64>,
    /// There and back, without queues.
    pub round_trip: Option<Duration>,
    /// The controller of the data connection.
    pub congestion: Congestion,
    /// What there is to say at most at a time: the values of all that is mirrored there.
    pub model_bytes: Option<u64>,
    /// How long a connection lives without a sign of its peer. An outage shorter than this costs no
    /// handshake.
    pub idle_timeout: Duration,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            rate_bytes_per_sec: None,
            round_trip: None,
            congestion: Congestion::default(),
            model_bytes: None,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// What one of the two connections between a pair of datacenters carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carries {
    /// Control messages, which are few and small.
    Control,
    /// Updates, or anything, where nobody says what.
    #[default]
    Updates,
}

/// The settings of one connection, as figures; [`transport`](Self::transport) makes them quinn's.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What it carries.
    pub carries: Carries,
    /// The congestion controller.
    pub congestion: Congestion,
    /// Bytes that may be under way in the first round trip.
    pub initial_window_bytes: u64,
    /// Bytes that may be under way however slow the link may seem.
    pub min_window_bytes: u64,
    /// The BDP, where it is known: [`crate::transport::Steady`] approaches it with care.
    pub expected_bdp_bytes: Option<u64>,
    /// The round-trip time to assume before the first measurement.
    pub initial_round_trip: Duration,
    /// Unidirectional streams to stripe bulk data over; one for control.
    pub bulk_streams: usize,
    /// Bytes that the peer may send on one stream beyond what was read.
    pub stream_window_bytes: u64,
    /// Bytes that the peer may send in all beyond what was read.
    pub connection_window_bytes: u64,
    /// Bytes that may be written and not yet acknowledged; limits what is in flight.
    pub send_window_bytes: u64,
    /// Packets that the receiver collects before it acknowledges.
    pub ack_packets: u32,
    /// How many packets later one is taken for lost: larger than what jitter reorders.
    pub packet_threshold: u32,
    /// How many round trips later a packet is taken for lost.
    pub time_threshold: f32,
    /// Bytes of datagrams that may wait to be read; none where datagrams are not used.
    pub datagram_buffer_bytes: Option<usize>,
    /// Whether to look for a larger MTU than 1200.
    pub discover_mtu: bool,
    /// How long a handshake may take, and then a hello.
    pub handshake_timeout: Duration,
    /// How long a connection lives without a sign of its peer.
    pub idle_timeout: Duration,
}

impl Path {
    /// Settings of the connection that carries bulk data.
    pub fn data(&self) -> Settings {
        let expected_bdp_bytes = self.bdp_bytes();
        let bdp_bytes = expected_bdp_bytes.unwrap_or(UNKNOWN_BDP_BYTES);
        let bulk_streams =
            (2 * bdp_bytes).div_ceil(MAX_STREAM_WINDOW_BYTES).clamp(MIN_BULK_STREAMS, MAX_BULK_STREAMS);
        let bdp_packets = bdp_bytes / PACKET_BYTES;
        Settings {
            carries: Carries::Updates,
            congestion: self.congestion,
            initial_window_bytes: expected_bdp_bytes
                .map_or(UNKNOWN_INITIAL_WINDOW_BYTES, |bdp| (bdp / 2).max(self.least_window_bytes())),
            min_window_bytes: self.least_window_bytes(),
            expected_bdp_bytes,
            initial_round_trip: self.first_round_trip(),
            bulk_streams: bulk_streams as usize,
            stream_window_bytes: MAX_STREAM_WINDOW_BYTES,
            connection_window_bytes: bulk_streams * MAX_STREAM_WINDOW_BYTES,
            // Acknowledged bytes above a hole count until the hole is filled, one or two round trips later.
            send_window_bytes: (4 * bdp_bytes)
                .clamp(MIN_SEND_WINDOW_BYTES, bulk_streams * MAX_STREAM_WINDOW_BYTES),
            // A small part of a round trip, so that few acknowledgements do not look like a queue.
            ack_packets: (bdp_packets / 64).clamp(2, 10) as u32,
            // A sixteenth of a round trip: 10 ms of reordering at 160 ms.
            packet_threshold: (bdp_packets / 16).clamp(3, 128) as u32,
            // RFC 9002's. At 160 ms that is another 20 ms of reordering, and each lost packet waits no
            // longer.
            time_threshold: 1.125,
            datagram_buffer_bytes: None,
            discover_mtu: self.model_bytes.is_none_or(|bytes| bytes >= MTU_WORTH_BYTES),
            handshake_timeout: self.handshake_timeout(),
            idle_timeout: self.idle_timeout,
        }
    }

    /// Settings of the connection that carries control messages.
    pub fn control(&self) -> Settings {
        let window_bytes =
            CONTROL_WINDOW_BYTES.min(self.data().initial_window_bytes).max(self.least_window_bytes());
        Settings {
            carries: Carries::Control,
            // Sparse traffic never fills a window, so quinn's controllers would do as well until a list of
            // rows is sent. What it learns of the link is next to nothing: a list must not wait for that.
            congestion: Congestion::Steady,
            initial_window_bytes: window_bytes,
            min_window_bytes: window_bytes,
            expected_bdp_bytes: self.bdp_bytes(),
            initial_round_trip: self.first_round_trip(),
            bulk_streams: 1,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 2 << 20,
            send_window_bytes: 1 << 20,
            ack_packets: 10,
            packet_threshold: 3,
            time_threshold: 1.125,
            datagram_buffer_bytes: Some(64 * 1024),
            // Its probes would be most of the bytes of a quiet connection.
            discover_mtu: false,
            handshake_timeout: self.handshake_timeout(),
            idle_timeout: self.idle_timeout,
        }
    }

    /// Settings of a connection that a peer opened, of which its first packet says what it `carries`. Where it says nothing it
    /// may be for anything, so there is room for datagrams.
    pub fn accepted(&self, carries: Carries) -> Settings {
        let control = self.control();
        match carries {
            Carries::Control => control,
            Carries::Updates => {
                Settings { datagram_buffer_bytes: control.datagram_buffer_bytes, ..self.data() }
            }
        }
    }

    /// Settings of a connection that one of several peers opened, of whom it does not show yet which.
    ///
    /// Limits are those of the largest path, which cost nothing where they are not needed; what a connection starts from
    /// is that of the smallest, so that nobody's path is flooded in its first round trip. The controller is the first
    /// path's: it is one setting for all of them.
    pub fn accepted_from_any(paths: &[Self], carries: Carries) -> Settings {
        let each = paths.iter().map(|path| path.accepted(carries));
        each.reduce(|a, b| Settings {
            carries,
            congestion: a.congestion,
            initial_window_bytes: a.initial_window_bytes.min(b.initial_window_bytes),
            min_window_bytes: a.min_window_bytes.min(b.min_window_bytes),
            expected_bdp_bytes: a.expected_bdp_bytes.zip(b.expected_bdp_bytes).map(|(a, b)| a.min(b)),
            initial_round_trip: a.initial_round_trip.max(b.initial_round_trip),
            bulk_streams: a.bulk_streams.max(b.bulk_streams),
            stream_window_bytes: a.stream_window_bytes.max(b.stream_window_bytes),
            connection_window_bytes: a.connection_window_bytes.max(b.connection_window_bytes),
            send_window_bytes: a.send_window_bytes.max(b.send_window_bytes),
            ack_packets: a.ack_packets.min(b.ack_packets),
            packet_threshold: a.packet_threshold.max(b.packet_threshold),
            time_threshold: a.time_threshold.max(b.time_threshold),
            datagram_buffer_bytes: a.datagram_buffer_bytes.max(b.datagram_buffer_bytes),
            discover_mtu: a.discover_mtu || b.discover_mtu,
            handshake_timeout: a.handshake_timeout.max(b.handshake_timeout),
            idle_timeout: a.idle_timeout.max(b.idle_timeout),
        })
        .unwrap_or_else(|| Self::default().accepted(carries))
    }

    /// The round-trip time to assume before the first measurement: the path's, and what the packets of both connections'
    /// handshakes take. On a thin link they are the queue, and to send them again early is to make it longer.
    pub fn first_round_trip(&self) -> Duration {
        let packets = self.rate_bytes_per_sec.map(|rate| {
            let seconds = (u64::from(FIRST_PACKETS) * FIRST_PACKET_BYTES) as f64 / rate.max(1) as f64;
            Duration::from_secs_f64(seconds)
        });
        self.round_trip.unwrap_or(UNKNOWN_ROUND_TRIP) + packets.unwrap_or_default()
    }

    /// Updates of how many bytes, that come together, may go beside control: what the path carries in a time that nobody minds to
    /// wait, 16 kB at most and a packet at least.
    pub fn small_bytes(&self) -> usize {
        const WAIT: u64 = 5;
        let carried = self.rate_bytes_per_sec.map_or(UNKNOWN_SMALL_BYTES, |rate| rate / 1000 * WAIT);
        carried.clamp(SMALL_BYTES.0, SMALL_BYTES.1) as usize
    }

    /// Whether there will be bulk: a model of which a few updates take more than a second connection does, or nobody knows.
    pub fn expects_bulk(&self) -> bool {
        self.model_bytes.is_none_or(|bytes| bytes >= BULK_MODEL_BYTES)
    }

    /// How long a handshake may take, and then a hello.
    pub fn handshake_timeout(&self) -> Duration {
        (HANDSHAKE_ROUND_TRIPS * self.first_round_trip()).max(MIN_HANDSHAKE_TIMEOUT)
    }

    /// What may be under way however slow a link may seem: the first window of RFC 9002, or on a link that would need more
    /// than a second for it, what that carries in a second; four packets at least, as with fewer a loss has to wait for a
    /// time-out. What is under way beyond what the path holds is a queue, in which control waits.
    fn least_window_bytes(&self) -> u64 {
        const LEAST: u64 = 4 * 1200;
        self.rate_bytes_per_sec
            .map_or(MIN_INITIAL_WINDOW_BYTES, |rate| rate.clamp(LEAST, MIN_INITIAL_WINDOW_BYTES))
    }

    /// Rate times round-trip time, where both are known.
    pub fn bdp_bytes(&self) -> Option<u64> {
        let bytes = u128::from(self.rate_bytes_per_sec?) * self.round_trip?.as_nanos() / 1_000_000_000;
        Some(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

impl Settings {
    /// The settings as quinn takes them.
    pub fn transport(&self) -> Arc<TransportConfig> {
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(self.ack_packets))
            .reordering_threshold(VarInt::from_u32(self.packet_threshold - 1));
        let mut transport = TransportConfig::default();
        transport
            .congestion_controller_factory(self.controller())
            .initial_rtt(self.initial_round_trip)
            .stream_receive_window(var_int(self.stream_window_bytes))
            .receive_window(var_int(self.connection_window_bytes))
            .send_window(self.send_window_bytes)
            .max_concurrent_uni_streams(VarInt::from_u32(MAX_OPEN_STREAMS))
            .max_concurrent_bidi_streams(VarInt::from_u32(MAX_OPEN_STREAMS))
            .packet_threshold(self.packet_threshold)
            .time_threshold(self.time_threshold)
            .ack_frequency_config(Some(acks))
            .datagram_receive_buffer_size(self.datagram_buffer_bytes)
            .datagram_send_buffer_size(self.datagram_buffer_bytes.unwrap_or(0))
            .mtu_discovery_config(self.discover_mtu.then(mtu_discovery))
            .keep_alive_interval(Some(self.idle_timeout / KEEP_ALIVES_PER_TIMEOUT))
            // A time that no variable-length integer can hold is no limit.
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok());
        Arc::new(transport)
    }

    fn controller(&self) -> Arc<dyn congestion::ControllerFactory + Send + Sync> {
        match self.congestion {
            Congestion::Steady => Arc::new(SteadyConfig {
                initial_window_bytes: self.initial_window_bytes,
                expected_bdp_bytes: self.expected_bdp_bytes,
                min_window_bytes: self.min_window_bytes,
                max_window_bytes: self.send_window_bytes,
            }),
            Congestion::Cubic => {
                let mut cubic = congestion::CubicConfig::default();
                cubic.initial_window(self.initial_window_bytes);
                Arc::new(cubic)
            }
            Congestion::NewReno => {
                let mut new_reno = congestion::NewRenoConfig::default();
                new_reno.initial_window(self.initial_window_bytes);
                Arc::new(new_reno)
            }
            Congestion::Bbr => {
                let mut bbr = congestion::BbrConfig::default();
                bbr.initial_window(self.initial_window_bytes);
                Arc::new(bbr)
            }
        }
    }
}

/// Streams that a peer may have open at a time in each direction.
const MAX_OPEN_STREAMS: u32 = 2 * MAX_BULK_STREAMS as u32;
/// A quiet connection survives the loss of all but one of these.
const KEEP_ALIVES_PER_TIMEOUT: u32 = 6;

/// From how large a model on it is worth to look for a larger MTU. That costs 1.5 kB on most paths, and spares 0.75 % of what is
/// sent in full packets, so it is repaid by 200 kB of these; what fits a packet or two repays it never.
const MTU_WORTH_BYTES: u64 = 64 * 1024;

/// Looks for a larger MTU: first for that of an Ethernet frame, which most paths have, and only where that fails for one about
/// halfway. quinn's own search begins halfway, sends four probes, and ends 16 bytes below.
fn mtu_discovery() -> MtuDiscoveryConfig {
    const LARGEST: u16 = 1452;
    // One more than half of what there is to gain, so that halfway does not count as a step.
    const STEP: u16 = (LARGEST - 1200) / 2 + 1;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(LARGEST).minimum_change(STEP);
    discovery
}

fn var_int(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(mbit_per_sec: u64, round_trip_millis: u64) -> Path {
        Path {
            rate_bytes_per_sec: Some(mbit_per_sec * 125_000),
            round_trip: Some(Duration::from_millis(round_trip_millis)),
            ..Path::default()
        }
    }

    #[test]
    fn settings_follow_the_bandwidth_delay_product() {
        // (Mbit/s, round trip in ms) -> (streams, initial window, send window, acknowledged packets, packet
        // threshold)
        let table = [
            ((100, 160), (4, 1_000_000, 8_000_000, 10, 87)),
            ((1000, 160), (16, 10_000_000, 40_000_000, 10, 128)),
            ((10_000, 300), (64, 187_500_000, 160_000_000, 10, 128)),
            ((20, 200), (4, 250_000, 4_000_000, 5, 21)),
            ((1, 10), (4, 14_720, 4_000_000, 2, 3)),
        ];
        for ((rate, round_trip), expected) in table {
            let s = path(rate, round_trip).data();
            let found = (
                s.bulk_streams,
                s.initial_window_bytes,
                s.send_window_bytes,
                s.ack_packets,
                s.packet_threshold,
            );
            assert_eq!(found, expected, "{rate} Mbit/s, {round_trip} ms");
            assert!(s.stream_window_bytes <= 2_500_000);
        }
    }

    #[test]
    fn who_may_be_any_of_several_gets_the_largest_limits_and_the_smallest_start() {
        let paths = [path(1000, 160), path(20, 200)];
        let any = Path::accepted_from_any(&paths, Carries::Updates);
        let [large, small] = paths.map(|path| path.accepted(Carries::Updates));
        assert_eq!(any.send_window_bytes, large.send_window_bytes);
        assert_eq!(any.connection_window_bytes, large.connection_window_bytes);
        assert_eq!(any.packet_threshold, large.packet_threshold);
        assert_eq!(any.initial_window_bytes, small.initial_window_bytes);
        assert_eq!(any.expected_bdp_bytes, small.expected_bdp_bytes);
        assert_eq!(any.ack_packets, small.ack_packets);
        assert_eq!(any.initial_round_trip, small.initial_round_trip);
        // Of a path that is not known nobody can say that it is the larger one.
        let any = Path::accepted_from_any(&[path(1000, 160), Path::default()], Carries::Updates);
        assert_eq!((any.expected_bdp_bytes, any.initial_window_bytes), (None, 38_400));
        // What is the same everywhere stays as it is, above all the controller.
        let cubic = Path { congestion: Congestion::Cubic, ..path(100, 160) };
        for carries in [Carries::Control, Carries::Updates] {
            assert_eq!(Path::accepted_from_any(&[cubic, cubic], carries), cubic.accepted(carries));
            assert_eq!(Path::accepted_from_any(&[], carries), Path::default().accepted(carries));
        }
    }

    #[test]
    fn thin_and_long_paths_have_time() {
        // (bit/s, round trip in ms) -> (first round trip, time for a handshake, least window)
        let table = [
            ((100_000_000, 160), (160, 10_000, 14_720)),
            ((1_000_000, 160), (199, 10_000, 14_720)),
            ((100_000, 160), (552, 10_000, 12_500)),
            ((10_000, 160), (4089, 24_537, 4800)),
            ((100_000_000, 16_000), (16_000, 96_002, 14_720)),
        ];
        for ((bits, round_trip), expected) in table {
            let path = Path {
                rate_bytes_per_sec: Some(bits / 8),
                round_trip: Some(Duration::from_millis(round_trip)),
                ..Path::default()
            };
            let (data, control) = (path.data(), path.control());
            let found = (
                data.initial_round_trip.as_millis(),
                control.handshake_timeout.as_millis(),
                control.min_window_bytes.min(data.min_window_bytes),
            );
            assert_eq!(found, expected, "{bits} bit/s, {round_trip} ms");
        }
    }

    #[test]
    fn a_larger_mtu_is_looked_for_where_that_pays() {
        let of = |model_bytes| Path { model_bytes, ..path(100, 160) };
        for (model_bytes, expected) in [(None, true), (Some(2600), false), (Some(1_000_000), true)] {
            assert_eq!(of(model_bytes).data().discover_mtu, expected, "{model_bytes:?}");
            assert_eq!(of(model_bytes).accepted(Carries::Updates).discover_mtu, expected, "{model_bytes:?}");
            assert!(
                !of(model_bytes).control().discover_mtu
                    && !of(model_bytes).accepted(Carries::Control).discover_mtu
            );
        }
    }

    #[test]
    fn an_unknown_path_has_settings_too() {
        let unknown = Path::default();
        assert_eq!(unknown.bdp_bytes(), None);
        assert_eq!(unknown.data().expected_bdp_bytes, None);
        assert_eq!(unknown.data().initial_window_bytes, 38_400);
        assert_eq!(unknown.control().initial_window_bytes, 38_400);
    }

    #[test]
    fn every_controller_can_be_built() {
        for congestion in [Congestion::Steady, Congestion::Cubic, Congestion::NewReno, Congestion::Bbr] {
            let path = Path { congestion, ..path(100, 160) };
            path.data().transport();
            path.control().transport();
        }
    }
}
