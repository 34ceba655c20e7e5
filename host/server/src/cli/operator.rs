//! Answers for the operator's commands: from the running host through its socket, or from the store when no
//! host runs. The store's own lock decides which of the two it is.

use std::path::Path;

use chela_store::Store;

use super::args::ConfigPath;
use super::socket::Host;
use super::{Failure, load};
use crate::config::data_folder;
use crate::host::SOCKET;

/// Where answers come from.
#[derive(Debug)]
pub(super) enum Operator {
    /// A host runs on this folder.
    Running(Host),
    /// None does; the store is read.
    Stopped(Box<Store>),
}

impl Operator {
    /// Looks who has the folder.
    pub(super) async fn of(folder: &Path) -> Result<Self, Failure> {
        match Store::open_read_only(folder).await {
            Ok(store) => Ok(Self::Stopped(Box::new(store))),
            Err(chela_store::Error::Owned { .. }) => Ok(Self::Running(Host::at(folder.join(SOCKET)))),
            Err(error @ chela_store::Error::Missing { .. }) => Err(Failure::from(error)
                .help("has `chela up` run with this configuration? `--config` names another")),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks who has the data folder that a file names, whatever else is wrong with the file: the host runs on with
    /// what it said before.
    pub(super) async fn at(at: &ConfigPath) -> Result<Self, Failure> {
        let folder = match data_folder(&at.config) {
            Some(folder) => folder,
            // Says why.
            None => load(at)?.store.folder,
        };
        Self::of(&folder).await
    }

    /// The host that runs.
    pub(super) async fn running(at: &ConfigPath) -> Result<Host, Failure> {
        match Self::at(at).await? {
            Self::Running(host) => Ok(host),
            Self::Stopped(_) => Err(Failure::new(format!("no host runs with {}", at.config.display()))
                .help("`chela up` starts one; `--config` names another")),
        }
    }
}
