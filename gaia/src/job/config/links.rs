//! Reads the links between regions: `[link]` for all, and `[[links]]` over it for some; later ones
//! win.

use std::time::Duration;

use emulation::link::{LinkConfig, LinkConfigError, Outage};

use crate::job::scenario::Links;
use crate::settings::Section;
use crate::settings::kind::{
    Queue, delay, duration, flag, link_delay, link_rate, list, name, probability, queue,
};
use crate::settings::suggest::nearest;

/// A queue this long or longer, unless the file says otherwise: short links want more than one
/// product.
const DEFAULT_QUEUE_BYTES: u64 = 200_000;
/// A queue that cannot hold a few datagrams makes a link that carries nothing.
const LEAST_QUEUE_BYTES: u64 = 4_500;

/// Reads the links between `regions`; `None` there checks the links' own values alone.
pub(super) fn links(s: &Section<'_>, regions: Option<&[String]>) -> Option<Links> {
    let base = s.section("link", link);
    let overlays = s.sections("links", |s| {
        let ends = ends(s, regions);
        let link = link(s);
        Some((ends?, link?))
    });
    let regions = regions?;
    let mut matrix = vec![base?; regions.len() * regions.len()];
    for overlay in overlays {
        let (ends, link) = overlay?;
        for (from, to) in ends {
            matrix[from * regions.len() + to].overlay(&link);
        }
    }
    let missing = missing(regions, &matrix);
    if let Some(message) = missing {
        s.problem("links", message);
        return None;
    }
    Some(Links::new(regions.len(), |from, to| {
        let (there, back) = (&matrix[from * regions.len() + to], &matrix[to * regions.len() + from]);
        there.finish(back.delay())
    }))
}

/// What a file says about a link, or about all of them.
#[derive(Clone, Default)]
pub(super) struct RawLink {
    rate: Option<u64>,
    one_way_delay: Option<Duration>,
    jitter: Option<Duration>,
    reorder: Option<bool>,
    loss: Option<f64>,
    duplicate: Option<f64>,
    queue: Option<Queue>,
    outages: Option<Vec<Outage>>,
}

/// Reads the keys of a link.
pub(super) fn link(s: &Section<'_>) -> Option<RawLink> {
    let outage = |s: &Section<'_>| {
        let start = s.required("start", duration());
        let length = s.required("length", duration());
        Some(Outage { start: start?, length: length? })
    };
    let rate = s.optional("rate", link_rate());
    let one_way_delay = s.optional("one_way_delay", link_delay());
    // Read in any case, so that its keys are known.
    let outages = s.sections("outages", outage).into_iter().collect::<Option<Vec<_>>>();
    let outages = outages.filter(|_| s.has("outages"));
    let overlap = outages
        .iter()
        .flat_map(|outages| outages.windows(2))
        .find(|two| two[1].start < two[0].start.saturating_add(two[0].length));
    if let Some(two) = overlap {
        s.problem("outages", LinkConfigError::OutagesOverlap { start: two[1].start }.to_string());
    }
    // Said, and wrong: links that take it from here should not be called without one as well.
    let is_spoilt = (s.has("rate") && rate.is_none())
        || (s.has("one_way_delay") && one_way_delay.is_none())
        || overlap.is_some();
    let link = RawLink {
        rate,
        one_way_delay,
        jitter: s.optional("jitter", delay()),
        reorder: s.optional("reorder", flag()),
        loss: s.optional("loss", probability()),
        duplicate: s.optional("duplicate", probability()),
        queue: s.optional("queue", queue()),
        outages,
    };
    (!is_spoilt).then_some(link)
}

impl RawLink {
    /// Puts what `over` says in the place of what was said before.
    pub(super) fn overlay(&mut self, over: &Self) {
        fn set<T: Clone>(under: &mut Option<T>, over: &Option<T>) {
            if over.is_some() {
                under.clone_from(over);
            }
        }
        set(&mut self.rate, &over.rate);
        set(&mut self.one_way_delay, &over.one_way_delay);
        set(&mut self.jitter, &over.jitter);
        set(&mut self.reorder, &over.reorder);
        set(&mut self.loss, &over.loss);
        set(&mut self.duplicate, &over.duplicate);
        set(&mut self.queue, &over.queue);
        set(&mut self.outages, &over.outages);
    }

