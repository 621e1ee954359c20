//! The page: a head, and below it a block for each region.
//!
//! Kind: time-free.

use std::collections::BTreeSet;

use ratatui::text::{Line, Span};

use super::filters::filters;
use super::kept::kept;
use super::links::links;
use super::paint::{Ink, Item, Palette, beside, flow, item, justified, labelled};
use super::region::{Held, Region, regions};
use super::{History, Moment};
use crate::human::{bytes, figure, percent, seconds, times, with_causes};
use crate::service::participation::RegionPart;
use crate::service::status::fetch::Fetched;
use crate::service::status::totals::{Totals, sum};
use crate::service::status::{Absence, Phase, Status};

/// From this width on, a region's links stand beside what else is known of it.
const ROOM_FOR_TWO: u16 = 156;
/// Between the two.
const GAP: u16 = 2;
/// The narrowest page that is laid out; a narrower terminal does not see its right end.
const NARROWEST: u16 = 70;
/// The length of a bar, where there is room.
const BAR: usize = 28;
/// A certificate that lives no longer is spoken of.
const EXPIRY_WARNING_DAYS: f64 = 30.0;
const SECONDS_OF_DAY: f64 = 86_400.0;

/// What is shown, line by line.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What the job is and how it goes; stays where it is.
    pub head: Vec<Line<'static>>,
    /// The regions; scrolls where there is no room for all.
    pub body: Vec<Line<'static>>,
}

/// Lays out what is known for lines of `width` characters, of 70 at least.
pub fn page(history: &History, width: u16, palette: Palette) -> Page {
    let Some(now) = history.now() else {
        return Page { head: vec![Line::from(palette.span(Ink::Label, "asking ..."))], body: vec![] };
    };
    let width = width.max(NARROWEST);
    let (regions, nameless) = regions(now);
    let mut writer = Writer { history, palette, width, widest_name: 0 };
    writer.widest_name =
        regions.iter().map(|region| writer.name_and_phase(region).width()).max().unwrap_or(0);
    let mut body = Vec::new();
    for region in &regions {
        body.push(Line::default());
        body.extend(writer.region(region));
    }
    if !nameless.is_empty() {
        body.push(Line::default());
        body.extend(writer.silent(&nameless, width));
    }
    Page { head: writer.head(now, &regions), body }
}

/// Which regions took part in the model of one that has finished, and to which clock.
fn parts(region: &Region<'_>) -> Vec<Item> {
    let clocks = region.job_clocks().unwrap_or_default();
    let part = |(name, part): (&str, RegionPart)| {
        let RegionPart { clock, left_out, left, .. } = part;
        let without = match left_out {
            0 => String::new(),
            left_out => format!(" without {left_out}"),
        };
        match (clock < clocks, left) {
            (_, true) => item(Ink::Label, format!("{name} to {clock}{without}, left for good")),
            (true, false) => item(Ink::Bad, format!("{name} only to {clock}{without}")),
            (false, false) if left_out > 0 => item(Ink::Bad, format!("{name} to {clock}{without}")),
            (false, false) => item(Ink::Normal, format!("{name} to {clock}")),
        }
    };
    region.parts().into_iter().map(part).collect()
}

struct Writer<'a> {
    history: &'a History,
    palette: Palette,
    width: u16,
    /// Of regions, with their phases.
    widest_name: usize,
}

