//! The child's side: limit itself, read the job, prepare the plugin, answer.

use super::frame::{self, Frame, Job};
use super::{Stage, prepare};
use crate::worker::jail;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Files that the child may have open: the three of its pipes, and what its libraries need.
const OPEN_FILES_MAX: u64 = 64;

/// Prepares one plugin: what the hidden subcommand of the binary calls. Reads a job from stdin and writes frames to
/// stdout; the exit code only says whether the protocol was kept.
pub fn main() -> ExitCode {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let job = frame::read_job(from)?;
    limit_self(&job)?;
    jail::shut(OPEN_FILES_MAX)?;
    let component = frame::read_component(from, job.component_bytes)?;
    let answer = match prepare::prepare(&job, &component, |frame| frame::write(to, &frame))? {
        Ok(artefact) => Frame::Artefact(artefact),
        Err(verdict) => Frame::Refused(verdict),
    };
    frame::write(to, &answer)
}

/// From here on this process cannot grow, run long or write a file.
fn limit_self(job: &Job) -> io::Result<()> {
    let between = |resource, current: u64, maximum: u64| {
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        setrlimit(resource, limit).map_err(io::Error::from)
    };
    let set = |resource, value| between(resource, value, value);
    set(Resource::As, job.address_space_bytes)?;
    // The lower bound ends it with SIGXCPU, which the host can tell from other deaths; the upper one with SIGKILL.
    between(Resource::Cpu, job.cpu_seconds, job.cpu_seconds.saturating_add(1))?;
    set(Resource::Fsize, 0)
}

/// Says how far the child is.
pub(super) fn at(stage: Stage) -> Frame {
    Frame::Stage(stage)
}
