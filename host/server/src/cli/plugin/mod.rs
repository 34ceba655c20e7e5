//! `chela plugin …`: what serves, what a plugin may touch, and which version takes its place.

mod diff;
mod inspect;
mod kept;
mod list;
mod order;
mod sign;

use super::args::PluginCommand;
use super::{Outcome, author, events};
pub(super) use diff::secrets;
pub(super) use inspect::{Looked, look_as, size};
pub(super) use list::note;

pub(super) async fn run(command: PluginCommand) -> Outcome {
    match command {
        PluginCommand::List { all, shown } => list::run(&shown, all).await,
        PluginCommand::History { name, limit, shown } => events::history(&name, limit, &shown).await,
        PluginCommand::New(asked) => author::new(&asked),
        PluginCommand::Build(asked) => author::build(&asked).await,
        PluginCommand::Test(asked) => author::test(&asked).await,
        PluginCommand::Inspect { source, json } => inspect::run(&source, json).await,
        PluginCommand::Keygen { name, out } => sign::keygen(&name, &out),
        PluginCommand::Sign { folder, key } => sign::sign(&folder, &key).await,
        PluginCommand::Verify { folder, public, shown } => {
            sign::verify(&folder, public.as_deref(), &shown).await
        }
        PluginCommand::Diff { a, b, shown } => diff::run((&a, b.as_deref()), &shown).await,
        order => order::run(order).await,
    }
}
