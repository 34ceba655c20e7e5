//! The channel station, inward: a verified request becomes messages, changes and receipts, each with an identity
//! that the host itself has read.

use chela_store::{Arrival, Change, Changed, Receipt, ReceiptState, StreamEvent};
use chela_types::{Attachment, Identity, Message, Millis, Person, TenantId, TurnId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::changes::{self, ChangeClaim, Mark};
use super::delivery::session_key;
use super::identity::{self, Claim, Document, Reading};
use super::json;
use super::station::{Acknowledgement, ChannelStation};
use super::verify::{Verified, Webhook};
use crate::contract::{translating, types};
use crate::error::{Error, Refusal};
use crate::words;

/// Longest text of a message in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest notes an adapter may keep.
const NOTES_BYTES_MAX: usize = 4 * 1024;
/// Longest display name in characters.
const NAME_CHARS_MAX: usize = 128;
/// Attachments of one message.
const ATTACHMENTS_MAX: usize = 64;
/// Events in one request.
const EVENTS_MAX: usize = 1_000;
/// Longest time that a platform's request is kept waiting.
const DEADLINE_MAX: Duration = Duration::from_secs(10);

/// What a request has become.
#[derive(Debug)]
pub(crate) struct Received {
    /// To be kept before the platform gets its response.
    pub(crate) arrivals: Vec<Arrival>,
    /// To be kept then.
    pub(crate) changes: Vec<Change>,
    /// And these.
    pub(crate) receipts: Vec<Receipt>,
    /// Web sessions that show what was said.
    pub(crate) sessions: Vec<String>,
    /// What the platform gets.
    pub(crate) response: Response,
}

/// What the platform gets.
#[derive(Debug)]
pub(crate) enum Response {
    /// This.
    Now(Acknowledgement),
    /// The answer, if it is there in time, or else this.
    Deferred { deadline: Duration, fallback: Acknowledgement },
}

impl Received {
    fn nothing() -> Self {
        Self {
            arrivals: Vec::new(),
            changes: Vec::new(),
            receipts: Vec::new(),
            sessions: Vec::new(),
            response: Response::Now(Acknowledgement::plain()),
        }
    }
}

/// What the host itself has read in a request, and whose request it is.
struct Readings<'a> {
    tenant: &'a TenantId,
    now: Millis,
    messages: Vec<Reading>,
    edits: Vec<Mark>,
    deletions: Vec<Mark>,
    answers: BTreeSet<String>,
}

/// What an event says, beside who says it.
struct Said {
    text: String,
    name: Option<String>,
    attachments: Vec<types::Attachment>,
    notes: Option<String>,
}

/// What a target is known by where calls of a channel are shared among its versions: the same for a message and its
/// answer.
pub(crate) fn whereabouts(bound: &BTreeMap<String, String>) -> Vec<u8> {
    serde_json::to_vec(bound).unwrap_or_default()
}

impl ChannelStation {
    /// Lets the component read a verified request, and checks everything that it says of who and which.
    pub(crate) async fn receive(&self, verified: Verified, tenant: &TenantId) -> Result<Received, Error> {
        let now = self.clock.now();
        let readings = self.readings(&verified, tenant, now)?;
        let said = self.translate(&verified, now).await?;
        self.taken(said, &readings, verified.session)
    }

    /// What the component said, as far as the host's own readings bear it out.
    fn taken(
        &self,
        said: Result<translating::Inbound, translating::Rejection>,
        readings: &Readings<'_>,
        session: Option<String>,
    ) -> Result<Received, Error> {
        let inbound = match said {
            Ok(inbound) => inbound,
            Err(translating::Rejection::Malformed(reason)) => return Err(self.malformed(&reason)),
            Err(translating::Rejection::Unsupported(reason)) => {
                tracing::debug!(channel = %self.name, reason = words::reason(&reason), "request of an unknown kind");
                metrics::counter!("webhooks_unsupported_total", "channel" => self.name.to_string())
                    .increment(1);
                return Ok(Received::nothing());
            }
            Err(translating::Rejection::Other(reason)) => {
                return Err(Error::reported(format!("channel `{}`", self.name), &reason, false));
            }
        };
        if inbound.events.len() > EVENTS_MAX {
            return Err(self.forged("more events than one request may hold"));
        }
        let mut received = Received::nothing();
        for event in inbound.events {
            self.event(event, readings, &mut received)?;
        }
        if self.is_web_chat() {
            received.sessions.extend(session);
        }
        received.response = self.response(inbound.acknowledgement)?;
        Ok(received)
    }

    /// A verified request of which the component says this.
    pub(super) fn heard_as(
        &self,
        verified: Verified,
        tenant: &TenantId,
        said: Result<translating::Inbound, translating::Rejection>,
    ) -> Result<Received, Error> {
        let readings = self.readings(&verified, tenant, self.clock.now())?;
        self.taken(said, &readings, verified.session)
    }

