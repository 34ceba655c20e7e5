//! What a request brings, and a refusal in the documented form if it is not what it should be.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::admin::BODY_BYTES_MAX;
use super::error::Error;

/// A body of JSON; also of an answer.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(body(&rejection)),
        }
    }
}

fn body(rejection: &JsonRejection) -> Error {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge(BODY_BYTES_MAX),
        _ => Error::Invalid(rejection.body_text()),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// What stands behind the question mark.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| Error::Invalid(rejection.body_text()))
    }
}

/// What the address names.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|rejection| Error::Invalid(rejection.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::DefaultBodyLimit;
    use axum::routing::{get, post};
    use tower::ServiceExt;

    #[derive(serde::Deserialize)]
    struct Number {
        #[serde(rename = "n")]
        _n: u8,
    }

    async fn asked(method: &str, path: &str, body: &str) -> (u16, String) {
        let router = Router::new()
            .route("/body", post(async |Json::<Number>(_)| ()))
            .route("/query", get(async |Query::<Number>(_)| ()))
            .route("/path/{n}", get(async |Path::<u8>(_)| ()))
            .layer(DefaultBodyLimit::max(100))
            .method_not_allowed_fallback(async || Error::Method);
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let answer = router.oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let text = to_bytes(answer.into_body(), 10_000).await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        (status, said["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn every_refusal_has_the_documented_form() {
        let long = format!("{{\"n\": 1{}}}", " ".repeat(200));
        for (method, path, body, status, code) in [
            ("POST", "/body", "{\"n\": 1}", 200, ""),
            ("POST", "/body", "{\"n\": \"x\"}", 400, "invalid"),
            ("POST", "/body", "{", 400, "invalid"),
            ("POST", "/body", &long, 413, "too_large"),
            ("GET", "/body", "", 405, "method"),
            ("GET", "/query?n=1", "", 200, ""),
            ("GET", "/query?n=x", "", 400, "invalid"),
            ("GET", "/query", "", 400, "invalid"),
            ("GET", "/path/1", "", 200, ""),
            ("GET", "/path/x", "", 400, "invalid"),
        ] {
            assert_eq!(asked(method, path, body).await, (status, code.to_owned()), "{method} {path} {body}");
        }
    }
}