impl Writer<'_> {
    fn head(&self, now: &Moment, regions: &[Region<'_>]) -> Vec<Line<'static>> {
        let palette = self.palette;
        let job = now.known().find(|status| !status.job.name.is_empty()).map(|status| &status.job);
        let mut left = Line::default();
        if let Some(job) = job {
            left.push_span(palette.span(Ink::Name, job.name.clone()));
            left.push_span(palette.span(Ink::Label, format!("   {}", job.strategy)));
            left.push_span(palette.span(Ink::Label, "   "));
        }
        let (ink, answers) = answers(now);
        left.push_span(palette.span(ink, answers));
        let uptime = now.known().map(|status| status.uptime_seconds).fold(0.0, f64::max);
        let is_up = now.statuses().next().is_some() || now.ended.is_empty();
        let up = if is_up { "up" } else { "ran" };
        let right = Line::from(palette.span(Ink::Label, format!("{up} {}", whole_seconds(uptime))));
        let mut lines = justified(left, right, self.width);
        let sum = |of: fn(&Totals, &str) -> u64| sum(regions.iter().map(|r| of(&now.totals, r.name)));
        let (sent, naive) = (sum(Totals::sent_bytes), sum(Totals::naive_bytes));
        if sent > 0 {
            let mut wan =
                vec![(Ink::Label, "WAN ".to_owned()), (Ink::Normal, format!("{} sent", bytes(sent as f64)))];
            if naive > 0 {
                let (figure, than) = saving(naive as f64 / sum(Totals::told_sent_bytes).max(1) as f64);
                wan.push((Ink::Normal, format!(", {figure}")));
                wan.push((Ink::Label, format!(" {than} every update would take ({})", bytes(naive as f64))));
            }
            lines.extend(flow(palette, palette.span(Ink::Label, ""), 0, &[wan], self.width));
        }
        let digests: BTreeSet<_> = now.known().map(|status| &status.job.digest).collect();
        if digests.iter().filter(|digest| !digest.is_empty()).count() > 1 {
            let warning = item(Ink::Bad, "these processes do not train the same job: their digests differ");
            lines.extend(flow(palette, palette.span(Ink::Label, ""), 0, &[warning], self.width));
        }
        lines
    }

    fn region(&self, region: &Region<'_>) -> Vec<Line<'static>> {
        let (left_width, right_width) = if self.width >= ROOM_FOR_TWO {
            let left = self.width / 2 - GAP;
            (left, self.width - left - GAP)
        } else {
            (self.width, self.width)
        };
        let left = self.facts(region, left_width);
        let right = links(region, self.history, self.palette, right_width);
        if self.width >= ROOM_FOR_TWO { beside(left, right, left_width, GAP) } else { [left, right].concat() }
    }

    fn facts(&self, region: &Region<'_>, width: u16) -> Vec<Line<'static>> {
        let palette = self.palette;
        let mut lines = self.title(region, width);
        let mut add = |label: &str, items: &[Item]| lines.extend(labelled(palette, label, items, width));
        if let Some(score) = region.score() {
            let metric = score.metric.replace('_', " ");
            let text = format!("objective {}   {metric} {}", figure(score.objective), figure(score.value));
            add("model", &[vec![(Ink::Normal, text), (Ink::Label, format!("   at clock {}", score.clock))]]);
        }
        if region.worker_count() > 0 {
            add("workers", &self.work(region));
        }
        let leads = region.leads();
        if !leads.is_empty() {
            let lead = |(datacenter, lead): (&&str, &super::region::Lead)| {
                // Not "of": it keeps reads from being answered, and those that were before it was
                // reached lead on.
                let limit = lead.limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
                let idle = if lead.is_idle { ", idle" } else { "" };
                let is_full = lead.limit.is_some_and(|limit| lead.clocks >= limit) && !lead.is_idle;
                if lead.has_left {
                    return vec![(Ink::Label, format!("{datacenter} has left for good"))];
                }
                if let Some(gone) = lead.gone_seconds {
                    return vec![(Ink::Bad, format!("{datacenter} is gone for {}", seconds(gone)))];
                }
                if lead.is_behind {
                    let text = format!("{datacenter} +{}, catching up: not waited for", lead.clocks);
                    return vec![(Ink::Slow, text)];
                }
                let ink = if is_full { Ink::Slow } else { Ink::Normal };
                vec![(Ink::Normal, format!("{datacenter} ")), (ink, format!("+{}{limit}{idle}", lead.clocks))]
            };
            add("leads", &leads.iter().map(lead).collect::<Vec<_>>());
        }
        self.holds(region, &mut add);
        for missing in region.missing().values() {
            let (worker, time) = (missing.worker, seconds(missing.seconds));
            let (ink, state) = match (missing.state, &missing.reason) {
                (Absence::Gone, _) => (Ink::Bad, format!("worker {worker} is gone for {time}")),
                (Absence::Suspected, Some(_)) => {
                    (Ink::Slow, format!("worker {worker} is not heard of for {time}"))
                }
                (Absence::Suspected, None) => (Ink::Slow, format!("worker {worker} has not come for {time}")),
            };
            let others = if missing.state == Absence::Gone { "; the others go on" } else { "" };
            let reason = missing.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            add("missing", &[vec![(ink, state), (Ink::Normal, format!("{others}{reason}"))]]);
        }
        for (awaited, roles) in region.waiting_for() {
            add("waits", &[vec![(Ink::Slow, roles.join(", ")), (Ink::Normal, format!(" for {awaited}"))]]);
        }
        self.traffic(region, &mut add);
        for (at, items) in filters(region).iter().enumerate() {
            add(if at == 0 { "filter" } else { "" }, items);
        }
        let kept = kept(region);
        if !kept.is_empty() {
            add("kept", &kept);
        }
        self.trust(region, &mut add);
        let parts = parts(region);
        if !parts.is_empty() {
            lines.extend(labelled(palette, "parts", &parts, width));
        }
        for (phase, end) in [(Phase::Finished, "finished"), (Phase::Draining, "stopped")] {
            let of_phase = region.ended.iter().filter(|status| status.phase == phase);
            let roles: Vec<_> = of_phase.map(|status| status.role.as_str()).collect();
            if !roles.is_empty() {
                let gone = if roles.len() == 1 { "no longer answers" } else { "no longer answer" };
                let text = format!("{}: {end}, {gone}", roles.join(", "));
                lines.extend(labelled(palette, "ended", &[item(Ink::Label, text)], width));
            }
        }
        if !region.silent.is_empty() {
            lines.extend(self.silent(&region.silent, width));
        }
        lines
    }

    /// "virginia   training   ━━━━━━━━━━╸────────   clock 118..120 of 200".
    fn title(&self, region: &Region<'_>, width: u16) -> Vec<Line<'static>> {
        let palette = self.palette;
        let mut right = Line::default();
        if let Some((least, most)) = region.clocks() {
            let clocks = if least == most { least.to_string() } else { format!("{least}..{most}") };
            let text = match region.job_clocks() {
                None => format!("clock {clocks}"),
                Some(total) => {
                    let digits = total.to_string().len();
                    let text = format!("clock {clocks:>width$} of {total}", width = 2 * digits + 2);
                    // As long for all, so that bars can be compared.
                    let room = usize::from(width).saturating_sub(self.widest_name + text.len() + 5);
                    right.extend(bar(palette, f64::from(least) / f64::from(total), room.min(BAR)));
                    right.push_span(Span::raw("  "));
                    text
                }
            };
            right.push_span(palette.span(Ink::Normal, text));
        }
        justified(self.name_and_phase(region), right, width)
    }

    /// "singapore  1 waiting, 3 training, 1 stopped, 1 silent".
    fn name_and_phase(&self, region: &Region<'_>) -> Line<'static> {
        let palette = self.palette;
        let mut left = Line::from(palette.span(Ink::Name, format!("{:<10} ", region.name)));
        let phases = region.phases();
        let is_one = phases.len() == 1;
        for (at, (phase, count)) in phases.iter().enumerate() {
            let ink = match phase {
                Phase::Training | Phase::Finished => Ink::Good,
                Phase::Starting | Phase::Waiting | Phase::Draining => Ink::Slow,
            };
            let comma = if at == 0 { "" } else { ", " };
            let many = if is_one { String::new() } else { format!("{count} ") };
            left.push_span(palette.span(ink, format!("{comma}{many}{}", phase.name())));
        }
        let mut is_first = phases.is_empty();
        for (ink, count, word) in
            [(Ink::Slow, region.stopped(), "stopped"), (Ink::Bad, region.silent.len(), "silent")]
        {
            if count > 0 {
                let comma = if std::mem::take(&mut is_first) { "" } else { ", " };
                left.push_span(palette.span(ink, format!("{comma}{count} {word}")));
            }
        }
        left
    }

    /// "3 connected   82 % computing   3.10 clocks/s   26 s to go".
    fn work(&self, region: &Region<'_>) -> Vec<Item> {
        let is_over = region.is_over();
        let mut items = Vec::new();
        if !is_over {
            items.push(item(Ink::Normal, format!("{} connected", region.worker_count())));
        }
        let earlier = self.history.before().filter(|_| !is_over).and_then(|(moment, seconds)| {
            let earlier = regions(moment).0.into_iter().find(|earlier| earlier.name == region.name)?;
            Some((earlier, seconds))
        });
        let (mut compute, mut wait) = region.work();
        if let Some((before, _)) =
            earlier.as_ref().filter(|(before, _)| before.workers().count() == region.workers().count())
        {
            // Workers that started again count from zero.
            let (compute_before, wait_before) = before.work();
            let has_passed = compute + wait > compute_before + wait_before;
            if has_passed && compute >= compute_before && wait >= wait_before {
                compute -= compute_before;
                wait -= wait_before;
            }
        }
        if compute + wait > 0.0 {
            let share = percent((compute / (compute + wait) * 100.0).round() / 100.0);
            items.push(item(Ink::Label, format!("{share} computing")));
        }
        if let (Some((before, seconds_between)), Some((now, _))) = (earlier, region.clocks()) {
            let pace = before.clocks().and_then(|(then, _)| now.checked_sub(then));
            let pace = f64::from(pace.unwrap_or(0)) / seconds_between;
            items.push(item(Ink::Normal, format!("{pace:.2} clocks/s")));
            let rest = region.job_clocks().map_or(0, |total| total.saturating_sub(now));
            if pace > 0.0 && rest > 0 {
                items.push(item(Ink::Label, format!("{} to go", whole_seconds(f64::from(rest) / pace))));
            }
        }
        items
    }

    /// Each reason on a line of its own. There are as many lines as there were lately: holds come
    /// and go, and what is below must not jump with them.
    fn holds(&self, region: &Region<'_>, add: &mut impl FnMut(&str, &[Item])) {
        if region.shards().next().is_none() || region.is_over() {
            return;
        }
        let held = region.held();
        if held.is_empty() {
            add("held", &[item(Ink::Label, "nothing")]);
        }
        for (at, held) in held.iter().enumerate() {
            let (who, why) = hold(held);
            add(if at == 0 { "held" } else { "" }, &[vec![(Ink::Slow, who), (Ink::Normal, why)]]);
        }
        let lately = self.history.moments.iter().map(|moment| {
            let (regions, _) = regions(moment);
            regions
                .iter()
                .find(|earlier| earlier.name == region.name)
                .map_or(0, |earlier| earlier.held().len())
        });
        for _ in held.len().max(1)..lately.max().unwrap_or(0) {
            add("", &[]);
        }
    }

    fn traffic(&self, region: &Region<'_>, add: &mut impl FnMut(&str, &[Item])) {
        let Some(totals) = self.history.now().map(|now| &now.totals) else { return };
        let (sent, naive) = (totals.sent_bytes(region.name) as f64, totals.naive_bytes(region.name) as f64);
        if region.links().next().is_none() && sent == 0.0 {
            return;
        }
        let mut items = vec![item(Ink::Normal, format!("{} sent", bytes(sent)))];
        if sent > 0.0 && naive > 0.0 {
            let (figure, than) = saving(naive / totals.told_sent_bytes(region.name).max(1) as f64);
            items.push(vec![(Ink::Normal, figure), (Ink::Label, format!(" {than} {}", bytes(naive)))]);
        }
        items
            .push(item(Ink::Label, format!("{} received", bytes(totals.received_bytes(region.name) as f64))));
        add("WAN", &items);
    }

    /// Certificates that expire, and connections that were refused.
    fn trust(&self, region: &Region<'_>, add: &mut impl FnMut(&str, &[Item])) {
        let own = region.known().flat_map(|status| &status.certificates);
        let mut expiring: Vec<_> =
            own.map(|own| (&own.name, own.seconds_to_expiry / SECONDS_OF_DAY)).collect();
        expiring.retain(|(_, days)| *days < EXPIRY_WARNING_DAYS);
        expiring.sort_by(|one, other| one.1.total_cmp(&other.1));
        if let Some((name, days)) = expiring.first() {
            let (ink, when) = match days {
                ..0.0 => (Ink::Bad, "has expired".to_owned()),
                _ => (Ink::Slow, format!("expires in {:.0} days", days.floor())),
            };
            add("trust", &[vec![(Ink::Normal, format!("{name} ")), (ink, when)]]);
        }
        let refused: Vec<_> = region.known().flat_map(|status| &status.refusals).collect();
        if !refused.is_empty() {
            let items: Vec<_> = refused
                .iter()
                .map(|refused| {
                    let cause = refused.cause.replace('_', " ");
                    let by = if refused.by == "them" { ", by them" } else { "" };
                    item(
                        Ink::Slow,
                        format!("{} ({cause}, {}{by})", refused.count, refused.scope.to_uppercase()),
                    )
                })
                .collect();
            add("refused", &items);
        }
    }

    fn silent(&self, silent: &[&Fetched], width: u16) -> Vec<Line<'static>> {
        let line = |fetched: &&Fetched| {
            let role =
                fetched.target.name.as_ref().map(|(_, role)| format!("{role} at ")).unwrap_or_default();
            let reason = match &fetched.status {
                Ok(Status { .. }) => String::new(),
                Err(error) => with_causes(error),
            };
            let text = vec![(Ink::Normal, format!("{role}{}: ", fetched.target.url)), (Ink::Bad, reason)];
            labelled(self.palette, "silent", &[text], width)
        };
        silent.iter().flat_map(line).collect()
    }
}

/// "14 of 15 processes answering".
fn answers(now: &Moment) -> (Ink, String) {
    let (answered, ended, asked) = (now.statuses().count(), now.ended.len(), now.fetched.len());
    let processes = count(asked, "process", "processes");
    let ink = if answered + ended == asked { Ink::Label } else { Ink::Bad };
    let is_done = ended == asked && now.ended.values().all(|status| status.phase == Phase::Finished);
    let text = match (answered, ended) {
        (_, 0) if answered == asked => format!("{processes} answering"),
        (_, 0) => format!("{answered} of {processes} answering"),
        _ if is_done => format!("{processes} finished"),
        _ => format!("{answered} of {processes} answering, {ended} ended"),
    };
    (ink, text)
}

/// How what was sent compares with what every update would have taken, which is `ratio` times as
/// much: "21.8x less", "than".
pub(super) fn saving(ratio: f64) -> (String, &'static str) {
    let (less, more) = (times(ratio), times(1.0 / ratio));
    match () {
        () if less == more => ("as much".to_owned(), "as"),
        () if ratio < 1.0 => (format!("{more} more"), "than"),
        () => (format!("{less} less"), "than"),
    }
}

/// "worker 2 waits 1.2 s", ": barrier of ireland".
fn hold(held: &Held) -> (String, String) {
    let workers: Vec<_> = held.workers.iter().map(u32::to_string).collect();
    let who = match workers.as_slice() {
        [one] => format!("worker {one} waits {}", seconds(held.seconds)),
        _ => format!("workers {} wait {}", workers.join(", "), seconds(held.seconds)),
    };
    let why = match (held.reason.as_str(), &held.datacenter) {
        ("stale", _) if held.stragglers.is_empty() => ": slower workers of this region".to_owned(),
        ("stale", _) => {
            let behind = |(worker, clocks): (&u32, &u32)| format!("worker {worker} (-{clocks})");
            let stragglers: Vec<_> = held.stragglers.iter().map(behind).collect();
            format!(": {}", stragglers.join(", "))
        }
        ("fetching", _) => ": the shard fetches its state".to_owned(),
        (reason, Some(datacenter)) => format!(": {} of {datacenter}", reason.replace('_', " ")),
        (reason, None) => format!(": {}", reason.replace('_', " ")),
    };
    (who, why)
}

/// "━━━━━╸─────", `share` of it done.
fn bar(palette: Palette, share: f64, width: usize) -> Line<'static> {
    let done = ((share.clamp(0.0, 1.0) * width as f64) as usize).min(width);
    let head = usize::from(done < width && share > 0.0);
    Line::from(vec![
        palette.span(Ink::Good, format!("{}{}", "━".repeat(done), "╸".repeat(head))),
        palette.span(Ink::Label, "─".repeat(width - done - head)),
    ])
}

/// A time of which nobody wants to see fractions.
fn whole_seconds(time: f64) -> String {
    if time < 99.5 { format!("{time:.0} s") } else { seconds(time) }
}

/// "1 process", "3 processes".
fn count(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
