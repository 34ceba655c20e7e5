//! `chela dev`: what an author saves is built, put into the folder of a running host, and what the host makes of it and
//! of each message is told. Where no host runs, one is started for this.
//!
//! The swap is the host's own: it watches its folders, and a version that it refuses leaves the one before.

mod host;
mod tail;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::args::Dev;
use super::super::{Failure, Outcome, say, say_aside};
use super::build::{self, shown};
use super::project::Project;
use super::publish::{Aside, COMPONENT};
use crate::cli::up::stopped;
use crate::reload::{self, Reloads, Roots};

/// How often it is looked for changes of which the system tells nothing.
const POLL: Duration = Duration::from_secs(2);

pub(super) async fn run(asked: &Dev) -> Outcome {
    let project = Project::open(&asked.folder)?;
    let stop = stopped()?;
    let (built, mut news) = watch::channel(0_u64);
    let out = Arc::new(Mutex::new(project.built()));
    let saves = Saves { project: project.clone(), out: Arc::clone(&out), built };
    let watching = tokio::spawn(reload::watch(saves, stop.clone()));
    say_aside(&format!("watching {}; Ctrl-C ends it\n", shown(&project.folder)));
    // A host starts with something that runs.
    let is_first = tokio::select! {
        told = news.changed() => told.is_ok(),
        () = stop.cancelled() => false,
    };
    let served = if is_first { serve(asked, &project, (&out, &stop)).await } else { Ok(()) };
    stop.cancel();
    // A build that runs comes to its end, or ends with the keyboard's signal.
    let _ = watching.await;
    served.map(|()| ExitCode::SUCCESS)
}

/// Finds the host or starts one, and tells what happens there until it is over.
async fn serve(
    asked: &Dev,
    project: &Project,
    (out, stop): (&Mutex<PathBuf>, &CancellationToken),
) -> Result<(), Failure> {
    let host = host::find(asked, project, stop).await?;
    host.folder.clone_into(&mut out.lock());
    say(&host.greeting);
    let told = tail::follow(&host.socket, stop).await;
    stop.cancel();
    host.ended().await?;
    told
}

/// Puts what was built into the folder from which a host loads it, if that is another.
fn publish(built: &Path, folder: &Path) -> Result<(), Failure> {
    if folder.canonicalize().is_ok_and(|folder| folder == built) {
        return Ok(());
    }
    // The author's own folder, whose manifest is there.
    let is_own = built.parent().is_some_and(|own| own == folder);
    if is_own {
        return Ok(super::publish::component(&built.join(COMPONENT), &folder.join(COMPONENT))?);
    }
    let aside = Aside::of(folder)?;
    for name in [COMPONENT, "plugin.toml"] {
        std::fs::copy(built.join(name), aside.path().join(name))?;
    }
    Ok(aside.publish()?)
}

/// What the author saves.
struct Saves {
    project: Project,
    /// Where builds go.
    out: Arc<Mutex<PathBuf>>,
    /// Told of each build that went well.
    built: watch::Sender<u64>,
}

impl Reloads for Saves {
    fn roots(&self) -> Arc<Roots> {
        Arc::new(Roots { files: self.project.sources(), data: self.project.own(), ..Roots::default() })
    }

    fn poll(&self) -> Duration {
        POLL
    }

    /// What does not build is worth no second try before something else is saved.
    async fn reload(&self) -> bool {
        let out = self.out.lock().clone();
        let built = match Project::open(&self.project.folder) {
            Ok(project) => build::build(&project, &out).await,
            Err(failure) => Err(failure),
        };
        match built {
            Ok(built) => {
                say(&built.line());
                self.built.send_modify(|builds| *builds += 1);
            }
            Err(failure) => {
                let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr());
                say_aside(&failure.render(coloured));
                say_aside("what was built before serves on\n");
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_built_goes_where_a_host_loads_it() {
        let folder = tempfile::tempdir().unwrap();
        let (built, elsewhere) = (folder.path().join("dist"), folder.path().join("plugins/mine"));
        fs::create_dir(&built).unwrap();
        for name in [COMPONENT, "plugin.toml"] {
            fs::write(built.join(name), name).unwrap();
        }
        publish(&built, &elsewhere).map_err(|failure| format!("{failure:?}")).unwrap();
        assert_eq!(fs::read_to_string(elsewhere.join("plugin.toml")).unwrap(), "plugin.toml");
        fs::write(folder.path().join("plugin.toml"), "the author's").unwrap();
        publish(&built, folder.path()).map_err(|failure| format!("{failure:?}")).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("plugin.toml")).unwrap(), "the author's");
        assert_eq!(fs::read_to_string(folder.path().join(COMPONENT)).unwrap(), COMPONENT);
    }
}
