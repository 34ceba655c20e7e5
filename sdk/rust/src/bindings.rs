//! What wit-bindgen makes of the contract. Nothing of it is public by itself: `lib.rs` lists what is.
//!
//! The three worlds share one set of types: the agent world is generated whole, the others map the
//! interfaces they have in common onto it. Each world's exports are declared by the export macro in the
//! plugin's own crate, so a component has the exports of its kind alone, and imports only what it calls.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod agent {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "agent",
        pub_export_macro: true,
        export_macro_name: "export_agent",
        default_bindings_module: "chela_sdk::bindings::agent",
        generate_unused_types: true,
        additional_derives: [PartialEq],
        additional_type_attributes: {
            "chela:plugin/types@0.1.0/link": [#[derive(serde::Serialize, serde::Deserialize)]],
            "chela:plugin/types@0.1.0/choice": [#[derive(serde::Serialize, serde::Deserialize)]],
            "chela:plugin/types@0.1.0/block": [
                #[derive(serde::Serialize, serde::Deserialize)]
                #[serde(rename_all = "snake_case")]
            ],
            "chela:plugin/types@0.1.0/reply": [#[derive(serde::Serialize, serde::Deserialize)]],
        },
    });
}

pub mod router {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "router",
        pub_export_macro: true,
        export_macro_name: "export_router",
        default_bindings_module: "chela_sdk::bindings::router",
        generate_unused_types: true,
        additional_derives: [PartialEq],
        with: {
            "chela:plugin/types@0.1.0": crate::bindings::agent::chela::plugin::types,
            "chela:plugin/config@0.1.0": crate::bindings::agent::chela::plugin::config,
            "chela:plugin/log@0.1.0": crate::bindings::agent::chela::plugin::log,
            "chela:plugin/models@0.1.0": crate::bindings::agent::chela::plugin::models,
            "chela:plugin/memory@0.1.0": crate::bindings::agent::chela::plugin::memory,
        },
    });
}

pub mod channel {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "channel",
        pub_export_macro: true,
        export_macro_name: "export_channel",
        default_bindings_module: "chela_sdk::bindings::channel",
        generate_unused_types: true,
        additional_derives: [PartialEq],
        with: {
            "chela:plugin/types@0.1.0": crate::bindings::agent::chela::plugin::types,
            "chela:plugin/config@0.1.0": crate::bindings::agent::chela::plugin::config,
            "chela:plugin/log@0.1.0": crate::bindings::agent::chela::plugin::log,
        },
    });
}
