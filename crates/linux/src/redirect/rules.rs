//! The rules as text for `nft`.

use std::fmt::Write;

use tulle_api::contract::{
    MARK_CONN, MARK_MASK, MARK_PROXY, PORT_DNS, PORT_HBONE, PORT_INBOUND_PLAIN, PORT_OUTBOUND,
    PROBE_V4, PROBE_V6,
};

use super::Redirect;

/// Name of our table, family `inet`.
pub(super) const TABLE: &str = "tulle-pod";

/// A packet that starts a TCP connection. Conntrack takes up connections in mid-stream too and would offer them to NAT;
/// those must not be touched.
const START: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// All rules of one state of a pod.
pub(super) struct Ruleset {
    chains: Vec<Chain>,
}

struct Chain {
    name: &'static str,
    /// Base chain specification.
    hook: &'static str,
    rules: Vec<String>,
}

/// The rules of an enrolled pod.
pub(super) fn capture(redirect: &Redirect) -> Ruleset {
    let mut chains = marks();
    chains.push(Chain {
        name: "capture-in",
        hook: NAT_IN,
        rules: capture_in(redirect),
    });
    chains.push(Chain {
        name: "capture-out",
        hook: NAT_OUT,
        rules: capture_out(redirect),
    });
    chains.push(Chain {
        name: "guard",
        hook: "type filter hook input priority 0",
        rules: guard(),
    });
    if !redirect.ipv6 {
        chains.extend(refuse_ipv6());
    }
    if redirect.dns {
        chains.extend(dns_zones());
    }
    Ruleset { chains }
}

/// The rules of a pod that is leaving: nothing is captured, but NAT hooks and marks remain for what was, except that no query
/// is taken for an earlier one.
pub(super) fn stopped() -> Ruleset {
    let mut chains = marks();
    chains.push(Chain {
        name: "capture-in",
        hook: NAT_IN,
        rules: Vec::new(),
    });
    chains.push(Chain {
        name: "capture-out",
        hook: NAT_OUT,
        rules: Vec::new(),
    });
    chains.push(Chain {
        name: "guard",
        hook: "type filter hook input priority 0",
        rules: guard(),
    });
    chains.extend(direct_dns());
    Ruleset { chains }
}

/// Removes the table, also when there is none.
pub(super) fn absent() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

const NAT_IN: &str = "type nat hook prerouting priority -100";
const NAT_OUT: &str = "type nat hook output priority -100";

/// The proxy's connections to the application bear the client's address. Their replies are sent back through loopback
/// by mark and policy routing, instead of out of the pod.
fn marks() -> Vec<Chain> {
    vec![
        Chain {
            name: "mark-connection",
            hook: "type filter hook prerouting priority -150",
            rules: vec![format!("{} ct mark set {MARK_CONN:#x}", by_proxy())],
        },
        Chain {
            name: "mark-reply",
            hook: "type route hook output priority -150",
            rules: vec![format!(
                "ct direction reply ct mark & {MARK_MASK:#x} == {MARK_CONN:#x} meta mark set ct mark"
            )],
        },
    ]
}

fn capture_in(redirect: &Redirect) -> Vec<String> {
    let only = families(redirect);
    let mut rules = vec![format!("{} accept", by_proxy())];
    for interface in &redirect.virtual_interfaces {
        rules.push(format!(
            "iifname \"{interface}\" {only}{START} redirect to :{PORT_OUTBOUND}"
        ));
        rules.push(format!("iifname \"{interface}\" accept"));
    }
    if !redirect.ingress_bypass {
        rules.push(format!("meta l4proto tcp ip saddr {PROBE_V4} accept"));
        rules.push(format!("meta l4proto tcp ip6 saddr {PROBE_V6} accept"));
        // What the pod says to itself was decided on its way out.
        rules.push("iifname \"lo\" accept".into());
        rules.push(format!(
            "{only}tcp dport != {PORT_HBONE} {START} redirect to :{PORT_INBOUND_PLAIN}"
        ));
    }
    rules
}

fn capture_out(redirect: &Redirect) -> Vec<String> {
    let only = families(redirect);
    let mut rules = vec![
        format!("{} accept", by_proxy()),
        format!("meta l4proto tcp ct mark & {MARK_MASK:#x} == {MARK_CONN:#x} accept"),
        format!("meta l4proto tcp ip daddr {PROBE_V4} accept"),
        format!("meta l4proto tcp ip6 daddr {PROBE_V6} accept"),
        // Loopback, and the pod calling its own address.
        "oifname \"lo\" accept".into(),
    ];
    if redirect.dns {
        rules.push(format!("{only}udp dport 53 redirect to :{PORT_DNS}"));
        rules.push(format!(
            "{only}tcp dport 53 {START} redirect to :{PORT_DNS}"
        ));
    }
    rules.push(format!("{only}{START} redirect to :{PORT_OUTBOUND}"));
    rules
}

/// The capture ports take what was redirected and nothing else. A connection made straight to them would have itself
/// as its original destination, and the proxy would call itself for ever.
fn guard() -> Vec<String> {
    vec![format!(
        "tcp dport {{ {PORT_OUTBOUND}, {PORT_INBOUND_PLAIN} }} {START} ct status & dnat == 0 reject with tcp reset"
    )]
}

