//! `http`: requests to where the manifest says, with credentials that the plugin never sees.
//!
//! A request that changes something is written down before it leaves: if the host stops in the middle, nobody knows
//! whether it was carried out, and the plugin is told so instead of its being sent once more. One that only reads is
//! sent again.

mod rules;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chela_egress::{Egress, Leaks};
use chela_sandbox::{Call, Grant, Manifest, Plugin};
use chela_types::Millis;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Lent, host_failed, lend};
use crate::agent::Agent;
use crate::config::Config;
use crate::contract::{http as contract, types::HostError};
use crate::error::Error;
use crate::journal::{Found, Function};
pub(crate) use rules::Rules;
use rules::Wrong;

/// Largest body of an answer.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Headers of an answer that are passed on, and bytes of all of them.
const HEADERS_MAX: (usize, usize) = (64, 16 << 10);

/// The way out for one call of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Outward {
    pub(crate) egress: Egress,
    pub(crate) leaks: Arc<Leaks>,
    pub(crate) config: Arc<Config>,
    /// Whose manifest says where to; absent until it is called.
    pub(crate) plugin: Option<Plugin<Agent>>,
}

/// What was made of a request, as the journal keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Kept {
    /// It has begun; nobody has heard more of it.
    Begun,
    Done(Result<Answer, HostError>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// In base64.
    body: String,
}

type Said = Result<contract::Response, HostError>;

impl contract::Host for Call<Lent> {
    async fn fetch(&mut self, request: contract::Request) -> wasmtime::Result<Said> {
        let lent = lend!(self, Grant::Http, HostError::NotGranted);
        let (kept, at) = lent.fetch(request).await.map_err(host_failed)?;
        self.clock_to(at);
        self.hand(kept.and_then(response))
    }
}

fn response(answer: Answer) -> Said {
    let Answer { status, headers, body } = answer;
    let body =
        STANDARD.decode(body).map_err(|_| HostError::Other("its journal cannot be read".to_owned()))?;
    let header = |(name, value)| contract::Header { name, value };
    Ok(contract::Response { status, headers: headers.into_iter().map(header).collect(), body })
}

impl Lent {
    async fn fetch(&self, asked: contract::Request) -> Result<(Result<Answer, HostError>, Millis), Error> {
        let is_safe = matches!(asked.method.as_str(), "GET" | "HEAD");
        let function = if is_safe { Function::Fetch } else { Function::Send };
        let mut journal = self.journal.lock().await;
        let place = match journal.place::<Kept>(function, &asked).await? {
            Found::Kept(Kept::Done(said), at) => return Ok((said, at)),
            Found::Kept(Kept::Begun, _) => {
                let place = journal.last(function, &asked)?;
                let said = Err(HostError::Other(UNKNOWN.to_owned()));
                let at = journal.fill_over(&place, &Kept::Done(said.clone())).await?;
                return Ok((said, at));
            }
            Found::Fresh(place) => place,
        };
        let request = match self.allowed(asked) {
            Ok(request) => request,
            Err(refused) => {
                let said = Err(refused);
                let at = journal.fill_behind(&place, &Kept::Done(said.clone())).await?;
                return Ok((said, at));
            }
        };
        if !is_safe {
            journal.fill(&place, &Kept::Begun).await?;
        }
        drop(journal);
        let (egress, request) = request;
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let heard = egress.send(request).await;
        let mut journal = self.journal.lock().await;
        let said = match heard {
            Ok(response) => answer(&response),
            Err(error) => {
                tracing::warn!(turn = %self.whom.turn, agent = %self.whom.agent, %error, "a plugin's request failed");
                let (said, may_ask_again) = explained(&error, is_safe);
                if may_ask_again {
                    journal.failed(&place);
                }
                Err(said)
            }
        };
        let outcome = said.as_ref().map_or("failed", |_| "answered");
        let agent = self.whom.agent.to_string();
        metrics::counter!("plugin_requests_total", "agent" => agent, "outcome" => outcome).increment(1);
        tracing::info!(turn = %self.whom.turn, agent = %self.whom.agent, host, outcome, "a plugin's request");
        let at = journal.fill_over(&place, &Kept::Done(said.clone())).await?;
        Ok((said, at))
    }

