//! The data connection of a link, which is opened with the first bulk.
//!
//! Once values take a bit or two, most of what a region has to say fits a few packets. That goes over the control connection,
//! in the packet of the statement that comes with it, and a second connection would cost more than all of it. So there is
//! none until either side has bulk: whoever dialled the link opens it then, and the other side asks for it. With a model so large
//! that there will be bulk it is opened at once.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use quinn::Connection;
use tokio::sync::watch;

use crate::message::ServerId;

/// The data connection of one link: whether it is wanted, and the connection once it is there.
#[derive(Clone, Debug, Default)]
pub struct DataConnection(Arc<ConnectionSlot>);

#[derive(Debug, Default)]
struct ConnectionSlot {
    is_wanted: watch::Sender<bool>,
    connection: watch::Sender<Option<Connection>>,
}

impl DataConnection {
    /// One that is there already.
    pub fn open(connection: Connection) -> Self {
        let data = Self::default();
        data.offer(connection);
        data
    }

    /// There is bulk to carry.
    pub fn want(&self) {
        self.0.is_wanted.send_if_modified(|is_wanted| !std::mem::replace(is_wanted, true));
    }

    /// Returns once there is bulk to carry.
    pub async fn wanted(&self) {
        // The sender lives in this value.
        let _ = self.0.is_wanted.subscribe().wait_for(|is_wanted| *is_wanted).await;
    }

    /// The connection is there. False if another one already is.
    pub fn offer(&self, connection: Connection) -> bool {
        self.0.connection.send_if_modified(|current| {
            let is_first = current.is_none();
            current.get_or_insert(connection);
            is_first
        })
    }

    /// The connection, if it is there.
    pub fn get(&self) -> Option<Connection> {
        self.0.connection.borrow().clone()
    }

    /// The connection, once it is there.
    pub async fn there(&self) -> Connection {
        let mut connection = self.watch();
        let there = connection.wait_for(Option::is_some).await;
        there
            .ok()
            .and_then(|there| there.clone())
            .expect("the sender lives in this value, and it has waited for one")
    }

    /// Tells of the connection when it comes.
    pub fn watch(&self) -> watch::Receiver<Option<Connection>> {
        self.0.connection.subscribe()
    }
}

/// The links of whose peers data connections may come, by peer and session.
#[derive(Debug, Default)]
pub(in crate::driver) struct Awaited(Mutex<BTreeMap<(ServerId, u64), Weak<ConnectionSlot>>>);

impl Awaited {
    /// From now on one may come for this link, as long as the link has what this yields.
    pub(in crate::driver) fn expect(&self, peer: ServerId, session: u64) -> DataConnection {
        let data = DataConnection::default();
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, state| state.strong_count() > 0);
        links.insert((peer, session), Arc::downgrade(&data.0));
        data
    }

    /// One has come. False if there is no such link, or it has one.
    pub(in crate::driver) fn offer(&self, peer: ServerId, session: u64, connection: Connection) -> bool {
        let links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = links.get(&(peer, session)).and_then(Weak::upgrade);
        drop(links);
        state.is_some_and(|state| DataConnection(state).offer(connection))
    }
}
