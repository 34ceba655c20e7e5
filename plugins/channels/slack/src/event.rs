//! What Slack's events mean.
//!
//! An own post, another bot's post, an edit, a join notice: all arrive as `message`. Only a person's new
//! post becomes a message here, and only what a person did to it becomes an edit or a deletion; answering anything
//! else is how two bots talk for ever.

use chela_sdk::{
    Attachment, Change, Edit, Event, Identity, Inbound, Incoming, Rejection, Response, Surroundings,
};
use serde_json::Value;

use crate::text;

/// A challenge is a token of some forty characters.
const CHALLENGE_BYTES_MAX: usize = 1_024;
/// Slack shows at most ten files with a post.
const FILES_MAX: usize = 10;
/// A file's name and type.
const NAME_CHARS_MAX: usize = 255;
/// Subtypes of `message` that are a person's new post.
const SPOKEN: [&str; 3] = ["file_share", "thread_broadcast", "me_message"];

/// Left for `post`: a direct conversation, answered without a thread.
pub(crate) const FLAT: &str = "flat";

pub(crate) fn receive(body: &Value, surroundings: &Surroundings) -> Result<Inbound, Rejection> {
    match text_at(body, "/type")? {
        Some("url_verification") => challenge(body),
        Some("event_callback") => callback(body, surroundings),
        Some("app_rate_limited") => Ok(Inbound::ignored("slack limits the rate of events")),
        Some(_) => Err(Rejection::Unsupported("a request of a type that is not known".to_owned())),
        None => Err(missing("/type")),
    }
}

fn challenge(body: &Value) -> Result<Inbound, Rejection> {
    match text_at(body, "/challenge")? {
        Some(challenge) if challenge.len() <= CHALLENGE_BYTES_MAX => {
            Ok(Inbound::respond(Response::text(challenge)))
        }
        Some(_) => Err(Rejection::Malformed("/challenge is too long".to_owned())),
        None => Err(missing("/challenge")),
    }
}

fn callback(body: &Value, surroundings: &Surroundings) -> Result<Inbound, Rejection> {
    match text_at(body, "/event/type")? {
        Some("message" | "app_mention") => {}
        Some(_) => return Ok(Inbound::ignored("an event of another kind")),
        None => return Err(missing("/event/type")),
    }
    match text_at(body, "/event/subtype")? {
        Some("message_changed") => return edited(body, surroundings),
        Some("message_deleted") => return deleted(body, surroundings),
        _ => {}
    }
    if let Some(reason) = of_no_interest(body, surroundings)? {
        return Ok(Inbound::ignored(reason));
    }
    let text =
        text::decode(text_at(body, "/event/text")?.unwrap_or_default(), &addressed(body, surroundings));
    let attachments = files(body);
    if text.is_empty() && attachments.is_empty() {
        return Ok(Inbound::ignored("a post without words"));
    }
    let direct = is_direct(body)? && text_at(body, "/event/thread_ts")?.is_none();
    let notes = direct.then(|| FLAT.to_owned());
    let identity = identity(body, direct)?;
    Ok(Inbound::one(Event::Message(Incoming { identity, sender_name: None, text, attachments, notes })))
}

fn of_no_interest(body: &Value, surroundings: &Surroundings) -> Result<Option<&'static str>, Rejection> {
    if body.pointer("/event/bot_id").is_some_and(|id| !id.is_null()) {
        return Ok(Some("a bot's post"));
    }
    if text_at(body, "/event/subtype")?.is_some_and(|subtype| !SPOKEN.contains(&subtype)) {
        return Ok(Some("not a new post"));
    }
    if body.pointer("/event/hidden") == Some(&Value::Bool(true)) {
        return Ok(Some("a hidden post"));
    }
    match text_at(body, "/event/user")? {
        None => Ok(Some("nobody's post")),
        Some(user) if surroundings.own_ids.iter().any(|own| own == user) => Ok(Some("an own post")),
        Some(_) => Ok(None),
    }
}

