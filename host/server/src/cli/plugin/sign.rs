//! `chela plugin keygen|sign|verify`: who made a plugin, and whether this host believes him.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use chela_engine::Unsigned;
use chela_sandbox::{PublicKey, SIGNATURE_FILE, SigningKey, Source};
use chela_types::PluginId;
use serde_json::json;

use super::super::args::Shown;
use super::super::{Failure, Outcome, load, say, say_json};
use super::inspect::{ID, look, named};
use crate::compose::{Surroundings, looking_sandbox};
use crate::turn::in_one_line;

/// Largest file of a private key.
const KEY_BYTES_MAX: u64 = 16 << 10;

pub(super) fn keygen(name: &str, out: &Path) -> Outcome {
    // As names are spelled in chela.toml.
    PluginId::new(name)?;
    let key = SigningKey::generate()?;
    let path = out.join(format!("{name}.key"));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|error| {
            let failure = Failure::new(format!("{} cannot be made: {error}", path.display()));
            failure.help("a key that is there already is never written over; name another folder with --out")
        })?;
    file.write_all(key.pem()?.as_bytes())?;
    file.sync_all()?;
    say(&format!(
        "{} holds the private key. Whoever has it can sign as {name}: keep it where builds are signed, and nowhere else.\n\n\
         What operators write into chela.toml who trust it:\n\n\
         [trust.signer.{name}]\npublic = \"{}\"\n# departments = [\"sales\"]   # left out: for every department\n",
        path.display(),
        key.public()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn sign(folder: &Path, key: &str) -> Outcome {
    let key = private_key(key)?;
    let source = named(&folder.display().to_string())?;
    if !matches!(source, Source::Folder(_)) {
        return Err(Failure::new(
            "what comes with the program is not signed: it is trusted as the program is",
        ));
    }
    // An old signature may be of what was there before: it is no reason not to sign anew.
    let old = folder.join(SIGNATURE_FILE);
    let unsigned = read_unsigned(folder)?;
    let looked = look(unsigned.clone()).await?;
    let Source::Kept { manifest, component, .. } = unsigned else {
        return Err(Failure::new("nothing to sign"));
    };
    let signature = key.sign(&manifest, &component);
    // Whole or not at all: a host may be looking.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(signature.text().as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&old)?;
    say(&format!(
        "{} {} is signed by {}\n  {}\n",
        looked.manifest.name,
        looked.manifest.version,
        signature.key(),
        old.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// What is to be signed, without a signature that may be there.
fn read_unsigned(folder: &Path) -> Result<Source, Failure> {
    Ok(Source::Folder(folder.to_owned()).without_signature(chela_sandbox::Config::COMPONENT_BYTES_MAX)?)
}

fn private_key(given: &str) -> Result<SigningKey, Failure> {
    let text = match given.strip_prefix("env:") {
        Some(name) => std::env::var(name)
            .map_err(|_| Failure::new(format!("the variable `{name}` is not set, or is not text")))?,
        None => read_key(Path::new(given))?,
    };
    SigningKey::from_pem(text.trim()).map_err(|error| {
        Failure::from(error)
            .help("name the private key's file with --key FILE, or a variable with --key env:NAME")
    })
}

fn read_key(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !size.is_file() || size.len() > KEY_BYTES_MAX {
        return Err(failed("not the file of a key".to_owned()));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

pub(super) async fn verify(folder: &Path, public: Option<&str>, shown: &Shown) -> Outcome {
    let id = PluginId::new(ID)?;
    let sandbox = looking_sandbox(&Surroundings::of_this_program()?)?;
    let build = sandbox.read(&id, named(&folder.display().to_string())?).await?;
    let Some(key) = build.provenance.signer() else {
        return Err(Failure::new(format!("{} is not signed", folder.display()))
            .help("its author signs it: chela plugin sign DIR --key FILE"));
    };
    let said = match public {
        Some(public) => against(key, public.parse()?)?,
        None if shown.config.config.exists() => trusted(key, &build.component_digest.to_string(), shown)?,
        None => Verdict { by: None, note: "there is no chela.toml here to say whether it is trusted".into() },
    };
    let (name, version) = (&build.manifest.name, &build.manifest.version);
    if shown.json {
        return say_json(&json!({
            "name": name, "version": version, "key": key, "signer": said.by, "component": build.component_digest,
        }));
    }
    let by = said.by.map_or(String::new(), |by| format!(" ({})", in_one_line(&by)));
    say(&format!("{name} {version} is signed by {key}{by}\n  {}\n", said.note));
    Ok(ExitCode::SUCCESS)
}

/// What is known of who signed.
struct Verdict {
    by: Option<String>,
    note: String,
}

fn against(key: PublicKey, wanted: PublicKey) -> Result<Verdict, Failure> {
    match key == wanted {
        true => Ok(Verdict { by: None, note: "it is the key that was asked for".into() }),
        false => Err(Failure::new(format!("it is signed by {key}, and not by {wanted}"))),
    }
}

/// As the configuration has it, whatever the plugin is used for.
fn trusted(key: PublicKey, component: &str, shown: &Shown) -> Result<Verdict, Failure> {
    let trust = load(&shown.config)?.trust;
    if trust.revoked_keys.contains(&key) {
        return Err(Failure::new(format!("it is signed by {key}, which `trust.revoked` names")));
    }
    if trust.revoked_components.iter().any(|revoked| revoked.to_string() == component) {
        return Err(Failure::new("its component is one that `trust.revoked` names"));
    }
    let Some(known) = trust.keys.get(&key) else {
        let then = match trust.unsigned {
            Unsigned::Refused => "this host would refuse it",
            Unsigned::Worker => "this host would run it in a process of its own",
        };
        return Err(Failure::new(format!("it is signed by {key}, which no [trust.signer] names: {then}")));
    };
    let of = match &known.departments {
        None => "every department".to_owned(),
        Some(departments) => departments.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    Ok(Verdict { by: Some(known.name.clone()), note: format!("trusted, for {of}") })
}
