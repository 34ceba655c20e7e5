//! The one macro that turns a type into a component.
//!
//! It lives apart from the traits because it is the only place where a plugin's crate meets generated code.
//! On other targets than wasm it only checks that the type has the trait, so that tests link.

use std::sync::OnceLock;

/// Holds the plugin that `init` made. Part of the snapshot.
#[derive(Debug)]
pub struct Holder<T>(OnceLock<T>);

impl<T> Holder<T> {
    /// Empty, as a component starts.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The plugin. Made here if the host never called `init`, as for a version without a snapshot.
    ///
    /// # Errors
    /// What `init` says.
    pub fn ready(&self, init: fn() -> Result<T, String>) -> Result<&T, String> {
        if let Some(plugin) = self.0.get() {
            return Ok(plugin);
        }
        let plugin = init()?;
        Ok(self.0.get_or_init(|| plugin))
    }
}

impl<T> Default for Holder<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a type the component's plugin: `export!(router: MyRouter)`, `export!(agent: MyAgent)` or
/// `export!(channel: MyChannel)`. Once in a crate.
///
/// ```
/// use chela_sdk::{Context, Decision, Message, Router, RoutingError};
///
/// struct First;
///
/// impl Router for First {
///     fn init() -> Result<Self, String> {
///         Ok(First)
///     }
///
///     fn route(&self, _: Message, context: Context) -> Result<Decision, RoutingError> {
///         let first = context.candidates.first().ok_or(RoutingError::NoMatch("nobody there".into()))?;
///         Ok(Decision::to(&first.agent).because("the first in the list"))
///     }
/// }
///
/// chela_sdk::export!(router: First);
/// ```
#[macro_export]
macro_rules! export {
    (router: $plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            static PLUGIN: $crate::export::Holder<$plugin> = $crate::export::Holder::new();
            struct Component;

            impl $crate::bindings::router::Guest for Component {
                fn init() -> Result<(), String> {
                    PLUGIN.ready(<$plugin as $crate::Router>::init).map(|_| ())
                }
            }

            impl $crate::bindings::router::exports::chela::plugin::routing::Guest for Component {
                fn route(
                    message: $crate::Message,
                    context: $crate::Context,
                ) -> Result<$crate::Decision, $crate::RoutingError> {
                    let plugin = PLUGIN.ready(<$plugin as $crate::Router>::init);
                    $crate::Router::route(plugin.map_err($crate::RoutingError::Other)?, message, context)
                }
            }

    $crate::bindings::router::export_router!(Component with_types_in $crate::bindings::router);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> Result<$plugin, String> = <$plugin as $crate::Router>::init;
    };
    (agent: $plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            static PLUGIN: $crate::export::Holder<$plugin> = $crate::export::Holder::new();
            struct Component;

            impl $crate::bindings::agent::Guest for Component {
                fn init() -> Result<(), String> {
                    PLUGIN.ready(<$plugin as $crate::Agent>::init).map(|_| ())
                }
            }

            impl $crate::bindings::agent::exports::chela::plugin::answering::Guest for Component {
                fn handle(turn: $crate::Turn) -> Result<$crate::Outcome, $crate::AnsweringError> {
                    let plugin = PLUGIN.ready(<$plugin as $crate::Agent>::init);
                    $crate::Agent::handle(plugin.map_err($crate::AnsweringError::Other)?, turn)
                }
            }

    $crate::bindings::agent::export_agent!(Component with_types_in $crate::bindings::agent);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> Result<$plugin, String> = <$plugin as $crate::Agent>::init;
    };
    (channel: $plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            use $crate::{RenderingError, Step};

            static PLUGIN: $crate::export::Holder<$plugin> = $crate::export::Holder::new();
            struct Component;

            fn plugin() -> Result<&'static $plugin, RenderingError> {
                PLUGIN.ready(<$plugin as $crate::Channel>::init).map_err(RenderingError::Other)
            }

            impl $crate::bindings::channel::Guest for Component {
                fn init() -> Result<(), String> {
                    PLUGIN.ready(<$plugin as $crate::Channel>::init).map(|_| ())
                }
            }

            impl $crate::bindings::channel::exports::chela::plugin::translating::Guest for Component {
                fn receive(
                    frame: $crate::Frame,
                    surroundings: $crate::Surroundings,
                ) -> Result<$crate::Inbound, $crate::Rejection> {
                    let plugin = PLUGIN.ready(<$plugin as $crate::Channel>::init);
                    $crate::Channel::receive(plugin.map_err($crate::Rejection::Other)?, frame, surroundings)
                }

                fn render(
                    outgoing: $crate::Outgoing,
                    target: $crate::Target,
                    state: Option<String>,
                ) -> Result<Step, RenderingError> {
                    $crate::Channel::render(plugin()?, outgoing, target, state)
                }

                fn sent(state: String, response: $crate::Response) -> Result<Step, RenderingError> {
                    $crate::Channel::sent(plugin()?, state, response)
                }

                fn update(
                    outgoing: $crate::Outgoing,
                    target: $crate::Target,
                    revision: $crate::Revision,
                ) -> Result<Step, RenderingError> {
                    $crate::Channel::update(plugin()?, outgoing, target, revision)
                }
            }

    $crate::bindings::channel::export_channel!(Component with_types_in $crate::bindings::channel);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> Result<$plugin, String> = <$plugin as $crate::Channel>::init;
    };
}
