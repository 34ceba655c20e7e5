//! Who speaks to the operators' listeners, and what he may do.
//!
//! A handler gets at the host through [`Allowed`] alone, whose type names a right: one that says none has nothing to
//! answer with.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chela_engine::Who;
use chela_types::Digest;
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::admin::Admin;
use super::error::Error;
use crate::config::{ADMIN, AT_THE_SOCKET, Config, Right};

/// In which our command line says who sits before it. Believed at the socket, where whoever comes has every right.
pub const OPERATOR_HEADER: &str = "chela-operator";
/// Longest such name.
const NAME_BYTES_MAX: usize = 32;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    name: String,
    rights: BTreeSet<Right>,
}

impl Caller {
    /// Somebody with every right.
    fn of_all(name: impl Into<String>) -> Self {
        Self { name: name.into(), rights: Right::ALL.into() }
    }

    fn check(&self, right: Right) -> Result<(), Error> {
        if self.rights.contains(&right) { Ok(()) } else { Err(Error::Forbidden(right)) }
    }
}

/// The operators with their tokens. Clones share them.
#[derive(Clone)]
pub struct Operators(Arc<RwLock<Vec<(Digest, Caller)>>>);

impl std::fmt::Debug for Operators {
    /// Names alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.read().iter().map(|(_, caller)| &caller.name)).finish()
    }
}

impl Operators {
    /// Those of a configuration; `admin` is the token with every right.
    pub fn new(config: &Config, admin: &SecretString) -> Self {
        Self(Arc::new(RwLock::new(keys(config, admin))))
    }

    /// Those of another configuration: a token that is not in it any more opens nothing from now on.
    pub fn replace(&self, config: &Config, admin: &SecretString) {
        *self.0.write() = keys(config, admin);
    }

    /// Whose token this is. Each one is compared, over digests of one length: the time tells neither how many
    /// characters were right nor whose.
    fn whose(&self, token: &str) -> Option<Caller> {
        let given = digest(token);
        let mut found = None;
        for (key, caller) in self.0.read().iter() {
            if bool::from(key.as_bytes().ct_eq(given.as_bytes())) {
                found = Some(caller.clone());
            }
        }
        found
    }
}

fn keys(config: &Config, admin: &SecretString) -> Vec<(Digest, Caller)> {
    let mut keys = vec![(digest(admin.expose_secret()), Caller::of_all(ADMIN))];
    for (name, operator) in &config.operators {
        let caller = Caller { name: name.clone(), rights: operator.rights.clone() };
        keys.push((digest(operator.token.expose_secret()), caller));
    }
    keys
}

fn digest(token: &str) -> Digest {
    Digest::of("chela operator token 1", &[token.as_bytes()])
}

/// How a listener learns who asks.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By a token.
    Token(Operators),
    /// By having opened a file that only its owner may open.
    Socket,
}

impl Proof {
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        match self {
            Self::Token(operators) => {
                let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
                operators.whose(given).ok_or(Error::Unauthorized)
            }
            Self::Socket => {
                let name = headers.get(OPERATOR_HEADER).and_then(|value| value.to_str().ok());
                Ok(Caller::of_all(name.filter(|name| is_plain(name)).unwrap_or(AT_THE_SOCKET)))
            }
        }
    }
}

/// Whether a login name is fit to stand in the history.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// Lets nobody through of whom it is not known who he is.
pub(super) async fn identify(State(proof): State<Proof>, mut request: Request, next: Next) -> Response {
    match proof.caller(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// A right as a type.
pub(super) trait Needed: Send + Sync + 'static {
    /// Which.
    const RIGHT: Right;
}

/// See how things stand.
#[derive(Debug)]
pub(super) enum Read {}

/// See what was said.
#[derive(Debug)]
pub(super) enum Content {}

/// Reload, order plugins, speak to agents.
#[derive(Debug)]
pub(super) enum Operate {}

impl Needed for Read {
    const RIGHT: Right = Right::Read;
}

impl Needed for Content {
    const RIGHT: Right = Right::Content;
}

impl Needed for Operate {
    const RIGHT: Right = Right::Operate;
}

/// The host behind its gate: opened by [`Allowed`] only.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Admin>);

impl Gate {
    pub(super) fn new(admin: Admin) -> Self {
        Self(Arc::new(admin))
    }
}

/// The host, for a caller who has the right `R`.
#[derive(Debug)]
pub(super) struct Allowed<R> {
    admin: Arc<Admin>,
    caller: Caller,
    right: PhantomData<fn() -> R>,
}

impl<R> Deref for Allowed<R> {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

impl<R: Needed> FromRequestParts<Gate> for Allowed<R> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gate: &Gate) -> Result<Self, Error> {
        let caller = parts.extensions.get::<Caller>().cloned().ok_or(Error::Unauthorized)?;
        caller.check(R::RIGHT)?;
        Ok(Self { admin: Arc::clone(&gate.0), caller, right: PhantomData })
    }
}

impl<R> Allowed<R> {
    /// The same, for what needs another right as well.
    pub(super) fn and<S: Needed>(self) -> Result<Allowed<S>, Error> {
        self.caller.check(S::RIGHT)?;
        Ok(Allowed { admin: self.admin, caller: self.caller, right: PhantomData })
    }

    /// Whether the caller has another right as well.
    pub(super) fn has<S: Needed>(&self) -> bool {
        self.caller.check(S::RIGHT).is_ok()
    }

    /// Who it is, for the history.
    pub(super) fn who(&self) -> Who {
        Who(self.caller.name.clone())
    }
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
