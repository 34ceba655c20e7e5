//! Web sessions of the host's own: an id that only this host can have issued, for one channel.
//!
//! The token is `id.mac`; there is nothing to store, and a token of one channel is no token of another.

use chela_types::ChannelId;
use subtle::ConstantTimeEq;

/// Issues and reads sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    key: SessionKey,
}

struct SessionKey([u8; 32]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl Sessions {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key: SessionKey(key) }
    }

    /// A new session's id and its token.
    pub(crate) fn issue(&self, channel: &ChannelId) -> (String, String) {
        let id = hex::encode(rand::random::<[u8; 16]>());
        let token = self.token(channel, &id);
        (id, token)
    }

    /// The token of a session with a known id (the operator's own terminal keeps its conversation by name).
    pub(crate) fn token(&self, channel: &ChannelId, id: &str) -> String {
        format!("{id}.{}", self.mac(channel, id))
    }

    /// The id, if the token is of this host and channel.
    pub(crate) fn read(&self, channel: &ChannelId, token: &str) -> Option<String> {
        let (id, mac) = token.split_once('.')?;
        let expected = self.mac(channel, id);
        bool::from(expected.as_bytes().ct_eq(mac.as_bytes())).then(|| id.to_owned())
    }

    fn mac(&self, channel: &ChannelId, id: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(channel.as_str().as_bytes()).update(b"/").update(id.as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_channel_and_host_alone() {
        let sessions = Sessions::new([1; 32]);
        let (web, other) = (ChannelId::new("web").unwrap(), ChannelId::new("other").unwrap());
        let (id, token) = sessions.issue(&web);
        assert_eq!(sessions.read(&web, &token), Some(id.clone()));
        assert_eq!(sessions.read(&other, &token), None);
        assert_eq!(Sessions::new([2; 32]).read(&web, &token), None);
        assert_eq!(sessions.read(&web, &id), None);
        assert_eq!(sessions.read(&web, &format!("{id}.")), None);
    }
}
