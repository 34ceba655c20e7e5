//! The kill test's parts: a load that is acknowledged message by message, and a checker of what came of it.
//!
//! The checker reads the sender's, the platforms' and the provider's logs, and of the host's own database only
//! what the host claims: its ledger, and how many sends it counts as ambiguous. It is a function over plain data,
//! so that tests show each of its verdicts going red.

mod check;
mod load;
mod rest;

pub use check::{Books, Evidence, Seen, Sent, Verdict, check};
pub use load::{Conversations, Load, configuration, growing};
pub use rest::rest;

/// A message: which conversation, which number in it, and how many words its answer must repeat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Such as `s12` (Slack), `g7` (Slack with answers that grow) or `w3` (webhook).
    pub conversation: String,
    /// Counts up from 0.
    pub number: u32,
}

impl Name {
    /// A word of the message's text: `#s12-7.03`. Everything that the platform sees again can be told by it.
    pub fn word(&self, index: u32) -> String {
        format!("#{}-{}.{index:02}", self.conversation, self.number)
    }

    /// The name and the index in a word.
    pub fn read(word: &str) -> Option<(Self, u32)> {
        let (name, index) = word.strip_prefix('#')?.split_once('.')?;
        let (conversation, number) = name.split_once('-')?;
        let digits: String = index.chars().take_while(char::is_ascii_digit).collect();
        let name = Self { conversation: conversation.to_owned(), number: number.parse().ok()? };
        Some((name, digits.parse().ok()?))
    }
}
