//! One discovery stream as a state machine: requests in, answers out, no I/O.
//!
//! Per type it remembers how far it has sent (a number of the publisher's sequence), not what. Only what a reconnecting
//! client says it has is held, until it has been compared.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tulle_proto::discovery::DeltaDiscoveryRequest;

use super::codec::Answer;
use super::publisher::{Entry, Publisher, State, Table, rank, text};
use crate::limits::{
    ANSWER_REMOVALS, MAX_NAMES, MAX_TYPES, MAX_UNACKNOWLEDGED, SPLIT_ANSWER_BYTES,
    WHOLE_ANSWER_BYTES,
};
use crate::wire::MORE;

/// Everything.
const WILDCARD: &str = "*";

/// What the requests of one client add up to.
pub(super) struct Session {
    /// In the order in which they are sent.
    subscriptions: Vec<Subscription>,
    /// Makes nonces of different streams different.
    salt: u32,
    answers: u64,
    /// Bytes of resources in one answer.
    most: usize,
    /// Whose proxy the client is: what is not for it does not exist.
    gateway: Option<Arc<str>>,
}

struct Subscription {
    type_url: Arc<str>,
    gateway: Option<Arc<str>>,
    /// All resources; otherwise those in `names`.
    wildcard: bool,
    names: HashSet<Arc<str>>,
    /// Names that were asked for just now and are still to be answered.
    asked: Vec<Arc<str>>,
    /// Changes up to this number are sent.
    sent: u64,
    /// Removals up to this number are sent.
    removed: u64,
    /// What the client said it has, until `sent` has passed `compared`; less what it was told about since.
    known: HashMap<String, String>,
    compared: u64,
    /// What the client said it has and is no more.
    obsolete: Vec<Arc<str>>,
    /// A request is answered even if there is nothing to say.
    must_answer: bool,
    unacknowledged: VecDeque<(String, u64)>,
}

/// What a request meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// A subscription, new or changed.
    Subscribed,
    /// An answer was taken over; the newest change in it.
    Acknowledged(u64),
    /// An answer was rejected, in part; the client's words.
    Rejected(String),
    /// A nonce that is not outstanding: ignored.
    Stale,
}

/// Why a stream cannot go on. The client connects again and lists what it has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SessionError {
    #[error("a discovery request without type_url")]
    NoType,
    #[error("more than {MAX_TYPES} types on one stream")]
    TooManyTypes,
    #[error("more than {MAX_NAMES} names on one stream")]
    TooManyNames,
    #[error("this client is too far behind; connect again with initial_resource_versions")]
    Behind,
}

impl Session {
    pub(super) fn new(salt: u32) -> Self {
        Self {
            subscriptions: Vec::new(),
            salt,
            answers: 0,
            most: WHOLE_ANSWER_BYTES,
            gateway: None,
        }
    }

    /// The client is the proxy of this Gateway.
    pub(super) fn of_gateway(mut self, gateway: Option<Arc<str>>) -> Self {
        self.gateway = gateway;
        self
    }

    /// The client understands split answers.
    pub(super) fn split(&mut self) {
        self.most = SPLIT_ANSWER_BYTES;
    }

    /// Takes a request in.
    pub(super) fn request(
        &mut self,
        request: DeltaDiscoveryRequest,
        publisher: &Publisher,
    ) -> Result<Noted, SessionError> {
        if request.type_url.is_empty() {
            return Err(SessionError::NoType);
        }
        let known = self
            .subscriptions
            .iter()
            .position(|subscription| *subscription.type_url == *request.type_url);
        let Some(known) = known else {
            if self.subscriptions.len() >= MAX_TYPES {
                return Err(SessionError::TooManyTypes);
            }
            let gateway = self.gateway.clone();
            let subscription = Subscription::first(request, &publisher.lock(), gateway)?;
            self.subscriptions.push(subscription);
            self.subscriptions
                .sort_by_key(|subscription| rank(&subscription.type_url));
            return Ok(Noted::Subscribed);
        };
        let subscription = &mut self.subscriptions[known];
        subscription.change(&request, &publisher.lock())?;
        Ok(subscription.acknowledge(request))
    }

