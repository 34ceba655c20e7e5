//! What an author does all day: begin a plugin, build it, test it, and see it serve while it is written.

mod build;
mod cases;
mod dev;
mod files;
mod new;
mod project;
mod publish;
mod toolchain;

pub(super) use project::Lang;

use super::Outcome;
use super::args::{Build, Dev, New, Test};

/// `chela plugin new`.
pub(super) fn new(asked: &New) -> Outcome {
    new::run(asked)
}

/// `chela plugin build`.
pub(super) async fn build(asked: &Build) -> Outcome {
    build::run(asked).await
}

/// `chela plugin test`.
pub(super) async fn test(asked: &Test) -> Outcome {
    cases::run(asked).await
}

/// `chela dev`.
pub(super) async fn dev(asked: &Dev) -> Outcome {
    dev::run(asked).await
}
