//! Who somebody is, the host says: it reads identities from the verified request itself, at the places
//! that the manifest declares, and an adapter may only choose among these readings.
//!
//! A request may hold several messages (`*` in a pointer), so a reading is tied to one element: sender,
//! conversation and dedupe keys must come from the same place, or a batch could be shuffled.

use chela_types::{Identity, Key};
use serde_json::Value;
use std::collections::BTreeMap;

use super::json;
use super::manifest::{Bind, IdentityTable, Outsider};

/// At most this many elements of one request are read.
const READINGS_MAX: usize = 1_000;
/// Longest single part of a key in bytes.
const PART_BYTES_MAX: usize = 512;

/// A verified request, as identities are read from it.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// The body as JSON, if it is.
    pub(crate) json: Option<&'a Value>,
    /// Fields of the body, if it is a form.
    pub(crate) form: &'a [(String, String)],
    /// Headers, lower case.
    pub(crate) headers: &'a [(String, String)],
    /// The host's own session, for session-verified channels.
    pub(crate) session: Option<&'a str>,
}

/// One identity that the request holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    dedupe: Vec<Key>,
    conversations: Vec<Key>,
    sender: String,
    place: Option<String>,
    outsider: bool,
    pub(super) target: BTreeMap<String, String>,
}

/// What an adapter claims.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) dedupe: Vec<Key>,
    pub(crate) conversation: Key,
    pub(crate) sender: String,
}

/// Every identity in the request, at most [`READINGS_MAX`].
pub(crate) fn readings(table: &IdentityTable, binds: &[Bind], document: &Document<'_>) -> Vec<Reading> {
    let places = document.places([&table.sender].into_iter().chain(table.dedupe.iter().flatten()));
    places.iter().filter_map(|indices| reading(table, binds, document, indices)).collect()
}

impl Document<'_> {
    /// Every element of the request that these sources speak of, as the indices that stand for their stars.
    pub(crate) fn places<'s>(&self, sources: impl Iterator<Item = &'s String>) -> Vec<Vec<usize>> {
        let spine = sources.max_by_key(|source| stars(source)).cloned().unwrap_or_default();
        let mut places = Vec::new();
        match self.json {
            Some(json) => elements(json, &spine, &mut Vec::new(), &mut places),
            None => places.push(Vec::new()),
        }
        places
    }

    /// What stands at a source, if it can be an id or a part of a key.
    pub(crate) fn text(&self, source: &str, indices: &[usize]) -> Option<String> {
        value(self, source, indices).and_then(scalar)
    }

    /// Those of the keys that are there whole.
    pub(crate) fn keys(&self, keys: &[Vec<String>], indices: &[usize]) -> Vec<Key> {
        let key = |parts: &Vec<String>| parts.iter().map(|source| self.text(source, indices)).collect();
        keys.iter().filter_map(key).collect()
    }
}

/// The reading that the claim names as a whole, as the identity that counts: with *all* dedupe keys that the
/// host found, not only the claimed ones.
pub(crate) fn confirm(readings: &[Reading], claim: &Claim) -> Result<Identity, &'static str> {
    let of_sender: Vec<_> = readings.iter().filter(|reading| reading.sender == claim.sender).collect();
    if of_sender.is_empty() {
        return Err("a sender");
    }
    let of_conversation: Vec<_> =
        of_sender.into_iter().filter(|reading| reading.conversations.contains(&claim.conversation)).collect();
    if of_conversation.is_empty() {
        return Err("a conversation");
    }
    let whole = |reading: &&Reading| {
        !claim.dedupe.is_empty() && claim.dedupe.iter().all(|key| reading.dedupe.contains(key))
    };
    let reading = of_conversation.into_iter().find(whole).ok_or("a dedupe key")?;
    Ok(Identity {
        dedupe: reading.dedupe.clone(),
        conversation: claim.conversation.clone(),
        sender: reading.sender.clone(),
        place: reading.place.clone(),
        outsider: reading.outsider,
        target: reading.target.clone(),
    })
}

