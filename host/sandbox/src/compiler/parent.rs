//! The host's side: start the child, feed it, listen, and end it when it takes too long.

use super::frame::{self, Frame, Job};
use super::{Compiler, Stage};
use crate::error::{Ending, HostError, Reason, Refusal};
use crate::log::{GuestLog, Stamp, cut, escaped};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// What is kept of the child's stderr.
const STDERR_BYTES_MAX: u64 = 8 << 10;
/// What of it is shown.
const STDERR_SHOWN_BYTES: usize = 500;

/// How the conversation with the child ended.
#[derive(Debug)]
pub(super) enum End {
    Artefact(Vec<u8>),
    Refused(Refusal),
    /// Its stdout ended without an answer.
    Silence,
}

/// Prepares a plugin in a child process, and returns its machine code.
pub(crate) async fn run(
    compiler: &Compiler,
    job: &Job,
    component: &[u8],
    progress: &(dyn Fn(Stage) + Send + Sync),
) -> Result<Vec<u8>, Reason> {
    let mut child = start(compiler)?;
    let mut conversation = Conversation { stage: Stage::Start, stderr: Vec::new(), progress };
    let talk = conversation.hold(compiler, job, component, &mut child);
    let Ok(end) = tokio::time::timeout(compiler.wall, talk).await else {
        let _ = child.kill().await;
        return Err(ended(conversation.stage, Ending::TimedOut(compiler.wall)));
    };
    let end = match end {
        Ok(end) => end,
        Err(error) => {
            let _ = child.kill().await;
            return Err(ended(conversation.stage, Ending::Protocol(escaped(&error.to_string()))));
        }
    };
    match end {
        End::Artefact(code) => Ok(code),
        End::Refused(refusal) => Err(refusal.into()),
        End::Silence => {
            let _ = child.start_kill(); // it closed its stdout: nothing more can come of it
            let status = child.wait().await.map_err(HostError::new)?;
            Err(ended(conversation.stage, crashed(status, &conversation.stderr)))
        }
    }
}

fn start(compiler: &Compiler) -> Result<Child, Reason> {
    let mut command = Command::new(&compiler.program);
    command.args(&compiler.args).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let tried = |error| format!("starting the plugin compiler {}: {error}", compiler.program.display());
    command.spawn().map_err(|error| HostError::new(tried(error)).into())
}

fn ended(stage: Stage, ending: Ending) -> Reason {
    Refusal::Preparation { stage, ending }.into()
}

fn crashed(status: ExitStatus, stderr: &[u8]) -> Ending {
    if status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) {
        return Ending::CpuTime;
    }
    let stderr = escaped(String::from_utf8_lossy(stderr).trim());
    Ending::Crashed { status: status.to_string(), stderr: cut(&stderr, STDERR_SHOWN_BYTES).to_owned() }
}

struct Conversation<'a> {
    stage: Stage,
    stderr: Vec<u8>,
    progress: &'a (dyn Fn(Stage) + Send + Sync),
}

impl Conversation<'_> {
    async fn hold(
        &mut self,
        compiler: &Compiler,
        job: &Job,
        component: &[u8],
        child: &mut Child,
    ) -> std::io::Result<End> {
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(std::io::Error::other("the child has no pipes"));
        };
        let head = frame::head(job, component.len())?;
        let Self { stage, stderr: kept, progress } = self;
        let tell = async move {
            // A child that died reads no further; why it died is told by its status.
            if stdin.write_all(&head).await.is_ok() {
                let _ = stdin.write_all(component).await;
            }
        };
        let aside = async { tokio::join!(tell, overhear(stderr, kept)) };
        let listen = listen(&mut stdout, compiler, job, stage, *progress);
        tokio::pin!(aside, listen);
        let end = tokio::select! {
            end = &mut listen => end?,
            _ = &mut aside => return listen.await,
        };
        if matches!(end, End::Silence) {
            aside.await; // the rest of its last words
        }
        Ok(end)
    }
}

/// Hears the child to its end. It has read what may be hostile: what it says is bounded and escaped anew.
pub(super) async fn listen(
    stdout: &mut (impl AsyncRead + Unpin),
    compiler: &Compiler,
    job: &Job,
    stage: &mut Stage,
    progress: &(dyn Fn(Stage) + Send + Sync),
) -> std::io::Result<End> {
    let stamp = Stamp { name: job.plugin.clone(), version: job.version.clone() };
    let mut log = GuestLog::to_host(Arc::new(stamp), &job.limits());
    while let Some(frame) = frame::read(stdout, compiler.artefact_bytes_max).await? {
        match frame {
            Frame::Artefact(code) => return Ok(End::Artefact(code)),
            Frame::Refused(verdict) => return Ok(End::Refused(verdict.into())),
            Frame::Stage(next) if next > *stage => {
                *stage = next;
                progress(next);
            }
            Frame::Stage(next) => return Err(frame::broken(format!("stage {next} behind stage {stage}"))),
            Frame::Line(line) => log.pass_on(vec![line]),
        }
    }
    Ok(End::Silence)
}

/// Keeps the beginning of stderr and reads the rest to its end, so that the child never waits for us.
async fn overhear(mut stderr: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let _ = (&mut stderr).take(STDERR_BYTES_MAX).read_to_end(kept).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}
