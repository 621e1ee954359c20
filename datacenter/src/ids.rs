//! Names of things, as types of their own, so that two integers cannot be swapped.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($repr:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl $name {
            /// The id as an index into a vector that has one entry for each.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A datacenter (region) of the job, numbered in the order of their names.
    DatacenterId(u16), "datacenter "
);
id!(
    /// A worker, numbered from zero inside its datacenter.
    WorkerId(u32), "worker "
);
id!(
    /// A shard of the model. Shard `i` mirrors shard `i` in every datacenter.
    ShardId(u16), "shard "
);
id!(
    /// A table of the job, in the order in which the job declares them.
    TableId(u16), "table "
);

/// A logical clock: how many iterations are complete. Workers start at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock(pub u32);

impl Clock {
    /// The clock after this one; there is none after the last.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// By how much this clock leads `other`; zero where it does not.
    pub fn lead_over(self, other: Self) -> u32 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clock {}", self.0)
    }
}
