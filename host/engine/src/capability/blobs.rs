//! `blobs`: files that are too large for a message. An agent's own, of one conversation; never changed.

use chela_sandbox::{Call, Grant};
use chela_store::{Blob, BlobBounds};
use chela_types::{Digest, Millis};

use super::{Lent, host_failed, lend};
use crate::contract::{blobs, types::HostError};
use crate::error::Error;
use crate::journal::{Found, Function, Journal, Place};

/// Bytes of one read, as the contract says.
const PART_BYTES_MAX: usize = 64 << 10;
/// Largest file.
const FILE_BYTES_MAX: usize = 4 << 20;
/// What one conversation may keep.
const BOUNDS: BlobBounds = BlobBounds { count: 256, bytes: 64 << 20 };
/// Longest name, and longest media type, in bytes.
const NAMES_MAX: (usize, usize) = (255, 127);

type Part = Result<Vec<u8>, HostError>;
type Handle = Result<String, HostError>;

impl blobs::Host for Call<Lent> {
    async fn read(&mut self, handle: String, offset: u64) -> wasmtime::Result<Part> {
        let lent = lend!(self, Grant::Blobs, HostError::NotGranted);
        let (part, at) = lent.read_part(&handle, offset).await.map_err(host_failed)?;
        self.clock_to(at);
        self.hand(part)
    }

    async fn write(&mut self, name: String, media_type: String, bytes: Vec<u8>) -> wasmtime::Result<Handle> {
        let lent = lend!(self, Grant::Blobs, HostError::NotGranted);
        let (handle, at) = lent.write_file(name, media_type, bytes).await.map_err(host_failed)?;
        self.clock_to(at);
        self.hand(handle)
    }
}

impl Lent {
    /// The journal holds whether it was there: what is in a file never changes.
    async fn read_part(&self, handle: &str, offset: u64) -> Result<(Part, Millis), Error> {
        let mut journal = self.journal.lock().await;
        let whose = (&self.whom.tenant, &self.whom.agent, self.whom.conversation);
        let found = journal.place::<Result<(), HostError>>(Function::Read, &(handle, offset)).await?;
        if let Found::Kept(Err(refused), at) = found {
            return Ok((Err(refused), at));
        }
        let part = self.store.blob_read(whose, handle, (offset, PART_BYTES_MAX)).await?;
        // Whether another has it is nobody's business.
        let part = part.ok_or_else(|| HostError::Invalid("there is no file of this handle here".to_owned()));
        let at = match found {
            Found::Kept(_, at) => at,
            Found::Fresh(place) => {
                let outcome = part.as_ref().map(drop).map_err(Clone::clone);
                journal.fill_behind(&place, &outcome).await?
            }
        };
        Ok((part, at))
    }

    async fn write_file(
        &self,
        name: String,
        media_type: String,
        content: Vec<u8>,
    ) -> Result<(Handle, Millis), Error> {
        let mut journal = self.journal.lock().await;
        let digest = Digest::of("chela file", &[&content]);
        let place = match journal.place(Function::Write, &(&name, &media_type, digest)).await? {
            Found::Kept(handle, at) => return Ok((handle, at)),
            Found::Fresh(place) => place,
        };
        let kept = match check(&name, &media_type, &content) {
            Ok(()) => self.keep_file(&mut journal, &place, (name, media_type, content)).await?,
            Err(refused) => Err(refused),
        };
        match kept {
            Ok(kept) => Ok(kept),
            Err(refused) => {
                let refused = Err(refused);
                let at = journal.fill_behind(&place, &refused).await?;
                Ok((refused, at))
            }
        }
    }

    async fn keep_file(
        &self,
        journal: &mut Journal,
        place: &Place,
        (name, media_type, content): (String, String, Vec<u8>),
    ) -> Result<Result<(Handle, Millis), HostError>, Error> {
        let Some(lease) = journal.lease().cloned() else {
            let apart = "nothing is kept while a recorded turn is run again";
            return Ok(Err(HostError::Unavailable(apart.to_owned())));
        };
        // Nobody can guess one.
        let handle = format!("file-{}", hex::encode(rand::random::<[u8; 16]>()));
        let kept = Ok(handle.clone());
        let entry = journal.entry(place, &kept)?;
        let blob = Blob { handle, agent: self.whom.agent.clone(), name, media_type, content };
        match self.store.blob_put(&lease, blob, BOUNDS, entry.clone()).await {
            Ok(()) => Ok(Ok((kept, journal.filled_with(place, entry)))),
            Err(chela_store::Error::TooLarge { what, max, .. }) => {
                Ok(Err(HostError::Limit(format!("{what}: at most {max}"))))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn check(name: &str, media_type: &str, content: &[u8]) -> Result<(), HostError> {
    let (name_max, type_max) = NAMES_MAX;
    let is_name = (1..=name_max).contains(&name.len()) && !name.chars().any(char::is_control);
    if !is_name || name.contains(['/', '\\']) {
        let rule = format!("a name has 1 to {name_max} bytes, no control characters and no slash");
        return Err(HostError::Invalid(rule));
    }
    let token = |text: &str| {
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !text.is_empty() && text.bytes().all(is_part)
    };
    let is_type = media_type.split_once('/').is_some_and(|(kind, of)| token(kind) && token(of));
    if !is_type || media_type.len() > type_max {
        return Err(HostError::Invalid(format!("a media type is as `image/png`, at most {type_max} bytes")));
    }
    match content.len() <= FILE_BYTES_MAX {
        true => Ok(()),
        false => Err(HostError::Limit(format!("a file has at most {FILE_BYTES_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_a_type_and_a_size() {
        assert_eq!(check("a.png", "image/png", &[0; 16]), Ok(()));
        assert_eq!(check("ä b", "application/vnd.oasis+xml", &[]), Ok(()));
        let long = "x".repeat(256);
        for (name, media_type) in [
            ("", "image/png"),
            ("../a", "image/png"),
            ("a\\b", "image/png"),
            ("a\nb", "image/png"),
            (&*long, "image/png"),
            ("a", "image"),
            ("a", "image/png; charset=x"),
            ("a", "/png"),
            ("a", "image/\r\nx"),
        ] {
            assert!(
                matches!(check(name, media_type, &[]), Err(HostError::Invalid(_))),
                "{name} {media_type}"
            );
        }
        assert_eq!(check("a", "a/b", &vec![0; FILE_BYTES_MAX]), Ok(()));
        assert!(matches!(check("a", "a/b", &vec![0; FILE_BYTES_MAX + 1]), Err(HostError::Limit(_))));
    }
}
