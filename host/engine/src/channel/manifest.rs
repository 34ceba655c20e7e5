//! The channel tables of a `plugin.toml`: what the host does for an adapter, so that the adapter needs
//! neither secret nor socket. Strict: an unknown key is an error.

use chela_types::signature::{Recipe, SecretEncoding};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::words;

/// The tables.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tables {
    pub(crate) accept: Accept,
    pub(crate) verify: Verify,
    pub(crate) identity: IdentityTable,
    #[serde(default)]
    pub(crate) bind: Vec<Bind>,
    #[serde(default)]
    pub(crate) endpoint: BTreeMap<String, Endpoint>,
    pub(crate) progress: Option<ProgressTable>,
    pub(crate) own: Option<Own>,
}

/// What a request must look like before anything is run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accept {
    pub(crate) methods: Vec<String>,
    pub(crate) content_types: Vec<String>,
    pub(crate) body_bytes_max: usize,
}

/// How a request proves where it comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Verify {
    /// A keyed hash over the raw bytes.
    Hmac { secret: String, recipe: Recipe, timestamp: Timestamp },
    /// A web session that this host issued.
    Session,
}

/// Where the time of signing stands and how old it may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timestamp {
    pub(crate) header: String,
    pub(crate) tolerance_s: u32,
}

/// Where identity stands in a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityTable {
    pub(crate) dedupe: Vec<Vec<String>>,
    pub(crate) conversation: Vec<Vec<String>>,
    pub(crate) sender: String,
    pub(crate) place: Option<String>,
    #[serde(default)]
    pub(crate) outsider: Vec<Outsider>,
    pub(crate) edit: Option<ChangeTable>,
    pub(crate) deletion: Option<ChangeTable>,
    pub(crate) status: Option<StatusTable>,
}

/// Where a request says which message was changed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeTable {
    /// Keys of the event itself.
    pub(crate) dedupe: Vec<Vec<String>>,
    /// The message: the key under which it came, at any of these places.
    pub(crate) post: Vec<Vec<String>>,
    /// Who wrote the message.
    pub(crate) sender: String,
}

/// Where a request tells of an answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatusTable {
    /// The platform's id of it.
    pub(crate) platform_id: String,
}

/// A marker of somebody from outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outsider {
    pub(crate) at: String,
    pub(crate) equals: Option<toml::Value>,
    pub(crate) differs: Option<String>,
}

/// A value of the target: taken from the request, checked in every answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bind {
    pub(crate) name: String,
    #[serde(rename = "in")]
    pub(crate) sources: Vec<String>,
    #[serde(rename = "out")]
    pub(crate) pointer: String,
    #[serde(default)]
    pub(crate) optional: bool,
}

/// Where an adapter's requests may go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    #[serde(default)]
    pub(crate) kind: EndpointKind,
    #[serde(default = "post")]
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) url: String,
    pub(crate) credential: Option<CredentialTable>,
    pub(crate) sign: Option<SignTable>,
    #[serde(default)]
    pub(crate) headers: Vec<String>,
}

impl Endpoint {
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let credential = self.credential.as_ref().map(|it| it.bearer.as_str());
        let sign = self.sign.as_ref().map(|it| it.standard_webhooks.as_str());
        credential.into_iter().chain(sign)
    }
}

fn post() -> String {
    "POST".to_owned()
}

/// What an endpoint is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EndpointKind {
    /// A request over the network.
    #[default]
    Http,
    /// An event of the host's own web chat.
    Stream,
    /// The response to the platform's own request, while that waits.
    Response,
}

/// How an answer can be watched while it is made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgressTable {
    /// The endpoint that edits a post.
    pub(crate) endpoint: String,
    /// Where its requests name the post.
    pub(crate) id: String,
    /// Shortest time between two drafts of one answer, and before the first.
    pub(crate) interval_ms: u64,
    /// Drafts of the whole account in a minute.
    pub(crate) per_minute: NonZeroU32,
}

/// A credential, put in at the edge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialTable {
    pub(crate) bearer: String,
}

/// A signature, put in at the edge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignTable {
    pub(crate) standard_webhooks: String,
}

/// How the host learns under which ids the account itself posts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Own {
    pub(crate) endpoint: String,
    pub(crate) ids: Vec<String>,
}

