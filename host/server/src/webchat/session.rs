//! The chat's cookie, and the proof that a request comes from the chat's own page.

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HOST, ORIGIN};
use chela_types::ChannelId;

use crate::doors::{Doors, Error};

/// Name of the cookie; its path keeps the cookies of several chats apart.
const COOKIE_NAME: &str = "chela_session";
/// How long a browser keeps it: 30 days, in seconds.
const COOKIE_AGE_S: u32 = 30 * 24 * 60 * 60;

/// A session that this host has issued.
#[derive(Debug)]
pub(super) struct Session {
    /// What the cookie holds.
    pub(super) token: String,
    /// Whom it stands for.
    pub(super) id: String,
}

/// The request's session, if it shows one of this host and channel.
pub(super) fn read(doors: &Doors, channel: &ChannelId, headers: &HeaderMap) -> Result<Session, Error> {
    tokens(headers)
        .find_map(|token| {
            let id = doors.engine.session(channel, token)?;
            Some(Session { token: token.to_owned(), id })
        })
        .ok_or(Error::Unauthorized)
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('=').filter(|(name, _)| *name == COOKIE_NAME))
        .map(|(_, token)| token)
}

/// The cookie with a token. `Secure` where the browser came by https, as the proxy in front says.
pub(super) fn cookie(channel: &ChannelId, token: &str, headers: &HeaderMap) -> String {
    let is_https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if is_https { "; Secure" } else { "" };
    format!(
        "{COOKIE_NAME}={token}; Path=/channels/{channel}; Max-Age={COOKIE_AGE_S}; HttpOnly; SameSite=Strict{secure}"
    )
}

/// Refuses what another site's page makes a browser send. Browsers name the page's origin with every POST;
/// who names none is no page, and has no business with a page's session.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Error> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(ORIGIN.as_str()).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    // A page cannot write `x-forwarded-host` into a request to another site, so a proxy's word may be taken.
    let own = [text(HOST.as_str()), text("x-forwarded-host")];
    match origin {
        Some(origin) if own.contains(&Some(origin)) => Ok(()),
        _ => Err(Error::ForeignOrigin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_the_chats_own_page_may_post() {
        let own = [("host", "chat.example:8080"), ("origin", "https://chat.example:8080")];
        assert!(check_origin(&headers(&own)).is_ok());
        let proxied =
            [("host", "10.0.0.1"), ("x-forwarded-host", "chat.example"), ("origin", "https://chat.example")];
        assert!(check_origin(&headers(&proxied)).is_ok());
        for foreign in
            ["https://evil.example", "null", "https://chat.example:8080.evil.example", "https://chat.example"]
        {
            let sent = headers(&[("host", "chat.example:8080"), ("origin", foreign)]);
            assert!(matches!(check_origin(&sent), Err(Error::ForeignOrigin)), "{foreign}");
        }
        assert!(check_origin(&headers(&[("host", "chat.example")])).is_err());
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let sent = headers(&[("cookie", "a=1; chela_session=x.y; chela_session_other=2")]);
        assert_eq!(tokens(&sent).collect::<Vec<_>>(), ["x.y"]);
    }

    #[test]
    fn the_cookie_is_for_its_chat_and_no_script() {
        let channel = ChannelId::new("web").unwrap();
        let plain = cookie(&channel, "t", &HeaderMap::new());
        assert_eq!(plain, "chela_session=t; Path=/channels/web; Max-Age=2592000; HttpOnly; SameSite=Strict");
        assert!(cookie(&channel, "t", &headers(&[("x-forwarded-proto", "https")])).ends_with("; Secure"));
    }
}
