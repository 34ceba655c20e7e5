//! The channel station, outward: the component renders, the host checks the target, sends, and asks on.
//!
//! A request leaves only after the store has it marked as `sending`; its outcome is written behind it. So a
//! crash in between is known afterwards as an *ambiguous* send, and the channel's configuration says whether
//! it is made again. Where a post already shows drafts of the answer, the answer takes its place by an edit: that may
//! be made twice, so that it needs no such mark.

use chela_egress::{Heard, Request, Response};
use chela_store::{Lease, Outgoing, Progress, Store, StreamEvent};
use chela_types::{Blame, ChannelId, Digest, Fault, Retry, Target};
use http::StatusCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::component;
use super::json;
use super::request::{Allowed, Bounds};
use super::station::{Acknowledgement, ChannelStation};
use crate::config::Ambiguous;
use crate::contract::{self, translating};
use crate::drafts::{Draft, Drafts};
use crate::error::Error;
use crate::swap::{DELIVER, Went};
use crate::words;

/// Longest id of a platform's.
const PLATFORM_ID_BYTES_MAX: usize = 512;

/// One answer on its way out.
pub(crate) struct Delivery<'a> {
    pub(crate) store: &'a Store,
    pub(crate) drafts: &'a Drafts,
    pub(crate) lease: &'a Lease,
    pub(crate) outgoing: &'a Outgoing,
    pub(crate) target: &'a Target,
    pub(crate) steps_max: usize,
    /// The post that shows drafts of the answer, or that it has taken the place of.
    pub(crate) progress: Option<Progress>,
    /// The adapter's version: only it can go on from where it stopped.
    pub(crate) adapter: Digest,
    /// Another version began to send it, and cannot be loaded any more.
    pub(crate) is_orphan: bool,
    /// Set as soon as a request may have left.
    pub(crate) has_left: &'a AtomicBool,
    /// Another version would take over.
    pub(crate) may_decline: bool,
    /// How the adapter failed where the platform had taken a part.
    pub(crate) failed: OnceLock<&'static str>,
}

