//! What lies outside of the host, and what it is told: two providers in one chain, and for each round a department of its
//! own, with a key, an agent and a budget that is worth 37.5 calls at their worst case.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chela_gateway::{Call, Prompt, Role};
use chela_server::standin::Fault;
use chela_server::standin::provider::{Billed, Provider, Settings};
use chela_types::{AgentId, Money, Price, Rates, SystemClock, TenantId, TierId, Tokens};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::outside::{MODEL, PROVIDER_KEY};

/// What an answer may have. The providers repeat up to forty words, so that some answers take all of it.
const OUTPUT: Tokens = Tokens(40);
/// Bytes of each question: all calls have the same worst case.
const QUESTION_BYTES: usize = 900;
/// Bytes of the instructions that a client gives: more than an agent has, so that a turn's worst case is no larger.
const INSTRUCTIONS_BYTES: usize = 600;
/// A budget is worth so many halves of a worst case.
const HALF_CALLS: i64 = 75;
/// Misbehaviours that are made ready for a round, at each provider.
const FAULTS: usize = 2_000;
/// The gateway waits so long for a first token; some are later.
const FIRST_TOKEN: Duration = Duration::from_secs(2);
/// What an agent says when a budget has no room.
pub(super) const REFUSAL: &str = "The budget is used up.";

/// Nearly all of a call's cost is its output, which is counted; what bytes overestimate hardly matters.
const fn price(output_dollars: i64) -> Price {
    let input = Money::from_nanos(100_000_000);
    let output = Money::from_nanos(output_dollars * 1_000_000_000);
    Price::flat(Rates { input, cached: input, written: input, output })
}

const QUICK: Price = price(40);
const STEADY: Price = price(20);

/// How many rounds there are.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    /// In which nobody kills.
    pub still: u32,
    /// In which the host is killed.
    pub killed: u32,
}

impl Rounds {
    /// Ten, and more if more kills are asked for.
    pub fn of(kills: u32) -> Self {
        Self { still: 5, killed: (kills / 5).max(5) }
    }

    /// All.
    pub fn all(self) -> u32 {
        self.still + self.killed
    }

    /// Whether the host is killed in this one: they alternate.
    pub fn is_killed(self, round: u32) -> bool {
        round % 2 == 1 || round >= self.still * 2
    }
}

/// The outside.
#[derive(Debug)]
pub(super) struct World {
    quick: Provider,
    steady: Provider,
}

impl World {
    /// Two providers that nobody has asked yet.
    pub(super) async fn begin() -> Self {
        let provider = async |price, (first_ms, between_ms)| {
            let settings = Settings {
                first_token: Duration::from_millis(first_ms),
                between: Duration::from_millis(between_ms),
                ..Settings::new(PROVIDER_KEY, price)
            };
            Provider::start(settings, Arc::new(SystemClock)).await.unwrap()
        };
        Self { quick: provider(QUICK, (30, 3)).await, steady: provider(STEADY, (120, 6)).await }
    }

    /// Makes both misbehave now and then: slow, too slow, out of order, gone after the work was done, gone in the middle.
    pub(super) fn misbehave(&self, random: &mut StdRng) {
        for (provider, is_first) in [(&self.quick, true), (&self.steady, false)] {
            for _ in 0..FAULTS {
                let millis = |range| Fault::Delay(Duration::from_millis(range));
                let fault = match random.random_range(0..100) {
                    0..8 => Fault::Status(503),
                    8..10 => Fault::Status(500),
                    10..15 => Fault::Drop,
                    15..20 => Fault::Cut,
                    20..40 => millis(random.random_range(50..400)),
                    40 if is_first => millis(2_500),
                    _ => millis(0),
                };
                provider.faults().inject(&fault, 1);
            }
        }
    }

    /// What both bill for a round's calls.
    pub(super) fn bill(&self, round: u32) -> Money {
        let start = format!("#r{round}-");
        let is_of = |billed: &Billed| billed.marker.as_ref().is_some_and(|marker| marker.starts_with(&start));
        let all = [&self.quick, &self.steady].map(|provider| provider.bills().all());
        all.iter().flatten().filter(|billed| is_of(billed)).map(|billed| billed.cost).sum()
    }

    /// What the program is told. Keys lie in `folder`.
    pub(super) fn configuration(&self, folder: &Path, rounds: Rounds) -> String {
        let (quick, steady) = (self.quick.base_url(), self.steady.base_url());
        let mut config = format!(
            r#"
[egress]
allow_loopback = true

[provider.quick]
kind = "openai"
url = "{quick}"
key = "env:PROVIDER_KEY"

[provider.quick.price."{MODEL}"]
input = "0.10"
output = "40"

[provider.steady]
kind = "openai"
url = "{steady}"
key = "env:PROVIDER_KEY"

[provider.steady.price."{MODEL}"]
input = "0.10"
output = "20"

[tier.fast]
chain = ["quick/{MODEL}", "steady/{MODEL}"]
max_output_tokens = {OUTPUT}
first_token_s = {}

[budget]
agent = "unlimited"
user = "unlimited"
global = "100000/month"
refusal = "{REFUSAL}"

[cache]
enabled = false

[plugin.assistant]
source = "builtin:assistant"
grants = ["models"]

[delivery]
crash_tries = 1000
unknown_tries = 100
backoff_max_s = 1
"#,
            FIRST_TOKEN.as_secs()
        );
        for round in 0..rounds.all() {
            std::fs::write(folder.join(format!("r{round}.key")), key(round)).unwrap();
            config.push_str(&department(round));
        }
        config
    }
}

/// One round's: who pays, who asks, and whom.
fn department(round: u32) -> String {
    let nanos = limit().nanos();
    let dollars = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    format!(
        r#"
[department.d{round}]
budget = "{dollars}/month"

[agent.a{round}]
plugin = "assistant"
department = "d{round}"
persona = "You repeat."
outsiders = true
tier = "fast"
concurrency = 1000
rate_per_minute = 1000000

[api_key.r{round}]
key = "file:r{round}.key"
department = "d{round}"
tiers = ["fast"]
agents = ["a{round}"]
budget = "unlimited"
concurrency = 1000
requests_per_minute = 1000000
"#
    )
}

/// What a client of a round shows.
pub(super) fn key(round: u32) -> String {
    format!("the-key-of-a-client-in-round-number-{round}")
}

/// The budget that a round uses up.
pub(super) fn scope(round: u32) -> String {
    format!("department:d{round}/month")
}

/// A question that is known again by its marker: so many words to be repeated, and always of the same length.
pub(super) fn question(marker: &str, words: usize) -> String {
    let text = format!("{marker}{} ", " and".repeat(words));
    let rest = QUESTION_BYTES - text.len();
    text + &"x".repeat(rest)
}

/// What a client tells a model beside the question.
pub(super) fn instructions() -> String {
    "y".repeat(INSTRUCTIONS_BYTES)
}

/// The most that one call can cost: each of the two may take all of it and say nothing.
pub(super) fn worst() -> Money {
    let prompt = Prompt::text(Role::User, question("#", 0));
    let (agent, tier) = (AgentId::new("a").unwrap(), TierId::new("fast").unwrap());
    let call = Call::new(TenantId::default_tenant(), agent, "u", tier, vec![prompt]);
    let call = Call { system: Some(instructions()), ..call };
    [QUICK, STEADY].iter().map(|price| price.worst_case(call.input_bound(), OUTPUT)).sum()
}

/// What a round may use.
pub(super) fn limit() -> Money {
    Money::from_nanos(worst().nanos() * HALF_CALLS / 2)
}
