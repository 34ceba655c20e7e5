"""Speaks with a pager: takes `{"id", "from", "text"}`, sends `{"to", "text"}`."""

from chela_sdk import (
    Channel,
    Event,
    Frame,
    Identity,
    Inbound,
    Incoming,
    Outgoing,
    Rejection,
    RenderingError,
    Request,
    Step,
    Surroundings,
    Target,
)


class Pager(Channel):
    """No network and no secret: the host has checked the signature, and sends what `render` returns."""

    def receive(self, frame: Frame, surroundings: Surroundings) -> Inbound:
        page = frame.into_http().json()
        try:
            number, sender, text = (str(page[key]) for key in ("id", "from", "text"))
        except (KeyError, TypeError):
            raise Rejection.Malformed("a page has `id`, `from` and `text`") from None
        identity = Identity(dedupe=[[number]], conversation=[sender], sender=sender)
        return Inbound.one(Event.Message(Incoming(identity, None, text)))

    def render(self, outgoing: Outgoing, target: Target, state: str | None) -> Step:
        to = target.value("to")
        if to is None:
            raise RenderingError.Other("no target")
        return Step.send(Request.json("send", {"to": to, "text": outgoing.reply.text}))

    # `sent` is not here: what the pager's status means is what it means everywhere.
