//! What a region's servers have counted of what costs money: bytes between regions, and elements.
//!
//! A process that starts anew goes on counting where the one before it was. So its counts go into
//! every checkpoint, and, where checkpoints lie in a directory, into a small file beside them
//! before they are told to anybody (`<job>/<region>/counts/server-<i>.json`). Which of all these is
//! the newest does not matter: counts only grow, so the largest of each is taken.
//!
//! Each server adds to the counts of its own index and to those of its shards. Where a region comes
//! back with fewer servers, server `i` of `n` goes on with the counts of all whose index leaves `i`
//! when divided by `n`: as it does with shards.
//!
//! Kind: time-free.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is counted of a region, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// By index.
    pub servers: BTreeMap<u16, ServerCounts>,
    /// By number.
    pub shards: BTreeMap<u16, ShardCounts>,
}

/// What one server has exchanged with other regions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerCounts {
    /// All that its socket sent.
    pub sent_bytes: u64,
    /// All that its socket received.
    pub received_bytes: u64,
    /// By region, and by the index of the server there.
    pub links: BTreeMap<String, BTreeMap<u16, LinkCounts>>,
}

/// What crossed the link to one server of another region; see
/// [`LinkStatus`](crate::service::status::LinkStatus).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkCounts {
    /// Bytes sent, on the wire.
    pub sent_bytes: u64,
    /// Bytes received, on the wire.
    pub received_bytes: u64,
    /// Of those sent, payload of updates, each counted once.
    pub payload_bytes: u64,
    /// Of those sent, what was sent again.
    pub repeated_bytes: u64,
    /// What shipping every update would have sent.
    pub naive_bytes: u64,
    /// Rows announced by selective barriers.
    pub announced_rows: u64,
}

/// What one shard has counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardCounts {
    /// Elements that local updates have touched.
    pub updated_elements: u64,
    /// Those that were shipped.
    pub shipped_elements: u64,
    /// For how long reads were held, by reason.
    pub held_seconds: BTreeMap<String, f64>,
}

impl Counts {
    /// Takes the larger of each count: of two that were taken of the same servers, the later one.
    pub fn raise(&mut self, other: &Self) {
        self.combine(other, u64::max, f64::max);
    }

    /// Adds what a later process has counted by itself.
    #[must_use]
    pub fn plus(mut self, later: &Self) -> Self {
        self.combine(later, u64::saturating_add, |one, other| one + other);
        self
    }

    /// Of a region's counts, what server `index` of `count` goes on with.
    #[must_use]
    pub fn of_server(mut self, index: u16, count: u16) -> Self {
        let is_ours = |number: &u16| number % count.max(1) == index;
        self.servers.retain(|index, _| is_ours(index));
        self.shards.retain(|shard, _| is_ours(shard));
        self
    }

    /// All servers together.
    pub fn total(&self) -> ServerCounts {
        let mut total = ServerCounts::default();
        for server in self.servers.values() {
            total.combine(server, u64::saturating_add);
        }
        total
    }

    fn combine(&mut self, other: &Self, count: fn(u64, u64) -> u64, time: fn(f64, f64) -> f64) {
        for (index, server) in &other.servers {
            self.servers.entry(*index).or_default().combine(server, count);
        }
        for (shard, counts) in &other.shards {
            self.shards.entry(*shard).or_default().combine(counts, count, time);
        }
    }
}

impl ServerCounts {
    fn combine(&mut self, other: &Self, count: fn(u64, u64) -> u64) {
        self.sent_bytes = count(self.sent_bytes, other.sent_bytes);
        self.received_bytes = count(self.received_bytes, other.received_bytes);
        for (region, servers) in &other.links {
            let ours = self.links.entry(region.clone()).or_default();
            for (index, link) in servers {
                let known = ours.entry(*index).or_default();
                *known = known.combined(*link, count);
            }
        }
    }

    /// The link to server `index` of `region`.
    pub fn link(&self, region: &str, index: u16) -> LinkCounts {
        self.links.get(region).and_then(|servers| servers.get(&index)).copied().unwrap_or_default()
    }
}

impl LinkCounts {
    fn combined(self, other: Self, count: fn(u64, u64) -> u64) -> Self {
        Self {
            sent_bytes: count(self.sent_bytes, other.sent_bytes),
            received_bytes: count(self.received_bytes, other.received_bytes),
            payload_bytes: count(self.payload_bytes, other.payload_bytes),
            repeated_bytes: count(self.repeated_bytes, other.repeated_bytes),
            naive_bytes: count(self.naive_bytes, other.naive_bytes),
            announced_rows: count(self.announced_rows, other.announced_rows),
        }
    }
}

