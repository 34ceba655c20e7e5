//! The channel station: one channel account with its adapter, its tables and its secrets. What comes in is
//! `inward.rs`, what goes out `delivery.rs` and `progress.rs`.

use chela_egress::Egress;
use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, Kind, Plugin, PluginKind};
use chela_types::{ChannelId, Clock};
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use wasmtime::component::{InstancePre, Linker};

use super::component;
use super::manifest::{EndpointKind, Tables};
use super::progress::Pace;
use super::session::Sessions;
use super::verify::{Gate, Verified, Webhook};
use super::waiting::Waiting;
use crate::config::ChannelConfig;
use crate::contract;
use crate::error::Error;
use crate::rate;

/// Plugins of the channel world.
#[derive(Debug)]
pub struct Channel;

impl Kind for Channel {
    const KIND: PluginKind = PluginKind::Channel;
    type Lent = ();
    type Pre = contract::channel::ChannelPre<Call<()>>;
    type Exports = contract::channel::Channel;
    type Ask = component::Ask;
    type Said = component::Said;

    fn link(_: &mut Linker<Call<()>>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn prepare(pre: InstancePre<Call<()>>) -> wasmtime::Result<Self::Pre> {
        contract::channel::ChannelPre::new(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Sandboxed<Call<()>>,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Exports>> {
        Box::pin(pre.instantiate_async(store))
    }

    fn run<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Sandboxed<Call<()>>,
        ask: Self::Ask,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Said>> {
        Box::pin(component::run(exports.chela_plugin_translating(), store, ask))
    }

    /// It imports nothing that could be asked for.
    fn serve<'a>(_: &'a mut Call<()>, _: &'a [u8]) -> BoxFuture<'a, wasmtime::Result<Vec<u8>>> {
        Box::pin(async { wasmtime::bail!("a channel asks nothing of the host") })
    }

    fn init<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Sandboxed<Call<()>>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<(), String>>> {
        Box::pin(exports.call_init(store))
    }
}

/// One channel account.
pub(crate) struct ChannelStation {
    pub(crate) name: ChannelId,
    pub(crate) config: ChannelConfig,
    pub(crate) plugin: Plugin<Channel>,
    pub(crate) tables: Tables,
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sessions: Arc<Sessions>,
    pub(super) waiting: Waiting,
    /// How often answers may be shown while they are made; `None`: never.
    pub(super) pace: Option<Arc<Pace>>,
    account: Arc<Account>,
}

/// What an account keeps, whatever version of its adapter serves.
#[derive(Debug)]
pub(crate) struct Account {
    per_minute: u32,
    secrets: BTreeMap<String, SecretString>,
    rate: governor::DefaultDirectRateLimiter,
    own_ids: OnceLock<Vec<String>>,
}

impl Account {
    pub(crate) fn new(config: &ChannelConfig) -> Self {
        Self {
            per_minute: config.rate_per_minute,
            secrets: config.secrets.clone(),
            rate: rate::per_minute(config.rate_per_minute),
            own_ids: OnceLock::new(),
        }
    }

    /// Whether it is still the account of this configuration: the same secrets, the same rate.
    pub(crate) fn fits(&self, config: &ChannelConfig) -> bool {
        let exposed = |secrets: &BTreeMap<String, SecretString>| -> Vec<(String, String)> {
            let shown =
                |(name, secret): (&String, &SecretString)| (name.clone(), secret.expose_secret().to_owned());
            secrets.iter().map(shown).collect()
        };
        self.per_minute == config.rate_per_minute && exposed(&self.secrets) == exposed(&config.secrets)
    }
}

impl std::fmt::Debug for ChannelStation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelStation").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a station is made of.
pub(crate) struct Parts {
    pub(crate) name: ChannelId,
    pub(crate) config: ChannelConfig,
    pub(crate) plugin: Plugin<Channel>,
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) waiting: Waiting,
    pub(crate) account: Arc<Account>,
}

/// The response to a platform's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Acknowledgement {
    /// 200 and nothing.
    pub(super) fn plain() -> Self {
        Self { status: 200, headers: Vec::new(), body: Vec::new() }
    }

    /// 200 and this.
    pub(super) fn json(body: Vec<u8>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status: 200, headers, body }
    }
}

impl ChannelStation {
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let Parts { name, config, plugin, settings, egress, clock, sessions, waiting, account } = parts;
        let tables = Tables::read(plugin.manifest().channel.clone())
            .map_err(|reason| Error::Configuration(format!("plugin.toml of `{}`: {reason}", plugin.id())))?;
        for secret in tables.secrets() {
            if !config.secrets.contains_key(secret) {
                return Err(Error::Configuration(format!(
                    "chela.toml: [channel.{name}] secrets lacks `{secret}`, which the adapter `{}` needs",
                    plugin.id()
                )));
            }
        }
        let pace = match &tables.progress {
            _ if !config.progress => None,
            Some(progress) => Some(Arc::new(Pace::new(progress))),
            None => {
                return Err(Error::Configuration(format!(
                    "chela.toml: [channel.{name}] progress = true, and the adapter `{}` declares no [progress]: it cannot edit",
                    plugin.id()
                )));
            }
        };
        let station =
            Self { name, config, plugin, tables, settings, egress, clock, sessions, waiting, pace, account };
        station.check()?;
        Ok(station)
    }

    /// What would otherwise be found when an answer that is paid for cannot be sent.
    fn check(&self) -> Result<(), Error> {
        for endpoint in self.tables.endpoint.values().filter(|endpoint| endpoint.kind == EndpointKind::Http) {
            self.address(endpoint)?;
        }
        for (name, encoding) in self.tables.encoded_secrets() {
            let secret = self.secret(name).map(ExposeSecret::expose_secret).unwrap_or_default();
            if !encoding.can_read(secret) {
                return Err(Error::Configuration(format!(
                    "chela.toml: [channel.{}] secrets: `{name}` is not written as the adapter `{}` needs it: base64, after an optional `whsec_`",
                    self.name,
                    self.plugin.id()
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether answers become events of the host's own web chat.
    pub(crate) fn is_web_chat(&self) -> bool {
        self.tables.endpoint.values().any(|endpoint| endpoint.kind == EndpointKind::Stream)
    }

    pub(crate) fn secret(&self, name: &str) -> Option<&SecretString> {
        self.config.secrets.get(name)
    }

    /// Remembers under which ids the account itself posts.
    pub(crate) fn learn_own_ids(&self, ids: Vec<String>) {
        // Told twice the same thing: the first stays.
        let _ = self.account.own_ids.set(ids);
    }

    pub(crate) fn own_ids(&self) -> &[String] {
        self.account.own_ids.get().map_or(&[], Vec::as_slice)
    }

    /// Method, size, origin: nothing of the request is run before it has passed.
    pub(crate) fn verify(&self, webhook: Webhook) -> Result<Verified, Error> {
        let gate = Gate {
            channel: &self.name,
            tables: &self.tables,
            secrets: &self.config.secrets,
            sessions: &self.sessions,
        };
        gate.verify(webhook, self.clock.now())
    }

    /// The account's rate, once for each request, whatever versions read it. After its origin: a stranger's flood must not
    /// eat the platform's allowance.
    pub(crate) fn admit(&self, _: &Verified) -> Result<(), Error> {
        self.account.rate.check().map_err(|_| Error::Flooded(self.name.clone()))
    }
}
