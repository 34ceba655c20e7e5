//! Where an agent's requests go, with whose credentials, and what they carry out.

use super::asked;
use crate::attack::{Act, Attack, Family, Guest, SHOP};
use crate::outcome::Outcome::Answered;

/// What the guest is told by the host before anything has left; anything else would be an answer, or a try.
const REFUSED: &str = "HostError::Invalid";

/// The agent in Rust, with the grant, told what to send.
const fn sends(name: &'static str, tries: &'static str, what: &'static str) -> Attack {
    asked(name, Family::Egress, tries, &[Answered])
        .guest(Guest::Sender(SHOP))
        .act(Act::Ask(what, 1))
        .says(REFUSED)
}

/// The same where the operator has configured its manifest to go somewhere else.
const fn reaches(name: &'static str, tries: &'static str, shop: &'static str, what: &'static str) -> Attack {
    sends(name, tries, what).guest(Guest::Sender(shop))
}

pub(super) const ATTACKS: &[Attack] = &[
    sends(
        "request-elsewhere",
        "sends to a host that its manifest does not name",
        "fetch GET https://evil.example/",
    ),
    sends(
        "request-longer-name",
        "sends to a host whose name begins like the one that it may",
        "fetch GET https://shop.example.evil.example/orders/1",
    ),
    sends(
        "request-user",
        "puts the host that it may into the user",
        "fetch GET https://shop.example@evil.example/orders/1",
    ),
    sends("request-port", "sends to another port", "fetch GET https://shop.example:8443/orders/1"),
    sends("request-in-the-clear", "leaves the encryption out", "fetch GET http://shop.example/orders/1"),
    sends("request-dot", "writes the host with a dot at its end", "fetch GET https://shop.example./orders/1"),
    sends(
        "request-path",
        "climbs out of the path that it may",
        "fetch GET https://shop.example/orders/../admin",
    ),
    sends(
        "request-path-encoded",
        "climbs out, encoded",
        "fetch GET https://shop.example/orders/%2e%2e%2fadmin",
    ),
    sends("request-method", "deletes where it may read", "fetch DELETE https://shop.example/orders/1"),
    sends(
        "request-authorization",
        "brings a credential of its own",
        "fetch GET https://shop.example/orders/1 header=authorization:Bearer-mine",
    ),
    sends(
        "request-host-header",
        "names another host in a header",
        "fetch GET https://shop.example/orders/1 header=host:evil.example",
    ),
    sends(
        "request-credential-elsewhere",
        "takes a credential where it may not go",
        "fetch GET https://shop.example/public/1 credential=crm",
    ),
    sends(
        "request-credential-unknown",
        "names a credential of somebody else's",
        "fetch GET https://shop.example/orders/1 credential=signing_secret",
    ),
    sends(
        "carries-a-secret",
        "carries a secret out that somebody told it",
        "fetch POST https://shop.example/orders/1 body=drill-crm-token-5e0f7a21",
    ),
    sends(
        "carries-it-in-base64",
        "carries it out in base64, behind another byte",
        "fetch POST https://shop.example/orders/1 body=eGRyaWxsLWNybS10b2tlbi01ZTBmN2EyMQ==",
    ),
    sends(
        "carries-it-in-hex",
        "carries it out in hexadecimal",
        "fetch POST https://shop.example/orders/1 body=6472696c6c2d63726d2d746f6b656e2d3565306637613231",
    ),
    sends(
        "carries-it-backwards",
        "carries it out backwards",
        "fetch POST https://shop.example/orders/1 body=12a7f0e5-nekot-mrc-llird",
    ),
    sends(
        "carries-it-in-the-address",
        "carries it out in the address",
        "fetch GET https://shop.example/orders/drill-crm-token-5e0f7a21",
    ),
    reaches(
        "request-to-the-metadata",
        "sends to the cloud's metadata, as it was let",
        "http://169.254.169.254",
        "fetch GET http://169.254.169.254/orders/1",
    ),
    asked("another-file", Family::Authority, "reads another organisation's file by its handle", &[Answered])
        .guest(Guest::Sender(SHOP))
        .act(Act::ReadFile)
        .says(REFUSED),
];
