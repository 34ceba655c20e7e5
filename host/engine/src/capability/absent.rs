//! Interfaces of the contract that this version does not serve: each call is a typed denial.

use chela_sandbox::{Call, Grant};

use super::{Lent, lend};
use crate::contract::{tools, types::HostError};

const LATER: &str = "this host does not serve this interface yet";

macro_rules! not_served {
    ($call:expr, $grant:expr) => {{
        let _ = lend!($call, $grant, HostError::NotGranted);
        Ok(Err(HostError::NotGranted(LATER.to_owned())))
    }};
}

impl tools::Host for Call<Lent> {
    async fn list_tools(
        &mut self,
        _: Option<String>,
    ) -> wasmtime::Result<Result<Vec<tools::Tool>, HostError>> {
        not_served!(self, Grant::Tools)
    }

    async fn call(&mut self, _: String, _: String) -> wasmtime::Result<Result<String, HostError>> {
        not_served!(self, Grant::Tools)
    }
}
