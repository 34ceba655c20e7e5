//! Where a provider is asked, and how it knows who asks.

use chela_egress::Credential;
use http::header::HeaderName;
use secrecy::SecretString;
use url::Url;

use super::http::Wire;

/// Where a provider is asked.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) wire: Wire,
    url: Url,
    host: Host,
}

/// Whose rules hold there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    OpenAi,
    Anthropic,
    /// Azure, with a model for all its paths.
    Azure,
    /// Azure, with a path for each deployment.
    AzureDeployment,
}

impl Place {
    /// `base` reaches up to and with the version.
    pub(crate) fn openai(base: &Url, wire: Wire) -> Self {
        Self { wire, url: below(base, &[path(wire)]), host: Host::OpenAi }
    }

    /// `base` reaches up to and with the version.
    pub(crate) fn anthropic(base: &Url, wire: Wire) -> Self {
        Self { wire, url: below(base, &[path(wire)]), host: Host::Anthropic }
    }

    /// `base` is the resource, or reaches up to and with the version (`…/openai/v1`).
    pub(crate) fn azure(base: &Url, wire: Wire, api_version: Option<&str>) -> Self {
        let (mut url, host) = match (has_version(base), wire) {
            (true, wire) => (below(base, &[path(wire)]), Host::Azure),
            (false, Wire::Responses) => (below(base, &["openai", path(wire)]), Host::Azure),
            // Where the deployment belongs is written when it is known.
            (false, wire) => (below(base, &["openai", "deployments", path(wire)]), Host::AzureDeployment),
        };
        if let Some(version) = api_version {
            url.query_pairs_mut().append_pair("api-version", version);
        }
        Self { wire, url, host }
    }

    /// The address for one model.
    pub(crate) fn url(&self, model: &str) -> Url {
        let mut url = self.url.clone();
        if self.host == Host::AzureDeployment
            && let Ok(mut path) = url.path_segments_mut()
        {
            path.pop().pop().push(model).extend(["chat", "completions"]);
        }
        url
    }

    /// The address for vectors of one model.
    pub(crate) fn embeddings(&self, model: &str) -> Url {
        let mut url = self.url.clone();
        let is_apart = self.host == Host::AzureDeployment;
        let has_deployment =
            is_apart || (self.host == Host::Azure && url.path().ends_with("/openai/responses"));
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop();
            if self.wire == Wire::Chat {
                path.pop();
            }
            if has_deployment && !is_apart {
                path.push("deployments");
            }
            if has_deployment {
                path.push(model);
            }
            path.push("embeddings");
        }
        url
    }

    pub(crate) fn credential(&self, key: SecretString) -> Credential {
        let header = |name| Credential::Header { name: HeaderName::from_static(name), value: key.clone() };
        match self.host {
            Host::OpenAi => Credential::Bearer(key),
            Host::Anthropic => header("x-api-key"),
            Host::Azure | Host::AzureDeployment => header("api-key"),
        }
    }

    /// Whether it is OpenAI's own server, or Azure's, which renamed the output limit of chat completions.
    pub(crate) fn is_strict(&self) -> bool {
        matches!(self.host, Host::Azure | Host::AzureDeployment) || is_of(&self.url, OPENAI)
    }

    /// Whether a refusal is never on the bill: both vendors charge nothing for one, but others who sell their models do
    /// (Azure: prompts that its filter stops, and those beyond the input limit).
    pub(crate) fn refuses_for_nothing(&self) -> bool {
        is_of(&self.url, OPENAI) || is_of(&self.url, ANTHROPIC)
    }
}

const fn path(wire: Wire) -> &'static str {
    match wire {
        Wire::Chat => "chat/completions",
        Wire::Responses => "responses",
        Wire::Messages { .. } => "messages",
    }
}

fn below(base: &Url, parts: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), parts.join("/")));
    url
}

fn has_version(base: &Url) -> bool {
    base.path().trim_end_matches('/').ends_with("/v1")
}

fn is_of(url: &Url, domain: &str) -> bool {
    let under = url.host_str().and_then(|host| host.strip_suffix(domain));
    under.is_some_and(|under| under.is_empty() || under.ends_with('.'))
}

