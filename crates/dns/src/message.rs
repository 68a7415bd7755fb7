//! DNS messages: what is asked, and answers of our own.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::limits::{TCP_MESSAGE, TTL, UDP_MESSAGE, UDP_PLAIN};
use crate::network::Transport;

/// Length of a message's header.
const HEADER: usize = 12;

/// A query that was understood.
#[derive(Debug)]
pub(crate) struct Asked {
    message: Message,
    transport: Transport,
}

/// What to do with bytes that came as a query.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Answer or forward it.
    Query(Asked),
    /// Answer with these bytes.
    Refused(Vec<u8>),
    /// Nothing that deserves an answer: an answer to an answer would go on for ever.
    Rubbish,
}

/// Judges bytes from a client.
pub(crate) fn incoming(bytes: &[u8], transport: Transport) -> Incoming {
    let [id_high, id_low, flags, _, 0, questions, ..] = *bytes else {
        return Incoming::Rubbish;
    };
    if bytes.len() < HEADER || flags & 0x80 != 0 {
        return Incoming::Rubbish;
    }
    let id = u16::from_be_bytes([id_high, id_low]);
    let op_code = OpCode::from_u8((flags >> 3) & 0xf);
    let refuse = |code| Incoming::Refused(bare(id, op_code, code, flags & 1 != 0));
    if op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if questions != 1 {
        return refuse(ResponseCode::FormErr);
    }
    match Message::from_vec(bytes) {
        Ok(message) if message.queries.len() == 1 => Incoming::Query(Asked { message, transport }),
        _ => refuse(ResponseCode::FormErr),
    }
}

/// An answer without any section.
fn bare(id: u16, op_code: OpCode, code: ResponseCode, recursion_desired: bool) -> Vec<u8> {
    let mut message = Message::error_msg(id, op_code, code);
    message.metadata.recursion_desired = recursion_desired;
    message.metadata.recursion_available = true;
    message.to_vec().unwrap_or_default()
}

impl Asked {
    fn query(&self) -> Option<&Query> {
        self.message.queries.first()
    }

    /// The name in lower case, without the dot at its end; `None` if the mesh can have no such name.
    pub(crate) fn name(&self) -> Option<String> {
        let name = self.query()?.name();
        let mut text = String::new();
        for label in name.iter() {
            let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*');
            if !label.iter().all(plain) {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        }
        (!text.is_empty()).then_some(text)
    }

    /// Whether IPv4 or IPv6 addresses are asked for; `None` for all other questions.
    pub(crate) fn family(&self) -> Option<Family> {
        let query = self.query()?;
        match (query.query_class(), query.query_type()) {
            (DNSClass::IN, RecordType::A) => Some(Family::V4),
            (DNSClass::IN, RecordType::AAAA) => Some(Family::V6),
            _ => None,
        }
    }

    /// The type in lower case, for metrics: a handful of values, whatever a client sends.
    pub(crate) fn type_label(&self) -> &'static str {
        match self.query().map(Query::query_type) {
            Some(RecordType::A) => "a",
            Some(RecordType::AAAA) => "aaaa",
            Some(RecordType::CNAME) => "cname",
            Some(RecordType::MX) => "mx",
            Some(RecordType::NS) => "ns",
            Some(RecordType::PTR) => "ptr",
            Some(RecordType::SOA) => "soa",
            Some(RecordType::SRV) => "srv",
            Some(RecordType::TXT) => "txt",
            Some(RecordType::HTTPS) => "https",
            Some(RecordType::SVCB) => "svcb",
            Some(RecordType::ANY) => "any",
            Some(_) => "other",
            None => "unknown",
        }
    }

