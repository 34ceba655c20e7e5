//! The tool calls of an answer, put together from their fragments.
//!
//! What is told downwards has been checked here: a call that begins is the next one and of a tool that was offered,
//! what continues one continues one that has begun.

use std::sync::Arc;

use crate::attempt::TEXT_BYTES_MAX;
use crate::check::is_object;
use crate::provider::Trouble;
use crate::tool::NAME_BYTES_MAX;
use crate::{Call, ToolCall, ToolChoice, ToolDelta, ToolHead};

/// Tool calls of one answer.
const CALLS_MAX: usize = 128;
/// Longest id of a call; the vendors' have less than 64.
const ID_BYTES_MAX: usize = 256;

/// The calls so far.
pub(crate) struct Calls {
    asked: Arc<Call>,
    made: Vec<ToolCall>,
    /// Of all arguments together.
    bytes: usize,
}

impl Calls {
    pub(crate) fn new(asked: Arc<Call>) -> Self {
        Self { asked, made: Vec::new(), bytes: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Takes a fragment.
    pub(crate) fn take(&mut self, delta: &ToolDelta) -> Result<(), Trouble> {
        if let Some(head) = &delta.head {
            self.begin(delta.index, head)?;
        }
        self.bytes = self.bytes.saturating_add(delta.arguments.len());
        if self.bytes > TEXT_BYTES_MAX {
            return Err(Trouble::bad("its tool calls are longer than any may be"));
        }
        let call = self.made.get_mut(delta.index);
        let call = call.ok_or(Trouble::bad("a tool call goes on that has not begun"))?;
        call.arguments.push_str(&delta.arguments);
        Ok(())
    }

    fn begin(&mut self, index: usize, head: &ToolHead) -> Result<(), Trouble> {
        if index != self.made.len() {
            return Err(Trouble::bad("a tool call begins out of order"));
        }
        if index >= CALLS_MAX {
            return Err(Trouble::bad("it calls more tools than any answer may"));
        }
        if head.name.len() > NAME_BYTES_MAX || head.id.is_empty() || head.id.len() > ID_BYTES_MAX {
            return Err(Trouble::bad("a tool call's name or id is none"));
        }
        if !self.is_offered(&head.name) {
            return Err(Trouble::bad("it calls a tool that was not offered"));
        }
        if self.made.iter().any(|call| call.id == head.id) {
            return Err(Trouble::bad("two of its tool calls have one id"));
        }
        self.made.push(ToolCall { id: head.id.clone(), name: head.name.clone(), arguments: String::new() });
        Ok(())
    }

    fn is_offered(&self, name: &str) -> bool {
        let offered = self.asked.tool_choice != ToolChoice::None;
        offered && self.asked.tools.iter().any(|tool| tool.name == name)
    }

    /// What is still to be told when the answer ends by itself: a call without arguments has an empty object.
    pub(crate) fn close(&mut self) -> Vec<ToolDelta> {
        let bare = self.made.iter_mut().enumerate().filter(|(_, call)| call.arguments.trim().is_empty());
        bare.map(|(index, call)| {
            "{}".clone_into(&mut call.arguments);
            ToolDelta { index, head: None, arguments: "{}".to_owned() }
        })
        .collect()
    }

    /// Whether each has a whole JSON object for its arguments. What lost, repeated or swapped a fragment has none.
    pub(crate) fn are_whole(&self) -> bool {
        self.made.iter().all(|call| is_object(&call.arguments))
    }

    pub(crate) fn into_made(self) -> Vec<ToolCall> {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::tests::{call, tool};

    fn head(index: usize, id: &str, name: &str) -> ToolDelta {
        let head = ToolHead { id: id.into(), name: name.into() };
        ToolDelta { index, head: Some(head), arguments: String::new() }
    }

    fn more(index: usize, arguments: &str) -> ToolDelta {
        ToolDelta { index, head: None, arguments: arguments.into() }
    }

    fn offered(tool_choice: ToolChoice) -> Calls {
        let tools = vec![tool("look"), tool("take")];
        Calls::new(Arc::new(Call { tools, tool_choice, ..call("hello") }))
    }

    #[test]
    fn calls_are_put_together_or_refused() {
        let long = "i".repeat(ID_BYTES_MAX + 1);
        for (deltas, is_good) in [
            (vec![head(0, "a", "look"), more(0, "{\"x\""), more(0, ":1}")], true),
            (vec![head(0, "a", "look"), head(1, "b", "look"), more(0, "{}"), more(1, "{}")], true),
            (vec![more(0, "{}")], false),
            (vec![head(1, "a", "look")], false),
            (vec![head(0, "a", "look"), head(0, "b", "take")], false),
            (vec![head(0, "a", "look"), head(2, "b", "take")], false),
            (vec![head(0, "a", "look"), more(1, "{}")], false),
            (vec![head(0, "a", "look"), head(1, "a", "take")], false),
            (vec![head(0, "a", "drop")], false),
            (vec![head(0, "", "look")], false),
            (vec![head(0, &long, "look")], false),
            (vec![head(usize::MAX, "a", "look")], false),
        ] {
            let mut calls = offered(ToolChoice::Auto);
            assert_eq!(deltas.iter().try_for_each(|delta| calls.take(delta)).is_ok(), is_good, "{deltas:?}");
        }
        assert!(offered(ToolChoice::None).take(&head(0, "a", "look")).is_err());
    }

    #[test]
    fn the_number_of_calls_and_their_bytes_have_limits() {
        let mut calls = offered(ToolChoice::Auto);
        for number in 0..CALLS_MAX {
            calls.take(&head(number, &number.to_string(), "look")).unwrap();
        }
        assert!(calls.take(&head(CALLS_MAX, "x", "look")).is_err());
        let mut calls = offered(ToolChoice::Auto);
        calls.take(&head(0, "a", "look")).unwrap();
        calls.take(&head(1, "b", "look")).unwrap();
        calls.take(&more(0, &"x".repeat(TEXT_BYTES_MAX))).unwrap();
        assert!(calls.take(&more(1, "x")).is_err());
    }

    #[test]
    fn a_call_without_arguments_has_an_empty_object() {
        let mut calls = offered(ToolChoice::Auto);
        calls.take(&head(0, "a", "look")).unwrap();
        calls.take(&head(1, "b", "take")).unwrap();
        calls.take(&more(1, "{\"x\":1}")).unwrap();
        assert!(!calls.are_whole());
        assert_eq!(calls.close(), [more(0, "{}")]);
        assert!(calls.are_whole());
        for fragment in ["{\"x\":1}", "]", "{"] {
            calls.take(&more(1, fragment)).unwrap();
            assert!(!calls.are_whole());
        }
    }
}
