//! What a client asks, whichever format it wrote.

use chela_gateway::{CachePolicy, Call, Effort, Form, Prompt, Purse, Role, Tool, ToolChoice};
use chela_types::{AgentId, IdError, TenantId, TierId, Tokens};

use super::client::Client;
use super::fields::{Fields, What, Wrong};

/// Messages of one request.
const MESSAGES_MAX: usize = 2_048;
/// Longest name of a person in a request, in bytes.
const USER_BYTES_MAX: usize = 256;

/// A request of either format.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// A tier's name, an agent's, or `agent:NAME`.
    pub(super) model: String,
    /// The system prompt.
    pub(super) system: Option<String>,
    /// What was said, in order.
    pub(super) prompts: Vec<Prompt>,
    /// Most output tokens.
    pub(super) max_output: Option<u64>,
    /// Sampling temperature.
    pub(super) temperature: Option<f32>,
    /// Share of likely tokens.
    pub(super) top_p: Option<f32>,
    /// Texts at which the answer ends.
    pub(super) stop: Vec<String>,
    /// What the model may call.
    pub(super) tools: Vec<Tool>,
    /// Which of these.
    pub(super) tool_choice: ToolChoice,
    /// Several in one answer.
    pub(super) parallel_tool_calls: Option<bool>,
    /// The form of the text.
    pub(super) form: Form,
    /// A wish for the same answer each time.
    pub(super) seed: Option<i64>,
    /// A wish for more or less thought.
    pub(super) effort: Option<Effort>,
    /// The person, by the client's name for him.
    pub(super) user: Option<String>,
    /// The conversation with an agent, by the client's name for it.
    pub(super) conversation: Option<String>,
    /// No kept answer will do, and this one is not kept.
    pub(super) is_fresh: bool,
    /// As it comes.
    pub(super) stream: bool,
    /// A stream tells at its end what was used.
    pub(super) include_usage: bool,
}

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Model {
    /// A chain of models.
    Tier(TierId),
    /// An agent, with all that a message meets.
    Agent(AgentId),
}

impl Model {
    /// As a client names it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Tier(tier) => tier.to_string(),
            Self::Agent(agent) => format!("agent:{agent}"),
        }
    }
}

impl Client {
    /// What this client may ask, tiers first.
    pub(super) fn models(&self) -> impl Iterator<Item = Model> {
        let tiers = self.tiers.iter().cloned().map(Model::Tier);
        tiers.chain(self.agents.iter().cloned().map(Model::Agent))
    }

    /// The model of this name, if this client may ask it. A tier goes before an agent that is called the same.
    pub(super) fn model(&self, name: &str) -> Option<Model> {
        let is_short = |model: &Model| matches!(model, Model::Agent(agent) if agent.as_str() == name);
        self.models().find(|model| model.name() == name).or_else(|| self.models().find(is_short))
    }

    /// The gateway's call for what is asked of a tier.
    pub(super) fn call(&self, tenant: &TenantId, tier: TierId, asked: Asked) -> Result<Call, IdError> {
        // A name that no agent's version has: whose answer is kept for whom is decided by it, too.
        let version = format!("api key of {}", self.department.as_ref().map_or("nobody", |id| id.as_str()));
        let agent = AgentId::new(format!("chela-key-{}", self.name))?;
        let user = self.person(asked.user.as_deref());
        Ok(Call {
            agent_version: version,
            department: self.department.clone(),
            system: asked.system,
            max_output: asked.max_output.map(Tokens),
            temperature: asked.temperature,
            top_p: asked.top_p,
            stop: asked.stop,
            tools: asked.tools,
            tool_choice: asked.tool_choice,
            parallel_tool_calls: asked.parallel_tool_calls,
            form: asked.form,
            seed: asked.seed,
            effort: asked.effort,
            cache: if self.cache && !asked.is_fresh { CachePolicy::exact("") } else { CachePolicy::Off },
            purse: Purse::Key(self.name.clone()),
            ..Call::new(tenant.clone(), agent, user, tier, asked.prompts)
        })
    }
}

/// The messages of a request, each to be read field by field.
pub(super) fn messages<'a>(
    fields: &mut Fields<'a>,
) -> Result<impl Iterator<Item = Result<Fields<'a>, Wrong>> + use<'a>, Wrong> {
    let messages = fields.list("messages")?.ok_or_else(|| Wrong::new("messages", What::Missing))?;
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        return Err(Wrong::value("messages", format!("it has 1 to {MESSAGES_MAX} items")));
    }
    let of = |(index, message)| Fields::of(format!("messages.{index}"), message);
    Ok(messages.iter().enumerate().map(of))
}

/// The person whom a request names at this place.
pub(super) fn person(at: impl Into<String>, named: Option<&str>) -> Result<Option<String>, Wrong> {
    match named {
        Some(user) if !is_person(user) => {
            let why = format!("it has 1 to {USER_BYTES_MAX} bytes and no control characters");
            Err(Wrong::value(at, why))
        }
        user => Ok(user.map(str::to_owned)),
    }
}

fn is_person(user: &str) -> bool {
    !user.is_empty() && user.len() <= USER_BYTES_MAX && !user.contains(char::is_control)
}

