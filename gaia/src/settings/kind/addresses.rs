//! Addresses: of one process, and of each of several.

use std::net::SocketAddr;

use config::{Value, ValueKind};
use wan::driver::address::Address;

use super::{Kind, Raw, Read, list, not_empty};
use crate::settings::document::inline;

/// What stands for the number of a process in a text that is about several.
const INDEX: &str = "{index}";

/// A socket's address; what may stand there has no names, which can mean several.
pub(crate) fn socket_address() -> Kind<SocketAddr> {
    Kind::new("an IP address and a port, such as \"127.0.0.1:9001\" or \"[::1]:9001\"", |raw| {
        raw.text()?.parse().ok()
    })
}

/// Where a process listens: the same with a port that others can be told.
pub(crate) fn listen_address() -> Kind<SocketAddr> {
    socket_address().only(", with a port from 1 to 65535", |address| address.port() != 0)
}

/// Where something can be reached: an address or a name, and a port, as they stand.
pub(crate) fn host_and_port() -> Kind<String> {
    Kind::new("a host and a port, such as \"ireland-0:7200\" or \"[::1]:7200\"", |raw| {
        let text = raw.text()?;
        let (host, port) = text.rsplit_once(':')?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        (is_port && (text.parse::<SocketAddr>().is_ok() || is_host_name(host))).then(|| text.to_owned())
    })
}

fn is_host_name(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
    // Names do not end in a number; what does is an IPv4 address with a slip in it.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    host.bytes().all(plain) && !is_number
}

/// Where a process can be reached.
pub(crate) fn address() -> Kind<Address> {
    host_and_port().map(|text| text.parse().unwrap_or_else(|never| match never {}))
}

/// Where a process can be reached, in one way or in several.
pub(crate) fn alternatives() -> Kind<Vec<Address>> {
    let (one, several) = (address(), not_empty(list(address())));
    let allowed = format!("{}, or an array of these", one.allowed);
    let read: Read<Vec<Address>> = Box::new(move |raw| match &raw.value.kind {
        ValueKind::Array(_) => several.read(raw),
        _ => one.read(raw).map(|address| vec![address]),
    });
    Kind { allowed, read }
}

/// Processes of which each has an address of a kind.
#[derive(Clone, Copy)]
pub(crate) struct Processes {
    /// What they are, in the plural.
    pub(crate) called: &'static str,
    /// How many there are, where that is known.
    pub(crate) count: Option<u32>,
}

impl Processes {
    /// Where each of them can be reached: in different places.
    pub(crate) fn addresses(self) -> Kind<Vec<Address>> {
        let each = self.each(address(), false);
        let read: Read<Vec<Address>> = Box::new(move |raw| {
            let addresses = (each.read)(raw)?;
            let twice = addresses.iter().enumerate().find(|(index, one)| addresses[..*index].contains(one));
            match twice {
                None => Ok(addresses),
                Some((_, twice)) => Err(Some(format!("\"{twice}\" stands there twice"))),
            }
        });
        Kind { allowed: each.allowed, read }
    }

    /// Where each of them listens; it may be the same for all, on machines of their own.
    pub(crate) fn listen(self) -> Kind<Vec<SocketAddr>> {
        self.each(listen_address(), true)
    }

    /// A value for each of them: an array, or one text with their numbers in it.
    fn each<T: 'static>(self, item: Kind<T>, may_be_the_same: bool) -> Kind<Vec<T>> {
        let Self { called, count } = self;
        let several = match count {
            Some(count) => format!("an array for the {count} {called}"),
            None => format!("an array for the {called}"),
        };
        let template =
            if may_be_the_same { "one text, with or without {index}" } else { "one text with {index}" };
        let allowed = format!("{several}, or {template}; each: {}", item.allowed);
        let read: Read<Vec<T>> = Box::new(move |raw| {
            let texts = match texts(raw)? {
                Texts::Each(values) => values,
                Texts::One(text) => {
                    let count = count.unwrap_or(1);
                    if count > 1 && !may_be_the_same && !text.contains(INDEX) {
                        return Err(Some(format!("one address cannot be that of {count} {called}")));
                    }
                    let origin = raw.value.origin().map(str::to_owned);
                    let of = |index: u32| text.replace(INDEX, &index.to_string());
                    (0..count).map(|index| Value::new(origin.as_ref(), of(index))).collect()
                }
            };
            if let Some(count) = count.filter(|count| *count as usize != texts.len()) {
                return Err(Some(format!("there are {} for {count} {called}", texts.len())));
            }
            let read = |value| item.read(&Raw { value, loose: raw.loose, directory: raw.directory });
            texts.iter().map(read).collect()
        });
        Kind { allowed, read }
    }
}

