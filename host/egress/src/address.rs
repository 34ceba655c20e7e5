//! Where one may connect to: classes of addresses and the rules over them.
//!
//! The rule is a list of what is public rather than of what is bad: an address block that nobody has thought
//! of is refused. Checked twice, on the URL (a literal address never meets a resolver) and on each DNS answer
//! (a name can point anywhere, and elsewhere a second later).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

use crate::Error;

/// What kind of address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Anywhere on the internet.
    Public,
    /// This machine.
    Loopback,
    /// The operator's own network.
    Private,
    /// Nobody's business: link-local, cloud metadata, multicast, documentation …
    Reserved,
}

/// What the operator allows beyond the public internet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// `[egress] allow_loopback`.
    pub(crate) loopback: bool,
    /// `[egress] allow_private`.
    pub(crate) private: bool,
}

impl Rules {
    /// Whether an address of this class may be connected to. Plain HTTP never goes to the public internet.
    pub(crate) fn allow(self, class: Class, encrypted: bool) -> bool {
        match class {
            Class::Public => encrypted,
            Class::Loopback => self.loopback,
            Class::Private => self.private,
            Class::Reserved => false,
        }
    }

    /// Checks what can be seen from the URL alone.
    pub(crate) fn check(self, url: &Url) -> Result<(), Error> {
        let refuse = |reason| Err(Error::Url { host: host_of(url), reason });
        let encrypted = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return refuse("only http and https are spoken"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("user and password do not belong in a url");
        }
        let class = match url.host() {
            Some(Host::Ipv4(ip)) => class_v4(ip),
            Some(Host::Ipv6(ip)) => class_v6(ip),
            Some(Host::Domain(name)) if is_localhost(name) => Class::Loopback,
            // A name may be private or public: the resolver decides. Only plain http can be refused here.
            Some(Host::Domain(_)) if encrypted || self.private => return Ok(()),
            Some(Host::Domain(_)) => return Err(denied(&host_of(url), Class::Public)),
            None => return refuse("it names no host"),
        };
        if self.allow(class, encrypted) { Ok(()) } else { Err(denied(&host_of(url), class)) }
    }
}

/// The refusal for a host of this class, naming the key that would allow it.
pub(crate) fn denied(host: &str, class: Class) -> Error {
    let why = match class {
        Class::Public => "plain http to the public internet is never allowed, use https",
        Class::Loopback => "it is this machine; `[egress] allow_loopback` in chela.toml permits it",
        Class::Private => "it is a private network; `[egress] allow_private` in chela.toml permits it",
        Class::Reserved => "its address is reserved (link-local, metadata, multicast …) and never allowed",
    };
    Error::Denied { host: host.to_owned(), why }
}

/// The host as text, for errors: never path or query, where secrets may stand.
pub(crate) fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// `localhost` and its subdomains (RFC 6761).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The class of an address.
pub(crate) fn class(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => class_v4(ip),
        IpAddr::V6(ip) => class_v6(ip),
    }
}

/// Metadata services that stand outside the link-local block: Alibaba, Azure, Oracle.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The metadata service of AWS on IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn class_v4(ip: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&ip) {
        return Class::Reserved;
    }
    match ip.octets() {
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Class::Private,
        [0 | 224..=255, ..] | [169, 254, ..] => Class::Reserved,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Class::Reserved
        }
        _ => Class::Public,
    }
}

fn class_v6(ip: Ipv6Addr) -> Class {
    if ip == METADATA_V6 {
        return Class::Reserved;
    }
    if let Some(inner) = embedded_v4(ip) {
        return class_v4(inner);
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0xfc00..=0xfdff, ..] => Class::Private,
        // Protocol assignments (Teredo among them), documentation, 6to4.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// The IPv4 address inside `::ffff:0:0/96` (mapped) or `64:ff9b::/96` (NAT64): that is where packets end up.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Rules = Rules { loopback: false, private: false };
    const OPEN: Rules = Rules { loopback: true, private: true };

    fn check(rules: Rules, url: &str) -> bool {
        rules.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn inside_addresses_are_refused_unless_allowed() {
        for url in [
            "https://127.0.0.1/",
            "https://127.9.9.9/",
            "https://2130706433/", // 127.0.0.1 in decimal
            "https://0177.0.0.1/", // in octal
            "https://0x7f.1/",     // in hex, short
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://10.0.0.1/",
            "https://172.31.0.1/",
            "https://192.168.1.1/",
            "https://100.64.0.1/",
            "https://[fd12::1]/",
            "https://[64:ff9b::10.0.0.1]/",
        ] {
            assert!(!check(CLOSED, url), "{url} was let through");
            assert!(check(OPEN, url), "{url} was refused though allowed");
        }
    }

    #[test]
    fn reserved_addresses_are_refused_whatever_is_allowed() {
        for url in [
            "https://0.0.0.0/",
            "https://0/",
            "https://169.254.169.254/",
            "https://100.100.100.200/",
            "https://168.63.129.16/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://192.0.2.1/",
            "https://[::]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fe80::1]/",
            "https://[fec0::1]/",
            "https://[ff02::1]/",
            "https://[fd00:ec2::254]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:db8::1]/",
            "https://[::127.0.0.1]/",
        ] {
            assert!(!check(OPEN, url), "{url} was let through");
        }
    }

    #[test]
    fn public_addresses_need_https() {
        for host in ["1.1.1.1", "[2606:4700::1111]", "api.example.com"] {
            assert!(check(CLOSED, &format!("https://{host}/")), "{host}");
            assert!(!check(CLOSED, &format!("http://{host}/")), "{host}");
        }
        assert!(check(OPEN, "http://127.0.0.1:8080/") && check(OPEN, "http://10.1.2.3/"));
        assert!(!check(OPEN, "http://1.1.1.1/"));
    }

    #[test]
    fn only_clean_http_urls_pass() {
        for url in [
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://user@example.com/",
            "https://u:p@example.com/",
        ] {
            assert!(!check(OPEN, url), "{url} was let through");
        }
    }
}
