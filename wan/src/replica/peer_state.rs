//! What a mirror is to its replica, as one of a few states, and what each of them allows.
//!
//! A mirror is waited for, or it is not, for one reason at a time. The reasons are the states, and
//! all that happens to a mirror is a step from one to another, so that no combination of reasons
//! needs a rule of its own. After raft-rs's `Progress`.
//!
//! | from | hello | is heard | falls behind | catches up | stops | is silent for too long | leaves for good |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | `Connecting` | `Live` | | `CatchingUp` | | `Stopped` | `Gone` | `Departed` |
//! | `Live` | | | `CatchingUp` | | `Stopped` | `Gone` | `Departed` |
//! | `CatchingUp` | | | | `Live` | `Stopped` | `Gone` | `Departed` |
//! | `Stopped` | `Live` or `CatchingUp` | | | | | `Gone` | `Departed` |
//! | `Gone` | `Live` or `CatchingUp` | the same | | | | | `Departed` |
//! | `Departed` | is refused | | | | | | |
//!
//! A mirror that stops while it catches up has the same to catch up with when it is back: `Stopped`
//! keeps that. What a mirror had to catch up with is forgotten when it is given up; `Gone` has what
//! it has fallen behind since.
//!
//! | state | reads may be held for the mirror | it is there | the others settle what it has left |
//! | --- | --- | --- | --- |
//! | `Connecting`, `Live` | yes | yes | |
//! | `CatchingUp` | | yes | |
//! | `Stopped` | | | |
//! | `Gone`, `Departed` | | | yes |
//!
//! Workers may come as soon as no mirror is `Connecting`.
//!
//! Kind: time-free.

use datacenter::Clock;

/// What a mirror has yet to say before it is waited for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// The mirror has caught up with this clock, but for as much as it may be behind at any time.
    pub(super) due: Clock,
    /// By how many clocks the mirror was behind when it had last caught up with what was due then.
    pub(super) lag: u32,
}

/// What a mirror is to its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// No link with the mirror has been up since this process started.
    Connecting,
    /// The mirror keeps up.
    Live,
    /// The mirror is back, and so far behind that nobody waits for it until it has caught up.
    CatchingUp(Backlog),
    /// The mirror's process has stopped of its own will, having shipped all it had, and may come
    /// back.
    Stopped {
        /// What it had not caught up with.
        backlog: Option<Backlog>,
    },
    /// The mirror has been silent for longer than it may be.
    Gone {
        /// Whether its process had stopped of its own will before.
        had_stopped: bool,
        /// What it has to catch up with, where it has said something and was not
        /// [heard](PeerState::become_heard) yet.
        backlog: Option<Backlog>,
    },
    /// The mirror's datacenter has left the job for good.
    Departed,
}

impl PeerState {
    /// Whether no link with the mirror has been up, nor has it been given up: it is not known how
    /// far it is.
    pub(super) fn is_connecting(self) -> bool {
        matches!(self, Self::Connecting)
    }

    /// Whether reads may be held for the mirror.
    pub(super) fn is_waited_for(self) -> bool {
        !self.is_away() && !self.is_behind()
    }

    /// Whether nothing is expected of the mirror until its next hello.
    pub(crate) fn is_away(self) -> bool {
        match self {
            Self::Connecting | Self::Live | Self::CatchingUp(_) => false,
            Self::Stopped { .. } | Self::Gone { .. } | Self::Departed => true,
        }
    }