enum Texts {
    /// One for each.
    Each(Vec<Value>),
    /// One for all.
    One(String),
}

fn texts(raw: &Raw<'_>) -> Result<Texts, Option<String>> {
    if let ValueKind::Array(items) = &raw.value.kind {
        return Ok(Texts::Each(items.clone()));
    }
    let text = raw.text().ok_or(None)?.trim();
    if !raw.loose {
        return Ok(Texts::One(text.to_owned()));
    }
    if let Some(Value { kind: ValueKind::Array(items), .. }) = inline(text, raw.origin()) {
        return Ok(Texts::Each(items));
    }
    let origin = raw.origin().to_owned();
    let value = |item: &str| Value::new(Some(&origin), item.trim());
    Ok(match text.contains(',') {
        true => Texts::Each(text.split(',').map(value).collect()),
        false => Texts::One(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(kind: &Kind<T>, value: impl Into<ValueKind>, loose: bool) -> Result<T, Option<String>> {
        let value = Value::new(Some(&"here".to_owned()), value);
        kind.read(&Raw { value: &value, loose, directory: None })
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        for (text, is_one) in [
            ("127.0.0.1:7100", true),
            ("[::1]:7100", true),
            ("::1:7100", false),
            ("gaia-server-0.gaia-server.virginia.svc:7100", true),
            ("ireland_0:1", true),
            ("ireland:0", false),
            ("ireland:65536", false),
            ("ireland", false),
            (":7100", false),
            ("300.0.0.1:7100", false),
            ("10.0.0:7100", false),
            ("http://ireland:7100", false),
            ("ireland :7100", false),
        ] {
            assert_eq!(read(&address(), text, false).is_ok(), is_one, "{text}");
        }
        assert!(read(&listen_address(), "0.0.0.0:0", false).is_err());
        assert!(read(&listen_address(), "localhost:7100", false).is_err());
    }

    #[test]
    fn a_text_with_an_index_stands_for_all() {
        let three = Processes { called: "servers", count: Some(3) };
        let shown = |value: &str, loose| {
            let addresses = read(&three.addresses(), value, loose)?;
            Ok::<_, Option<String>>(addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown("gaia-{index}:7100", false), Ok("gaia-0:7100 gaia-1:7100 gaia-2:7100".to_owned()));
        assert_eq!(
            shown("10.0.0.1:710{index}", true),
            Ok("10.0.0.1:7100 10.0.0.1:7101 10.0.0.1:7102".to_owned())
        );
        assert_eq!(shown("a:1, b:1,c:1", true), Ok("a:1 b:1 c:1".to_owned()));
        assert_eq!(shown("['a:1', 'b:1', 'c:1']", true), Ok("a:1 b:1 c:1".to_owned()));
        for (text, hint) in [
            ("a:1", Some("one address cannot be that of 3 servers")),
            ("a:1,b:1", Some("there are 2 for 3 servers")),
            ("a:1,b:1,a:1", Some("\"a:1\" stands there twice")),
            ("a:{index}", None),
        ] {
            assert_eq!(shown(text, true), Err(hint.map(str::to_owned)), "{text}");
        }
        assert_eq!(read(&three.listen(), "[::]:7100", false), Ok(vec!["[::]:7100".parse().unwrap(); 3]));
        let unknown = Processes { count: None, ..three };
        assert!(read(&unknown.addresses(), "a:1", false).is_ok());
        assert!(read(&unknown.addresses(), "a:{index}1x", false).is_err());
    }

    #[test]
    fn a_server_may_have_several_addresses() {
        let servers = list(alternatives());
        let items = vec![Value::from("a:1"), Value::from(vec![Value::from("b:1"), Value::from("[::1]:1")])];
        let found = read(&servers, items, false).expect("it is right");
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
        assert!(read(&servers, vec![Value::from(Vec::<Value>::new())], false).is_err(), "none is no address");
        assert_eq!(read(&servers, "a:1,b:1", true).expect("it is right").len(), 2);
        assert_eq!(read(&servers, "[['a:1', 'b:1'], 'c:1']", true).expect("it is right").len(), 2);
    }
}
