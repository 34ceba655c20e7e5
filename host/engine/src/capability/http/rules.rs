//! What a plugin's manifest says of its requests: where they may go, and which credential goes along. `[[http]]` and
//! `[credential.NAME]`, strict: an unknown key is an error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chela_egress::{Credential, Request};
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

use crate::contract::http as contract;
use crate::words::short;

/// Longest address in bytes.
const URL_BYTES_MAX: usize = 8 << 10;
/// Headers of one request, and bytes of all of them.
const HEADERS_MAX: (usize, usize) = (32, 16 << 10);
/// Largest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Headers that any plugin may set.
const HEADERS: [&str; 6] =
    ["accept", "accept-language", "content-type", "idempotency-key", "if-modified-since", "if-none-match"];
/// Headers that none may set, whatever its manifest lists: who somebody is, says the host; what is packed or sent in
/// pieces cannot be looked into.
const NEVER: [&str; 6] =
    ["accept-encoding", "authorization", "content-encoding", "cookie", "proxy-authorization", "range"];
/// Ways to ask.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// The tables as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    http: Vec<RuleTable>,
    #[serde(default)]
    credential: BTreeMap<String, CredentialTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    /// An address, or with `/*` at its end all below it. `{key}` stands for a text of the plugin's configuration.
    url: String,
    #[serde(default = "get")]
    methods: Vec<String>,
    /// Beyond the usual ones.
    #[serde(default)]
    headers: Vec<String>,
    /// Names of those that may go there.
    #[serde(default)]
    credentials: Vec<String>,
}

fn get() -> Vec<String> {
    vec!["GET".to_owned()]
}

/// How a secret goes along; never in the address, which stands in logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum CredentialTable {
    /// `Authorization: Bearer …`.
    Bearer { secret: String },
    /// `Authorization: Basic …`; the secret is `user:password`.
    Basic { secret: String },
    /// A header of the peer's own.
    Header { header: String, secret: String },
}

impl CredentialTable {
    fn secret(&self) -> &str {
        match self {
            Self::Bearer { secret } | Self::Basic { secret } | Self::Header { secret, .. } => secret,
        }
    }
}

/// One place where requests may go.
#[derive(Debug)]
struct Rule {
    /// As written, for people.
    written: String,
    url: Url,
    is_prefix: bool,
    methods: Vec<Method>,
    headers: Vec<HeaderName>,
    credentials: Vec<String>,
}

/// Where a plugin's requests may go, and with what.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    credentials: BTreeMap<String, CredentialTable>,
}

/// What is wrong with a manifest's tables, or with what they need of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("plugin.toml: {0}")]
    Manifest(String),
    #[error(
        "`secrets` of [plugin.NAME] in chela.toml lacks `{secret}`, which [credential.{credential}] of its plugin.toml names"
    )]
    Secret { credential: String, secret: String },
}

impl Rules {
    /// Reads the tables, with what the plugin is configured to.
    pub(crate) fn read(tables: &toml::Table, config: &serde_json::Value) -> Result<Self, Wrong> {
        let tables: Tables = toml::Value::Table(tables.clone())
            .try_into()
            .map_err(|error: toml::de::Error| Wrong::Manifest(error.message().trim().to_owned()))?;
        let rules = tables.http.into_iter().map(|rule| rule.read(config, &tables.credential));
        let rules = rules.collect::<Result<_, _>>()?;
        for (name, table) in &tables.credential {
            if let CredentialTable::Header { header, .. } = table
                && HeaderName::from_bytes(header.as_bytes()).is_err()
            {
                return Err(Wrong::Manifest(format!(
                    "[credential.{name}] header `{header}` is no header's name"
                )));
            }
        }
        Ok(Self { rules, credentials: tables.credential })
    }

