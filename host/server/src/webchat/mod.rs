//! The web chat that the host serves itself: a page, a way to post, and a stream of events.
//!
//! Messages go the way of every channel, through a component and the inbox. What is served here is what no
//! component can serve: the page, the session's cookie, and the stream, which resumes where it broke off.

mod events;
mod page;
mod session;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use chela_types::ChannelId;

use crate::doors::{Address, Doors, Error, acknowledged};

pub use page::{Setup, html, policy};

/// Serves what lies below a web chat's address.
pub(crate) async fn serve(doors: &Doors, address: Address, request: Request) -> Result<Response, Error> {
    let Address { channel, rest } = address;
    let Some(rest) = rest else {
        let below = format!("/channels/{channel}/");
        return Ok((StatusCode::PERMANENT_REDIRECT, [(LOCATION, below)]).into_response());
    };
    match (request.method(), rest.as_str()) {
        (&Method::GET, "/") => Ok(page(doors, &channel)),
        (&Method::POST, "/session") => begin(doors, &channel, &request),
        (&Method::POST, "/messages") => say(doors, &channel, request).await,
        (&Method::GET, "/events") => events::serve(doors, &channel, &request),
        (_, "/" | "/session" | "/messages" | "/events") => Err(Error::Method),
        _ => Err(Error::NotFound),
    }
}

fn page(doors: &Doors, channel: &ChannelId) -> Response {
    let unnamed =
        || Setup { title: channel.to_string(), greeting: "How can we help?".to_owned(), ..Setup::default() };
    let setup = doors.chats.get(channel).cloned().unwrap_or_else(unnamed);
    let headers = [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy())),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, Html(html(&setup))).into_response()
}

/// Gives a cookie to whoever has none. Not done with the page itself: a strict cookie is not shown to us when
/// somebody comes by a link from elsewhere, and a new one would end the conversation that he had.
fn begin(doors: &Doors, channel: &ChannelId, request: &Request) -> Result<Response, Error> {
    session::check_origin(request.headers())?;
    if session::read(doors, channel, request.headers()).is_ok() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let token = doors.new_session(channel, request)?;
    let cookie = session::cookie(channel, &token, request.headers());
    Ok((StatusCode::CREATED, [(SET_COOKIE, cookie)]).into_response())
}

async fn say(doors: &Doors, channel: &ChannelId, request: Request) -> Result<Response, Error> {
    session::check_origin(request.headers())?;
    let session = session::read(doors, channel, request.headers())?;
    let said = doors
        .webhook(channel, Some("/messages".to_owned()), Some((session.token, session.id)), request)
        .await?;
    Ok(acknowledged(said))
}