impl Tables {
    /// Every place of a request that the host is to read, with the key that names it.
    fn sources(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let IdentityTable { dedupe, conversation, sender, place, outsider, edit, deletion, status } =
            &self.identity;
        let named = |key: &'static str| move |source| (key, source);
        (dedupe.iter().flatten().map(named("identity.dedupe")))
            .chain(conversation.iter().flatten().map(named("identity.conversation")))
            .chain([sender].into_iter().map(named("identity.sender")))
            .chain(place.iter().map(named("identity.place")))
            .chain(
                outsider
                    .iter()
                    .flat_map(|it| [Some(&it.at), it.differs.as_ref()])
                    .flatten()
                    .map(named("identity.outsider")),
            )
            .chain(edit.iter().flat_map(ChangeTable::sources).map(named("identity.edit")))
            .chain(deletion.iter().flat_map(ChangeTable::sources).map(named("identity.deletion")))
            .chain(status.iter().map(|table| &table.platform_id).map(named("identity.status")))
            .chain(self.bind.iter().flat_map(|bind| &bind.sources).map(named("bind.in")))
    }

    /// Names of all secrets that the host needs for this adapter.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let verify = match &self.verify {
            Verify::Hmac { secret, .. } => Some(secret.as_str()),
            Verify::Session => None,
        };
        verify.into_iter().chain(self.endpoint.values().flat_map(Endpoint::secrets))
    }

    /// Names of the secrets that are bytes written as text, and how.
    pub(crate) fn encoded_secrets(&self) -> impl Iterator<Item = (&str, SecretEncoding)> {
        let verify = match &self.verify {
            Verify::Hmac { secret, recipe, .. } => Some((secret.as_str(), recipe.secret_encoding)),
            Verify::Session => None,
        };
        let signs = self.endpoint.values().filter_map(|endpoint| endpoint.sign.as_ref());
        verify.into_iter().chain(signs.map(|sign| (sign.standard_webhooks.as_str(), SecretEncoding::Whsec)))
    }

    /// Reads the tables and checks what the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key of `plugin.toml`.
    pub(crate) fn read(table: toml::Table) -> Result<Self, String> {
        // It may repeat a key or a value, which a stranger wrote.
        Self::checked(table).map_err(|reason| words::reason(&reason))
    }

    fn checked(table: toml::Table) -> Result<Self, String> {
        let tables: Self = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        if tables.identity.dedupe.is_empty() || tables.identity.dedupe.iter().any(Vec::is_empty) {
            return Err("`identity.dedupe` names no key".to_owned());
        }
        if tables.identity.conversation.is_empty() || tables.identity.conversation.iter().any(Vec::is_empty) {
            return Err("`identity.conversation` names no key".to_owned());
        }
        if tables.identity.outsider.iter().any(|o| o.equals.is_some() == o.differs.is_some()) {
            return Err("each `identity.outsider` needs `equals` or `differs`".to_owned());
        }
        let changes = [("edit", &tables.identity.edit), ("deletion", &tables.identity.deletion)];
        for (name, table) in changes {
            if table.as_ref().is_some_and(ChangeTable::is_hollow) {
                return Err(format!("`identity.{name}` names no key in `dedupe` or in `post`"));
            }
        }
        tables.sources().try_for_each(|(key, source)| readable(key, source))?;
        tables.check_progress()?;
        if let Some(own) = &tables.own
            && !tables.endpoint.contains_key(&own.endpoint)
        {
            return Err(format!("`own.endpoint` names `{}`, which is no endpoint", own.endpoint));
        }
        for (name, endpoint) in &tables.endpoint {
            if endpoint.kind == EndpointKind::Http && endpoint.url.is_empty() {
                return Err(format!("`endpoint.{name}.url` is missing"));
            }
        }
        if tables.bind.is_empty()
            && tables.endpoint.keys().any(|name| tables.own.as_ref().is_none_or(|own| own.endpoint != *name))
        {
            return Err("`bind` is missing: an answer without a bound target could go anywhere".to_owned());
        }
        Ok(tables)
    }
}

impl ChangeTable {
    fn sources(&self) -> impl Iterator<Item = &String> {
        self.dedupe.iter().chain(&self.post).flatten().chain([&self.sender])
    }

    fn is_hollow(&self) -> bool {
        [&self.dedupe, &self.post].iter().any(|keys| keys.is_empty() || keys.iter().any(Vec::is_empty))
    }
}

/// Shortest interval between two drafts that a manifest may ask for.
const INTERVAL_MS_MIN: u64 = 100;

impl Tables {
    fn check_progress(&self) -> Result<(), String> {
        let Some(progress) = &self.progress else { return Ok(()) };
        let endpoint = self.endpoint.get(&progress.endpoint);
        if endpoint.is_none_or(|endpoint| endpoint.kind != EndpointKind::Http) {
            return Err(format!(
                "`progress.endpoint` names `{}`, which is no endpoint over the network",
                progress.endpoint
            ));
        }
        if !progress.id.starts_with('/') {
            return Err(format!(
                "`progress.id` is `{}`: it is a pointer into the request, as `/ts`",
                progress.id
            ));
        }
        if progress.interval_ms < INTERVAL_MS_MIN {
            return Err(format!("`progress.interval_ms` is at least {INTERVAL_MS_MIN}"));
        }
        Ok(())
    }
}

