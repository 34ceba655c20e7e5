//! An answer that broke off after some of it was shown, and another model that goes on with it.
//!
//! Only where the tier says so, once for each call, and only for plain text: half a tool call or half a JSON document is
//! nothing that another model could end. The text so far is told as the beginning of the model's own answer where the
//! wire format goes on with one (Anthropic), and elsewhere as an answer with a word of the host's after it.

use std::sync::Arc;

use chela_types::Tokens;

use crate::config::AfterCut;
use crate::plan::{Link, Plan};
use crate::{Call, Form, Prompt, Rate, Role};

/// What the model is told after an answer that it did not begin itself.
const GO_ON: &str = "Your answer was cut off. Go on exactly where it ends: repeat nothing of it, and say nothing about \
                     the interruption.";
/// So many bytes of text for each output token may be gone on with: about what English needs. They are reserved as
/// input of every model after the first.
const BYTES_PER_TOKEN: u64 = 4;
/// Besides: the word of the host's, and two messages more.
const OVERHEAD: u64 = 256;

/// Whether an answer to this call may be gone on with.
fn may(plan: &Plan, call: &Call) -> bool {
    plan.failover.after_cut == AfterCut::Continue && call.form == Form::Text && call.tools.is_empty()
}

/// The most input tokens that a model needs more to go on with another's answer.
pub(crate) fn input(plan: &Plan, call: &Call) -> Tokens {
    if !may(plan, call) {
        return Tokens(0);
    }
    Tokens(plan.output(call.max_output).0.saturating_mul(BYTES_PER_TOKEN).saturating_add(OVERHEAD))
}

/// The call that asks this model to go on, and what it charges; nothing if that is not within what was reserved.
pub(crate) fn call(plan: &Plan, link: &Link, (call, said): (&Call, &str)) -> Option<(Arc<Call>, Rate)> {
    let said = said.trim_end();
    if said.is_empty() || !may(plan, call) {
        return None;
    }
    let mut more = call.clone();
    more.prompts.push(Prompt::text(Role::Assistant, said));
    if !link.prefills {
        more.prompts.push(Prompt::text(Role::User, GO_ON));
    }
    let reserved = plan.rate(link, call);
    let rate = Rate { input: more.input_bound_with(link.image), ..reserved };
    (rate.input <= reserved.input.plus(input(plan, call))).then(|| (Arc::new(more), rate))
}

#[cfg(test)]
#[path = "continuation_tests.rs"]
mod tests;
