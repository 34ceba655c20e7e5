//! Slack: the Events API in, `chat.postMessage` out.
//!
//! Pure, as every channel is: the host has verified the request, holds the token, sends what this says and
//! checks that it goes where the stored target says. Here is only Slack's language: what its events mean
//! (`event`), how its text is written (`text`), and how a post goes out in parts (`post`).

mod event;
mod post;
mod text;

use chela_sdk::{
    Channel, Frame, Inbound, Outgoing, Rejection, RenderingError, Response, Revision, Step, Surroundings,
    Target,
};

/// The adapter. Nothing to prepare.
#[derive(Debug)]
pub struct Slack;

impl Channel for Slack {
    fn init() -> Result<Self, String> {
        Ok(Self)
    }

    fn receive(&self, frame: Frame, surroundings: Surroundings) -> Result<Inbound, Rejection> {
        event::receive(&frame.into_http()?.json()?, &surroundings)
    }

    fn render(
        &self,
        outgoing: Outgoing,
        target: Target,
        state: Option<String>,
    ) -> Result<Step, RenderingError> {
        match state {
            Some(state) => post::again(&state),
            None => post::first(&outgoing, &target),
        }
    }

    fn sent(&self, state: String, response: Response) -> Result<Step, RenderingError> {
        post::sent(&state, &response)
    }

    fn update(&self, outgoing: Outgoing, target: Target, revision: Revision) -> Result<Step, RenderingError> {
        post::revised(&outgoing, &target, revision)
    }
}

chela_sdk::export!(channel: Slack);

#[cfg(test)]
mod tests;
