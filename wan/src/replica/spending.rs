//! What a replica may send, where a [budget](crate::budget) bounds it.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use super::Replica;
use super::mirror::Mirror;
use crate::budget::{Account, NOT_RAISED, Prices, Spending, links, most_clocks};
use crate::outbox::{Outgoing, UPDATE_TARGET_BYTES};
use crate::policy::Budget;

/// How long a clock is taken to be before there was one.
const FIRST_CLOCK: Duration = Duration::from_millis(100);

/// The budget of one shard.
#[derive(Debug)]
pub(super) struct Spender {
    budget: Budget,
    /// By mirror.
    accounts: Vec<Account>,
    prices: Prices,
    /// By what the last release raised thresholds.
    raised: f64,
}

impl Spender {
    pub(super) fn new(budget: Budget, mirrors: usize) -> Self {
        let accounts = vec![Account::new(budget.limit); mirrors];
        Self { budget, accounts, prices: Prices::default(), raised: 1.0 }
    }

    /// Among how many links it is shared now.
    fn links(&self, mirrors: &[Mirror]) -> f64 {
        links(self.budget, mirrors.iter().filter(|mirror| !mirror.state.is_away()).count())
    }

    fn is_raised(&self) -> bool {
        self.raised > NOT_RAISED
    }
}

impl Replica {
    /// A clock has ended: what a release may take in payload now, where that is bounded and there is somebody to release for.
    pub(super) fn allowed_bytes(&mut self, now: Instant) -> Option<f64> {
        let every = self.cadence.every();
        let spender = self.spender.as_mut()?;
        let links = spender.links(&self.mirrors);
        let length = self.clock_length.average().unwrap_or(FIRST_CLOCK);
        for account in &mut spender.accounts {
            account.fill(now, links);
            account.end_clock(length, every, links);
        }
        // What waits for whoever catches up is not for want of budget.
        let is_counted =
            |(_, mirror): &(&Account, &Mirror)| mirror.state.is_waited_for() && !mirror.outbox.has_rows();
        let pairs = spender.accounts.iter().zip(&self.mirrors).filter(is_counted);
        let due = pairs.map(|(account, mirror)| {
            account.due(length.saturating_mul(every), links)
                - spender.prices.of_elements(mirror.outbox.waiting_elements())
        });
        let due = due.reduce(f64::min).or_else(|| {
            // Those that catch up are given whole rows, in which all of this will be: what else is released
            // in the meantime is no more than comes in.
            let is_there = |(_, mirror): &(&Account, &Mirror)| !mirror.state.is_away();
            let (account, _) = spender.accounts.iter().zip(&self.mirrors).find(is_there)?;
            Some(account.income(length, every, links))
        });
        if due.is_none() {
            // Nothing is raised for nobody.
            spender.raised = 1.0;
            self.cadence.bound(None);
        }
        due.map(|bytes| spender.prices.estimate_for(bytes))
    }

    /// A release was fitted to what it might take.
    pub(super) fn fitted(&mut self, fit: crate::filter::Fit) {
        let length = self.clock_length.average().unwrap_or(FIRST_CLOCK);
        let Some(spender) = &mut self.spender else { return };
        spender.raised = fit.raised;
        if fit.elements > 0 {
            spender.prices.estimate(fit.bytes / fit.elements as f64);
        }
        self.cadence.bound(spender.is_raised().then(|| most_clocks(length)));
    }

    /// By how many clocks more what is stated may be behind, since updates wait for a budget.
    pub(super) fn clocks_to_pay(&self) -> u32 {
        self.spender.as_ref().map_or(0, |spender| u32::from(spender.is_raised()))
    }

    /// By what a budget has raised thresholds at the last release; none without a budget.
    pub fn raised(&self) -> Option<f64> {
        Some(self.spender.as_ref()?.raised)
    }

    /// Whether updates for a mirror may be sent. Where nobody trains any more, what is left is.
    pub fn may_spend(&mut self, peer: usize, now: Instant) -> bool {
        let is_over = self.shard.is_idle() && self.shard.suspended_workers().next().is_none();
        let Some(spender) = &mut self.spender else { return true };
        let links = spender.links(&self.mirrors);
        spender.accounts[peer].fill(now, links);
        spender.accounts[peer].may_spend() || is_over
    }

    /// Whether updates for a mirror wait for its account, as far as that was looked at.
    pub fn is_held_back(&self, peer: usize) -> bool {
        self.spender.as_ref().is_some_and(|spender| !spender.accounts[peer].may_spend())
    }

    /// When updates that wait for a mirror may be sent, if that is for want of budget.
    pub fn spends_again_at(&self, peer: usize) -> Option<Instant> {
        let spender = self.spender.as_ref()?;
        let mirror = &self.mirrors[peer];
        let is_waiting = mirror.outbox.waiting_elements() > 0 || mirror.outbox.has_rows();
        spender.accounts[peer].next_at(spender.links(&self.mirrors)).filter(|_| is_waiting)
    }

    /// So much has crossed to a mirror besides payload.
    pub fn charge(&mut self, peer: usize, bytes: f64) {
        if let Some(spender) = &mut self.spender {
            spender.accounts[peer].spend_overhead(bytes);
        }
    }

    /// An update was handed to the link.
    pub(super) fn charge_update(&mut self, peer: usize, outgoing: &Outgoing) {
        let Some(spender) = &mut self.spender else { return };
        spender.accounts[peer].spend(outgoing.bytes as f64);
        if outgoing.update.rows.is_none() && !outgoing.is_repeat {
            let elements = outgoing.update.deltas.iter().map(|delta| delta.len()).sum();
            spender.prices.learn(elements, outgoing.bytes);
        }
    }

    /// How much an update should hold, as updates that wait are counted.
    pub(super) fn update_target_bytes(&self, peer: usize) -> usize {
        let Some(spender) = &self.spender else { return UPDATE_TARGET_BYTES };
        let piece = spender.accounts[peer].piece_bytes(spender.links(&self.mirrors));
        let elements = spender.prices.elements_in(piece);
        crate::outbox::waiting_bytes(elements).min(UPDATE_TARGET_BYTES)
    }

    /// What a mirror's account was credited and charged with in ten seconds; none without a budget, or before.
    pub fn spending(&self, peer: usize) -> Option<Spending> {
        self.spender.as_ref()?.accounts[peer].spending()
    }
}
