//! The demo: a made-up company with its documents, its configuration, and platforms that stand in for the
//! real ones. The tour, the benches and whoever is curious start here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chela_egress::Egress;
use chela_types::{ChannelId, Clock, SystemClock};

use crate::standin::{self, SenderSettings, slack, webhook};
use crate::webchat::Setup;

/// The configuration, with holes for what only a run knows.
const CONFIG: &str = include_str!("chela.toml");
/// The stand-in Slack's channel for everybody.
pub const GENERAL: &str = "C0GENERAL";
/// The stand-in Slack's internal channel, from which alone HR may be reached.
pub const PEOPLE: &str = "C0PEOPLE";
/// How often a stand-in comes again, and how soon.
const REPETITIONS: (usize, Duration) = (3, Duration::from_millis(200));

/// Why the demo could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the demo could not be written.
    #[error("could not write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Somebody's own configuration lies there.
    #[error("{0} is not the demo's; give the demo a folder of its own: `--data FOLDER`")]
    Foreign(PathBuf),
    /// The way out for the stand-ins.
    #[error(transparent)]
    Egress(#[from] chela_egress::Error),
    /// A stand-in.
    #[error(transparent)]
    Standin(#[from] standin::Error),
    /// A name of the demo is misspelled.
    #[error(transparent)]
    Name(#[from] chela_types::IdError),
}

/// The demo, laid out in a folder. Its platforms live as long as this value.
#[derive(Debug)]
pub struct Demo {
    /// The configuration that was written.
    pub config: PathBuf,
    /// Slack.
    pub slack: slack::Slack,
    /// The partner of the webhook channel.
    pub partner: webhook::Webhook,
    /// The way out that the stand-ins use: to this machine only.
    pub egress: Egress,
    /// Words of the web chat's page.
    pub chats: BTreeMap<ChannelId, Setup>,
}

impl Demo {
    /// Writes documents, secrets and configuration into `folder`, and starts the platforms. What lies there
    /// from an earlier demo is written anew, except for secrets and the store.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Foreign`] before anything is written.
    pub async fn lay_out(folder: &Path, public_port: u16) -> Result<Self, Error> {
        let config = folder.join("chela.toml");
        refuse_foreign(&config)?;
        for document in chela_bundle::demo() {
            write(&folder.join("documents").join(document.path), document.text)?;
        }
        let secrets = folder.join("secrets");
        let signing =
            secret(&secrets.join("slack-signing-secret"), || hex::encode(rand::random::<[u8; 16]>()))?;
        let token = secret(&secrets.join("slack-bot-token"), || {
            format!("xoxb-{}", hex::encode(rand::random::<[u8; 16]>()))
        })?;
        let shared = secret(&secrets.join("partner-signing-secret"), || {
            format!("whsec_{}", BASE64.encode(rand::random::<[u8; 24]>()))
        })?;

        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let egress =
            Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })?;
        let sender = SenderSettings::quick(REPETITIONS.0, REPETITIONS.1);
        let settings = slack::Settings {
            sender: sender.clone(),
            ..slack::Settings::new(&signing, &token, &[GENERAL, PEOPLE])
        };
        let slack = slack::Slack::start(settings, egress.clone(), Arc::clone(&clock)).await?;
        let settings = webhook::Settings { sender, ..webhook::Settings::new(&shared) };
        let partner = webhook::Webhook::start(settings, egress.clone(), clock).await?;

        write(&config, &configuration(public_port, &slack.base_url(), &partner.reply_url()))?;
        let chats = BTreeMap::from([(ChannelId::new("web")?, words())]);
        Ok(Self { config, slack, partner, egress, chats })
    }
}

/// A configuration that does not begin as the demo's is somebody's work.
fn refuse_foreign(config: &Path) -> Result<(), Error> {
    match fs::read_to_string(config) {
        Ok(text) if text.lines().next() == CONFIG.lines().next() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(Error::Foreign(config.to_owned())),
    }
}

fn configuration(public_port: u16, slack: &str, partner: &str) -> String {
    // The router's own file, as a table of the configuration.
    let rules = chela_bundle::document("rules.toml").unwrap_or_default();
    let rules = rules.replace("[[rules]]", "[[plugin.keyword.config.rules]]");
    CONFIG
        .replace("{public}", &public_port.to_string())
        .replace("{people}", PEOPLE)
        .replace("{slack}", slack)
        .replace("{partner}", partner)
        .replace("{rules}", &rules)
}

fn words() -> Setup {
    let named =
        [("sales", "Pearl · Sales"), ("support", "Coral · Support"), ("technical", "Barnacle · Developers")];
    Setup {
        title: "Crab & Co".to_owned(),
        subtitle: "Claw-shaped kitchen tools".to_owned(),
        greeting: "How can we help?".to_owned(),
        invitation:
            "Ask about our tools and prices, your order, or the Shop API. The right colleague answers."
                .to_owned(),
        suggestions: [
            "How much are the Pincer Tongs?",
            "My parcel arrived damaged. Can I return it?",
            "How do I authenticate against the API?",
        ]
        .map(str::to_owned)
        .to_vec(),
        agents: named.map(|(agent, name)| (agent.to_owned(), name.to_owned())).into(),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

/// A secret of an earlier time, or a new one, readable by this user alone.
fn secret(path: &Path, make: impl Fn() -> String) -> Result<String, Error> {
    if let Ok(kept) = fs::read_to_string(path) {
        return Ok(kept.trim().to_owned());
    }
    let made = make();
    write_secret(path, &made)?;
    Ok(made)
}

/// Writes a secret that this user alone can read.
///
/// # Errors
/// [`Error::Write`].
pub fn write_secret(path: &Path, secret: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(secret.as_bytes())).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demos_configuration_is_valid_and_its_secrets_stay() {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::lay_out(folder.path(), 0).await.unwrap();
        let (config, warnings) = crate::config::load(&demo.config, &|_| None)
            .unwrap_or_else(|error| panic!("{}", error.render(100, false)));
        assert!(warnings.is_empty(), "{}", warnings[0].plain(100));
        assert_eq!((config.agents.len(), config.channels.len()), (4, 3));
        let token = fs::read_to_string(folder.path().join("secrets/slack-bot-token")).unwrap();
        Demo::lay_out(folder.path(), 0).await.unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("secrets/slack-bot-token")).unwrap(), token);
    }

    #[tokio::test]
    async fn somebodys_configuration_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("chela.toml");
        for theirs in ["[server]\npublic = \"0.0.0.0:80\"\n", "", "\u{feff}# Crab & Co"] {
            fs::write(&config, theirs).unwrap();
            let refused = Demo::lay_out(folder.path(), 0).await.unwrap_err();
            assert!(matches!(&refused, Error::Foreign(path) if *path == config), "{refused}");
            assert_eq!(fs::read_to_string(&config).unwrap(), theirs);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is written either");
        }
    }
}