const OPENAI: &str = "openai.com";
const ANTHROPIC: &str = "anthropic.com";

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn vectors_are_asked_for_beside_the_answers() {
        for (place, address) in [
            (Place::openai(&url("https://a.example/v1"), Wire::Chat), "https://a.example/v1/embeddings"),
            (Place::openai(&url("https://a.example/v1"), Wire::Responses), "https://a.example/v1/embeddings"),
            (
                Place::azure(&url("https://a.example/openai/v1"), Wire::Responses, None),
                "https://a.example/openai/v1/embeddings",
            ),
            (
                Place::azure(&url("https://a.example"), Wire::Chat, Some("2024-10-21")),
                "https://a.example/openai/deployments/m/embeddings?api-version=2024-10-21",
            ),
            (
                Place::azure(&url("https://a.example"), Wire::Responses, Some("2025-03-01")),
                "https://a.example/openai/deployments/m/embeddings?api-version=2025-03-01",
            ),
        ] {
            assert_eq!(place.embeddings("m").as_str(), address);
        }
    }

    #[test]
    fn the_address_is_the_vendors() {
        let openai = |base, wire| Place::openai(&url(base), wire);
        let azure = |base, wire, version| Place::azure(&url(base), wire, version);
        let messages = Wire::Messages { prompt_cache: true };
        for (place, address) in [
            (openai("https://api.openai.com/v1", Wire::Chat), "https://api.openai.com/v1/chat/completions"),
            (openai("https://api.openai.com/v1/", Wire::Responses), "https://api.openai.com/v1/responses"),
            (
                Place::anthropic(&url("https://api.anthropic.com/v1"), messages),
                "https://api.anthropic.com/v1/messages",
            ),
            (
                azure("https://a.openai.azure.com", Wire::Chat, Some("2024-10-21")),
                "https://a.openai.azure.com/openai/deployments/gpt%204%2Fo/chat/completions?api-version=2024-10-21",
            ),
            (
                azure("https://a.openai.azure.com/", Wire::Responses, Some("2025-04-01-preview")),
                "https://a.openai.azure.com/openai/responses?api-version=2025-04-01-preview",
            ),
            (
                azure("https://a.openai.azure.com/openai/v1/", Wire::Chat, None),
                "https://a.openai.azure.com/openai/v1/chat/completions",
            ),
            (
                azure("https://a.openai.azure.com/openai/v1", Wire::Responses, Some("preview")),
                "https://a.openai.azure.com/openai/v1/responses?api-version=preview",
            ),
        ] {
            assert_eq!(place.url("gpt 4/o").as_str(), address);
        }
    }

    #[test]
    fn the_key_is_sent_as_the_vendor_reads_it() {
        let base = url("https://a.example/v1");
        let header = |place: Place| match place.credential("hunter2".into()) {
            Credential::Header { name, .. } => name.to_string(),
            Credential::Bearer(_) => "bearer".to_owned(),
        };
        assert_eq!(header(Place::openai(&base, Wire::Responses)), "bearer");
        assert_eq!(header(Place::anthropic(&base, Wire::Messages { prompt_cache: false })), "x-api-key");
        assert_eq!(header(Place::azure(&base, Wire::Chat, None)), "api-key");
    }

    /// learn.microsoft.com/azure/ai-foundry/openai/how-to/manage-costs: a 400 by the filter or the input limit may
    /// be billed.
    #[test]
    fn only_the_vendors_themselves_refuse_for_nothing() {
        for (base, for_nothing) in [
            ("https://api.openai.com/v1", true),
            ("https://eu.api.openai.com/v1", true),
            ("https://api.anthropic.com/v1", true),
            ("https://house.openai.azure.com/openai/v1", false),
            ("https://notopenai.com/v1", false),
            ("http://127.0.0.1:8000/v1", false),
        ] {
            assert_eq!(Place::openai(&url(base), Wire::Chat).refuses_for_nothing(), for_nothing, "{base}");
        }
    }

    #[test]
    fn openai_and_azure_know_the_new_name_of_the_limit() {
        assert!(Place::openai(&url("https://api.openai.com/v1"), Wire::Chat).is_strict());
        assert!(Place::azure(&url("https://a.openai.azure.com"), Wire::Chat, None).is_strict());
        assert!(!Place::openai(&url("https://a.openai.azure.com/openai/v1"), Wire::Chat).is_strict());
    }
}