    /// Whether the others settle among themselves what the mirror has left: it has been given up,
    /// or has left for good.
    pub(super) fn is_gone(self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Departed)
    }

    /// Whether the mirror's last process has stopped of its own will, so that nothing of it is
    /// missing.
    pub(super) fn has_stopped(self) -> bool {
        matches!(self, Self::Stopped { .. } | Self::Gone { had_stopped: true, .. })
    }

    /// Whether the mirror's datacenter has left the job for good.
    pub(super) fn has_departed(self) -> bool {
        matches!(self, Self::Departed)
    }

    /// Whether the mirror has something to catch up with, be it there or not.
    pub(super) fn is_behind(self) -> bool {
        self.backlog().is_some()
    }

    /// What the mirror has to catch up with.
    pub(super) fn backlog(self) -> Option<Backlog> {
        match self {
            Self::CatchingUp(backlog) => Some(backlog),
            Self::Stopped { backlog } | Self::Gone { backlog, .. } => backlog,
            Self::Connecting | Self::Live | Self::Departed => None,
        }
    }

    /// A link with the mirror has come up.
    pub(super) fn become_linked(&mut self) {
        debug_assert!(!self.has_departed(), "a datacenter that has left for good is refused");
        *self = Self::there(self.backlog());
    }

    /// Something has come of the mirror, which was given up, over a link that was up all the time.
    pub(super) fn become_heard(&mut self) {
        match *self {
            Self::Gone { had_stopped: true, backlog } => *self = Self::Stopped { backlog },
            Self::Gone { had_stopped: false, backlog } => *self = Self::there(backlog),
            Self::Connecting | Self::Live | Self::CatchingUp(_) | Self::Stopped { .. } | Self::Departed => {}
        }
    }

    /// The mirror is behind: nobody waits for it until it has caught up with `backlog`.
    pub(super) fn become_behind(&mut self, backlog: Backlog) {
        match self {
            Self::Connecting | Self::Live | Self::CatchingUp(_) => *self = Self::CatchingUp(backlog),
            Self::Stopped { backlog: known } | Self::Gone { backlog: known, .. } => *known = Some(backlog),
            Self::Departed => {}
        }
    }

    /// The mirror has nothing to catch up with, or is waited for all the same.
    pub(super) fn become_caught_up(&mut self) {
        match self {
            Self::CatchingUp(_) => *self = Self::Live,
            Self::Stopped { backlog } | Self::Gone { backlog, .. } => *backlog = None,
            Self::Connecting | Self::Live | Self::Departed => {}
        }
    }

    /// The mirror's process has stopped of its own will.
    pub(super) fn become_stopped(&mut self) {
        match self {
            Self::Connecting | Self::Live | Self::CatchingUp(_) | Self::Stopped { .. } => {
                *self = Self::Stopped { backlog: self.backlog() };
            }
            Self::Gone { had_stopped, .. } => *had_stopped = true,
            Self::Departed => {}
        }
    }

    /// The mirror has been silent for longer than it may be. What was due of it before is not what
    /// it will have to catch up with.
    pub(super) fn become_gone(&mut self) {
        if !self.has_departed() {
            *self = Self::Gone { had_stopped: self.has_stopped(), backlog: None };
        }
    }

    /// The mirror's datacenter has left the job for good.
    pub(super) fn become_departed(&mut self) {
        *self = Self::Departed;
    }

    /// One that is there.
    fn there(backlog: Option<Backlog>) -> Self {
        backlog.map_or(Self::Live, Self::CatchingUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKLOG: Backlog = Backlog { due: Clock(7), lag: 3 };
    type Step = (&'static str, fn(&mut PeerState));

    const STEPS: [Step; 7] = [
        ("linked", PeerState::become_linked),
        ("heard", PeerState::become_heard),
        ("behind", |state| state.become_behind(BACKLOG)),
        ("caught up", PeerState::become_caught_up),
        ("stopped", PeerState::become_stopped),
        ("gone", PeerState::become_gone),
        ("departed", PeerState::become_departed),
    ];

    /// In one letter, lower-case where the mirror has something to catch up with.
    fn letter(state: PeerState) -> char {
        let letter = match state {
            PeerState::Connecting => 'C',
            PeerState::Live | PeerState::CatchingUp(_) => 'L',
            PeerState::Stopped { .. } => 'S',
            PeerState::Gone { had_stopped: false, .. } => 'G',
            PeerState::Gone { had_stopped: true, .. } => 'H',
            PeerState::Departed => 'D',
        };
        if state.is_behind() { letter.to_ascii_lowercase() } else { letter }
    }

    #[test]
    fn each_step_leads_from_each_state_to_another() {
        let (away, behind) = (PeerState::Stopped { backlog: None }, Some(BACKLOG));
        let gone = |had_stopped, backlog| PeerState::Gone { had_stopped, backlog };
        // The letters are the states after the steps, in their order.
        for (state, expected) in [
            (PeerState::Connecting, "LClCSGD"),
            (PeerState::Live, "LLlLSGD"),
            (PeerState::CatchingUp(BACKLOG), "lllLsGD"),
            (away, "LSsSSHD"),
            (PeerState::Stopped { backlog: behind }, "lssSsHD"),
            (gone(false, None), "LLgGHGD"),
            (gone(false, behind), "llgGhGD"),
            (gone(true, None), "LShHHHD"),
            (gone(true, behind), "lshHhHD"),
        ] {
            let after = STEPS.map(|(_, step)| {
                let mut state = state;
                step(&mut state);
                letter(state)
            });
            assert_eq!(
                String::from_iter(after),
                expected,
                "{state:?} after {:?}",
                STEPS.map(|(name, _)| name)
            );
        }
    }

    #[test]
    fn nothing_leads_away_from_a_departure() {
        for (name, step) in STEPS.into_iter().filter(|(name, _)| *name != "linked") {
            let mut state = PeerState::Departed;
            step(&mut state);
            assert_eq!(state, PeerState::Departed, "{name}");
        }
    }
}
