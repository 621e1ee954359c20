//! Faults as data: what happens to whom, and when.

use std::time::Duration;

/// A server: its datacenter, and which of its servers it is.
pub type Server = (usize, u16);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A server dies, and takes down what it has in memory.
    Kill(Server),
    /// It starts again, from its disk.
    Return(Server),
    /// It starts again, and its disk is empty.
    ReturnEmpty(Server),
    /// It stands still (SIGSTOP): neither dead nor alive.
    Freeze(Server),
    /// It goes on, and finds out what has happened meanwhile.
    Thaw(Server),
    /// All servers of a datacenter die, and its workers.
    KillDatacenter(usize),
    /// They start again, from their disks.
    ReturnDatacenter(usize),
    /// They start again, and their disks are empty: also a datacenter that comes for the first
    /// time.
    ReturnDatacenterEmpty(usize),
    /// Everything dies.
    KillAll,
    /// Everything starts again, from its disks.
    ReturnAll,
    /// Between two datacenters nothing passes any more.
    Cut(usize, usize),
    /// From the first to the second nothing passes any more.
    CutOneWay(usize, usize),
    /// Everything passes again.
    Heal(usize, usize),
    /// A worker dies.
    KillWorker(usize, u32),
    /// It starts again.
    ReturnWorker(usize, u32),
    /// A datacenter leaves of its own will, and does not come back.
    Leave(usize),
    /// The connections between two datacenters break; they are made again.
    Break(usize, usize),
    /// What comes from the first is nothing that the second can read: it hangs up, and they begin
    /// again.
    Garble(usize, usize),
    /// Nothing can be written to a datacenter's disks any more.
    FillDisk(usize),
    /// There is room again.
    FreeDisk(usize),
    /// The clocks of a datacenter's machines are set: so many minutes ahead of what they should be.
    SetClock(usize, i64),
    /// A datacenter leaves for good by its operator's command, while it lives.
    LeaveForGood(usize),
    /// At the first, an operator says that the second has left for good, whether it lives or not.
    Dismiss(usize, usize),
    /// It is hosted by so many servers when it starts the next time.
    Reshard(usize, u16),
}

/// When a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// When some datacenter has completed this part of the job's clocks, in percent.
    At(u32),
    /// This long after the fault before it, in milliseconds; up to twice as long.
    After(u64),
}

/// A story of faults.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// How many datacenters there are, and how many servers each has.
    pub datacenters: usize,
    /// Servers of each.
    pub servers: u16,
    /// Datacenters that are not there at the start.
    pub absent: &'static [usize],
    /// What happens, in order.
    pub story: &'static [(When, Fault)],
    /// Datacenters to which nothing happens, and that must not wait for longer than the grace, and
    /// two round trips.
    pub bystanders: &'static [usize],
    /// How long a checkpoint takes at most until it is there, where that matters.
    pub max_write: Option<Duration>,
    /// How many bytes of whole rows a server is sent in a second, where that is bounded.
    pub transfer_bytes_per_sec: Option<u64>,
    /// By how many minutes the clocks of each datacenter are ahead, where that matters.
    pub clocks: &'static [i64],
    /// How many times the grace they may wait at most, where several faults follow on each other.
    pub graces: u32,
}

use Fault::*;
use When::*;

impl Scenario {
    /// One in which nothing happens yet.
    pub const fn of(datacenters: usize, servers: u16, name: &'static str) -> Self {
        Self {
            name,
            datacenters,
            servers,
            absent: &[],
            story: &[],
            bystanders: &[],
            max_write: None,
            transfer_bytes_per_sec: None,
            clocks: &[],
            graces: 1,
        }
    }
}

/// Longer than any grace.
const LONG: u64 = 2500;

/// Bytes a second: what one datacenter has released of all shards takes several times the grace.
pub const SLOW: u64 = 40;

