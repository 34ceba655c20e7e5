//! The page of the web chat: one file, nothing from elsewhere, and a policy that allows nothing else.
//!
//! Script and style are allowed by their digests, computed from the very bytes that are served. The only
//! part that differs between chats is a block of JSON, which browsers do not execute.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The page, with a hole for its [`Setup`].
const PAGE: &str = include_str!("page.html");
/// The hole.
const HOLE: &str = "{{setup}}";

/// What the page says before anybody has said anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// Name of the chat: window title and heading.
    pub title: String,
    /// One line below it.
    pub subtitle: String,
    /// The large words of an empty conversation.
    pub greeting: String,
    /// One or two sentences below them.
    pub invitation: String,
    /// Messages that a click sends.
    pub suggestions: Vec<String>,
    /// Names of agents as people see them, by id; others are shown by their id.
    pub agents: BTreeMap<String, String>,
}

/// The page's HTML.
pub fn html(setup: &Setup) -> String {
    let json = serde_json::to_string(setup).unwrap_or_else(|_| "{}".to_owned());
    // `</script>` and `<!--` are the two ways out of a script block; both begin with `<`.
    PAGE.replacen(HOLE, &json.replace('<', "\\u003c"), 1)
}

/// The page's content security policy.
pub fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let (style, script) = (digest("<style>", "</style>"), digest("<script>", "</script>"));
        format!(
            "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

fn digest(open: &str, close: &str) -> String {
    let inside =
        PAGE.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(inside, _)| inside);
    format!("sha256-{}", BASE64.encode(Sha256::digest(inside.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_cannot_leave_its_block() {
        let title = "</script><script>alert(1)</script><!--".to_owned();
        let page = html(&Setup { title: title.clone(), ..Setup::default() });
        assert_eq!(page.matches("<script").count(), PAGE.matches("<script").count());
        let block = page.split_once(r#"id="setup">"#).unwrap().1.split_once("</script>").unwrap().0;
        let setup: serde_json::Value = serde_json::from_str(block).unwrap();
        assert_eq!(setup["title"], title.as_str());
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        assert_eq!(PAGE.matches("<style>").count(), 1);
        assert_eq!(PAGE.matches("<script>").count(), 1);
        for forbidden in [" style=", "src=", " onclick=", "innerHTML", "eval(", "<link", "@import", "url("] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        assert!(policy().contains("script-src 'sha256-") && !policy().contains("unsafe"));
    }
}
