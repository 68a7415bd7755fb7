use proptest::prelude::*;

use super::*;

fn some() -> impl Strategy<Value = Audience> {
    prop_oneof![
        Just(Audience::Everyone),
        Just(Audience::AnyGateway),
        prop::collection::btree_set(0..4u8, 0..4)
            .prop_map(|names| Audience::gateways(names.into_iter().map(|n| format!("ns/{n}")))),
    ]
}

/// All callers that the sets above can tell apart.
fn callers() -> Vec<Option<String>> {
    let gateways = (0..5).map(|n| Some(format!("ns/{n}")));
    gateways.chain([None]).collect()
}

proptest! {
    #[test]
    fn a_union_holds_both_and_nobody_else(one in some(), other in some()) {
        let both = one.clone().union(&other);
        for caller in callers() {
            let caller = caller.as_deref();
            let expected = one.includes(caller) || other.includes(caller);
            prop_assert_eq!(both.includes(caller), expected);
        }
        prop_assert!(one.within(&both) && other.within(&both));
    }

    #[test]
    fn within_means_that_nobody_is_left_out(one in some(), other in some()) {
        if one.within(&other) {
            for caller in callers() {
                let caller = caller.as_deref();
                prop_assert!(!one.includes(caller) || other.includes(caller));
            }
        }
    }
}

#[test]
fn a_caller_that_is_no_gateway_sees_only_what_everyone_sees() {
    assert!(Audience::Everyone.includes(None));
    assert!(!Audience::AnyGateway.includes(None));
    assert!(!Audience::gateways(["a/b"]).includes(None));
    assert!(!Audience::nobody().includes(Some("a/b")));
}