/// Without IPv6 in the mesh, what cannot be encrypted is refused at once instead of sent in clear.
fn refuse_ipv6() -> Vec<Chain> {
    let other = format!("meta nfproto ipv6 meta mark & {MARK_MASK:#x} != {MARK_PROXY:#x}");
    vec![
        Chain {
            name: "refuse-ipv6-out",
            hook: "type filter hook output priority 0",
            rules: vec![format!(
                "{other} oifname != \"lo\" ip6 daddr != {PROBE_V6} {START} reject with tcp reset"
            )],
        },
        Chain {
            name: "refuse-ipv6-in",
            hook: "type filter hook input priority 0",
            rules: vec![format!(
                "{other} iifname != \"lo\" ip6 saddr != {PROBE_V6} {START} reject with tcp reset"
            )],
        },
    ]
}

/// The resolver's own queries and the application's can have the same addresses and ports; zones keep them apart.
fn dns_zones() -> Vec<Chain> {
    vec![
        Chain {
            name: "dns-zone-out",
            hook: "type filter hook output priority -300",
            rules: vec![format!("udp dport 53 {} ct zone set 1", by_proxy())],
        },
        Chain {
            name: "dns-zone-in",
            hook: "type filter hook prerouting priority -300",
            rules: vec![format!(
                "udp sport 53 meta mark & {MARK_MASK:#x} != {MARK_PROXY:#x} ct zone set 1"
            )],
        },
    ]
}

/// Conntrack remembers for minutes from which ports queries were redirected, and resolvers use ports again. In a zone of their
/// own, new queries are strangers to it; answers to those that were redirected come from the proxy's port, and are let alone.
fn direct_dns() -> Vec<Chain> {
    vec![
        Chain {
            name: "dns-zone-out",
            hook: "type filter hook output priority -300",
            rules: vec!["udp dport 53 ct zone set 1".into()],
        },
        Chain {
            name: "dns-zone-in",
            hook: "type filter hook prerouting priority -300",
            rules: vec!["udp sport 53 ct zone set 1".into()],
        },
    ]
}

/// The rules of a pod that has left, for the moment until the kernel has put conntrack away. It does so some time after the last
/// rule that needs it is gone; without the zones meanwhile, an answer would be taken for a stranger that contradicts the redirect
/// of an earlier query, and dropped.
pub(super) fn untracked() -> Ruleset {
    let chain = |name, hook, rule: &str| Chain {
        name,
        hook,
        rules: vec![rule.into()],
    };
    Ruleset {
        chains: vec![
            chain(
                "dns-untracked-out",
                "type filter hook output priority -300",
                "udp dport 53 notrack",
            ),
            chain(
                "dns-untracked-in",
                "type filter hook prerouting priority -300",
                "udp sport 53 notrack",
            ),
        ],
    }
}

fn by_proxy() -> String {
    format!("meta mark & {MARK_MASK:#x} == {MARK_PROXY:#x}")
}

fn families(redirect: &Redirect) -> &'static str {
    if redirect.ipv6 {
        ""
    } else {
        "meta nfproto ipv4 "
    }
}

impl Ruleset {
    pub(super) fn render(&self) -> String {
        let mut text = absent();
        let fingerprint = self.fingerprint();
        let mut place = 0;
        let _infallible = writeln!(text, "table inet {TABLE} {{");
        for chain in &self.chains {
            let _infallible = write!(
                text,
                "\tchain {} {{\n\t\t{}; policy accept;\n",
                chain.name, chain.hook
            );
            for rule in &chain.rules {
                let _infallible = writeln!(
                    text,
                    "\t\t{rule} comment \"{}\"",
                    comment(fingerprint, place)
                );
                place += 1;
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        text
    }

    /// Whether a listing of our table shows each of these rules once, in order, and no other.
    pub(super) fn is_listed_in(&self, listing: &str) -> bool {
        let fingerprint = self.fingerprint();
        let count: usize = self.chains.iter().map(|chain| chain.rules.len()).sum();
        let mut chains = listing
            .lines()
            .filter_map(|l| l.trim().strip_prefix("chain "));
        let names_agree = self.chains.iter().all(|chain| {
            chains
                .next()
                .is_some_and(|line| line.trim_end_matches(" {") == chain.name)
        }) && chains.next().is_none();
        let mut rules = listing.lines().map(str::trim).filter(|line| is_rule(line));
        let in_order = (0..count).all(|place| {
            rules
                .next()
                .is_some_and(|rule| rule.contains(&comment(fingerprint, place)))
        });
        names_agree && in_order && rules.next().is_none()
    }

    /// 64-bit FNV-1a over everything that decides what the rules do.
    fn fingerprint(&self) -> u64 {
        let words = self.chains.iter().flat_map(|chain| {
            [chain.name, chain.hook]
                .into_iter()
                .chain(chain.rules.iter().map(String::as_str))
        });
        words
            .flat_map(|word| word.bytes().chain([0]))
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }
}

fn comment(fingerprint: u64, place: usize) -> String {
    format!("tulle {fingerprint:016x} {place}.")
}

/// Lines of a listing that are neither structure nor a base chain specification.
fn is_rule(line: &str) -> bool {
    !(line.is_empty()
        || line == "}"
        || line.starts_with("table ")
        || line.starts_with("chain ")
        || line.starts_with("type "))
}