    /// The request as it may leave, and the way.
    fn allowed(&self, asked: contract::Request) -> Result<(Egress, chela_egress::Request), HostError> {
        let apart =
            || HostError::Unavailable("nothing is sent while a recorded turn is run again".to_owned());
        let outward = self.outward.as_ref().ok_or_else(apart)?;
        let plugin = outward.plugin.as_ref().ok_or_else(apart)?;
        let none = BTreeMap::new();
        let secrets = outward.config.plugins.get(plugin.id()).map_or(&none, |plugin| &plugin.secrets);
        let rules = rules_of(plugin.manifest(), plugin.config());
        let rules = rules.map_err(|wrong| HostError::Other(wrong.to_string()))?;
        let mut request = rules.allow(asked, secrets).map_err(HostError::Invalid)?;
        request.leaks = Some(Arc::clone(&outward.leaks));
        request.response_bytes_max = Some(BODY_BYTES_MAX);
        Ok((outward.egress.clone(), request))
    }
}

const UNKNOWN: &str = "the host stopped after this request had begun: whether it was carried out is not known, and it is not sent again";

fn answer(response: &chela_egress::Response) -> Result<Answer, HostError> {
    let (count, bytes) = HEADERS_MAX;
    let mut size = 0;
    let mut headers = Vec::new();
    // Sessions of the peer are nobody's here.
    for (name, value) in response.headers.iter().filter(|(name, _)| *name != http::header::SET_COOKIE) {
        let Ok(value) = value.to_str() else { continue };
        size += name.as_str().len() + value.len();
        if headers.len() >= count || size > bytes {
            return Err(HostError::Limit(format!(
                "its answer has over {count} headers or {bytes} bytes of them"
            )));
        }
        headers.push((name.as_str().to_owned(), value.to_owned()));
    }
    Ok(Answer { status: response.status.as_u16(), headers, body: STANDARD.encode(&response.body) })
}

/// A failure in the contract's words, and whether the same request may be sent once more.
fn explained(error: &chela_egress::Error, is_safe: bool) -> (HostError, bool) {
    use chela_egress::{Error, Way};
    let text = error.to_string();
    match error {
        Error::Url { .. } | Error::Denied { .. } | Error::Header(_) | Error::Sign(_) => {
            (HostError::Invalid(text), false)
        }
        Error::Leak { way: Way::Out, .. } => (HostError::Invalid(text), false),
        Error::Leak { way: Way::In, .. } => (HostError::Other(text), false),
        Error::TooLarge { .. } => (HostError::Limit(text), false),
        _ if is_safe || !error.reached() => (HostError::Unavailable(text), true),
        _ => (HostError::Other(format!("{text}: whether it was carried out is not known")), false),
    }
}

fn rules_of(manifest: &Manifest, config: &str) -> Result<Rules, Wrong> {
    Rules::read(&manifest.outward, &serde_json::from_str(config).unwrap_or_default())
}

/// Whether a plugin that may send requests has all that its manifest needs for them.
///
/// # Errors
/// What is wrong or missing, with file and key.
pub(crate) fn check(plugin: &Plugin<Agent>, secrets: &BTreeMap<String, SecretString>) -> Result<(), Error> {
    if !plugin.grants().contains(Grant::Http) {
        return Ok(());
    }
    let checked = rules_of(plugin.manifest(), plugin.config()).and_then(|rules| rules.check_secrets(secrets));
    checked.map_err(|wrong| {
        let wrong = wrong.to_string().replace("[plugin.NAME]", &format!("[plugin.{}]", plugin.id()));
        Error::Configuration(format!("plugin `{}`: {wrong}", plugin.id()))
    })
}
