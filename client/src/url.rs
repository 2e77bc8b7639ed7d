//! The URL of a broker: `weir://HOST:PORT[?pin=sha256:HEX][&ca=FILE]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{ClientCode, Error};
use crate::options::Tls;

/// Port of a URL that names none.
pub(crate) const DEFAULT_PORT: u16 = 7400;

/// Where a broker is and how its certificate is checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    tls: Tls,
}

impl BrokerUrl {
    /// Name or address of the host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How the certificate is checked.
    #[must_use]
    pub const fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Host and port, as they stand in messages.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir://{}", self.authority())?;
        match &self.tls {
            Tls::System => Ok(()),
            Tls::CaFile(path) => write!(f, "?ca={}", path.display()),
            Tls::Pin(pin) => {
                f.write_str("?pin=sha256:")?;
                pin.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn bad(url: &str, why: impl fmt::Display) -> Error {
    Error::client(ClientCode::Url, format!("'{url}' is not the URL of a broker: {why}"))
}

impl FromStr for BrokerUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("weir://").ok_or_else(|| bad(url, "it must begin with weir://"))?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = split_authority(url, authority)?;
        let tls = parse_query(url, query)?;
        Ok(Self { host, port, tls })
    }
}

fn split_authority(url: &str, authority: &str) -> Result<(String, u16), Error> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| bad(url, "a ] is missing"))?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(bad(url, "after ] only a port may follow")),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err(bad(url, "the host is missing"));
    }
    if host.contains(['@', '/', '#']) {
        return Err(bad(url, "the host has a character it cannot have"));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => port,
            Ok(_) | Err(_) => return Err(bad(url, format!("'{text}' is not a port"))),
        },
    };
    Ok((host.to_owned(), port))
}

fn parse_query(url: &str, query: &str) -> Result<Tls, Error> {
    let mut tls = Tls::System;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if tls != Tls::System {
            return Err(bad(url, "only one of pin and ca may stand in it, once"));
        }
        tls = match name {
            "pin" => Tls::Pin(parse_pin(url, value)?),
            "ca" if !value.is_empty() => Tls::CaFile(PathBuf::from(value)),
            "ca" => return Err(bad(url, "ca names no file")),
            other => return Err(bad(url, format!("it knows pin and ca, not '{other}'"))),
        };
    }
    Ok(tls)
}

fn parse_pin(url: &str, text: &str) -> Result<[u8; 32], Error> {
    let wrong = || bad(url, "a pin is sha256: and 64 hexadecimal digits");
    let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut pin = [0; 32];
    for (byte, pair) in pin.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_not_text| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_not_hex| wrong())?;
    }
    Ok(pin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_written() {
        let url: BrokerUrl = "weir://10.0.0.5:7401".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.tls()), ("10.0.0.5", 7401, &Tls::System));
        let url: BrokerUrl = "weir://broker.example/".parse().unwrap();
        assert_eq!((url.host(), url.port()), ("broker.example", DEFAULT_PORT));
        let url: BrokerUrl = "weir://[::1]:9?ca=/etc/ca.pem".parse().unwrap();
        assert_eq!((url.host(), url.port()), ("::1", 9));
        assert_eq!(url.tls(), &Tls::CaFile("/etc/ca.pem".into()));
        assert_eq!(url.authority(), "[::1]:9");
    }

    #[test]
    fn display_is_the_url_again() {
        let pin = "0f".repeat(32);
        for text in [
            "weir://a:1".to_owned(),
            "weir://[::1]:7400?ca=x".to_owned(),
            format!("weir://a:1?pin=sha256:{pin}"),
        ] {
            assert_eq!(text.parse::<BrokerUrl>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_urls_are_refused_with_the_reason() {
        for (url, reason) in [
            ("http://a", "weir://"),
            ("weir://", "host"),
            ("weir://a:0", "port"),
            ("weir://a:x", "port"),
            ("weir://[::1", "]"),
            ("weir://a?pin=sha256:12", "64"),
            ("weir://a?pin=md5:12", "sha256"),
            ("weir://a?ca=", "file"),
            ("weir://a?verify=no", "verify"),
            ("weir://a?ca=x&ca=y", "once"),
        ] {
            let error = url.parse::<BrokerUrl>().unwrap_err();
            assert_eq!(error.code(), "WEIR-1021");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