    /// The next answer, if there is something to say and the client keeps up.
    pub(super) fn next(&mut self, publisher: &Publisher) -> Result<Option<Answer>, SessionError> {
        let state = publisher.lock();
        if state.held {
            return Ok(None);
        }
        for subscription in &mut self.subscriptions {
            subscription.skip(&state)?;
        }
        for at in 0..self.subscriptions.len() {
            let (subscription, later) = match self.subscriptions[at..].split_first_mut() {
                Some(split) => split,
                None => break,
            };
            let may_remove = !later.iter().any(|later| later.pending(&state));
            if !(subscription.has_news(&state) || may_remove && subscription.has_removals(&state)) {
                continue;
            }
            if subscription.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
                return Ok(None);
            }
            self.answers += 1;
            let nonce = format!("{:08x}-{}", self.salt, self.answers);
            return Ok(Some(
                subscription.answer(&state, may_remove, nonce, self.most),
            ));
        }
        Ok(None)
    }

    /// By type, up to which change the client has everything that is for it: all that was sent is acknowledged, and the rest
    /// was not its business.
    pub(super) fn settled(&self) -> impl Iterator<Item = (&str, u64)> {
        let quiet = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.unacknowledged.is_empty());
        quiet.map(|subscription| (&*subscription.type_url, subscription.sent))
    }
}

impl Subscription {
    /// The first request for a type: nothing named or `*` means everything; `*` taken back at once means nothing yet.
    fn first(
        request: DeltaDiscoveryRequest,
        state: &State,
        gateway: Option<Arc<str>>,
    ) -> Result<Self, SessionError> {
        let wild = |names: &[String]| names.iter().any(|name| name == WILDCARD);
        let subscribed = &request.resource_names_subscribe;
        let wildcard = (subscribed.is_empty() || wild(subscribed))
            && !wild(&request.resource_names_unsubscribe);
        let known = request.initial_resource_versions;
        let table = state.table(&request.type_url);
        let absent = |name: &str| table.is_none_or(|t| t.get(name, gateway.as_deref()).is_none());
        let obsolete = known
            .keys()
            .filter(|name| absent(name))
            .map(|name| Arc::from(name.as_str()))
            .collect();
        let mut subscription = Self {
            type_url: Arc::from(request.type_url),
            gateway,
            wildcard,
            names: HashSet::new(),
            asked: Vec::new(),
            sent: if wildcard { 0 } else { state.sequence },
            removed: state.sequence,
            known,
            compared: state.sequence,
            obsolete,
            must_answer: true,
            unacknowledged: VecDeque::new(),
        };
        subscription.name(&request.resource_names_subscribe)?;
        Ok(subscription)
    }

    /// A later request may change what is subscribed to.
    fn change(
        &mut self,
        request: &DeltaDiscoveryRequest,
        state: &State,
    ) -> Result<(), SessionError> {
        for name in &request.resource_names_unsubscribe {
            if name == WILDCARD && self.wildcard {
                self.wildcard = false;
            } else {
                self.names.remove(name.as_str());
            }
        }
        let subscribed = &request.resource_names_subscribe;
        if !self.wildcard && subscribed.iter().any(|name| name == WILDCARD) {
            self.wildcard = true;
            self.sent = 0;
            self.compared = state.sequence;
            self.must_answer = true;
        }
        self.name(subscribed)
    }

    fn name(&mut self, names: &[String]) -> Result<(), SessionError> {
        for name in names.iter().filter(|name| *name != WILDCARD) {
            let name: Arc<str> = Arc::from(name.as_str());
            if self.names.insert(name.clone()) || !self.asked.contains(&name) {
                self.asked.push(name);
            }
            if self.names.len() > MAX_NAMES || self.asked.len() > MAX_NAMES {
                return Err(SessionError::TooManyNames);
            }
            self.must_answer = true;
        }
        Ok(())
    }

    fn acknowledge(&mut self, request: DeltaDiscoveryRequest) -> Noted {
        if request.response_nonce.is_empty() {
            return Noted::Subscribed;
        }
        let outstanding = &mut self.unacknowledged;
        let Some(at) = outstanding
            .iter()
            .position(|(nonce, _)| *nonce == request.response_nonce)
        else {
            return Noted::Stale;
        };
        let newest = outstanding.drain(..=at).next_back();
        match request.error_detail {
            Some(error) => Noted::Rejected(error.message),
            None => Noted::Acknowledged(newest.map_or(0, |(_, sequence)| sequence)),
        }
    }

    /// Moves past changes that this client need not hear of.
    fn skip(&mut self, state: &State) -> Result<(), SessionError> {
        let Some(table) = state.table(&self.type_url) else {
            return Ok(());
        };
        if self.removed < table.horizon {
            return Err(SessionError::Behind);
        }
        let next = table
            .news(self.sent, self.gateway.as_deref())
            .find(|(_, name, entry)| self.wants(name, entry.keys()) && !self.has(name, entry));
        self.sent = next.map_or(state.sequence.max(self.sent), |(at, ..)| at - 1);
        let next = table
            .removals(self.removed, self.gateway.as_deref())
            .find(|removal| self.wants(removal.name, removal.keys));
        self.removed = next.map_or(state.sequence.max(self.removed), |removal| removal.at - 1);
        if self.sent >= self.compared && self.asked.is_empty() {
            self.known = HashMap::new();
        }
        Ok(())
    }

