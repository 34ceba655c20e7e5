//! Answers for the operator's commands: from the running host through its socket, or from the store when no
//! host runs. The store's own lock decides which of the two it is.

use std::path::Path;

use chela_egress::Local;
use chela_store::Store;

use super::Failure;
use crate::host::SOCKET;

/// Where answers come from.
#[derive(Debug)]
pub(super) enum Operator {
    /// A host runs on this folder.
    Running(Local),
    /// None does; the store is read.
    Stopped(Box<Store>),
}

impl Operator {
    /// Looks who has the folder.
    pub(super) async fn of(folder: &Path) -> Result<Self, Failure> {
        match Store::open_read_only(folder).await {
            Ok(store) => Ok(Self::Stopped(Box::new(store))),
            Err(chela_store::Error::Owned { .. }) => Ok(Self::Running(Local::new(&folder.join(SOCKET))?)),
            Err(error @ chela_store::Error::Missing { .. }) => Err(Failure::from(error)
                .help("has `chela up` run with this configuration? `--config` names another")),
            Err(error) => Err(error.into()),
        }
    }
}
