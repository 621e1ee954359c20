//! What names of peers stand for: the system knows, or a table where names are emulated.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Looks names up.
#[derive(Clone, Debug, Default)]
pub enum Names {
    /// As the system has them.
    #[default]
    System,
    /// As a table has them, which may change.
    Table(Arc<Mutex<BTreeMap<String, Vec<SocketAddr>>>>),
}

impl Names {
    /// Whatever `name`, `host:port`, stands for now.
    ///
    /// # Errors
    ///
    /// If it cannot be looked up.
    pub async fn look_up(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host(name).await?.collect()),
            Self::Table(table) => {
                let table = table.lock().unwrap_or_else(PoisonError::into_inner);
                let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no such name: {name}"));
                table.get(name).cloned().ok_or_else(unknown)
            }
        }
    }
}
