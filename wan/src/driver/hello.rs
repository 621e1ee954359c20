//! What two datacenters check of each other before they talk.
//!
//! The certificate has said who the peer is; the hello says whether both run the same job over the same protocol.
//! Whoever finds a difference closes the connection and gives both values as the reason, so that either side's log
//! suffices.
//!
//! Kind: time-free.

use datacenter::DatacenterId;
use thiserror::Error;

use crate::driver::job_settings::JobSettings;
use crate::node::Greeting;
use crate::transport::{PeerName, Role};
use crate::wire::{Channel, Hello, VERSION};

/// The cause of refusing those who have left for good.
pub const LEFT: &str = "left";

/// What this side says and expects.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Our own name.
    pub datacenter: String,
    /// Which of our datacenter's servers we are.
    pub server: u16,
    /// Hash of what all regions must agree on.
    pub job_digest: Vec<u8>,
    /// How many shards the job has, and so the most servers that a datacenter can have.
    pub shards: u16,
    /// What `job_digest` is made of, as far as people can put it right: told to a peer whose digest differs.
    pub settings: JobSettings,
    /// The peers that are let in, by name, with their ids.
    pub peers: Vec<(String, DatacenterId)>,
}

/// Why a peer is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It speaks another version.
    #[error("it speaks protocol version {theirs}, we speak {ours}")]
    Version {
        /// Our version.
        ours: u32,
        /// Its version.
        theirs: u32,
    },
    /// It runs another job.
    #[error("its job is another one: {}", .differences.as_ref().unwrap_or(&format!("its digest is {theirs}, ours is {ours}")))]
    Job {
        /// Our digest, in hex.
        ours: String,
        /// Its digest, in hex.
        theirs: String,
        /// Which settings differ, and how, once both sides have told theirs.
        differences: Option<String>,
    },
    /// It is not configured here.
    #[error("datacenter '{name}' is not one of our peers ({known})")]
    Unknown {
        /// Its name.
        name: String,
        /// Those that are.
        known: String,
    },
    /// It has our own name.
    #[error("it calls itself '{name}', and so do we")]
    OwnName {
        /// The name.
        name: String,
    },
    /// Its certificate is not that of a server.
    #[error("its certificate {found} is for the role '{}', 'server' is needed", found.role().as_str())]
    Role {
        /// Whom it names.
        found: PeerName,
    },
    /// Its hello and its certificate disagree.
    #[error("its hello says '{said}', its certificate '{certified}'")]
    Name {
        /// The hello's name.
        said: String,
        /// The certificate's.
        certified: String,
    },
    /// Its hello and its certificate disagree on which server it is.
    #[error("it says that it is server {said}, its certificate is that of server {certified}")]
    Index {
        /// The hello's index.
        said: u16,
        /// The certificate's.
        certified: u32,
    },
    /// No datacenter has so many servers.
    #[error("it says that it is server {server}, and of the {shards} shards of the job none can be there")]
    Server {
        /// Which it says it is.
        server: u16,
        /// How many shards there are.
        shards: u16,
    },
    /// Nobody talks to it any more.
    #[error("region {name} has left this job for good")]
    Left {
        /// Its name.
        name: String,
    },
    /// Its answer is not to our hello.
    #[error(
        "it answers for {theirs:?} of session {their_session:x}, we asked for {ours:?} of {our_session:x}"
    )]
    Answer {
        /// What we opened the connection for.
        ours: Channel,
        /// What it answers for.
        theirs: Channel,
        /// Our session.
        our_session: u64,
        /// Its session.
        their_session: u64,
    },
}

impl Refusal {
    /// Its name in metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Version { .. } => "version",
            Self::Job { .. } => "job",
            Self::Unknown { .. } => "unknown_datacenter",
            Self::OwnName { .. } => "own_name",
            Self::Role { .. } => "role",
            Self::Left { .. } => LEFT,
            Self::Name { .. } | Self::Index { .. } => "name",
            Self::Server { .. } | Self::Answer { .. } => "protocol",
        }
    }

    /// Whether trying again changes nothing, as the settings, the program or the certificate of one side have to be put right.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Version { .. }
            | Self::Job { .. }
            | Self::Unknown { .. }
            | Self::OwnName { .. }
            | Self::Role { .. }
            | Self::Name { .. }
            | Self::Index { .. }
            | Self::Server { .. } => true,
            // They have ways of their own.
            Self::Left { .. } | Self::Answer { .. } => false,
        }
    }
}

impl Terms {
    /// Our hello for a connection.
    pub fn hello(&self, channel: Channel, session: u64, greeting: Greeting) -> Hello {
        let Greeting { life, resumes, departed } = greeting;
        Hello {
            version: VERSION,
            datacenter: self.datacenter.clone(),
            server: self.server,
            job_digest: self.job_digest.clone(),
            channel,
            session,
            life,
            resumes,
            departed,
        }
    }