fn reading(
    table: &IdentityTable,
    binds: &[Bind],
    document: &Document<'_>,
    indices: &[usize],
) -> Option<Reading> {
    let text = |source: &String| document.text(source, indices);
    let dedupe = document.keys(&table.dedupe, indices);
    let conversations = document.keys(&table.conversation, indices);
    if dedupe.is_empty() || conversations.is_empty() {
        return None;
    }
    Some(Reading {
        dedupe,
        conversations,
        sender: text(&table.sender)?,
        place: table.place.as_ref().and_then(text),
        outsider: table.outsider.iter().any(|marker| outside(document, marker, indices)),
        target: binds
            .iter()
            .filter_map(|bind| Some((bind.name.clone(), bind.sources.iter().find_map(text)?)))
            .collect(),
    })
}

fn outside(document: &Document<'_>, marker: &Outsider, indices: &[usize]) -> bool {
    let Some(found) = value(document, &marker.at, indices) else { return false };
    match (&marker.equals, &marker.differs) {
        (Some(expected), _) => serde_json::to_value(expected).is_ok_and(|expected| found == expected),
        (None, Some(other)) => value(document, other, indices).is_none_or(|other| other != found),
        (None, None) => false,
    }
}

fn value(document: &Document<'_>, source: &str, indices: &[usize]) -> Option<Value> {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    if let Some(name) = source.strip_prefix("header:") {
        return text(only(document.headers, name)?);
    }
    if source == "session:id" {
        return text(document.session?);
    }
    if let Some(field) = source.strip_prefix("form:") {
        return in_form(document.form, field);
    }
    let mut indices = indices.iter();
    let mut pointer = String::new();
    for step in source.split('/').skip(1) {
        pointer.push('/');
        match step {
            "*" => pointer.push_str(&indices.next()?.to_string()),
            step => pointer.push_str(step),
        }
    }
    document.json?.pointer(&pointer).cloned()
}

/// A field of a form, or what stands at a pointer in one that holds JSON: `payload/user/id`. What is not UTF-8 is
/// nobody's.
fn in_form(form: &[(String, String)], field: &str) -> Option<Value> {
    let (name, pointer) = field.split_at(field.find('/').unwrap_or(field.len()));
    let text = only(form, name).filter(|text| !text.contains(char::REPLACEMENT_CHARACTER))?;
    match pointer {
        "" => Some(Value::String(text.to_owned())),
        pointer => json::read(text.as_bytes()).ok()?.pointer(pointer).cloned(),
    }
}

/// The value of a name that stands exactly once.
pub(crate) fn only<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn scalar(value: Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.len() <= PART_BYTES_MAX && !text.contains('\0')).then_some(text)
}

fn stars(source: &str) -> usize {
    source.split('/').filter(|step| *step == "*").count()
}

