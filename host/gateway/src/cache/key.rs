//! What a call is kept by. Everything that shapes an answer is in the key, tenant and agent first, so that no answer can
//! cross from one to another; and who may see what is shaped by nothing else.

use chela_lexical::{Canonical, Language, canonical};
use chela_types::Digest;

use crate::{CacheLevel, CachePolicy, Call, Form, Part, Prompt, Role};

/// A call as the cache sees it.
#[derive(Debug)]
pub(super) struct Asked {
    /// What its answer is kept under, and what is under way is joined by.
    pub(super) key: Digest,
    /// A digest over each byte that was asked.
    pub(super) exact: Digest,
    pub(super) parts: Parts,
    /// Present where the call may be answered by what was asked in another form.
    pub(super) question: Option<Question>,
    pub(super) level: CacheLevel,
}

/// Digests of what shapes an answer beside the question. Two calls with the same partition ask the same agent, in the
/// same version, with the same documents, instructions and parameters, for the same tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) partition: Digest,
    pub(super) version: Digest,
    pub(super) knowledge: Digest,
    pub(super) system: Digest,
    pub(super) parameters: Digest,
}

/// The only thing that was said, as text and in its one form.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) form: Canonical,
}

impl Asked {
    /// Absent if the call may not use the cache.
    pub(super) fn of(call: &Call, language: Language) -> Option<Self> {
        let CachePolicy::On { level, knowledge_version, .. } = &call.cache else { return None };
        if call.prompts.iter().flat_map(|prompt| &prompt.parts).any(is_elsewhere) {
            return None;
        }
        let parts = Parts::of(call, knowledge_version)?;
        let exact = exact(&parts, &call.prompts)?;
        // Reading a question takes longer than all else here: only for who may have what another form of it brought.
        let is_read = *level >= CacheLevel::Canonical;
        let question = is_read.then(|| question(call, language)).flatten();
        let key = question.as_ref().map_or(exact, |question| formed(&question.form, &parts, language));
        Some(Self { key, exact, parts, question, level: *level })
    }
}

impl Parts {
    fn of(call: &Call, knowledge_version: &str) -> Option<Self> {
        let tools = serde_json::to_vec(&(&call.tools, &call.tool_choice, call.parallel_tool_calls)).ok()?;
        let (temperature, top_p) = (call.temperature.map(f32::to_bits), call.top_p.map(f32::to_bits));
        let how = (call.max_output, temperature, top_p, &call.stop, &call.form, call.seed, call.effort);
        let how = serde_json::to_vec(&how).ok()?;
        let system = serde_json::to_vec(&call.system).ok()?;
        let digest = |name: &str, bytes: &[&[u8]]| {
            Digest::of("chela gateway cache part v1", &[&[name.as_bytes()], bytes].concat())
        };
        let version = digest("version", &[call.agent_version.as_bytes()]);
        let knowledge = digest("knowledge", &[knowledge_version.as_bytes()]);
        let system = digest("system", &[&system]);
        let parameters = digest("parameters", &[call.tier.as_str().as_bytes(), &tools, &how]);
        let whole = [
            call.tenant.as_str().as_bytes(),
            call.agent.as_str().as_bytes(),
            version.as_bytes().as_slice(),
            knowledge.as_bytes().as_slice(),
            system.as_bytes().as_slice(),
            parameters.as_bytes().as_slice(),
        ];
        let partition = Digest::of("chela gateway cache partition v1", &whole);
        Some(Self { partition, version, knowledge, system, parameters })
    }
}

fn formed(form: &Canonical, parts: &Parts, language: Language) -> Digest {
    let partition = parts.partition.as_bytes().as_slice();
    let words = [partition, language_tag(language).as_bytes(), form.as_str().as_bytes()];
    Digest::of("chela gateway canonical answer cache v1", &words)
}

/// Longer texts are no questions that others ask in other words, and to read and compare them takes too long.
const QUESTION_BYTES_MAX: usize = 1_024;

/// The question of a call that is one text of a person and nothing else: no conversation, no tools, no form.
fn question(call: &Call, language: Language) -> Option<Question> {
    let [prompt] = call.prompts.as_slice() else { return None };
    let [Part::Text(text)] = prompt.parts.as_slice() else { return None };
    let is_plain = prompt.role == Role::User && call.tools.is_empty() && call.form == Form::Text;
    let form = is_plain.then(|| form(text, language)).flatten()?;
    Some(Question { text: text.clone(), form })
}

/// The one form of a question, unless it is too long for one.
pub(super) fn form(text: &str, language: Language) -> Option<Canonical> {
    if text.len() > QUESTION_BYTES_MAX { None } else { canonical(text, language) }
}

/// A digest over each byte of a conversation.
fn exact(parts: &Parts, prompts: &[Prompt]) -> Option<Digest> {
    let said = serde_json::to_vec(prompts).ok()?;
    Some(Digest::of("chela gateway answer cache v3", &[parts.partition.as_bytes(), &said]))
}

/// The exact key of a question that is asked alone.
pub(super) fn exactly(text: &str, parts: &Parts) -> Option<Digest> {
    exact(parts, &[Prompt::text(Role::User, text)])
}

/// The keys that a question could have if it were asked alone, the rest being as in `parts`. Its form is given, because to
/// read it takes longer than all else.
pub(super) fn alone(
    (text, form): (&str, Option<&Canonical>),
    parts: &Parts,
    language: Language,
) -> Vec<Digest> {
    let canonical = form.map(|form| formed(form, parts, language));
    exactly(text, parts).into_iter().chain(canonical).collect()
}

/// A name that another order of languages would not change.
pub(super) const fn language_tag(language: Language) -> &'static str {
    match language {
        Language::English => "en",
        Language::German => "de",
        Language::Other => "other",
    }
}

/// Whether it is an image that this host has not seen.
fn is_elsewhere(part: &Part) -> bool {
    matches!(part, Part::Image(image) if image.bytes().is_none())
}
