use super::*;

/// The rules of an ordinary pod, word for word: what other implementations' proxies rely on.
#[test]
fn the_rules_are_the_contract() {
    let bare = |dns| -> String {
        let text = Redirect {
            ipv6: true,
            dns,
            ..Redirect::default()
        }
        .rules();
        text.lines()
            .map(|line| line.split(" comment ").next().unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect()
    };
    assert_eq!(bare(false), include_str!("golden/pod.nft"));
    assert_eq!(bare(true), include_str!("golden/pod-dns.nft"));
}

#[test]
fn each_state_has_its_own_fingerprint() {
    let states = [
        Redirect::default(),
        Redirect {
            ipv6: true,
            ..Redirect::default()
        },
        Redirect {
            dns: true,
            ..Redirect::default()
        },
        Redirect {
            ingress_bypass: true,
            ..Redirect::default()
        },
        Redirect {
            virtual_interfaces: vec!["k6t-eth0".into()],
            ..Redirect::default()
        },
    ];
    let mut texts: Vec<_> = states.iter().map(Redirect::rules).collect();
    texts.push(rules::stopped().render());
    let mut marks: Vec<_> = texts
        .iter()
        .map(|t| t.split("comment \"").nth(1).unwrap()[..22].to_owned())
        .collect();
    marks.sort();
    marks.dedup();
    assert_eq!(marks.len(), texts.len());
}

#[test]
fn a_listing_is_recognised_rule_by_rule() {
    let wanted = rules::capture(&Redirect {
        ipv6: true,
        ..Redirect::default()
    });
    let text = wanted.render();
    let listing: String = text.lines().skip(2).flat_map(|l| [l, "\n"]).collect();
    assert!(wanted.is_listed_in(&listing));
    let without_one: String = listing
        .lines()
        .filter(|l| !l.contains(" 5.\""))
        .flat_map(|l| [l, "\n"])
        .collect();
    assert!(!wanted.is_listed_in(&without_one));
    let with_another = listing.replacen("\tchain guard {", "\tchain guard {\n\t\taccept", 1);
    assert!(!wanted.is_listed_in(&with_another));
    assert!(!wanted.is_listed_in(""));
}

#[test]
fn interface_names_are_checked_before_they_reach_nft() {
    for name in ["", "x\" accept", "sixteen-letters-", "a b", "k6t;eth0"] {
        let redirect = Redirect {
            virtual_interfaces: vec![name.into()],
            ..Redirect::default()
        };
        assert!(redirect.check().is_err(), "{name:?}");
    }
    let fine = Redirect {
        virtual_interfaces: vec!["k6t-eth0".into(), "tap0.1".into()],
        ..Redirect::default()
    };
    assert!(fine.check().is_ok());
}