    /// Where an answer to this request would go, as far as the host itself reads it before any component does.
    pub(crate) fn whereabouts(&self, webhook: Webhook, tenant: &TenantId) -> Option<Vec<u8>> {
        let verified = self.verify(webhook).ok()?;
        let readings = self.readings(&verified, tenant, self.clock.now()).ok()?;
        readings.messages.first().map(|reading| whereabouts(&reading.target))
    }

    fn readings<'a>(
        &self,
        verified: &Verified,
        tenant: &'a TenantId,
        now: Millis,
    ) -> Result<Readings<'a>, Error> {
        let body = &verified.webhook.body;
        let json = match body.is_empty() || verified.is_form {
            true => None,
            false => Some(json::read(body).map_err(|error| self.malformed(&error.to_string()))?),
        };
        let form: Vec<(String, String)> = match verified.is_form {
            true => url::form_urlencoded::parse(body).into_owned().collect(),
            false => Vec::new(),
        };
        let document = Document {
            json: json.as_ref(),
            form: &form,
            headers: &verified.webhook.headers,
            session: verified.session.as_deref(),
        };
        let table = &self.tables.identity;
        let marks = |table: &Option<_>| {
            table.as_ref().map(|table| changes::marks(table, &document)).unwrap_or_default()
        };
        Ok(Readings {
            tenant,
            now,
            messages: identity::readings(table, &self.tables.bind, &document),
            edits: marks(&table.edit),
            deletions: marks(&table.deletion),
            answers: table
                .status
                .as_ref()
                .map(|table| changes::told_answers(table, &document))
                .unwrap_or_default(),
        })
    }

    /// Adds what an event says, or counts it and lets it go.
    fn event(
        &self,
        event: translating::Event,
        readings: &Readings<'_>,
        received: &mut Received,
    ) -> Result<(), Error> {
        match event {
            translating::Event::Message(incoming) => {
                let translating::Incoming { identity, sender_name: name, text, attachments, notes } =
                    incoming;
                let said = Said { text, name, attachments, notes };
                received.arrivals.extend(self.message(identity, said, readings)?);
            }
            translating::Event::Interaction(click) => {
                let said = Said { text: click.value, name: None, attachments: Vec::new(), notes: None };
                received.arrivals.extend(self.message(click.identity, said, readings)?);
            }
            translating::Event::Edit(edit) => {
                let text = self.text(edit.text)?;
                received.changes.push(self.change(
                    edit.change,
                    &readings.edits,
                    readings.tenant,
                    Some(text),
                )?);
            }
            translating::Event::Deletion(change) => {
                received.changes.push(self.change(change, &readings.deletions, readings.tenant, None)?);
            }
            translating::Event::Status(status) => {
                received.receipts.push(self.receipt(status, readings)?);
            }
            translating::Event::Ignored(reason) => {
                tracing::debug!(channel = %self.name, reason = words::reason(&reason), "event ignored by the adapter");
                self.ignored("by the adapter");
            }
        }
        Ok(())
    }

    /// A message that begins a turn, unless the account itself wrote it.
    fn message(
        &self,
        identity: translating::Identity,
        said: Said,
        readings: &Readings<'_>,
    ) -> Result<Option<Arrival>, Error> {
        let translating::Identity { dedupe, conversation, sender } = identity;
        let claim = Claim { dedupe, conversation, sender };
        let identity = identity::confirm(&readings.messages, &claim).map_err(|what| self.forged(what))?;
        if self.own_ids().contains(&identity.sender) {
            self.ignored("own message");
            return Ok(None);
        }
        self.arrival(readings.tenant, identity, said, readings.now).map(Some)
    }

    fn arrival(
        &self,
        tenant: &TenantId,
        identity: Identity,
        said: Said,
        now: Millis,
    ) -> Result<Arrival, Error> {
        if said.notes.as_ref().is_some_and(|notes| notes.len() > NOTES_BYTES_MAX) {
            return Err(self.forged("notes over their limit"));
        }
        let message = Message {
            id: TurnId::new(),
            channel: self.name.clone(),
            place: identity.place.clone(),
            sender: Person {
                id: identity.sender.clone(),
                name: said
                    .name
                    .map(|name| name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()),
                // Whoever opens a web chat is anybody; the operator's own terminal is not.
                outsider: identity.outsider || (self.is_web_chat() && !self.config.operator),
            },
            text: self.text(said.text)?,
            attachments: self.attachments(said.attachments)?,
            received: now,
        };
        let echo = self.is_web_chat().then(|| self.echo(&message));
        let lane = String::new();
        Ok(Arrival { tenant: tenant.clone(), identity, message, notes: said.notes, echo, lane })
    }

    /// What somebody wrote, within its limit.
    fn text(&self, text: String) -> Result<String, Error> {
        if text.len() > TEXT_BYTES_MAX {
            let reason = format!("a message has at most {TEXT_BYTES_MAX} bytes of text");
            return Err(self.refuse(Refusal::TooLarge, reason));
        }
        Ok(text.replace('\0', ""))
    }

    /// Files that came with a message, by their names and types; an adapter's words, and so within their limits.
    fn attachments(&self, files: Vec<types::Attachment>) -> Result<Vec<Attachment>, Error> {
        if files.len() > ATTACHMENTS_MAX {
            let reason = format!("a message has at most {ATTACHMENTS_MAX} attachments");
            return Err(self.refuse(Refusal::TooLarge, reason));
        }
        let attachment = |file: types::Attachment| Attachment {
            name: words::reason(&file.name),
            media_type: words::reason(&file.media_type),
            size: file.size,
        };
        Ok(files.into_iter().map(attachment).collect())
    }

    /// What a web chat shows of the message in every window of its session; kept together with it.
    fn echo(&self, message: &Message) -> StreamEvent {
        let event =
            serde_json::json!({ "kind": "said", "turn": message.id.to_string(), "text": message.text });
        StreamEvent { session: session_key(&self.name, &message.sender.id), event: event.to_string() }
    }

    fn change(
        &self,
        change: translating::Change,
        marks: &[Mark],
        tenant: &TenantId,
        text: Option<String>,
    ) -> Result<Change, Error> {
        let translating::Change { dedupe, post, sender } = change;
        let claim = ChangeClaim { dedupe, post, sender };
        let mark = changes::confirm(marks, &claim).ok_or_else(|| self.forged("a change"))?;
        let (tenant, channel, dedupe) = (tenant.clone(), self.name.clone(), mark.dedupe.clone());
        Ok(Change { tenant, channel, dedupe, post: claim.post, sender: claim.sender, text })
    }

    fn receipt(
        &self,
        status: translating::DeliveryStatus,
        readings: &Readings<'_>,
    ) -> Result<Receipt, Error> {
        if !readings.answers.contains(&status.platform_id) {
            return Err(self.forged("a status of an answer"));
        }
        Ok(Receipt {
            tenant: readings.tenant.clone(),
            channel: self.name.clone(),
            platform_id: status.platform_id,
            state: match status.state {
                translating::DeliveryState::Sent => ReceiptState::Sent,
                translating::DeliveryState::Delivered => ReceiptState::Delivered,
                translating::DeliveryState::Read => ReceiptState::Read,
                translating::DeliveryState::Failed => ReceiptState::Failed,
            },
            detail: status.detail.map(|detail| words::reason(&detail)),
        })
    }

    fn response(&self, said: translating::Acknowledgement) -> Result<Response, Error> {
        Ok(match said {
            translating::Acknowledgement::Plain => Response::Now(Acknowledgement::plain()),
            translating::Acknowledgement::Now(response) => Response::Now(self.acknowledge(response)?),
            translating::Acknowledgement::Deferred(deferral) => Response::Deferred {
                deadline: Duration::from_millis(u64::from(deferral.deadline_ms)).min(DEADLINE_MAX),
                fallback: self.acknowledge(deferral.fallback)?,
            },
        })
    }

    fn acknowledge(&self, response: translating::Response) -> Result<Acknowledgement, Error> {
        if !(200..500).contains(&response.status) || response.body.len() > TEXT_BYTES_MAX {
            return Err(self.forged("an acknowledgement"));
        }
        let headers = response
            .headers
            .into_iter()
            .filter(|header| header.name == "content-type")
            .map(|header| (header.name, header.value))
            .collect();
        Ok(Acknowledgement { status: response.status, headers, body: response.body })
    }

    /// Counts what became of changed messages.
    pub(crate) fn count_changes(&self, changed: &[Changed]) {
        for changed in changed {
            metrics::counter!("changes_total", "channel" => self.name.to_string(), "result" => changed.word())
                .increment(1);
        }
    }

    /// Counts what the platform tells of answers; one that the person will not get is worth a line.
    pub(crate) fn count_receipts(&self, receipts: &[Receipt]) {
        for Receipt { platform_id, state, .. } in receipts {
            metrics::counter!("receipts_total", "channel" => self.name.to_string(), "state" => state.word())
                .increment(1);
            if *state == ReceiptState::Failed {
                tracing::warn!(channel = %self.name, answer = platform_id, "the platform took an answer and could not deliver it");
            }
        }
    }

    fn ignored(&self, why: &'static str) {
        metrics::counter!("events_ignored_total", "channel" => self.name.to_string(), "why" => why)
            .increment(1);
    }

    fn refuse(&self, kind: Refusal, reason: String) -> Error {
        Error::Refused { channel: self.name.clone(), kind, reason: words::reason(&reason) }
    }

    fn malformed(&self, reason: &str) -> Error {
        self.refuse(Refusal::Malformed, reason.to_owned())
    }

    fn forged(&self, what: &'static str) -> Error {
        metrics::counter!("channel_forgeries_total", "channel" => self.name.to_string()).increment(1);
        Error::Forged { channel: self.name.clone(), what }
    }
}