/// Whether the host can read there at all: a source that is never found would refuse every request.
fn readable(key: &str, source: &str) -> Result<(), String> {
    let is_field = |field: &str| {
        let (name, pointer) = field.split_at(field.find('/').unwrap_or(field.len()));
        !name.is_empty() && !pointer.split('/').any(|step| step == "*")
    };
    let is_read = source.starts_with('/')
        || source.starts_with("header:")
        || source == "session:id"
        || source.strip_prefix("form:").is_some_and(is_field);
    if is_read {
        return Ok(());
    }
    Err(format!(
        "`{key}` names `{source}`, and nothing is read there: a source is `/a/pointer`, `header:NAME`, `session:id`, \
         or `form:FIELD`, with a pointer without `*` behind it if the field holds JSON"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sender: &str, bound: &str) -> Result<Tables, String> {
        let text = format!(
            "accept = {{ methods = [\"POST\"], content_types = [\"application/json\"], body_bytes_max = 1024 }}
            verify = {{ kind = \"session\" }}
            identity = {{ dedupe = [[\"/id\"]], conversation = [[\"session:id\"]], sender = \"{sender}\" }}
            bind = [{{ name = \"to\", in = [\"{bound}\"], out = \"/to\" }}]"
        );
        Tables::read(text.parse().unwrap())
    }

    #[test]
    fn a_source_that_is_never_read_is_refused() {
        assert!(read("/user", "header:x-room").is_ok());
        assert!(read("form:user_id", "form:payload/channel/id").is_ok());
        for source in ["form:", "form:/channel", "form:payload/*/id", "body"] {
            let error = read(source, "/room").unwrap_err();
            assert!(error.contains(&format!("`identity.sender` names `{source}`, and nothing")), "{error}");
        }
        let error = read("/user", "room").unwrap_err();
        assert!(error.contains("`bind.in` names `room`"), "{error}");
    }

    #[test]
    fn an_error_is_short_and_controls_no_terminal() {
        let error = read(&format!("\\u001b[2J{}", "x".repeat(10_000)), "/room").unwrap_err();
        assert!(error.contains("[2J") && error.len() <= 500 && !error.contains(char::is_control), "{error}");
    }

    #[test]
    fn a_table_of_no_meaning_is_refused() {
        assert!(Tables::read("update = {}".parse().unwrap()).unwrap_err().contains("update"));
    }

    fn extended(extra: &str) -> Result<Tables, String> {
        let text = format!(
            r#"
            accept = {{ methods = ["POST"], content_types = ["application/json"], body_bytes_max = 1024 }}
            verify = {{ kind = "session" }}
            bind = [{{ name = "to", in = ["/room"], out = "/to" }}]
            endpoint.post = {{ url = "https://example.com/post" }}
            endpoint.page = {{ kind = "stream" }}
            [identity]
            dedupe = [["/id"]]
            conversation = [["/room"]]
            sender = "/user"
            {extra}
            "#
        );
        Tables::read(text.parse().unwrap())
    }

    #[test]
    fn a_change_needs_keys_of_its_own_and_of_the_message() {
        let edit = |dedupe: &str, post: &str| {
            let text = format!("edit = {{ dedupe = {dedupe}, post = {post}, sender = \"/user\" }}");
            extended(&text).err().unwrap_or_default()
        };
        assert_eq!(edit(r#"[["/id"]]"#, r#"[["/post"]]"#), "");
        assert!(edit("[]", r#"[["/post"]]"#).contains("`identity.edit` names no key"));
        assert!(edit(r#"[["/id"]]"#, "[[]]").contains("`identity.edit` names no key"));
        assert!(edit(r#"[["/id"]]"#, r#"[["post"]]"#).contains("nothing is read there"));
    }

    #[test]
    fn progress_needs_an_endpoint_that_edits_and_a_pace() {
        let progress = |endpoint: &str, id: &str, interval: u64| {
            let text = format!(
                "[progress]\nendpoint = \"{endpoint}\"\nid = \"{id}\"\ninterval_ms = {interval}\nper_minute = 50"
            );
            extended(&text).err().unwrap_or_default()
        };
        assert_eq!(progress("post", "/ts", 1_000), "");
        assert!(progress("ghost", "/ts", 1_000).contains("`progress.endpoint` names `ghost`"));
        assert!(progress("page", "/ts", 1_000).contains("no endpoint over the network"));
        assert!(progress("post", "ts", 1_000).contains("`progress.id`"));
        assert!(progress("post", "/ts", 10).contains("`progress.interval_ms`"));
    }
}
