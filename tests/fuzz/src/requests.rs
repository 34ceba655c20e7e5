//! Where a plugin's requests may go: the tables of a manifest, and what a guest asks for under them.

use chela_egress::{Credential, Request};
use chela_engine::fuzzing::capability::{CREDENTIAL_SECRET, requested};
use http::header::HeaderName;
use secrecy::ExposeSecret;
use toml::{Table, Value};
use url::Url;

use crate::Reach;
use crate::oracle::tame;

/// Headers that the documentation lets every plugin set, and those that none may.
const FREE: [&str; 6] =
    ["accept", "accept-language", "content-type", "idempotency-key", "if-modified-since", "if-none-match"];
const NEVER: [&str; 6] =
    ["accept-encoding", "authorization", "content-encoding", "cookie", "proxy-authorization", "range"];

/// Two bytes of length, the tables as TOML, then the request as a worker asks for it.
pub fn requests(input: &[u8]) -> Reach {
    let Some(([low, high], rest)) = input.split_first_chunk::<2>() else { return Reach::Unread };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let (tables, asked) = rest.split_at(length.min(rest.len()));
    let Some(tables) = str::from_utf8(tables).ok().and_then(|text| text.parse::<Table>().ok()) else {
        return Reach::Unread;
    };
    match requested(&tables, asked) {
        Err(_) => Reach::Unread,
        Ok(Err(refused)) => {
            tame("a refusal", &refused);
            Reach::Refused
        }
        Ok(Ok(request)) => {
            let rules = tables["http"].as_array().expect("a request under no rule");
            assert!(rules.iter().any(|rule| lets(rule, &tables, &request)), "{request:?} under {tables:?}");
            plain(&request);
            Reach::Taken
        }
    }
}

fn texts<'a>(rule: &'a Value, key: &str) -> Vec<&'a str> {
    rule.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether this one rule alone lets the request go: where it goes, how, with which headers and whose credential.
fn lets(rule: &Value, tables: &Table, request: &Request) -> bool {
    let written = rule["url"].as_str().unwrap_or_default();
    let (place, below) = match written.strip_suffix('*') {
        Some(place) => (place, true),
        None => (written, false),
    };
    let Ok(place) = Url::parse(place) else { return false };
    let goes_there = place.origin() == request.url.origin()
        && match below {
            true => place.path().ends_with('/') && request.url.path().starts_with(place.path()),
            false => request.url.path() == place.path(),
        };
    let methods = match rule.get("methods") {
        Some(_) => texts(rule, "methods"),
        None => vec!["GET"],
    };
    let may = |name: &HeaderName| {
        let listed = texts(rule, "headers").iter().any(|listed| listed.eq_ignore_ascii_case(name.as_str()));
        !NEVER.contains(&name.as_str()) && (listed || FREE.contains(&name.as_str()))
    };
    let lent = match &request.credential {
        None => true,
        Some(credential) => {
            texts(rule, "credentials").iter().any(|name| is(&tables["credential"][*name], credential))
        }
    };
    goes_there && methods.contains(&request.method.as_str()) && request.headers.keys().all(may) && lent
}

/// Whether a credential is what its table says.
fn is(table: &Value, credential: &Credential) -> bool {
    let header = table.get("header").and_then(Value::as_str).unwrap_or("authorization");
    match (table["kind"].as_str().unwrap_or_default(), credential) {
        ("bearer", Credential::Bearer(secret)) => secret.expose_secret() == CREDENTIAL_SECRET,
        ("basic", Credential::Header { name, value }) => {
            name == header && value.expose_secret().starts_with("Basic ")
        }
        ("header", Credential::Header { name, value }) => {
            name.as_str().eq_ignore_ascii_case(header) && value.expose_secret() == CREDENTIAL_SECRET
        }
        _ => false,
    }
}

/// An address that no two servers read differently, and in which no secret stands.
fn plain(request: &Request) {
    let url = &request.url;
    assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    let path = url.path().to_ascii_lowercase();
    assert!(path.split('/').all(|part| part != ".." && part != "."), "{url}");
    assert!(!["%2f", "%5c", "%2e", "%00", "\\"].iter().any(|part| path.contains(part)), "{url}");
    assert!(request.body.len() <= 1 << 20 && url.as_str().len() <= 32 << 10, "{url}");
}