    /// Whether every secret that is named is there.
    pub(crate) fn check_secrets(&self, secrets: &BTreeMap<String, SecretString>) -> Result<(), Wrong> {
        match self.credentials.iter().find(|(_, table)| !secrets.contains_key(table.secret())) {
            None => Ok(()),
            Some((credential, table)) => {
                Err(Wrong::Secret { credential: credential.clone(), secret: table.secret().to_owned() })
            }
        }
    }

    /// What a manifest asks for, in words that can be compared: `http GET https://…`, `secret NAME`.
    pub(crate) fn asks(tables: &toml::Table, config: &toml::Table) -> Vec<String> {
        let config = serde_json::to_value(config).unwrap_or_default();
        let Ok(tables) = toml::Value::Table(tables.clone()).try_into::<Tables>() else { return Vec::new() };
        let rules = tables.http.iter().map(|rule| {
            let with = |what: &str, list: &[String]| match list {
                [] => String::new(),
                list => format!(" {what} {}", list.join(" ")),
            };
            let (headers, credentials) = (with("headers", &rule.headers), with("with", &rule.credentials));
            format!("http {} {}{headers}{credentials}", rule.methods.join(" "), filled(&rule.url, &config))
        });
        let secrets = tables.credential.iter().map(|(name, table)| {
            let how = match table {
                CredentialTable::Bearer { .. } => "bearer".to_owned(),
                CredentialTable::Basic { .. } => "basic".to_owned(),
                CredentialTable::Header { header, .. } => format!("header {header}"),
            };
            format!("secret {} as {name}, {how}", table.secret())
        });
        rules.chain(secrets).collect()
    }

    /// The request as it may leave.
    ///
    /// # Errors
    /// In words for the plugin's author.
    pub(crate) fn allow(
        &self,
        asked: contract::Request,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Request, String> {
        let contract::Request { method, url, headers, body, credential } = asked;
        if url.len() > URL_BYTES_MAX || body.len() > BODY_BYTES_MAX {
            return Err(format!("an address has at most {URL_BYTES_MAX} bytes, a body {BODY_BYTES_MAX}"));
        }
        let url = plain(&url)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| "the method is none".to_owned())?;
        let matching = |rule: &&Rule| rule.covers(&url) && rule.methods.contains(&method);
        let wanted = |rule: &&Rule| credential.as_ref().is_none_or(|name| rule.credentials.contains(name));
        let mut rules = self.rules.iter().filter(matching).peekable();
        if rules.peek().is_none() {
            let host = url.host_str().unwrap_or_default();
            return Err(format!("no [[http]] of its plugin.toml allows {method} {}", short(host, 253)));
        }
        let Some(rule) = rules.find(wanted) else {
            let name = credential.unwrap_or_default();
            return Err(format!(
                "no [[http]] of its plugin.toml lets the credential `{}` go there",
                short(&name, 64)
            ));
        };
        let mut request = Request::new(method, url, body);
        request.headers = rule.headers(&headers)?;
        request.credential = match credential {
            None => None,
            Some(name) => Some(self.credential(&name, secrets)?),
        };
        Ok(request)
    }

    fn credential(&self, name: &str, secrets: &BTreeMap<String, SecretString>) -> Result<Credential, String> {
        let unknown = || format!("no credential is called `{}`", short(name, 64));
        let table = self.credentials.get(name).ok_or_else(unknown)?;
        let value = secrets.get(table.secret()).ok_or_else(unknown)?.clone();
        Ok(match table {
            CredentialTable::Bearer { .. } => Credential::Bearer(value),
            CredentialTable::Basic { .. } => {
                let basic = format!("Basic {}", STANDARD.encode(value.expose_secret()));
                Credential::Header { name: AUTHORIZATION, value: basic.into() }
            }
            CredentialTable::Header { header, .. } => {
                let name = HeaderName::from_bytes(header.as_bytes()).map_err(|_| unknown())?;
                Credential::Header { name, value }
            }
        })
    }
}

