use super::*;

#[test]
fn only_definitions_and_rights_are_taken_over() {
    let manifest = "\
apiVersion: v1
kind: Namespace
metadata:
  name: metallb-system
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  names:
    kind: IPAddressPool
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: controller
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
";
    let kept = definitions(manifest);
    assert_eq!(kept.matches("---\n").count(), 2);
    assert!(kept.contains("kind: Namespace") && kept.contains("    kind: IPAddressPool"));
    assert!(!kept.contains("Deployment") && !kept.contains("Webhook"));
}

#[test]
fn the_pool_is_on_the_bridge_and_clear_of_the_machines() {
    let subnets = Subnets {
        all: "10.77.0.0/16".parse().unwrap(),
    };
    let text = pool(&subnets);
    assert!(text.contains("  - 10.77.0.200-10.77.0.250\n"), "{text}");
    let (first, last) = subnets.load_balancers();
    assert!(subnets.machines().contains(&first) && subnets.machines().contains(&last));
    assert!(subnets.node(crate::limits::NODES) < first);
}
