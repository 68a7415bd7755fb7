//! The configuration files of the parts, as text.

use std::path::Path;

use crate::network::Subnets;

/// The sandbox image of every pod.
pub(crate) const PAUSE_IMAGE: &str = "tulle.local/pause:1";

/// Access to the API server with a certificate of the playground's authority.
pub(crate) fn kubeconfig(
    subnets: &Subnets,
    pki: &Path,
    certificate: &str,
    cluster: &str,
) -> String {
    let (server, pki) = (subnets.server(), pki.display());
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: https://{server}:6443
    certificate-authority: {pki}/ca.crt
users:
- name: {cluster}
  user:
    client-certificate: {pki}/{certificate}.crt
    client-key: {pki}/{certificate}.key
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {cluster}
current-context: {cluster}
"
    )
}

/// containerd on one node. `restrict_oom_score_adj`: without CAP_SYS_RESOURCE a process cannot make itself less likely
/// to be killed than its parent.
pub(crate) fn containerd(dir: &Path, snapshotter: &str) -> String {
    let dir = dir.display();
    format!(
        "\
version = 3
root = \"{dir}/containerd\"
state = \"/run/containerd\"
disabled_plugins = [\"io.containerd.nri.v1.nri\", \"io.containerd.tracing.processor.v1.otlp\"]

[grpc]
  address = \"/run/containerd/containerd.sock\"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = \"{snapshotter}\"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = \"{PAUSE_IMAGE}\"

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [\"/opt/cni/bin\"]
    conf_dir = \"/etc/cni/net.d\"
"
    )
}

/// kubelet on one node. Disk and images: the machine's disk is the host's, and how full that is does not depend on the
/// playground. Control groups: below the node's own, because kubelets remove each other's pods otherwise.
pub(crate) fn kubelet(
    subnets: &Subnets,
    node: usize,
    pki: &Path,
    dir: &Path,
    cgroup: &str,
) -> String {
    let (pods, dns) = (subnets.node_pods(node), subnets.dns_service());
    let (pki, dir) = (pki.display(), dir.display());
    format!(
        "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: {pki}/ca.crt
authorization:
  mode: Webhook
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
clusterDNS: [{dns}]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
enforceNodeAllocatable: []
evictionHard:
  imagefs.available: 1%
  memory.available: 50Mi
  nodefs.available: 1%
eventRecordQPS: 0
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
maxPods: 250
oomScoreAdj: 0
podCIDR: {pods}
resolvConf: {dir}/resolv.conf
volumePluginDir: /var/lib/kubelet/volume-plugins
"
    )
}

/// The pod network of one node: a routed link for each pod. (With a bridge, traffic between two pods of a node by way of a
/// Service needs the bridge to call netfilter, which not every kernel does.)
pub(crate) fn pod_network(subnets: &Subnets, node: usize, dir: &Path) -> String {
    let (pods, dir) = (subnets.node_pods(node), dir.display());
    format!(
        r#"{{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {{
      "type": "ptp",
      "ipam": {{
        "type": "host-local",
        "dataDir": "{dir}/addresses",
        "ranges": [[{{"subnet": "{pods}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}]
      }}
    }},
    {{
      "type": "portmap",
      "backend": "nftables",
      "capabilities": {{"portMappings": true}}
    }}
  ]
}}
"#
    )
}

/// Cluster DNS. Names outside the cluster do not exist: a playground does not depend on the host's resolver.
pub(crate) fn corefile(kubeconfig: &Path) -> String {
    let kubeconfig = kubeconfig.display();
    format!(
        "\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    ready
    kubernetes {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"
    )
}

/// Cluster DNS as Kubernetes sees it: a Service without a selector, because CoreDNS is a process beside the API server.
pub(crate) fn dns_manifest(subnets: &Subnets) -> String {
    let (service, server) = (subnets.dns_service(), subnets.server());
    format!(
        "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: system:coredns
rules:
- apiGroups: ['']
  resources: [endpoints, services, pods, namespaces]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: system:coredns
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:coredns
subjects:
- apiGroup: rbac.authorization.k8s.io
  kind: User
  name: system:coredns
---
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: kube-system
  labels:
    k8s-app: kube-dns
    kubernetes.io/name: CoreDNS
spec:
  clusterIP: {service}
  ports:
  - name: dns
    port: 53
    protocol: UDP
  - name: dns-tcp
    port: 53
    protocol: TCP
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns
  namespace: kube-system
  labels:
    kubernetes.io/service-name: kube-dns
    endpointslice.kubernetes.io/managed-by: playground
addressType: IPv4
endpoints:
- addresses: [{server}]
  conditions:
    ready: true
ports:
- name: dns
  port: 53
  protocol: UDP
- name: dns-tcp
  port: 53
  protocol: TCP
"
    )
}

#[cfg(test)]
mod tests;