impl Delivery<'_> {
    fn post(&self) -> Option<&str> {
        match &self.progress {
            Some(Progress::Posted { platform_id, .. } | Progress::Settled { platform_id }) => {
                Some(platform_id)
            }
            Some(Progress::Lost) | None => None,
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The platform has it.
    Done,
    /// It will never be delivered; the turn is closed.
    GivenUp,
    /// The same, as the adapter failed in this way with what the platform had taken.
    Broken(&'static str),
    /// This version will not deliver it, and nothing of it has left: another may.
    Declined,
}

impl Delivered {
    /// What is counted of it where versions are compared.
    pub(crate) fn went(&self) -> Went<'static> {
        let to = match self {
            Self::Done => "delivered",
            Self::GivenUp | Self::Broken(_) | Self::Declined => "given up",
        };
        Went { asked: DELIVER, to }
    }
}

impl ChannelStation {
    /// Renders and sends until the component says it is done. Closes the turn, unless it is declined.
    ///
    /// # Errors
    /// [`Error::Undelivered`] if it is to be tried again; the plugin's or the host's fault otherwise.
    pub(crate) async fn deliver(&self, mut delivery: Delivery<'_>) -> Result<Delivered, Error> {
        if delivery.outgoing.ambiguous > 0 && self.config.ambiguous == Ambiguous::AtMostOnce {
            return self
                .give_up(&delivery, "a crash hides whether it was sent, and the channel sends at most once")
                .await;
        }
        if delivery.is_orphan {
            tracing::warn!(channel = %self.name, turn = %delivery.lease.turn(), "the version that began to send an answer cannot be loaded any more");
            if self.config.ambiguous == Ambiguous::AtMostOnce {
                let reason = "the adapter's version that began to send it cannot be loaded any more, and the channel \
                              sends at most once";
                return self.give_up(&delivery, reason).await;
            }
        }
        let mut step = self.first_step(&mut delivery).await?;
        for _ in 0..delivery.steps_max {
            match step {
                translating::Step::Done(platform_id) => {
                    let platform_id = platform_id
                        .filter(|id| self.is_sound_id(id))
                        .or_else(|| delivery.post().map(ToOwned::to_owned));
                    delivery.store.delivered(delivery.lease, delivery.outgoing.id, platform_id).await?;
                    return Ok(Delivered::Done);
                }
                translating::Step::Permanent(_)
                    if delivery.may_decline && !delivery.has_left.load(Ordering::Relaxed) =>
                {
                    return Ok(Delivered::Declined);
                }
                translating::Step::Permanent(reason) => {
                    let given_up = self.give_up(&delivery, &reason).await?;
                    return Ok(delivery.failed.get().map_or(given_up, |kind| Delivered::Broken(kind)));
                }
                translating::Step::Retry(millis) => {
                    let reason = "the platform asks to wait".to_owned();
                    return Err(self.undelivered(reason, Some(Duration::from_millis(millis))));
                }
                translating::Step::Next(outbound) => match self.send(&mut delivery, outbound).await? {
                    Some(next) => step = next,
                    None => return Ok(Delivered::Done),
                },
            }
        }
        self.give_up(&delivery, "the adapter asks for more requests than one answer may take").await
    }

    /// In the place of its drafts, or as a post of its own.
    async fn first_step(&self, delivery: &mut Delivery<'_>) -> Result<translating::Step, Error> {
        let Some(Progress::Posted { platform_id, seq }) = &delivery.progress else {
            // Nobody else can read what it had come to: it begins anew.
            let state = delivery.outgoing.state.clone().filter(|_| !delivery.is_orphan);
            return self.rendered(delivery, state).await;
        };
        let revision = translating::Revision {
            platform_id: Some(platform_id.clone()),
            seq: seq.saturating_add(1),
            final_: true,
        };
        let (outgoing, target) = (answer(delivery.outgoing), component::target(delivery.target, false));
        match self.update(outgoing, target, revision, delivery.outgoing.kept).await {
            Ok(translating::Step::Permanent(_)) => self.anew(delivery).await,
            Err(error) if error.blame() == Blame::Plugin => self.anew(delivery).await,
            step => step,
        }
    }

    async fn rendered(
        &self,
        delivery: &Delivery<'_>,
        state: Option<String>,
    ) -> Result<translating::Step, Error> {
        let waits = self.waiting.waits(delivery.lease.turn());
        let target = component::target(delivery.target, waits);
        self.render(answer(delivery.outgoing), target, state, delivery.outgoing.kept).await
    }

    /// The post with the drafts is left as it is, and the answer becomes a post of its own.
    async fn anew(&self, delivery: &mut Delivery<'_>) -> Result<translating::Step, Error> {
        tracing::warn!(channel = %self.name, turn = %delivery.lease.turn(), "a draft cannot be edited; the answer is posted anew");
        self.leave_post(delivery).await?;
        self.rendered(delivery, None).await
    }

    /// From here on a repetition goes on with the posts, and not with the edit.
    async fn leave_post(&self, delivery: &mut Delivery<'_>) -> Result<(), Error> {
        self.lost_post();
        delivery.store.progress_behind(delivery.lease, Progress::Lost).await?;
        delivery.progress = Some(Progress::Lost);
        Ok(())
    }

    /// Sends one request; the next step, or `None` if the host itself has delivered it.
    async fn send(
        &self,
        delivery: &mut Delivery<'_>,
        outbound: translating::Outbound,
    ) -> Result<Option<translating::Step>, Error> {
        let bounds = Bounds { target: delivery.target, post: delivery.post(), id: delivery.outgoing.id };
        let allowed = match self.allow(&outbound, bounds) {
            // An adapter that edits badly may render well.
            Err(_) if matches!(delivery.progress, Some(Progress::Posted { .. })) => {
                return self.anew(delivery).await.map(Some);
            }
            allowed => allowed?,
        };
        let request = match allowed {
            Allowed::Stream(event) => {
                self.tell_session(delivery, event).await?;
                return Ok(None);
            }
            Allowed::Response(body) => return self.respond(delivery, body).await,
            Allowed::Http { request, is_edit: true } => {
                return self.edit(delivery, outbound.state, *request).await.map(Some);
            }
            Allowed::Http { request, is_edit: false } => request,
        };
        if matches!(delivery.progress, Some(Progress::Posted { .. })) {
            self.leave_post(delivery).await?;
        }
        let Delivery { store, lease, outgoing, .. } = &*delivery;
        delivery.has_left.store(true, Ordering::Relaxed);
        store.sending(lease, outgoing.id, Some(outbound.state.clone()), Some(delivery.adapter)).await?;
        match self.egress.ask(*request).await {
            // The status says whether it was taken, also if what should follow it was cut or too long.
            Ok(Heard { status, headers, body }) => {
                let is_whole = body.is_ok();
                let response = Response { status, headers, body: body.unwrap_or_default() };
                self.responded(delivery, outbound.state, (response, is_whole)).await.map(Some)
            }
            Err(error) if !error.reached() => {
                store.step_sent_behind(lease, outgoing.id, Some(outbound.state)).await?;
                self.later(&error)
            }
            Err(error) => self.unknown(error.to_string(), None).map(Some),
        }
    }

    /// The answer takes the place of its drafts. What becomes of an edit may stay unknown: it is made again.
    async fn edit(
        &self,
        delivery: &mut Delivery<'_>,
        state: String,
        request: Request,
    ) -> Result<translating::Step, Error> {
        delivery.has_left.store(true, Ordering::Relaxed);
        delivery.store.editing_behind(delivery.lease, delivery.outgoing.id, Some(state.clone())).await?;
        let Heard { status, headers, body } = match self.egress.ask(request).await {
            Ok(heard) => heard,
            Err(error) => return self.later(&error),
        };
        let response = Response { status, headers, body: body.unwrap_or_default() };
        match (self.heard(delivery, &state, &response).await, &delivery.progress) {
            (Ok(translating::Step::Permanent(_)), Some(Progress::Posted { .. })) => self.anew(delivery).await,
            (Ok(next @ (translating::Step::Done(_) | translating::Step::Next(_))), _) => {
                self.settle(delivery).await?;
                Ok(next)
            }
            (Err(error), _) if status.is_success() && error.blame() == Blame::Plugin => {
                self.settle(delivery).await?;
                Ok(took_a_part(delivery, &error))
            }
            (next, _) => next,
        }
    }

    /// From here on a repetition goes on behind the edit, and not with it.
    async fn settle(&self, delivery: &mut Delivery<'_>) -> Result<(), Error> {
        let Some(platform_id) = delivery.post().map(ToOwned::to_owned) else { return Ok(()) };
        let settled = Progress::Settled { platform_id };
        delivery.store.progress_behind(delivery.lease, settled.clone()).await?;
        delivery.progress = Some(settled);
        Ok(())
    }

    /// Hands the answer to the platform's request that waits for it, or renders it for the usual way if that is gone.
    async fn respond(
        &self,
        delivery: &Delivery<'_>,
        body: Vec<u8>,
    ) -> Result<Option<translating::Step>, Error> {
        let Delivery { store, lease, outgoing, .. } = delivery;
        delivery.has_left.store(true, Ordering::Relaxed);
        store.sending(lease, outgoing.id, None, Some(delivery.adapter)).await?;
        if self.waiting.answer(lease.turn(), Acknowledgement::json(body)) {
            store.delivered_in_response(lease, outgoing.id).await?;
            return Ok(None);
        }
        store.step_sent_behind(lease, outgoing.id, None).await?;
        self.rendered(delivery, None).await.map(Some)
    }

    /// The answer once more for a request that is told again, if it is one that becomes a response.
    pub(crate) async fn respond_again(
        &self,
        outgoing: &Outgoing,
        target: &Target,
    ) -> Result<Option<Acknowledgement>, Error> {
        let step =
            self.render(answer(outgoing), component::target(target, true), None, outgoing.kept).await?;
        let translating::Step::Next(outbound) = step else { return Ok(None) };
        match self.allow(&outbound, Bounds { target, post: None, id: outgoing.id })? {
            Allowed::Response(body) => Ok(Some(Acknowledgement::json(body))),
            Allowed::Http { .. } | Allowed::Stream(_) => Ok(None),
        }
    }

    /// What the component makes of a response. A step that writes its own end at once (`Done`, or `Next` with its
    /// `sending`) leaves the mark that a send is under way, so that a crash in between is counted; so does an answer
    /// of which it stays unknown whether the platform has taken it.
    async fn responded(
        &self,
        delivery: &Delivery<'_>,
        state: String,
        (response, is_whole): (Response, bool),
    ) -> Result<translating::Step, Error> {
        // A server that failed may have worked before it did; one that says 503 has not begun.
        let failed = response.status.is_server_error() && response.status != StatusCode::SERVICE_UNAVAILABLE;
        let has_it = response.status.is_success();
        let next = match self.heard(delivery, &state, &response).await {
            Ok(next @ (translating::Step::Done(_) | translating::Step::Next(_))) => return Ok(next),
            Ok(next @ translating::Step::Permanent(_)) if failed => return Ok(next),
            // Of a whole answer the component knows whether it says yes.
            Ok(translating::Step::Retry(millis)) if failed || (has_it && !is_whole) => {
                let reason = format!("the platform answered {}, and is to be asked again", response.status);
                return self.unknown(reason, Some(Duration::from_millis(millis)));
            }
            // What the platform has is not sent again for an adapter that cannot go on from there.
            Err(error) if has_it && error.blame() == Blame::Plugin => Ok(took_a_part(delivery, &error)),
            Err(error) if has_it || failed => {
                return self
                    .unknown(format!("the platform answered {}, and then {error}", response.status), None);
            }
            next => next,
        };
        delivery.store.step_sent_behind(delivery.lease, delivery.outgoing.id, Some(state)).await?;
        next
    }

    /// The platform may have the answer or not: as the channel's configuration says.
    fn unknown(&self, reason: String, after: Option<Duration>) -> Result<translating::Step, Error> {
        metrics::counter!("ambiguous_sends_total", "channel" => self.name.to_string()).increment(1);
        match self.config.ambiguous {
            Ambiguous::AtLeastOnce => Err(Error::Unknown { channel: self.name.clone(), reason, after }),
            Ambiguous::AtMostOnce => Ok(translating::Step::Permanent(format!(
                "it is unknown whether it was sent, and the channel sends at most once: {reason}"
            ))),
        }
    }

    fn later<T>(&self, error: &chela_egress::Error) -> Result<T, Error> {
        let after = match error.retry() {
            Retry::Later(after) if !after.is_zero() => Some(after),
            _ => None,
        };
        Err(self.undelivered(error.to_string(), after))
    }

    /// What the component makes of a response. It is a function: it may be asked again, where the platform must not be.
    async fn heard(
        &self,
        delivery: &Delivery<'_>,
        state: &str,
        response: &Response,
    ) -> Result<translating::Step, Error> {
        let at = delivery.outgoing.kept;
        match self.sent(state.to_owned(), response, at).await {
            Err(error) if error.blame() == Blame::Plugin => self.sent(state.to_owned(), response, at).await,
            next => next,
        }
    }

    /// An id is kept to be named again; what is no id, but has been sent, is done all the same.
    pub(super) fn is_sound_id(&self, id: &str) -> bool {
        let is_sound = id.len() <= PLATFORM_ID_BYTES_MAX && !id.contains(char::is_control);
        if !is_sound {
            tracing::warn!(channel = %self.name, "the adapter returned a platform's id that is none");
        }
        is_sound
    }

    /// Keeps an answer for the windows of a session, with the turn that it answers: the host's own reading.
    async fn tell_session(&self, delivery: &Delivery<'_>, mut event: serde_json::Value) -> Result<(), Error> {
        if let Some(event) = event.as_object_mut() {
            event.insert("turn".to_owned(), delivery.lease.turn().to_string().into());
        }
        let session = delivery
            .target
            .bound
            .get("session")
            .ok_or_else(|| self.forbidden("a stream endpoint needs a bound `session`"))?;
        let event = StreamEvent { session: session_key(&self.name, session), event: event.to_string() };
        delivery.store.delivered_to_stream(delivery.lease, delivery.outgoing.id, event).await?;
        delivery.drafts.tell(&self.name, session, Draft::Kept);
        Ok(())
    }

    async fn give_up(&self, delivery: &Delivery<'_>, reason: &str) -> Result<Delivered, Error> {
        tracing::error!(channel = %self.name, turn = %delivery.lease.turn(), "answer is given up");
        metrics::counter!("undelivered_total", "channel" => self.name.to_string()).increment(1);
        let reason = words::reason(reason);
        delivery.store.give_up_delivery(delivery.lease, delivery.outgoing.id, &reason).await?;
        Ok(Delivered::GivenUp)
    }

    /// Asks the platform under which ids this account posts. `Ok(false)` if the manifest declares no way.
    pub(crate) async fn ask_own_ids(&self) -> Result<bool, Error> {
        let Some(own) = &self.tables.own else { return Ok(false) };
        let Some(endpoint) = self.tables.endpoint.get(&own.endpoint) else { return Ok(false) };
        let request = self.request(endpoint, Vec::new())?.json();
        let response = self.egress.send(request).await?;
        let answer = json::read(&response.body).unwrap_or_default();
        let ids: Vec<String> = own
            .ids
            .iter()
            .filter_map(|pointer| answer.pointer(pointer)?.as_str().map(ToOwned::to_owned))
            .collect();
        if ids.is_empty() {
            let reason = format!("`{}` did not tell the account's own id", own.endpoint);
            return Err(self.undelivered(reason, None));
        }
        self.learn_own_ids(ids);
        Ok(true)
    }

    pub(super) fn undelivered(&self, reason: String, after: Option<Duration>) -> Error {
        Error::Undelivered { channel: self.name.clone(), reason, after }
    }

    pub(super) fn lost_post(&self) {
        metrics::counter!("progress_lost_total", "channel" => self.name.to_string()).increment(1);
    }
}

/// The contract's words for an answer.
fn answer(outgoing: &Outgoing) -> translating::Outgoing {
    translating::Outgoing {
        id: outgoing.id.to_string(),
        agent: outgoing.agent.to_string(),
        reply: contract::reply_out(&outgoing.reply),
    }
}

/// What the platform has is not sent again for an adapter that cannot go on from there.
fn took_a_part(delivery: &Delivery<'_>, error: &Error) -> translating::Step {
    let _ = delivery.failed.set(error.word());
    translating::Step::Permanent(format!("the platform took a part, and then {error}"))
}

/// A session's name in the store: sessions of two channels never meet.
pub(crate) fn session_key(channel: &ChannelId, session: &str) -> String {
    format!("{channel}/{session}")
}