/// Collects the index tuples of all elements that `spine`'s stars reach.
fn elements(value: &Value, spine: &str, indices: &mut Vec<usize>, places: &mut Vec<Vec<usize>>) {
    if places.len() >= READINGS_MAX {
        return;
    }
    let Some((before, after)) = spine.split_once("/*") else {
        places.push(indices.clone());
        return;
    };
    let Some(Value::Array(items)) = value.pointer(before) else { return };
    for (index, item) in items.iter().enumerate() {
        indices.push(index);
        elements(item, after, indices, places);
        indices.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> IdentityTable {
        toml::from_str(
            r#"
            dedupe = [["/event_id"], ["/team_id", "/event/channel", "/event/ts"]]
            conversation = [["/team_id", "/event/channel", "/event/thread_ts"], ["/team_id", "/event/channel", "/event/ts"]]
            sender = "/event/user"
            place = "/event/channel"
            outsider = [{ at = "/is_ext_shared_channel", equals = true }, { at = "/event/user_team", differs = "/team_id" }]
            "#,
        )
        .unwrap()
    }

    fn post(extra: &[(&str, Value)]) -> Value {
        let mut body =
            json!({"team_id":"T1","event_id":"E1","event":{"channel":"C1","user":"U1","ts":"1.2"}});
        for (pointer, value) in extra {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value.clone());
        }
        body
    }

    fn read(body: &Value) -> Vec<Reading> {
        let document = Document { json: Some(body), form: &[], headers: &[], session: None };
        readings(&table(), &[], &document)
    }

    fn key(parts: &[&str]) -> Key {
        parts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_claim_must_be_among_what_the_host_found() {
        let found = read(&post(&[]));
        let honest = Claim {
            dedupe: vec![key(&["E1"])],
            conversation: key(&["T1", "C1", "1.2"]),
            sender: "U1".into(),
        };
        let identity = confirm(&found, &honest).unwrap();
        assert_eq!(identity.dedupe, [key(&["E1"]), key(&["T1", "C1", "1.2"])], "the host's keys all count");
        assert_eq!(identity.place.as_deref(), Some("C1"));
        assert!(!identity.outsider);

        let lie = |change: fn(&mut Claim)| {
            let mut claim = honest.clone();
            change(&mut claim);
            confirm(&found, &claim)
        };
        assert_eq!(lie(|claim| claim.sender = "U2".into()), Err("a sender"));
        assert_eq!(lie(|claim| claim.conversation = key(&["T1", "C2", "1.2"])), Err("a conversation"));
        assert_eq!(lie(|claim| claim.dedupe = vec![key(&["E2"])]), Err("a dedupe key"));
        assert_eq!(lie(|claim| claim.dedupe.clear()), Err("a dedupe key"));
    }

    #[test]
    fn guests_and_shared_channels_are_outsiders() {
        let outsider = |extra: &[(&str, Value)]| read(&post(extra)).first().unwrap().outsider;
        assert!(!outsider(&[("/event/user_team", json!("T1"))]));
        assert!(outsider(&[("/event/user_team", json!("T2"))]));
        assert!(outsider(&[("/is_ext_shared_channel", json!(true))]));
        assert!(!outsider(&[("/is_ext_shared_channel", json!(false))]));
    }

    #[test]
    fn a_batch_cannot_be_shuffled() {
        let table: IdentityTable = toml::from_str(
            r#"
            dedupe = [["/entry/*/changes/*/id"]]
            conversation = [["/entry/*/account", "/entry/*/changes/*/from"]]
            sender = "/entry/*/changes/*/from"
            "#,
        )
        .unwrap();
        let body = json!({"entry":[
            {"account":"a","changes":[{"id":"1","from":"u"},{"id":"2","from":"v"}]},
            {"account":"b","changes":[{"id":3,"from":"w"}]}]});
        let document = Document { json: Some(&body), form: &[], headers: &[], session: None };
        let found = readings(&table, &[], &document);
        assert_eq!(found.len(), 3);
        let claim = |dedupe: &str, account: &str, sender: &str| Claim {
            dedupe: vec![key(&[dedupe])],
            conversation: key(&[account, sender]),
            sender: sender.into(),
        };
        assert!(confirm(&found, &claim("3", "b", "w")).is_ok());
        assert!(confirm(&found, &claim("2", "a", "v")).is_ok());
        assert_eq!(confirm(&found, &claim("1", "a", "v")), Err("a dedupe key"));
        assert_eq!(confirm(&found, &claim("2", "b", "v")), Err("a conversation"));
    }

    #[test]
    fn a_form_is_read_by_its_fields_and_the_json_in_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let form = [
            pair("user", "U1"),
            pair("twice", "a"),
            pair("twice", "b"),
            pair("payload", r#"{"user":{"id":"U2"},"n":7}"#),
            pair("broken", "{"),
            pair("foreign", "\u{fffd}"),
        ];
        let document = Document { json: None, form: &form, headers: &[], session: None };
        let read = |source: &str| document.text(source, &[]);
        assert_eq!(read("form:user").as_deref(), Some("U1"));
        assert_eq!(read("form:payload/user/id").as_deref(), Some("U2"));
        assert_eq!(read("form:payload/n").as_deref(), Some("7"));
        for source in ["form:twice", "form:none", "form:broken/user", "form:payload/user", "form:foreign"] {
            assert_eq!(read(source), None, "{source}");
        }
    }

    #[test]
    fn a_header_that_stands_twice_is_nobody() {
        let headers = [("webhook-id".to_owned(), "1".to_owned()), ("webhook-id".to_owned(), "2".to_owned())];
        assert_eq!(only(&headers, "webhook-id"), None);
        assert_eq!(only(&headers[..1], "webhook-id"), Some("1"));
    }
}