/// A post has other words now. Slack says `message_changed` also when it has looked a link up; then nobody `edited` it.
fn edited(body: &Value, surroundings: &Surroundings) -> Result<Inbound, Rejection> {
    if body.pointer("/event/message/edited").is_none_or(Value::is_null) {
        return Ok(Inbound::ignored("a change that nobody made"));
    }
    if !is_persons(body, "/event/message", surroundings)? {
        return Ok(Inbound::ignored("an edit of no person's post"));
    }
    let written = text_at(body, "/event/message/text")?.unwrap_or_default();
    let text = text::decode(written, &addressed(body, surroundings));
    if text.is_empty() {
        return Ok(Inbound::ignored("an edit that leaves no words"));
    }
    let change = change(body, "/event/message/ts", "/event/message/user")?;
    Ok(Inbound::one(Event::Edit(Edit { change, text })))
}

fn deleted(body: &Value, surroundings: &Surroundings) -> Result<Inbound, Rejection> {
    if !is_persons(body, "/event/previous_message", surroundings)? {
        return Ok(Inbound::ignored("a deletion of no person's post"));
    }
    let change = change(body, "/event/deleted_ts", "/event/previous_message/user")?;
    Ok(Inbound::one(Event::Deletion(change)))
}

/// Whether a person wrote the post that an event tells of.
fn is_persons(body: &Value, post: &str, surroundings: &Surroundings) -> Result<bool, Rejection> {
    if body.pointer(&format!("{post}/bot_id")).is_some_and(|id| !id.is_null()) {
        return Ok(false);
    }
    let user = text_at(body, &format!("{post}/user"))?;
    Ok(user.is_some_and(|user| surroundings.own_ids.iter().all(|own| own != user)))
}

fn change(body: &Value, ts: &str, sender: &str) -> Result<Change, Rejection> {
    let need = |pointer: &str| need(body, pointer);
    Ok(Change {
        dedupe: vec![vec![need("/event_id")?]],
        post: vec![need("/team_id")?, need("/event/channel")?, need(ts)?],
        sender: need(sender)?,
    })
}

fn identity(body: &Value, direct: bool) -> Result<Identity, Rejection> {
    let need = |pointer| need(body, pointer);
    let (team, channel, ts) = (need("/team_id")?, need("/event/channel")?, need("/event/ts")?);
    let thread = text_at(body, "/event/thread_ts")?.map(str::to_owned);
    let post = vec![team.clone(), channel.clone(), ts.clone()];
    let event = text_at(body, "/event_id")?.map(|id| vec![id.to_owned()]);
    let conversation = if direct { vec![team, channel] } else { vec![team, channel, thread.unwrap_or(ts)] };
    let dedupe = event.into_iter().chain([post]).collect();
    Ok(Identity { dedupe, conversation, sender: need("/event/user")? })
}

fn is_direct(body: &Value) -> Result<bool, Rejection> {
    Ok(text_at(body, "/event/channel_type")? == Some("im"))
}

/// The ids under which this account is spoken to: what the host asked, and what the event says of itself.
fn addressed<'a>(body: &'a Value, surroundings: &'a Surroundings) -> Vec<&'a str> {
    let told = body.pointer("/authorizations/0/user_id").and_then(Value::as_str);
    surroundings.own_ids.iter().map(String::as_str).chain(told).collect()
}

fn files(body: &Value) -> Vec<Attachment> {
    let files = body.pointer("/event/files").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let short =
        |text: &str| text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect::<String>();
    let attachment = |file: &Value| {
        let of = |key| file.get(key).and_then(Value::as_str);
        let size = file.get("size").and_then(Value::as_u64).unwrap_or(0);
        let media_type = short(of("mimetype").unwrap_or("application/octet-stream"));
        of("name").map(|name| Attachment { name: short(name), media_type, size, blob: None })
    };
    files.iter().take(FILES_MAX).filter_map(attachment).collect()
}

/// A text, nothing if it is absent or null; anything else is malformed.
fn text_at<'a>(body: &'a Value, pointer: &str) -> Result<Option<&'a str>, Rejection> {
    match body.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Rejection::Malformed(format!("{pointer} is not a text"))),
    }
}

fn need(body: &Value, pointer: &str) -> Result<String, Rejection> {
    text_at(body, pointer)?.map(str::to_owned).ok_or_else(|| missing(pointer))
}

fn missing(pointer: &str) -> Rejection {
    Rejection::Malformed(format!("{pointer} is missing"))
}
