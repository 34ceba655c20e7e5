//! The doors: config, webhooks, admin, web chat, the command line chela.

pub mod config;
