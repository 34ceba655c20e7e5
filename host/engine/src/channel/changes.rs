//! What a request tells of earlier messages and answers: which message was edited or deleted, and which answer has
//! come how far. Read by the host where the manifest says, as identities are; an adapter may only choose.

use chela_types::Key;
use std::collections::BTreeSet;

use super::identity::Document;
use super::manifest::{ChangeTable, StatusTable};

/// A message of which the request says that it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Keys of the event: all that are there.
    pub(crate) dedupe: Vec<Key>,
    /// Keys under which the message may have come.
    posts: Vec<Key>,
    /// Who wrote the message.
    sender: String,
}

/// What an adapter claims of a change.
#[derive(Debug, Clone)]
pub(crate) struct ChangeClaim {
    pub(crate) dedupe: Vec<Key>,
    pub(crate) post: Key,
    pub(crate) sender: String,
}

/// Every changed message in the request.
pub(crate) fn marks(table: &ChangeTable, document: &Document<'_>) -> Vec<Mark> {
    let sources = table.dedupe.iter().chain(&table.post).flatten().chain([&table.sender]);
    let mark = |indices: &Vec<usize>| {
        let dedupe = document.keys(&table.dedupe, indices);
        let posts = document.keys(&table.post, indices);
        let sender = document.text(&table.sender, indices)?;
        (!dedupe.is_empty() && !posts.is_empty()).then_some(Mark { dedupe, posts, sender })
    };
    document.places(sources).iter().filter_map(mark).collect()
}

/// The mark that the claim names as a whole.
pub(crate) fn confirm<'m>(marks: &'m [Mark], claim: &ChangeClaim) -> Option<&'m Mark> {
    marks.iter().find(|mark| {
        mark.sender == claim.sender
            && mark.posts.contains(&claim.post)
            && !claim.dedupe.is_empty()
            && claim.dedupe.iter().all(|key| mark.dedupe.contains(key))
    })
}

/// The answers that the request tells of, as the platform calls them.
pub(crate) fn told_answers(table: &StatusTable, document: &Document<'_>) -> BTreeSet<String> {
    let places = document.places([&table.platform_id].into_iter());
    places.iter().filter_map(|indices| document.text(&table.platform_id, indices)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn key(parts: &[&str]) -> Key {
        parts.iter().map(ToString::to_string).collect()
    }

    fn document(body: &Value) -> Document<'_> {
        Document { json: Some(body), form: &[], headers: &[], session: None }
    }

    #[test]
    fn a_change_must_be_one_that_the_request_tells_of() {
        let table: ChangeTable = toml::from_str(
            r#"
            dedupe = [["/event_id"]]
            post = [["/team", "/event/message/ts"]]
            sender = "/event/message/user"
            "#,
        )
        .unwrap();
        let body =
            json!({"team":"T1","event_id":"E9","event":{"ts":"9.9","message":{"user":"U1","ts":"1.2"}}});
        let marks = marks(&table, &document(&body));
        let honest =
            ChangeClaim { dedupe: vec![key(&["E9"])], post: key(&["T1", "1.2"]), sender: "U1".into() };
        assert_eq!(confirm(&marks, &honest).unwrap().dedupe, [key(&["E9"])]);
        for lie in [
            ChangeClaim { dedupe: vec![key(&["E8"])], ..honest.clone() },
            ChangeClaim { dedupe: Vec::new(), ..honest.clone() },
            ChangeClaim { post: key(&["T1", "9.9"]), ..honest.clone() },
            ChangeClaim { sender: "U2".into(), ..honest.clone() },
        ] {
            assert_eq!(confirm(&marks, &lie), None, "{lie:?}");
        }
        assert_eq!(super::marks(&table, &document(&json!({"team":"T1","event_id":"E9"}))), []);
    }

    #[test]
    fn a_batch_tells_of_several_answers_and_of_no_others() {
        let table = StatusTable { platform_id: "/entry/*/statuses/*/id".to_owned() };
        let body =
            json!({"entry":[{"statuses":[{"id":"a"},{"id":"b"}]},{"statuses":[{"id":7}]},{"messages":[]}]});
        let told: Vec<String> = told_answers(&table, &document(&body)).into_iter().collect();
        assert_eq!(told, ["7", "a", "b"]);
    }
}