impl ShardCounts {
    fn combine(&mut self, other: &Self, count: fn(u64, u64) -> u64, time: fn(f64, f64) -> f64) {
        self.updated_elements = count(self.updated_elements, other.updated_elements);
        self.shipped_elements = count(self.shipped_elements, other.shipped_elements);
        for (reason, seconds) in &other.held_seconds {
            let known = self.held_seconds.entry(reason.clone()).or_insert(0.0);
            *known = time(*known, *seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts() -> impl Strategy<Value = Counts> {
        let link = (0..900u64, 0..900u64, 0..900u64).prop_map(|(sent, payload, naive)| LinkCounts {
            sent_bytes: sent,
            received_bytes: sent / 2,
            payload_bytes: payload,
            repeated_bytes: payload / 3,
            naive_bytes: naive,
            announced_rows: naive / 7,
        });
        let links = prop::collection::btree_map(0..3u16, link, 0..3);
        let links = prop::collection::btree_map("[ab]", links, 0..3);
        let server = (0..900u64, 0..900u64, links).prop_map(|(sent, received, links)| ServerCounts {
            sent_bytes: sent,
            received_bytes: received,
            links,
        });
        let held = prop::collection::btree_map("stale|barrier", (0..90u32).prop_map(f64::from), 0..3);
        let shard = (0..900u64, 0..900u64, held).prop_map(|(updated, shipped, held)| ShardCounts {
            updated_elements: updated,
            shipped_elements: shipped,
            held_seconds: held,
        });
        let servers = prop::collection::btree_map(0..6u16, server, 0..6);
        let shards = prop::collection::btree_map(0..6u16, shard, 0..6);
        (servers, shards).prop_map(|(servers, shards)| Counts { servers, shards })
    }

    /// All numbers, in the order of their names.
    fn numbers(counts: &Counts) -> BTreeMap<String, f64> {
        fn walk(path: String, value: &serde_json::Value, into: &mut BTreeMap<String, f64>) {
            match value {
                serde_json::Value::Object(fields) => {
                    fields.iter().for_each(|(name, value)| walk(format!("{path}/{name}"), value, into));
                }
                number => _ = into.insert(path, number.as_f64().expect("a number")),
            }
        }
        let mut into = BTreeMap::new();
        walk(String::new(), &serde_json::to_value(counts).expect("plain data"), &mut into);
        into
    }

    proptest! {
        #[test]
        fn no_count_falls_and_the_order_in_which_files_are_read_is_no_matter(one in counts(), other in counts()) {
            let mut both = one.clone();
            both.raise(&other);
            let mut swapped = other.clone();
            swapped.raise(&one);
            prop_assert_eq!(&both, &swapped);
            let largest = numbers(&both);
            for (name, number) in numbers(&one).into_iter().chain(numbers(&other)) {
                prop_assert!(largest[&name] >= number, "{}", name);
            }
            let sums = numbers(&one.clone().plus(&other));
            for (name, number) in numbers(&one) {
                prop_assert_eq!(sums[&name], number + numbers(&other).get(&name).copied().unwrap_or(0.0), "{}", name);
            }
        }

        #[test]
        fn however_many_servers_a_region_returns_with_nothing_is_lost_nor_counted_twice(all in counts(), count in 1..5u16) {
            let total = |counts: &Counts| {
                let total = counts.total();
                (total.sent_bytes, total.links.values().flat_map(|l| l.values()).map(|l| l.naive_bytes).sum::<u64>())
            };
            let parts: Vec<_> = (0..count).map(|index| all.clone().of_server(index, count)).collect();
            let sums = parts.iter().map(total).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
            prop_assert_eq!(sums, total(&all));
            prop_assert_eq!(parts.iter().map(|part| part.shards.len()).sum::<usize>(), all.shards.len());
        }

        #[test]
        fn what_is_written_is_read(counts in counts()) {
            let text = serde_json::to_string(&counts).expect("plain data");
            prop_assert_eq!(serde_json::from_str::<Counts>(&text).expect("what was written"), counts);
        }
    }

    #[test]
    fn counts_of_earlier_and_later_versions_are_read() {
        let text =
            r#"{"servers":{"1":{"sent_bytes":7,"a_new_count":9,"links":{"b":{"0":{"sent_bytes":5}}}}}}"#;
        let counts: Counts = serde_json::from_str(text).expect("counts");
        assert_eq!((counts.total().sent_bytes, counts.total().link("b", 0).sent_bytes), (7, 5));
        assert_eq!(counts.servers[&1].received_bytes, 0);
    }

    #[test]
    fn a_file_that_says_too_much_does_not_make_them_start_anew() {
        let of = |sent_bytes| Counts {
            servers: BTreeMap::from([(0, ServerCounts { sent_bytes, ..ServerCounts::default() })]),
            ..Counts::default()
        };
        assert_eq!(of(u64::MAX).plus(&of(3)).total().sent_bytes, u64::MAX);
    }
}