    /// Our own word: these addresses, by way of an alias if there is one.
    pub(crate) fn answer(&self, alias: Option<&str>, addresses: &[IpAddr]) -> Vec<u8> {
        let mut message = self.response(ResponseCode::NoError);
        message.metadata.authoritative = true;
        let asked = self.query().map(|q| q.name().clone()).unwrap_or_default();
        let alias = alias.and_then(|text| Name::from_ascii(format!("{text}.")).ok());
        let owner = alias.clone().unwrap_or_else(|| asked.clone());
        if let (Some(alias), false) = (alias, addresses.is_empty()) {
            let record = Record::from_rdata(asked, TTL, RData::CNAME(CNAME(alias)));
            message.answers.push(record);
        }
        message.answers.extend(addresses.iter().map(|address| {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
            };
            Record::from_rdata(owner.clone(), TTL, data)
        }));
        self.fitting(message)
    }

    /// The query could not be answered.
    pub(crate) fn failure(&self) -> Vec<u8> {
        self.fitting(self.response(ResponseCode::ServFail))
    }

    fn response(&self, code: ResponseCode) -> Message {
        let asked = &self.message.metadata;
        let mut message = Message::error_msg(asked.id, OpCode::Query, code);
        message.metadata.recursion_desired = asked.recursion_desired;
        message.metadata.checking_disabled = asked.checking_disabled;
        message.metadata.recursion_available = true;
        message.queries.extend(self.query().cloned());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(UDP_MESSAGE).unwrap_or(u16::MAX));
            message.edns = Some(edns);
        }
        message
    }

    /// As bytes that the client takes: what is too long for a datagram becomes "ask again over TCP".
    fn fitting(&self, mut message: Message) -> Vec<u8> {
        let limit = match self.transport {
            Transport::Udp => self.payload(),
            Transport::Tcp => TCP_MESSAGE,
        };
        let bytes = message.to_vec().unwrap_or_default();
        if !bytes.is_empty() && bytes.len() <= limit {
            return bytes;
        }
        message.answers.clear();
        message.metadata.truncation = true;
        message.to_vec().unwrap_or_default()
    }

    fn payload(&self) -> usize {
        let said = self
            .message
            .edns
            .as_ref()
            .map(|e| usize::from(e.max_payload()));
        said.map_or(UDP_PLAIN, |said| said.clamp(UDP_PLAIN, UDP_MESSAGE))
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn has(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// A question of our own for the addresses of a host.
pub(crate) fn question(host: &str, family: Family, id: u16) -> Option<Vec<u8>> {
    let name = Name::from_ascii(format!("{}.", host.trim_end_matches('.'))).ok()?;
    let kind = match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(name, kind));
    message.to_vec().ok()
}

/// The addresses of a resolver's answer with the shortest time that any record of it may be kept, or the code that it gave.
pub(crate) fn addresses(bytes: &[u8]) -> Result<(Vec<IpAddr>, u32), String> {
    let message = Message::from_vec(bytes).map_err(|error| error.to_string())?;
    let code = message.metadata.response_code;
    let addresses: Vec<IpAddr> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(A(v4)) => Some(IpAddr::from(*v4)),
            RData::AAAA(AAAA(v6)) => Some(IpAddr::from(*v6)),
            _ => None,
        })
        .collect();
    if addresses.is_empty() {
        return Err(code.to_string());
    }
    let ttl = message.answers.iter().map(|record| record.ttl).min();
    Ok((addresses, ttl.unwrap_or(0)))
}

/// Whether `answer` is an answer to `query`: same id, same question.
pub(crate) fn answers(query: &[u8], answer: &[u8]) -> bool {
    let is_response = answer.get(2).is_some_and(|flags| flags & 0x80 != 0);
    if answer.len() < HEADER || !is_response || query.get(..2) != answer.get(..2) {
        return false;
    }
    let (Some(asked), Some(echoed)) = (raw_question(query), raw_question(answer)) else {
        // Some failures come without the question.
        return answer.get(4..6) == Some(&[0, 0]) && code(answer) != 0;
    };
    asked.eq_ignore_ascii_case(echoed)
}

/// The response code.
pub(crate) fn code(answer: &[u8]) -> u8 {
    answer.get(3).map_or(0, |flags| flags & 0xf)
}

/// Whether an answer was cut short.
pub(crate) fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// An answer that only says "ask again over TCP".
pub(crate) fn cut_short(query: &[u8]) -> Vec<u8> {
    let question = raw_question(query).map_or(0, <[u8]>::len);
    let mut answer = query.get(..HEADER + question).unwrap_or_default().to_vec();
    if let [_, _, flags, more, _, questions, counts @ ..] = answer.as_mut_slice() {
        *flags = 0x82 | (*flags & 0x01);
        *more = 0x80;
        *questions = u8::from(question > 0);
        counts.iter_mut().take(6).for_each(|count| *count = 0);
    }
    answer
}

/// Name, type and class of the one question. It is the first thing in a message, so it holds no pointers.
fn raw_question(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6) != Some(&[0, 1]) {
        return None;
    }
    let rest = message.get(HEADER..)?;
    let mut at = 0;
    loop {
        let length = usize::from(*rest.get(at)?);
        match length {
            0 => return rest.get(..at + 5),
            1..64 => at += 1 + length,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