    /// The keys that are needed and have not been said.
    pub(super) fn lacking(&self) -> impl Iterator<Item = &'static str> {
        let keys = [("rate", self.rate.is_some()), ("one_way_delay", self.one_way_delay.is_some())];
        keys.into_iter().filter(|(_, there)| !there).map(|(key, _)| key)
    }

    /// The propagation delay, as far as it has been said.
    pub(super) fn delay(&self) -> Duration {
        self.one_way_delay.unwrap_or_default()
    }

    /// The link, whose way back takes `delay_back`.
    pub(super) fn finish(&self, delay_back: Duration) -> LinkConfig {
        let rate_bytes_per_sec = self.rate.unwrap_or_default();
        let one_way_delay = self.delay();
        let product = rate_bytes_per_sec as f64 * (one_way_delay + delay_back).as_secs_f64();
        let queue_bytes = match self.queue {
            None => (product as u64).max(DEFAULT_QUEUE_BYTES),
            Some(Queue::BandwidthDelayProducts(products)) => {
                ((product * products) as u64).max(LEAST_QUEUE_BYTES)
            }
            Some(Queue::Bytes(bytes)) => bytes.max(LEAST_QUEUE_BYTES),
        };
        LinkConfig {
            rate_bytes_per_sec,
            one_way_delay,
            jitter: self.jitter.unwrap_or_default(),
            reorder: self.reorder.unwrap_or_default(),
            loss: self.loss.unwrap_or_default(),
            duplicate: self.duplicate.unwrap_or_default(),
            queue_bytes,
            outages: self.outages.clone().unwrap_or_default(),
        }
    }
}

/// The first links that lack a rate or a delay, in words.
fn missing(regions: &[String], matrix: &[RawLink]) -> Option<String> {
    let mut lacking = Vec::new();
    for (from, from_name) in regions.iter().enumerate() {
        for (to, to_name) in regions.iter().enumerate().filter(|(to, _)| *to != from) {
            let link = &matrix[from * regions.len() + to];
            lacking.extend(link.lacking().map(|key| format!("{from_name} -> {to_name} has no {key}")));
        }
    }
    const SHOWN: usize = 4;
    let more = lacking.len().saturating_sub(SHOWN);
    (!lacking.is_empty()).then(|| {
        lacking.truncate(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}; allowed: every link has both, from [link] or from [[links]]", lacking.join(", "))
    })
}

/// The ends of the links that a table of `[[links]]` is about, as indexes into `regions`; empty
/// where those are unknown.
fn ends(s: &Section<'_>, regions: Option<&[String]>) -> Option<Vec<(usize, usize)>> {
    let between = s.optional("between", list(name()));
    let from = s.optional("from", name());
    let to = s.optional("to", name());
    match (s.has("between"), s.has("from"), s.has("to")) {
        (true, false, false) => {
            let between = between?;
            let [one, other] = between.as_slice() else {
                let found = between.len();
                s.problem("between", format!("found {found} names; allowed: the names of two regions"));
                return None;
            };
            let ends = find(s, ["between", "between"], [one, other], regions)?;
            Some(ends.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]).collect())
        }
        (false, true, true) => find(s, ["from", "to"], [&from?, &to?], regions),
        (false, true, false) => s.required("to", name()).and(None),
        (false, false, true) => s.required("from", name()).and(None),
        (true, ..) | (false, false, false) => {
            let key = "between";
            s.problem(
                key,
                "allowed: either between = [\"a\", \"b\"] (both ways) or from and to (one way)".to_owned(),
            );
            None
        }
    }
}

fn find(
    s: &Section<'_>,
    keys: [&str; 2],
    names: [&String; 2],
    regions: Option<&[String]>,
) -> Option<Vec<(usize, usize)>> {
    let Some(regions) = regions else {
        return Some(Vec::new());
    };
    let index = |key: &str, name: &String| {
        let index = regions.iter().position(|region| region == name);
        if index.is_none() {
            let hint = match nearest(name, regions.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("allowed: {}", regions.join(", ")),
            };
            s.problem(key, format!("found {name:?}, which is no region; {hint}"));
        }
        index
    };
    let (one, other) = (index(keys[0], names[0]), index(keys[1], names[1]));
    let ends = (one?, other?);
    if ends.0 == ends.1 {
        s.problem(keys[1], format!("found {:?} twice; allowed: two regions", names[0]));
        return None;
    }
    Some(vec![ends])
}
