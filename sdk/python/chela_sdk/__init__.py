"""Write Chela plugins in Python: one class for each kind, in a file `plugin.py` beside `plugin.toml`.

This is a whole agent:

    from chela_sdk import Agent, Reply, Turn

    class Echo(Agent):
        def handle(self, turn: Turn) -> Reply:
            return Reply(f"You said: {turn.message.text}")

`python -m chela_sdk.build FOLDER` makes the component.

**State.** `init` runs once when a version is loaded; the host keeps a snapshot of the memory it leaves behind, and
every call starts from that snapshot in a sandbox of its own. So what `init` prepares costs nothing later, and what a call
changes is gone after it. Whatever must outlive a call goes through `memory`.

**Imports.** A component imports what its `plugin.toml` asks for. All modules are loaded while it is built: there are no
files to import from later, and no thread, socket or clock either.

**Tests.** In plain Python there is no host; `testing.Host` stands in for it, so that a plugin is tested with plain
`python -m unittest`.
"""

from . import blobs, http, knowledge, log, memory, models, tools
from .agent import Agent, AnsweringError, Colleague, Escalation, HandOver, Later, Outcome, Profile, Turn
from .channel import (
    Acknowledgement,
    Change,
    Channel,
    Deferral,
    DeliveryState,
    DeliveryStatus,
    Edit,
    Event,
    Frame,
    Header,
    HttpFrame,
    Identity,
    Inbound,
    Incoming,
    Interaction,
    Key,
    Outbound,
    Outgoing,
    Rejection,
    RenderingError,
    Request,
    Response,
    Revision,
    Step,
    Surroundings,
    Target,
    TransportFrame,
)
from .config import ConfigError, config, config_json
from .models import ModelError
from .router import Alternative, Candidate, Context, Decision, Router, RoutingError
from .types import Attachment, Block, Choice, HostError, Link, Message, Person, Reply, Speaker, Utterance

__all__ = [
    "Acknowledgement", "Agent", "Alternative", "AnsweringError", "Attachment", "Block", "Candidate", "Change",
    "Channel", "Choice", "Colleague", "ConfigError", "Context", "Decision", "Deferral", "DeliveryState",
    "DeliveryStatus", "Edit", "Escalation", "Event", "Frame", "HandOver", "Header", "HostError", "HttpFrame",
    "Identity", "Inbound", "Incoming", "Interaction", "Key", "Later", "Link", "Message", "ModelError", "Outbound",
    "Outcome", "Outgoing", "Person", "Profile", "Rejection", "RenderingError", "Reply", "Request", "Response",
    "Revision", "Router", "RoutingError", "Speaker", "Step", "Surroundings", "Target", "TransportFrame", "Turn",
    "Utterance", "config", "config_json", "blobs", "http", "knowledge", "log", "memory", "models", "tools",
]
