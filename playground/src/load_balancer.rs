//! Addresses for Services of type LoadBalancer: MetalLB in L2 mode. Its speakers answer ARP on the playground's bridge, so the host
//! reaches every address as it reaches the nodes; kube-proxy does the rest.

use anyhow::Result;

use crate::Programs;
use crate::image::Image;
use crate::network::Subnets;

/// One image for both programs.
pub(crate) const IMAGE: &str = "docker.io/tulle-playground/metallb:1";

/// Kinds of MetalLB's own manifest that are used as they are. Its workloads name images that nobody could fetch here, and its
/// webhook only checks what we write ourselves.
const KINDS: [&str; 7] = [
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
];

/// Of MetalLB's manifest: resource definitions and rights.
pub(crate) fn definitions(manifest: &str) -> String {
    let wanted = |document: &&str| {
        let mut kinds = document.lines().filter_map(|l| l.strip_prefix("kind: "));
        kinds
            .next()
            .is_some_and(|kind| KINDS.contains(&kind.trim()))
    };
    let documents = manifest
        .split("\n---\n")
        .map(|d| d.trim_start_matches("---\n"));
    documents
        .filter(wanted)
        .map(|document| format!("---\n{}\n", document.trim_end()))
        .collect()
}

/// The image of controller and speaker.
pub(crate) fn image(programs: &Programs) -> Result<Image> {
    let image = Image::new(IMAGE)
        .file(programs.metallb("controller"), "/controller")?
        .file(programs.metallb("speaker"), "/speaker")?;
    Ok(image.user("65534"))
}

/// The workloads, without memberlist: a speaker that ends is noticed by its node's readiness, which a playground can wait for.
pub(crate) fn workloads() -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: controller
  namespace: metallb-system
  labels: {{app: metallb, component: controller}}
spec:
  selector:
    matchLabels: {{app: metallb, component: controller}}
  template:
    metadata:
      labels: {{app: metallb, component: controller}}
    spec:
      serviceAccountName: controller
      terminationGracePeriodSeconds: 0
      containers:
      - name: controller
        image: {IMAGE}
        imagePullPolicy: Never
        command: [/controller, --port=7472, --log-level=warn, --webhook-mode=disabled]
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          runAsNonRoot: true
          runAsUser: 65534
          capabilities: {{drop: [ALL]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: speaker
  namespace: metallb-system
  labels: {{app: metallb, component: speaker}}
spec:
  selector:
    matchLabels: {{app: metallb, component: speaker}}
  template:
    metadata:
      labels: {{app: metallb, component: speaker}}
    spec:
      serviceAccountName: speaker
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      tolerations:
      - operator: Exists
      containers:
      - name: speaker
        image: {IMAGE}
        imagePullPolicy: Never
        command: [/speaker, --port=7472, --log-level=warn]
        env:
        - name: METALLB_NODE_NAME
          valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}
        - name: METALLB_POD_NAME
          valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}
        - name: METALLB_HOST
          valueFrom: {{fieldRef: {{fieldPath: status.hostIP}}}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          runAsUser: 0
          capabilities: {{drop: [ALL], add: [NET_RAW]}}
"
    )
}

/// The addresses, and that ARP announces them.
pub(crate) fn pool(subnets: &Subnets) -> String {
    let (first, last) = subnets.load_balancers();
    format!(
        "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: bridge
  namespace: metallb-system
spec:
  addresses:
  - {first}-{last}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata:
  name: bridge
  namespace: metallb-system
spec:
  ipAddressPools:
  - bridge
"
    )
}

#[cfg(test)]
mod tests;
