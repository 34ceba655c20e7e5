//! `trust`: whose plugins may serve.

use std::collections::{BTreeMap, BTreeSet};

use chela_engine::{TrustConfig, TrustedKey, Unsigned};
use chela_sandbox::PublicKey;
use chela_types::{DepartmentId, Digest, TierId};

use super::{At, Resolver, dotted};
use crate::config::problem::{Code, Note};
use crate::config::raw::{self, Raw};

impl Resolver<'_> {
    pub(super) fn trust(&mut self, raw: &Raw) -> TrustConfig {
        let is_production = raw.swap.reload == raw::Reload::Manual;
        let unsigned = match raw.trust.unsigned {
            Some(raw::Unsigned::Refuse) => Unsigned::Refused,
            Some(raw::Unsigned::Worker) => Unsigned::Worker,
            None if is_production => Unsigned::Refused,
            None => Unsigned::Worker,
        };
        let (mut revoked_keys, mut revoked_components) = (BTreeSet::new(), BTreeSet::new());
        for (index, text) in raw.trust.revoked.iter().enumerate() {
            match (text.parse::<PublicKey>(), Digest::try_from(text.clone())) {
                (Ok(key), _) => _ = revoked_keys.insert(key),
                (_, Ok(component)) => _ = revoked_components.insert(component),
                _ => {
                    let message = "`trust.revoked` lists keys (`ed25519:…`) and digests of components";
                    let note = Note::new(Code::WrongValue, message, "neither a key nor 64 hex digits");
                    self.fail(&["trust", "revoked", &index.to_string()], note);
                }
            }
        }
        let mut keys = BTreeMap::new();
        for (name, key) in &raw.trust.signer {
            // Keys have no id of their own; their names are spelled as all names are.
            let is_name = self.name::<TierId>(&["trust", "signer", name]).is_some();
            let departments = self.signs_for(raw, name, key);
            let at: At<'_> = &["trust", "signer", name, "public"];
            let Some(public) = self.public_key(at, &key.public).filter(|_| is_name) else { continue };
            if keys.contains_key(&public) {
                let message = format!("`{}` is another name's key too", dotted(at));
                self.fail(at, Note::new(Code::Duplicate, message, "the same key"));
            }
            if revoked_keys.contains(&public) {
                let message = format!("`{}` is trusted, and `trust.revoked` names it", dotted(at));
                let help = "what is revoked is not trusted, whatever else is said of it: take the table out";
                self.warn(at, Note::new(Code::Duplicate, message, "revoked").help(help));
            }
            keys.insert(public, TrustedKey { name: name.clone(), departments });
        }
        TrustConfig { keys, revoked_keys, revoked_components, unsigned }
    }

    fn public_key(&mut self, at: At<'_>, text: &str) -> Option<PublicKey> {
        match text.parse() {
            Ok(key) => Some(key),
            Err(error) => {
                let note = Note::new(Code::WrongValue, format!("`{}`: {error}", dotted(at)), "not a key");
                self.fail(at, note.help("`chela plugin keygen NAME` makes a pair and shows the public one"));
                None
            }
        }
    }

    fn signs_for(&mut self, raw: &Raw, name: &str, key: &raw::Signer) -> Option<BTreeSet<DepartmentId>> {
        let written = key.departments.as_ref()?;
        let mut departments = BTreeSet::new();
        for (index, department) in written.iter().enumerate() {
            let at = ["trust", "signer", name, "departments", &index.to_string()];
            departments.extend(self.department(&at, Some(department), raw));
        }
        Some(departments)
    }
}