impl RuleTable {
    fn read(
        self,
        config: &serde_json::Value,
        credentials: &BTreeMap<String, CredentialTable>,
    ) -> Result<Rule, Wrong> {
        let wrong = |what: String| Err(Wrong::Manifest(format!("[[http]] url `{}`: {what}", self.url)));
        let written = filled(&self.url, config);
        let (text, is_prefix) = match written.strip_suffix('*') {
            Some(text) if text.ends_with('/') => (text, true),
            Some(_) => return wrong("`*` stands alone behind a `/`, at the end".to_owned()),
            None => (&*written, false),
        };
        let url = match plain(text) {
            Ok(url) if url.query().is_none() => url,
            Ok(_) => return wrong("a query may always follow, and is not written here".to_owned()),
            Err(error) => return wrong(format!("filled in it is `{}`: {error}", short(&written, 200))),
        };
        if let Some(method) = self.methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
            return wrong(format!("`{method}` is none of {}", METHODS.join(", ")));
        }
        if let Some(header) =
            self.headers.iter().find(|name| NEVER.contains(&name.to_ascii_lowercase().as_str()))
        {
            return wrong(format!("the header `{header}` is the host's own"));
        }
        let headers = self.headers.iter().map(String::as_str).chain(HEADERS);
        let headers = headers.map(|name| HeaderName::from_bytes(name.as_bytes()));
        let Ok(headers) = headers.collect::<Result<Vec<_>, _>>() else {
            return wrong("one of `headers` is no header's name".to_owned());
        };
        if let Some(name) = self.credentials.iter().find(|name| !credentials.contains_key(*name)) {
            return wrong(format!("there is no [credential.{name}]"));
        }
        let methods = self.methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok());
        let (methods, credentials) = (methods.collect(), self.credentials.clone());
        Ok(Rule { written: self.url.clone(), url, is_prefix, methods, headers, credentials })
    }
}

impl Rule {
    fn covers(&self, url: &Url) -> bool {
        let same_place = self.url.scheme() == url.scheme()
            && self.url.host() == url.host()
            && self.url.port_or_known_default() == url.port_or_known_default();
        same_place
            && match self.is_prefix {
                true => url.path().starts_with(self.url.path()),
                false => url.path() == self.url.path(),
            }
    }

    fn headers(&self, asked: &[contract::Header]) -> Result<HeaderMap, String> {
        let (count, bytes) = HEADERS_MAX;
        let size: usize = asked.iter().map(|header| header.name.len() + header.value.len()).sum();
        if asked.len() > count || size > bytes {
            return Err(format!("a request has at most {count} headers of together {bytes} bytes"));
        }
        let mut headers = HeaderMap::new();
        for header in asked {
            let name = HeaderName::from_bytes(header.name.as_bytes())
                .ok()
                .filter(|name| self.headers.contains(name))
                .ok_or_else(|| {
                    let (name, rule) = (short(&header.name, 64), short(&self.written, 200));
                    format!("[[http]] url `{rule}` does not allow the header `{name}`")
                })?;
            let value = HeaderValue::from_str(&header.value)
                .map_err(|_| format!("the header `{name}` is not well formed"))?;
            headers.append(name, value);
        }
        Ok(headers)
    }
}

/// An address that means the same to whoever reads it: no names in it, no part that a server may read as another path.
fn plain(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("no address: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none_or(str::is_empty) {
        return Err("not http or https".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user and password do not belong into an address".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a `#` is not sent".to_owned());
    }
    let path = url.path().to_ascii_lowercase();
    match ["%2f", "%5c", "%2e", "%00", "\\"].iter().find(|part| path.contains(**part)) {
        Some(part) => Err(format!("`{part}` in a path may be read as another path")),
        None => Ok(url),
    }
}

/// `{key}` replaced by what the configuration says.
fn filled(url: &str, config: &serde_json::Value) -> String {
    let texts = config.as_object().into_iter().flatten();
    let texts = texts.filter_map(|(key, value)| Some((key, value.as_str()?)));
    texts.fold(url.to_owned(), |url, (key, text)| url.replace(&format!("{{{key}}}"), text))
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
