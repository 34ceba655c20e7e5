//! The decision record: why a turn went the way it went. Holds nothing that people said, unless a router says it
//! in its reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AgentId, Blame, ChannelId, Money, PluginId, TierId, Tokens, Usage};

/// What chose the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutedBy {
    /// The router component.
    Router {
        /// Its name.
        plugin: PluginId,
        /// Its version, as people write it.
        version: String,
        /// Short digest of component, manifest and configuration.
        digest: String,
    },
    /// The policy's default: no router, no match, or the router failed.
    Policy,
    /// Another agent handed over.
    HandOver {
        /// The agent that did.
        from: AgentId,
    },
}

/// An agent that a router thought of as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Which.
    pub agent: AgentId,
    /// 0.0 to 1.0.
    pub score: f32,
}

/// Which agent got a message, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The channel account it came through.
    pub channel: ChannelId,
    /// The chosen agent.
    pub agent: AgentId,
    /// What chose it.
    pub by: RoutedBy,
    /// 0.0 to 1.0.
    pub score: f32,
    /// Who else might have got it, as the router says, the likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// For a person who asks why.
    pub reason: String,
    /// What the router wanted and could not have, or how it failed.
    pub overruled: Option<String>,
    /// Microseconds that routing took.
    pub micros: u64,
}

/// What the cache said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheVerdict {
    /// The answer came from the cache: exactly this was asked before.
    Hit,
    /// The answer came from the cache: the same was asked before in another form.
    Canonical,
    /// The answer came from the cache: something like it was asked before, and the bound holds.
    Similar,
    /// It was asked and had none.
    Miss,
    /// The same was being asked already: the answer is the one that others heard, too.
    Joined,
    /// It was not asked: switched off, or the agent is confidential.
    Off,
}

impl CacheVerdict {
    /// Whether a model was asked for this answer, and not for somebody else's.
    pub const fn is_asked(self) -> bool {
        matches!(self, Self::Miss | Self::Off)
    }

    /// As it is written in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Canonical => "canonical",
            Self::Similar => "similar",
            Self::Miss => "miss",
            Self::Joined => "joined",
            Self::Off => "off",
        }
    }
}

/// What the cache tells of a call beside its verdict. Holds nothing of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheNote {
    /// The kept answer that was served, or was the nearest: the short id by which it is evicted.
    pub entry: String,
    /// How alike the two questions look, in thousandths; absent where they are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likeness: Option<u16>,
    /// A code: `exact`, `canonical`, `similar`; of one that was not served `compared`, `same_answer`, `other_answer`, or
    /// what makes another question of it (`number`, `negation` …).
    pub why: String,
}

/// One try at one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// `provider/model`.
    pub model: String,
    /// `ok`, or the error's class.
    pub class: String,
    /// Whose fault, if it failed.
    pub blame: Option<Blame>,
    /// Milliseconds from request to end.
    pub millis: u64,
    /// Milliseconds to the first token.
    pub first_token_millis: Option<u64>,
}

/// One model call of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The tier that was asked.
    pub tier: TierId,
    /// The one that was wanted, where a budget or how long people wait had another in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<TierId>,
    /// Why it was this tier: `fixed`, `wish`, `calibrated 0.830 ≥ 0.710`, `budget`, `sla`. Nothing of what was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// `provider/model` that answered; absent if none did.
    pub model: Option<String>,
    /// The price that was charged: whence it is and its date, if it has one, and a digest; absent if nobody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// The cache's word.
    pub cache: CacheVerdict,
    /// Which kept answer that is about, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<CacheNote>,
    /// What the kept answer had cost when it was made, if one was served.
    #[serde(default)]
    pub saved: Money,
    /// Every try in order.
    pub attempts: Vec<Attempt>,
    /// Tokens.
    pub usage: Usage,
    /// What was set aside.
    pub reserved: Money,
    /// What it cost.
    pub cost: Money,
    /// Of that, what tries that failed may be billed, by `provider/model`: at most so much.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<String, Money>,
    /// The tokens that are charged: those counted, and the bounds of tries whose count nobody knows.
    #[serde(default)]
    pub charged: Tokens,
    /// Milliseconds, all tries together.
    pub millis: u64,
}

impl ModelCall {
    /// The record before anything happened.
    pub const fn new(tier: TierId) -> Self {
        Self {
            tier,
            asked: None,
            why: None,
            model: None,
            price: None,
            cache: CacheVerdict::Off,
            kept: None,
            saved: Money::ZERO,
            attempts: Vec::new(),
            usage: Usage::NONE,
            reserved: Money::ZERO,
            cost: Money::ZERO,
            lost: BTreeMap::new(),
            charged: Tokens(0),
            millis: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_or_shared_asked_nobody() {
        use CacheVerdict::{Canonical, Hit, Joined, Miss, Off, Similar};
        for (verdict, is_asked) in
            [(Hit, false), (Canonical, false), (Similar, false), (Joined, false), (Miss, true), (Off, true)]
        {
            assert_eq!(verdict.is_asked(), is_asked, "{verdict:?}");
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.as_str());
        }
    }

    #[test]
    fn a_record_of_before_is_read() {
        let kept = r#"{"tier":"fast","model":"p/m","cache":"hit","attempts":[],
            "usage":{"input":0,"cached":0,"output":0},"reserved":0,"cost":0,"millis":0}"#;
        let call: ModelCall = serde_json::from_str(kept).unwrap();
        assert_eq!((call.cache, call.kept, call.saved), (CacheVerdict::Hit, None, Money::ZERO));
    }
}