    fn wants(&self, name: &str, keys: &[Arc<str>]) -> bool {
        self.wildcard
            || self.names.contains(name)
            || keys.iter().any(|key| self.names.contains(key))
    }

    /// Whether the client said that it has exactly this.
    fn has(&self, name: &str, entry: &Entry) -> bool {
        !self.known.is_empty()
            && self
                .known
                .get(name)
                .is_some_and(|version| *version == text(entry.version))
    }

    fn has_news(&self, state: &State) -> bool {
        let newer = |table: &Table| {
            table
                .news(self.sent, self.gateway.as_deref())
                .next()
                .is_some()
        };
        self.must_answer || state.table(&self.type_url).is_some_and(newer)
    }

    fn has_removals(&self, state: &State) -> bool {
        let gateway = self.gateway.as_deref();
        let newer = |table: &Table| table.removals(self.removed, gateway).next().is_some();
        !self.obsolete.is_empty() || state.table(&self.type_url).is_some_and(newer)
    }

    fn pending(&self, state: &State) -> bool {
        self.has_news(state) || self.has_removals(state)
    }

    fn answer(&mut self, state: &State, may_remove: bool, nonce: String, most: usize) -> Answer {
        let mut answer = Answer {
            version: String::new(),
            type_url: self.type_url.clone(),
            nonce: nonce.clone(),
            resources: Vec::new(),
            removed: Vec::new(),
        };
        let empty = Table::default();
        let table = state.table(&self.type_url).unwrap_or(&empty);
        self.named(table, most, &mut answer);
        self.news(table, state.sequence, most, &mut answer);
        if may_remove {
            self.removals(table, state.sequence, &mut answer);
        }
        self.must_answer = !self.asked.is_empty();
        let more = self.sent < state.sequence || self.must_answer;
        answer.version = format!("{}{}", state.sequence, if more { MORE } else { "" });
        self.unacknowledged.push_back((nonce, self.sent));
        answer
    }

    /// What was asked for by name, and the names that stand for nothing.
    fn named(&mut self, table: &Table, most: usize, answer: &mut Answer) {
        let mut bytes = 0;
        let mut included: HashSet<&Arc<str>> = HashSet::new();
        while bytes < most {
            let Some(name) = self.asked.pop() else {
                break;
            };
            let mut found = false;
            for resource in table.resolve(&name) {
                let Some(entry) = table.get(resource, self.gateway.as_deref()) else {
                    continue;
                };
                found = true;
                if !self.has(resource, entry) && included.insert(resource) {
                    self.known.remove(&**resource);
                    bytes += entry.bytes.len();
                    answer.resources.push(entry.bytes.clone());
                }
            }
            if !found {
                answer.removed.push(name);
            }
        }
    }

    fn news(&mut self, table: &Table, newest: u64, most: usize, answer: &mut Answer) {
        let mut bytes: usize = answer.resources.iter().map(bytes::Bytes::len).sum();
        let gateway = self.gateway.clone();
        for (at, name, entry) in table.news(self.sent, gateway.as_deref()) {
            if bytes >= most {
                return;
            }
            if self.wants(name, entry.keys()) && !self.has(name, entry) {
                self.known.remove(&**name);
                bytes += entry.bytes.len();
                answer.resources.push(entry.bytes.clone());
            }
            self.sent = at;
        }
        self.sent = newest;
    }

    fn removals(&mut self, table: &Table, newest: u64, answer: &mut Answer) {
        while let Some(name) = self.obsolete.pop() {
            // It may have come back since the client connected; then it was sent as news.
            if table.get(&name, self.gateway.as_deref()).is_none() {
                self.known.remove(&*name);
                answer.removed.push(name);
            }
            if answer.removed.len() >= ANSWER_REMOVALS {
                return;
            }
        }
        let gateway = self.gateway.clone();
        for removal in table.removals(self.removed, gateway.as_deref()) {
            if answer.removed.len() >= ANSWER_REMOVALS {
                return;
            }
            if self.wants(removal.name, removal.keys) {
                self.known.remove(&**removal.name);
                answer.removed.push(removal.name.clone());
            }
            self.removed = removal.at;
        }
        self.removed = newest;
    }
}

#[cfg(test)]
mod tests;
