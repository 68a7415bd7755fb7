//! Random histories: publishing, answering, acknowledging and reconnecting in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// A pod appears or changes; its body names the policy that it needs.
    Pod(u8, u8),
    RemovePod(u8),
    /// The control plane publishes policies first, and takes them away last.
    Answer(u8),
    Acknowledge(u8),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..12, 0u8..5).prop_map(|(pod, policy)| Step::Pod(pod, policy)),
        2 => (0u8..12).prop_map(Step::RemovePod),
        4 => (1u8..4).prop_map(Step::Answer),
        3 => (1u8..4).prop_map(Step::Acknowledge),
        1 => Just(Step::Reconnect),
    ]
}

/// What the control plane knows, and how it publishes it.
#[derive(Default)]
struct Truth {
    pods: BTreeMap<u8, u8>,
    version: u32,
}

impl Truth {
    fn publish(&mut self, publisher: &Publisher, upside_down: bool) {
        self.version += 1;
        let policies: BTreeSet<u8> = self.pods.values().copied().collect();
        let policies = policies
            .iter()
            .map(|policy| put(&format!("ns/{policy}"), "policy"))
            .collect();
        let pods = self
            .pods
            .iter()
            .map(|(pod, policy)| put(&format!("pod/{pod}"), &format!("ns/{policy}")))
            .collect();
        // Which is published first must not matter as long as streams look only after both.
        if upside_down {
            publisher.replace(ADDRESS_TYPE, pods);
            publisher.replace(AUTHORIZATION_TYPE, policies);
        } else {
            publisher.replace(AUTHORIZATION_TYPE, policies);
            publisher.replace(ADDRESS_TYPE, pods);
        }
    }
}

type Held = BTreeMap<String, (String, String)>;

/// A client that applies what it gets, and checks that no pod is ever without its policy.
struct Client {
    session: Session,
    pods: Held,
    policies: Held,
    unacknowledged: VecDeque<Answer>,
    streams: u32,
}

impl Client {
    fn new(publisher: &Publisher) -> Self {
        let mut client = Self {
            session: Session::new(0),
            pods: Held::new(),
            policies: Held::new(),
            unacknowledged: VecDeque::new(),
            streams: 0,
        };
        client.connect(publisher);
        client
    }

    fn connect(&mut self, publisher: &Publisher) {
        self.streams += 1;
        self.session = Session::new(self.streams);
        self.unacknowledged.clear();
        for (type_url, held) in [
            (AUTHORIZATION_TYPE, &self.policies),
            (ADDRESS_TYPE, &self.pods),
        ] {
            let mut first = subscribe(type_url, &[]);
            first.initial_resource_versions = held
                .iter()
                .map(|(name, (version, _))| (name.clone(), version.clone()))
                .collect();
            self.session.request(first, publisher).unwrap();
        }
    }

    fn receive(&mut self, publisher: &Publisher) -> bool {
        let Some(answer) = self.session.next(publisher).unwrap() else {
            return false;
        };
        let held = match &*answer.type_url {
            ADDRESS_TYPE => &mut self.pods,
            _ => &mut self.policies,
        };
        for name in &answer.removed {
            held.remove(&**name);
        }
        held.extend(contents(&answer));
        for (pod, (_, policy)) in &self.pods {
            assert!(self.policies.contains_key(policy), "{pod} lacks {policy}");
        }
        self.unacknowledged.push_back(answer);
        true
    }

    fn acknowledge(&mut self, publisher: &Publisher) {
        if let Some(answer) = self.unacknowledged.pop_front() {
            let noted = self
                .session
                .request(acknowledge(&answer), publisher)
                .unwrap();
            assert!(matches!(noted, Noted::Acknowledged(_)));
        }
    }

    fn settle(&mut self, publisher: &Publisher) {
        loop {
            while !self.unacknowledged.is_empty() {
                self.acknowledge(publisher);
            }
            if !self.receive(publisher) {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens, a client that is left alone for a moment knows what the server knows; and at no time does it know a
    /// workload without the policy that the workload names.
    #[test]
    fn client_state_becomes_server_state(steps in prop::collection::vec((step(), any::<bool>()), 1..60)) {
        let publisher = Publisher::new();
        let mut truth = Truth::default();
        let mut client = Client::new(&publisher);
        for (step, upside_down) in steps {
            match step {
                Step::Pod(pod, policy) => {
                    truth.pods.insert(pod, policy);
                    truth.publish(&publisher, upside_down);
                }
                Step::RemovePod(pod) => {
                    truth.pods.remove(&pod);
                    truth.publish(&publisher, upside_down);
                }
                Step::Answer(count) => for _ in 0..count {
                    client.receive(&publisher);
                },
                Step::Acknowledge(count) => for _ in 0..count {
                    client.acknowledge(&publisher);
                },
                Step::Reconnect => client.connect(&publisher),
            }
        }
        client.settle(&publisher);
        let pods: BTreeMap<String, String> = truth.pods.iter()
            .map(|(pod, policy)| (format!("pod/{pod}"), format!("ns/{policy}")))
            .collect();
        let known: BTreeMap<String, String> = client.pods.iter()
            .map(|(name, (_, body))| (name.clone(), body.clone()))
            .collect();
        prop_assert_eq!(known, pods);
        let policies: BTreeSet<String> =
            truth.pods.values().map(|policy| format!("ns/{policy}")).collect();
        let known: BTreeSet<String> = client.policies.keys().cloned().collect();
        prop_assert_eq!(known, policies);
    }
}
