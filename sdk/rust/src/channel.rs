//! Channels: bytes to events, replies to requests.

use crate::{
    Acknowledgement, Event, Frame, Header, HttpFrame, Inbound, Outbound, Outgoing, Rejection, RenderingError,
    Request, Response, Revision, Step, Surroundings, Target,
};

/// A pause where the platform names none.
const RETRY_MS: u64 = 1_000;

/// Speaks a platform's language. Pure: no network, no secret, nothing but its arguments.
///
/// ```
/// use chela_sdk::{
///     Channel, Event, Frame, Identity, Inbound, Incoming, Outgoing, Rejection, RenderingError, Request, Step,
///     Surroundings, Target,
/// };
///
/// /// Takes `{"id", "room", "user", "text"}`, posts `{"room", "text"}` to the manifest's `[endpoint.post]`.
/// struct Room;
///
/// impl Channel for Room {
///     fn init() -> Result<Self, String> {
///         Ok(Room)
///     }
///
///     fn receive(&self, frame: Frame, _: Surroundings) -> Result<Inbound, Rejection> {
///         let body = frame.into_http()?.json()?;
///         let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
///         Ok(Inbound::one(Event::Message(Incoming {
///             identity: Identity {
///                 dedupe: vec![vec![text("id")]],
///                 conversation: vec![text("room")],
///                 sender: text("user"),
///             },
///             sender_name: None,
///             text: text("text"),
///             attachments: Vec::new(),
///             notes: None,
///         })))
///     }
///
///     fn render(&self, outgoing: Outgoing, target: Target, _: Option<String>) -> Result<Step, RenderingError> {
///         let room = target.bound("room").ok_or_else(|| RenderingError::Other("no room".into()))?;
///         let body = serde_json::json!({ "room": room, "text": outgoing.reply.text });
///         Ok(Step::send(Request::json("post", &body), outgoing.id))
///     }
/// }
///
/// chela_sdk::export!(channel: Room);
/// ```
pub trait Channel: Sized + Send + Sync + 'static {
    /// Called once when a version is loaded, before its memory is snapshotted.
    ///
    /// # Errors
    /// A sentence for the operator; the version is refused.
    fn init() -> Result<Self, String>;

    /// Called once for each verified request.
    ///
    /// # Errors
    /// [`Rejection`]: whose fault it is.
    fn receive(&self, frame: Frame, surroundings: Surroundings) -> Result<Inbound, Rejection>;

    /// Called first for each answer; `state` is the last journaled one after a restart.
    ///
    /// # Errors
    /// [`RenderingError`], if the reply cannot be said on this platform.
    fn render(
        &self,
        outgoing: Outgoing,
        target: Target,
        state: Option<String>,
    ) -> Result<Step, RenderingError>;

    /// Called with the platform's response to each request, also for 4xx and 5xx. Unless overridden: any 2xx has
    /// delivered the answer, 408, 425, 429 and 5xx ask to come again ([`Response::retry_after_ms`], or a second
    /// later), and everything else is a refusal for good.
    ///
    /// # Errors
    /// [`RenderingError`], if the response or the state makes no sense.
    fn sent(&self, state: String, response: Response) -> Result<Step, RenderingError> {
        let _ = state;
        Ok(match response.status {
            200..=299 => Step::Done(None),
            408 | 425 | 429 | 500..=599 => Step::Retry(response.retry_after_ms().unwrap_or(RETRY_MS)),
            status => Step::Permanent(format!("the platform answered {status}")),
        })
    }

    /// Progressive answers by editing: called for channels with `[progress]` in the manifest. Not supported unless
    /// overridden: the answer is rendered then as if there were no drafts.
    ///
    /// # Errors
    /// As [`Channel::render`].
    fn update(&self, outgoing: Outgoing, target: Target, revision: Revision) -> Result<Step, RenderingError> {
        let _ = (outgoing, target, revision);
        Ok(Step::Permanent("this channel does not edit".to_owned()))
    }
}

impl Frame {
    /// The HTTP request.
    ///
    /// # Errors
    /// [`Rejection::Unsupported`] for a frame of a transport.
    pub fn into_http(self) -> Result<HttpFrame, Rejection> {
        match self {
            Self::Http(frame) => Ok(frame),
            Self::Transport(frame) => Err(Rejection::Unsupported(format!("transport {}", frame.transport))),
        }
    }
}

impl HttpFrame {
    /// The first header of this name, which is lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Rejection::Malformed`] for anything else; nested deeper than 128 levels counts as such.
    pub fn json(&self) -> Result<serde_json::Value, Rejection> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Rejection::Malformed(format!("body is not JSON: {error}")))
    }
}

impl Target {
    /// The value of a `[[bind]]` of the manifest.
    #[must_use]
    pub fn bound(&self, name: &str) -> Option<&str> {
        find(&self.bound, name)
    }
}

impl Response {
    /// The first header of this name, which is lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// 200 with a text.
    pub fn text(text: impl Into<String>) -> Self {
        let headers = vec![Header::new("content-type", "text/plain; charset=utf-8")];
        Self { status: 200, headers, body: text.into().into_bytes() }
    }

    /// `Retry-After` in milliseconds, if it is there and a number of seconds.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.header("retry-after")?.trim().parse::<u64>().ok().map(|seconds| seconds.saturating_mul(1000))
    }
}

impl Header {
    /// A header; the name is lower case.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl Inbound {
    /// These events, acknowledged plainly.
    #[must_use]
    pub fn events(events: Vec<Event>) -> Self {
        Self { events, acknowledgement: Acknowledgement::Plain }
    }

    /// One event, acknowledged plainly.
    #[must_use]
    pub fn one(event: Event) -> Self {
        Self::events(vec![event])
    }

    /// Nothing of interest; the reason is counted.
    pub fn ignored(reason: impl Into<String>) -> Self {
        Self::one(Event::Ignored(reason.into()))
    }

    /// No event, but this response.
    #[must_use]
    pub fn respond(response: Response) -> Self {
        Self { events: Vec::new(), acknowledgement: Acknowledgement::Now(response) }
    }
}

impl Request {
    /// A request with a JSON body to an endpoint of the manifest.
    pub fn json(endpoint: impl Into<String>, body: &serde_json::Value) -> Self {
        let headers = vec![Header::new("content-type", "application/json; charset=utf-8")];
        Self { endpoint: endpoint.into(), headers, body: body.to_string().into_bytes() }
    }
}

impl Step {
    /// Sends `request`, then calls `sent` with `state`.
    pub fn send(request: Request, state: impl Into<String>) -> Self {
        Self::Next(Outbound { request, state: state.into() })
    }
}

fn find<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Channel for Plain {
        fn init() -> Result<Self, String> {
            Ok(Self)
        }

        fn receive(&self, _: Frame, _: Surroundings) -> Result<Inbound, Rejection> {
            Ok(Inbound::ignored("everything"))
        }

        fn render(&self, _: Outgoing, _: Target, _: Option<String>) -> Result<Step, RenderingError> {
            Ok(Step::Done(None))
        }
    }

    #[test]
    fn a_platforms_status_decides_unless_the_adapter_does() {
        let sent = |status, headers| {
            Plain.sent(String::new(), Response { status, headers, body: Vec::new() }).unwrap()
        };
        assert_eq!(sent(204, Vec::new()), Step::Done(None));
        assert_eq!(sent(503, Vec::new()), Step::Retry(1_000));
        assert_eq!(sent(429, vec![Header::new("retry-after", "7")]), Step::Retry(7_000));
        assert!(matches!(sent(404, Vec::new()), Step::Permanent(_)));
    }
}
