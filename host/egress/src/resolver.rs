//! DNS with a filter: what a name points to is checked at the moment of connecting.
//!
//! Checking earlier would be answered by DNS rebinding: a name that is public when checked and private when
//! used. The addresses that pass here are the ones that the connection is made to.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::SocketAddr;

use crate::Error;
use crate::address::{Class, Rules, class, denied, is_localhost};

/// Resolves by the system's resolver and drops every address that the rules do not allow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filtered {
    /// What is allowed.
    pub(crate) rules: Rules,
    /// True for the client that speaks https.
    pub(crate) encrypted: bool,
}

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let this = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = this.filter(name.as_str(), found.collect())?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl Filtered {
    /// Keeps what is allowed; an error if nothing is left of something.
    fn filter(self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Error> {
        let local = is_localhost(name);
        let allowed = |address: &SocketAddr| {
            let class = class(address.ip());
            // `localhost` is this machine and nothing else is: a stranger's name that points here is an attack.
            (class == Class::Loopback) == local && self.rules.allow(class, self.encrypted)
        };
        let kept: Vec<SocketAddr> = found.iter().filter(|address| allowed(address)).copied().collect();
        match found.first() {
            Some(first) if kept.is_empty() => match class(first.ip()) {
                Class::Loopback if !local => Err(denied(name, Class::Reserved)),
                class => Err(denied(name, class)),
            },
            _ => Ok(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(loopback: bool, name: &str, found: &[&str]) -> Result<usize, Error> {
        let filtered = Filtered { rules: Rules { loopback, private: false }, encrypted: true };
        let found = found.iter().map(|text| format!("{text}:443").parse().unwrap()).collect();
        filtered.filter(name, found).map(|kept| kept.len())
    }

    #[test]
    fn answers_are_filtered_one_by_one() {
        assert_eq!(filter(false, "example.com", &["93.184.215.14", "10.0.0.1", "[::1]"]).unwrap(), 1);
        assert!(matches!(filter(false, "example.com", &["10.0.0.1"]), Err(Error::Denied { .. })));
        assert!(matches!(filter(false, "example.com", &["169.254.169.254"]), Err(Error::Denied { .. })));
    }

    #[test]
    fn only_localhost_may_be_this_machine() {
        assert_eq!(filter(true, "localhost", &["127.0.0.1", "[::1]"]).unwrap(), 2);
        assert!(filter(false, "localhost", &["127.0.0.1"]).is_err());
        assert!(filter(true, "rebound.example.com", &["127.0.0.1"]).is_err());
        assert!(filter(true, "localhost", &["93.184.215.14"]).is_err());
    }
}
