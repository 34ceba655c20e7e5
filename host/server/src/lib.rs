//! The doors: config, webhooks, admin, web chat, the command line chela.
//!
//! A library beside the program, so that tests start whole hosts and stand-in platforms in their own process.

pub mod cli;
pub mod compose;
pub mod config;
pub mod demo;
pub mod doors;
pub mod front;
pub mod host;
pub mod ledger;
pub mod reload;
pub mod standin;
pub mod telemetry;
pub mod turn;
pub mod webchat;
