use super::*;

#[test]
fn only_the_own_rule_is_found_in_the_hosts_filter() {
    let chain = r#"table ip filter {
	chain FORWARD { # handle 2
		type filter hook forward priority filter; policy drop;
		iifname "tl-a" oifname "tl-a" counter packets 0 bytes 0 accept # handle 7
		iifname "tl-ab" oifname "tl-ab" counter packets 0 bytes 0 accept # handle 8
		counter jump DOCKER-USER # handle 3
	}
}"#;
    assert_eq!(rule_handles(chain, "tl-a"), ["7"]);
    assert_eq!(rule_handles(chain, "tl-b"), [""; 0]);
}