    /// Which peer a certificate belongs to.
    ///
    /// # Errors
    ///
    /// If it is nobody's that is let in.
    pub fn identify(&self, certified: &PeerName) -> Result<DatacenterId, Refusal> {
        let name = certified.datacenter();
        // First: that one of our own workers has come says more than that it is one of us.
        if certified.role() != Role::Server {
            return Err(Refusal::Role { found: certified.clone() });
        }
        if name == self.datacenter {
            return Err(Refusal::OwnName { name: name.into() });
        }
        let known = || self.peers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        self.peers
            .iter()
            .find_map(|(peer, id)| (peer == name).then_some(*id))
            .ok_or_else(|| Refusal::Unknown { name: name.into(), known: known() })
    }

    /// Checks a peer's hello.
    ///
    /// # Errors
    ///
    /// With the first thing that differs.
    pub fn check(&self, hello: &Hello, certified: &PeerName) -> Result<(), Refusal> {
        self.check_speaker(hello, certified)?;
        if hello.job_digest != self.job_digest {
            let (ours, theirs) = (hex(&self.job_digest), hex(&hello.job_digest));
            return Err(Refusal::Job { ours, theirs, differences: None });
        }
        // Each server hosts a shard. Whatever is kept for each server is bounded by that.
        if hello.server >= self.shards {
            return Err(Refusal::Server { server: hello.server, shards: self.shards });
        }
        Ok(())
    }

    /// Checks who speaks in a hello, and how, and leaves open which job it is for.
    ///
    /// # Errors
    ///
    /// With the first thing that differs.
    pub fn check_speaker(&self, hello: &Hello, certified: &PeerName) -> Result<(), Refusal> {
        if hello.version != VERSION {
            return Err(Refusal::Version { ours: VERSION, theirs: hello.version });
        }
        if hello.datacenter != certified.datacenter() {
            let (said, certified) = (hello.datacenter.clone(), certified.datacenter().into());
            return Err(Refusal::Name { said, certified });
        }
        Ok(())
    }

    /// Checks that a hello answers ours.
    ///
    /// # Errors
    ///
    /// If it is for another connection.
    pub fn check_answer(ours: &Hello, theirs: &Hello) -> Result<(), Refusal> {
        if (ours.channel, ours.session) == (theirs.channel, theirs.session) {
            return Ok(());
        }
        Err(Refusal::Answer {
            ours: ours.channel,
            theirs: theirs.channel,
            our_session: ours.session,
            their_session: theirs.session,
        })
    }
}

/// The first bytes suffice to tell digests apart, and keep the message within a close frame.
fn hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            datacenter: "virginia".into(),
            server: 0,
            job_digest: vec![1; 32],
            shards: 4,
            settings: JobSettings::default(),
            peers: vec![("ireland".into(), DatacenterId(1))],
        }
    }

    fn name(datacenter: &str, role: Role) -> PeerName {
        PeerName::new(datacenter, role).expect("a valid name")
    }

    #[test]
    fn only_configured_servers_are_let_in() {
        assert_eq!(terms().identify(&name("ireland", Role::Server)), Ok(DatacenterId(1)));
        for (datacenter, role, message) in [
            (
                "ireland",
                Role::Worker,
                "its certificate ireland.worker.gaia is for the role 'worker', 'server' is needed",
            ),
            (
                "virginia",
                Role::Worker,
                "its certificate virginia.worker.gaia is for the role 'worker', 'server' is needed",
            ),
            ("virginia", Role::Server, "it calls itself 'virginia', and so do we"),
            ("tokyo", Role::Server, "datacenter 'tokyo' is not one of our peers (ireland)"),
        ] {
            let refusal = terms().identify(&name(datacenter, role)).expect_err("refused");
            assert_eq!(refusal.to_string(), message);
        }
    }

    #[test]
    fn a_hello_must_agree_in_everything() {
        let ireland = name("ireland", Role::Server);
        let theirs = Terms { datacenter: "ireland".into(), ..terms() };
        let good = theirs.hello(Channel::Control, 1, Greeting::default());
        assert_eq!(terms().check(&good, &ireland), Ok(()));
        assert_eq!(Terms::check_answer(&good, &good), Ok(()));
        let other = Hello { channel: Channel::Data, ..good.clone() };
        assert!(matches!(Terms::check_answer(&good, &other), Err(Refusal::Answer { .. })));
        let version = Hello { version: 9, ..good.clone() };
        let job = Hello { job_digest: vec![2; 32], ..good.clone() };
        let last = Hello { server: 3, ..good.clone() };
        assert_eq!(terms().check(&last, &ireland), Ok(()));
        let server = Hello { server: 4, ..good.clone() };
        let said = Hello { datacenter: "tokyo".into(), ..good };
        for (hello, message) in [
            (version, "it speaks protocol version 9, we speak 5"),
            (job, "its job is another one: its digest is 0202020202020202, ours is 0101010101010101"),
            (server, "it says that it is server 4, and of the 4 shards of the job none can be there"),
            (said, "its hello says 'tokyo', its certificate 'ireland'"),
        ] {
            assert_eq!(terms().check(&hello, &ireland).expect_err("refused").to_string(), message);
        }
    }
}