impl Asked {
    /// What is said to an agent: the last message, which is the person's, in words. The host keeps what was said before.
    ///
    /// # Errors
    /// What an agent cannot be asked: it has tools and a form of its own.
    pub(super) fn said(&self) -> Result<String, Wrong> {
        if !self.tools.is_empty() {
            return Err(Wrong::new("tools", What::Unsupported));
        }
        if self.form != Form::Text {
            return Err(Wrong::new("response_format", What::Unsupported));
        }
        let last = self.prompts.last().filter(|prompt| prompt.role == Role::User);
        let last = last.ok_or_else(|| Wrong::value("messages", "the last one is the person's"))?;
        let words: Vec<&str> = last.texts().collect();
        if words.len() != last.parts.len() {
            return Err(Wrong::value("messages", "an agent reads text alone"));
        }
        let said = words.join("\n");
        match said.trim() {
            "" => Err(Wrong::value("messages", "the last one says nothing")),
            _ => Ok(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::{Clients, tests::config};
    use super::*;
    use axum::http::{HeaderMap, HeaderValue};
    use chela_gateway::{Image, Part};
    use std::sync::Arc;

    fn client(keys: &str) -> Arc<Client> {
        let clients = Clients::new(&config(keys));
        let key = HeaderValue::from_static("the-rather-long-key-of-the-client-ANN");
        clients.whose(&HeaderMap::from_iter([("x-api-key".parse().unwrap(), key)])).unwrap()
    }

    #[test]
    fn a_key_opens_what_it_names_and_nothing_else() {
        let of_both = "[api_key.ann]\nkey = \"env:ANN\"\nagents = [\"x\"]\ntiers = [\"fast\"]\n";
        let names = |keys: &str| client(keys).models().map(|model| model.name()).collect::<Vec<_>>();
        assert_eq!(names(of_both), ["fast", "agent:x"]);
        assert_eq!(names("[api_key.ann]\nkey = \"env:ANN\"\n"), [""; 0]);
        let both = client(of_both);
        let model = |name: &str| both.model(name).map(|model| model.name());
        assert_eq!(model("fast").as_deref(), Some("fast"));
        assert_eq!(model("x").as_deref(), Some("agent:x"));
        assert_eq!(model("agent:x").as_deref(), Some("agent:x"));
        for none in ["agent:fast", "slow", "", "agent:", "FAST"] {
            assert_eq!(model(none), None, "{none}");
        }
    }

    #[test]
    fn a_call_of_a_key_is_the_keys_alone() {
        let of = |department: &str| {
            let keys =
                format!("[department.d]\n[api_key.ann]\nkey = \"env:ANN\"\ntiers = [\"fast\"]\n{department}");
            let tier = TierId::new("fast").unwrap();
            client(&keys).call(&TenantId::default_tenant(), tier, Asked::default()).unwrap()
        };
        let (of_none, of_one) = (of(""), of("department = \"d\"\n"));
        assert_eq!((of_none.agent.as_str(), &of_none.purse), ("chela-key-ann", &Purse::Key("ann".into())));
        assert_ne!(of_none.agent_version, of_one.agent_version, "what is kept for one is not the other's");
        assert_eq!(of_one.department.map(|id| id.to_string()).as_deref(), Some("d"));
    }

    #[test]
    fn a_kept_answer_is_for_who_wants_one() {
        let cache = |more: &str, is_fresh| {
            let keys = format!("[api_key.ann]\nkey = \"env:ANN\"\ntiers = [\"fast\"]\n{more}");
            let (asked, tier) = (Asked { is_fresh, ..Asked::default() }, TierId::new("fast").unwrap());
            client(&keys).call(&TenantId::default_tenant(), tier, asked).unwrap().cache
        };
        assert_eq!(cache("", false), CachePolicy::exact(""));
        assert_eq!(cache("", true), CachePolicy::Off);
        assert_eq!(cache("cache = false\n", false), CachePolicy::Off);
    }

    #[test]
    fn a_request_calls_a_person_by_a_name_within_bounds() {
        assert_eq!(person("user", None), Ok(None));
        assert_eq!(person("user", Some("ann@example.org")), Ok(Some("ann@example.org".to_owned())));
        for bad in ["", "a\nb", &"x".repeat(USER_BYTES_MAX + 1)] {
            assert_eq!(person("user", Some(bad)).unwrap_err().at, "user");
        }
    }

    #[test]
    fn an_agent_is_told_the_last_message_in_words() {
        let text = |role, text: &str| Prompt::text(role, text);
        let asked = |prompts| Asked { prompts, ..Asked::default() };
        let last =
            asked(vec![text(Role::User, "one"), text(Role::Assistant, "two"), text(Role::User, "three")]);
        assert_eq!(last.said().unwrap(), "three");
        let image = Part::Image(Image::from_address("https://a.example/b.png").unwrap());
        for bad in [
            asked(vec![]),
            asked(vec![text(Role::Assistant, "two")]),
            asked(vec![text(Role::User, " \n")]),
            asked(vec![Prompt { role: Role::User, parts: vec![image] }]),
            Asked { form: Form::JsonObject, ..last.clone() },
        ] {
            assert!(bad.said().is_err(), "{bad:?}");
        }
    }
}