/// The scenarios that every change must stand.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        story: &[(At(30), KillWorker(0, 1)), (After(LONG), ReturnWorker(0, 1))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 1, "a worker dies, and returns")
    },
    Scenario {
        story: &[
            (At(20), KillWorker(0, 0)),
            (After(50), KillWorker(0, 1)),
            (After(LONG), ReturnWorker(0, 1)),
            (After(300), ReturnWorker(0, 0)),
        ],
        bystanders: &[1, 2],
        ..Scenario::of(3, 2, "all workers of a datacenter die, and return when the others are far ahead")
    },
    Scenario {
        story: &[(At(30), Kill((0, 0))), (After(200), Return((0, 0)))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 2, "a server dies, and returns from its checkpoint")
    },
    Scenario {
        story: &[(At(30), Kill((0, 1))), (After(LONG), Return((0, 1)))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 2, "a server dies, and returns from its checkpoint when it has been given up")
    },
    Scenario {
        story: &[(At(40), Kill((0, 0))), (After(200), ReturnEmpty((0, 0)))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 2, "a server dies with its disk, and returns from a mirror")
    },
    Scenario {
        story: &[(At(40), Kill((0, 0))), (After(200), ReturnEmpty((0, 0)))],
        bystanders: &[1, 2],
        transfer_bytes_per_sec: Some(SLOW),
        ..Scenario::of(3, 2, "a server dies with its disk, and what it has lost takes long to come back")
    },
    Scenario {
        story: &[(At(30), KillDatacenter(2)), (After(LONG), ReturnDatacenterEmpty(2))],
        bystanders: &[0, 1],
        transfer_bytes_per_sec: Some(SLOW),
        ..Scenario::of(
            3,
            2,
            "a datacenter is given up, returns, and what it has lost takes long to come back",
        )
    },
    Scenario {
        story: &[
            (At(30), Kill((0, 0))),
            (After(200), Return((0, 0))),
            (After(300), Break(0, 1)),
            (After(400), Break(0, 1)),
            (After(500), Break(0, 2)),
            (After(600), Break(0, 1)),
        ],
        bystanders: &[1, 2],
        transfer_bytes_per_sec: Some(SLOW),
        ..Scenario::of(3, 2, "what a server has lost takes long to come back, and its links break meanwhile")
    },
    Scenario {
        story: &[
            (At(40), Kill((0, 0))),
            (After(200), ReturnEmpty((0, 0))),
            (After(100), KillWorker(0, 0)),
            (After(200), ReturnWorker(0, 0)),
        ],
        bystanders: &[1, 2],
        transfer_bytes_per_sec: Some(SLOW),
        ..Scenario::of(3, 2, "a worker dies and returns, while one of its servers takes long to come back")
    },
    Scenario {
        story: &[(At(40), Kill((1, 0))), (After(LONG), ReturnEmpty((1, 0)))],
        bystanders: &[0],
        ..Scenario::of(2, 1, "one of two servers dies with its disk, and returns when it has been given up")
    },
    Scenario {
        story: &[(At(30), KillDatacenter(2)), (After(LONG), ReturnDatacenter(2))],
        bystanders: &[0, 1],
        ..Scenario::of(3, 2, "a datacenter dies, and returns")
    },
    Scenario {
        story: &[(At(30), KillDatacenter(2)), (After(400), ReturnDatacenterEmpty(2))],
        bystanders: &[0, 1],
        ..Scenario::of(3, 2, "a datacenter dies with its disks, and returns")
    },
    Scenario {
        story: &[(At(30), KillDatacenter(1))],
        bystanders: &[0, 2],
        ..Scenario::of(3, 1, "a datacenter never returns")
    },
    Scenario {
        story: &[(At(30), CutOneWay(0, 1)), (After(LONG), Heal(0, 1))],
        ..Scenario::of(3, 1, "a link is cut one way")
    },
    Scenario {
        story: &[
            (At(20), Cut(0, 1)),
            (After(50), Heal(0, 1)),
            (After(100), Cut(0, 1)),
            (After(20), Heal(0, 1)),
            (After(150), Cut(0, 1)),
            (After(80), Heal(0, 1)),
            (After(300), Cut(0, 1)),
            (After(40), Heal(0, 1)),
        ],
        ..Scenario::of(3, 1, "a link flaps")
    },
    Scenario {
        story: &[
            (At(25), Cut(0, 2)),
            (After(0), Cut(1, 2)),
            (After(LONG), Heal(0, 2)),
            (After(0), Heal(1, 2)),
        ],
        ..Scenario::of(3, 2, "three regions are split in two, and healed")
    },
    Scenario {
        story: &[
            (At(40), Kill((0, 0))),
            (After(100), ReturnEmpty((0, 0))),
            (After(60), Kill((0, 0))),
            (After(100), ReturnEmpty((0, 0))),
            (After(30), Kill((0, 0))),
            (After(100), Return((0, 0))),
        ],
        bystanders: &[1, 2],
        ..Scenario::of(3, 1, "a server dies while it gets its state, and during the hello")
    },
    Scenario {
        story: &[
            (At(40), Kill((0, 0))),
            (After(100), ReturnEmpty((0, 0))),
            (After(60), Kill((1, 0))),
            (After(500), Return((1, 0))),
        ],
        bystanders: &[2],
        graces: 2,
        ..Scenario::of(3, 1, "whoever gives a server its state dies meanwhile")
    },
    Scenario {
        story: &[
            (At(40), Kill((0, 0))),
            (After(10), Kill((1, 0))),
            (After(300), Return((0, 0))),
            (After(300), Return((1, 0))),
        ],
        bystanders: &[2],
        graces: 2,
        ..Scenario::of(3, 1, "two servers die at once, and return")
    },
    Scenario {
        story: &[
            (At(40), Kill((0, 0))),
            (After(10), KillDatacenter(1)),
            (After(300), ReturnEmpty((0, 0))),
            (After(LONG), ReturnDatacenter(1)),
        ],
        bystanders: &[2],
        graces: 2,
        ..Scenario::of(3, 1, "one dies with its disk, another comes back late")
    },
    Scenario {
        story: &[
            (At(20), Kill((0, 0))),
            (After(100), Return((0, 0))),
            (After(300), Kill((0, 1))),
            (After(100), Return((0, 1))),
            (After(300), Kill((1, 0))),
            (After(100), Return((1, 0))),
            (After(300), Kill((1, 1))),
            (After(100), Return((1, 1))),
            (After(300), Kill((2, 0))),
            (After(100), Return((2, 0))),
            (After(300), Kill((2, 1))),
            (After(100), Return((2, 1))),
        ],
        ..Scenario::of(3, 2, "every server restarts, one after the other")
    },
    Scenario {
        absent: &[2],
        story: &[(At(40), ReturnDatacenterEmpty(2))],
        bystanders: &[0, 1],
        ..Scenario::of(3, 2, "a datacenter joins a job that runs")
    },
    Scenario {
        story: &[(At(40), Leave(1))],
        bystanders: &[0, 2],
        ..Scenario::of(3, 2, "a datacenter leaves for good")
    },
    Scenario {
        story: &[(At(50), KillAll), (After(500), ReturnAll)],
        ..Scenario::of(3, 2, "everything dies, and resumes")
    },
    Scenario {
        story: &[
            (At(50), KillAll),
            (After(100), ReturnDatacenter(0)),
            (After(LONG), ReturnDatacenter(1)),
            (After(LONG), ReturnDatacenter(2)),
        ],
        ..Scenario::of(3, 1, "everything dies, and resumes one datacenter after the other")
    },
    Scenario {
        story: &[
            (At(30), Kill((0, 0))),
            (After(0), Cut(0, 1)),
            (After(100), Return((0, 0))),
            (After(LONG), Kill((0, 0))),
            (After(100), Return((0, 0))),
            (After(300), Heal(0, 1)),
        ],
        ..Scenario::of(2, 1, "a server restarts twice while the region that has what it lost is cut off")
    },
    Scenario {
        story: &[(At(30), Freeze((0, 0))), (After(LONG), Thaw((0, 0)))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 1, "a server stands still, and goes on")
    },
    Scenario {
        story: &[(At(30), Freeze((0, 0))), (After(300), Return((0, 0))), (After(500), Thaw((0, 0)))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 1, "a server stands still, is replaced, and goes on")
    },
    Scenario {
        story: &[(At(40), KillDatacenter(0)), (After(10), Reshard(0, 3)), (After(300), ReturnDatacenter(0))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 1, "a datacenter returns with another number of servers")
    },
    Scenario {
        // Before the others have noticed that the servers of before are dead.
        story: &[(At(40), KillDatacenter(0)), (After(0), Reshard(0, 1)), (After(10), ReturnDatacenter(0))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 2, "a datacenter returns with fewer servers while the links of dead ones are up")
    },
    Scenario {
        story: &[
            (At(30), KillDatacenter(1)),
            (After(50), Kill((0, 0))),
            (After(200), ReturnEmpty((0, 0))),
            (After(LONG), ReturnDatacenter(1)),
        ],
        bystanders: &[2],
        graces: 2,
        ..Scenario::of(3, 1, "a server returns with nothing, and first in its list is a region that is dead")
    },
    Scenario {
        story: &[
            (At(50), Kill((0, 0))),
            (After(100), Return((0, 0))),
            (After(700), Kill((0, 1))),
            (After(LONG), Return((0, 1))),
        ],
        bystanders: &[1, 2],
        max_write: Some(Duration::from_millis(500)),
        ..Scenario::of(3, 2, "a server dies while it writes a checkpoint, and returns from the one before")
    },
    Scenario {
        story: &[
            (At(20), FillDisk(0)),
            (At(45), Kill((0, 0))),
            (After(200), Return((0, 0))),
            (After(500), FreeDisk(0)),
            (After(500), Kill((0, 0))),
            (After(200), Return((0, 0))),
        ],
        bystanders: &[1, 2],
        ..Scenario::of(3, 2, "a disk is full, a server dies meanwhile, and there is room again")
    },
    Scenario {
        story: &[(At(5), FillDisk(0)), (At(45), KillDatacenter(0)), (After(LONG), ReturnDatacenter(0))],
        bystanders: &[1, 2],
        ..Scenario::of(3, 1, "a disk stays full, and its datacenter returns from what it has")
    },
    Scenario {
        story: &[
            (At(20), Kill((0, 0))),
            (After(0), SetClock(0, -60)),
            (After(150), Return((0, 0))),
            (After(600), Kill((0, 0))),
            (After(150), ReturnEmpty((0, 0))),
            (After(600), KillDatacenter(1)),
            (After(0), SetClock(1, -120)),
            (After(300), ReturnDatacenterEmpty(1)),
            (After(600), Kill((2, 0))),
            (After(0), SetClock(2, 60)),
            (After(LONG), ReturnEmpty((2, 0))),
            (After(600), Kill((2, 0))),
            (After(0), SetClock(2, 0)),
            (After(150), ReturnEmpty((2, 0))),
        ],
        clocks: &[60, -60, 0],
        ..Scenario::of(3, 1, "clocks are an hour apart, and jump back between the lives of servers")
    },
    Scenario {
        story: &[
            (At(30), Freeze((0, 0))),
            (After(0), SetClock(0, 0)),
            (After(200), ReturnEmpty((0, 0))),
            (After(300), Thaw((0, 0))),
        ],
        bystanders: &[1, 2],
        clocks: &[60, -60, 0],
        ..Scenario::of(
            3,
            1,
            "a server stands still, is replaced where the clock is an hour behind, and goes on",
        )
    },
    Scenario {
        story: &[
            (At(20), Break(0, 1)),
            (After(60), Garble(0, 1)),
            (After(90), Garble(1, 0)),
            (After(40), Break(0, 2)),
            (After(120), Break(0, 1)),
            (After(0), Break(1, 2)),
            (After(50), Kill((0, 0))),
            (After(100), Return((0, 0))),
            (After(60), Break(0, 1)),
            (After(40), Garble(2, 0)),
            (After(80), Break(0, 1)),
            (After(10), Garble(0, 2)),
            (After(150), Break(1, 2)),
        ],
        ..Scenario::of(
            3,
            2,
            "connections break in the middle and are refused, also while a server comes back",
        )
    },
    Scenario {
        story: &[
            (At(30), Freeze((0, 0))),
            (After(300), Return((0, 0))),
            (After(300), Thaw((0, 0))),
            (After(200), Kill((0, 0))),
            (After(100), Return((0, 0))),
        ],
        bystanders: &[1, 2],
        ..Scenario::of(3, 1, "a server stands still, is replaced, goes on, and its place is taken again")
    },
    Scenario {
        story: &[(At(40), LeaveForGood(1))],
        bystanders: &[0, 2],
        ..Scenario::of(3, 2, "left for good by command while alive")
    },
    Scenario {
        story: &[
            (At(20), KillDatacenter(0)),
            (After(0), Reshard(0, 1)),
            (After(100), ReturnDatacenter(0)),
            (At(60), LeaveForGood(1)),
        ],
        ..Scenario::of(3, 2, "left for good by command while alive, to regions with other numbers of servers")
    },
    Scenario {
        story: &[(At(30), KillDatacenter(1)), (After(400), Dismiss(0, 1))],
        bystanders: &[0, 2],
        ..Scenario::of(3, 2, "left for good by command while dead")
    },
    Scenario {
        story: &[
            (At(30), KillDatacenter(1)),
            (After(LONG), Dismiss(2, 1)),
            (After(100), ReturnDatacenter(1)),
        ],
        bystanders: &[0, 2],
        ..Scenario::of(3, 1, "left for good by command when it has been given up, and returns all the same")
    },
    Scenario {
        story: &[(At(30), Dismiss(0, 1))],
        bystanders: &[0, 2],
        ..Scenario::of(3, 2, "left for good by the command of another, while it trains")
    },
    Scenario {
        story: &[(At(25), Cut(0, 1)), (After(LONG), Dismiss(0, 1)), (After(500), Heal(0, 1))],
        bystanders: &[2],
        ..Scenario::of(3, 1, "left for good by the command of one who does not hear it")
    },
    Scenario {
        story: &[
            (At(10), KillDatacenter(1)),
            (After(20), Dismiss(0, 1)),
            (After(40), Kill((2, 0))),
            (After(30), ReturnEmpty((2, 0))),
            (After(60), Kill((0, 1))),
            (After(30), Return((0, 1))),
        ],
        ..Scenario::of(3, 2, "left for good, and servers that restart learn it from others")
    },
    Scenario {
        story: &[
            (At(25), KillDatacenter(1)),
            (After(100), Dismiss(0, 1)),
            (At(75), KillAll),
            (After(100), ReturnDatacenter(0)),
            (After(50), Dismiss(0, 1)),
        ],
        ..Scenario::of(2, 1, "left for good by command to the only one that remains, again after a restart")
    },
    Scenario {
        story: &[
            (At(25), KillDatacenter(1)),
            (After(100), Dismiss(0, 1)),
            // Time enough for a checkpoint.
            (After(1500), KillAll),
            (After(100), ReturnDatacenter(0)),
        ],
        max_write: Some(Duration::from_millis(5)),
        ..Scenario::of(2, 1, "left for good, and known from the checkpoint of the only one that remains")
    },
];
