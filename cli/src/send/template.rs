//! What the options say about every record.

use std::time::Duration;

use bytes::Bytes;
use weir_client::{Expect, LIFETIME_HEADER, Message};

use super::SendArguments;

/// Key, headers and partition that the options give to records.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    key: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
    id: Option<Bytes>,
    partition: Option<u32>,
    expect: Option<Expect>,
    lifetime: Option<Duration>,
}

impl Template {
    /// What these options say.
    pub(crate) fn new(arguments: &SendArguments) -> Self {
        let bytes = |text: &String| Bytes::from(text.clone().into_bytes());
        Self {
            key: arguments.key.as_ref().map(bytes),
            headers: arguments
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), Some(bytes(value))))
                .collect(),
            id: arguments.id.as_ref().map(bytes),
            partition: arguments.partition,
            expect: arguments.expect.expect(),
            lifetime: arguments.lifetime,
        }
    }

    /// A record with this value.
    pub(crate) fn record(&self, value: Bytes) -> Message {
        let mut message = Message::new(value);
        message.key.clone_from(&self.key);
        message.headers.clone_from(&self.headers);
        message.idempotency_key.clone_from(&self.id);
        message.partition = self.partition;
        message.expect = self.expect;
        self.limit(message)
    }

    /// Adds to a record what it does not bring itself.
    pub(crate) fn complete(&self, mut message: Message) -> Message {
        message.key = message.key.or_else(|| self.key.clone());
        message.idempotency_key = message.idempotency_key.or_else(|| self.id.clone());
        message.partition = message.partition.or(self.partition);
        message.expect = message.expect.or(self.expect);
        message.headers.extend_from_slice(&self.headers);
        self.limit(message)
    }

    /// Gives a record its lifetime, unless it brings one.
    fn limit(&self, message: Message) -> Message {
        let brings = message.headers.iter().any(|(name, _)| name == LIFETIME_HEADER);
        match self.lifetime.filter(|_| !brings) {
            Some(lifetime) => message.lifetime(lifetime),
            None => message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_what_it_brings() {
        let template = Template {
            key: Some(Bytes::from_static(b"k")),
            headers: vec![("h".to_owned(), None)],
            id: None,
            partition: Some(3),
            expect: None,
            lifetime: Some(Duration::from_secs(2)),
        };
        let bare = template.complete(Message::new("v"));
        assert_eq!((bare.key.as_deref(), bare.partition), (Some(&b"k"[..]), Some(3)));
        let own = template.complete(Message::new("v").key("own").partition(1).header("o", "1"));
        assert_eq!((own.key.as_deref(), own.partition), (Some(&b"own"[..]), Some(1)));
        let names: Vec<&str> = own.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["o", "h", LIFETIME_HEADER]);
        let lasting = template.complete(Message::new("v").lifetime(Duration::from_secs(9)));
        assert_eq!(lasting.headers[0].1.as_deref(), Some(&b"9000"[..]));
        assert_eq!(template.record(Bytes::from_static(b"v")), bare);
    }
}
