//! Every label, annotation, port, mark, path and name that others rely on, each once. They are Istio's.

use std::net::{Ipv4Addr, Ipv6Addr};

// --- ports, TCP unless said otherwise

/// In the pod: captured outbound connections.
pub const PORT_OUTBOUND: u16 = 15001;
/// In the pod: captured inbound plaintext.
pub const PORT_INBOUND_PLAIN: u16 = 15006;
/// In the pod: inbound HBONE.
pub const PORT_HBONE: u16 = 15008;
/// In the pod: DNS, UDP and TCP.
pub const PORT_DNS: u16 = 15053;
/// Proxies: admin pages, loopback only.
pub const PORT_ADMIN: u16 = 15000;
/// Proxies: metrics.
pub const PORT_METRICS: u16 = 15020;
/// Proxies: readiness.
pub const PORT_READY: u16 = 15021;
/// Control plane: discovery and certificates over TLS.
pub const PORT_XDS: u16 = 15012;
/// Control plane: discovery in plaintext.
pub const PORT_XDS_PLAIN: u16 = 15010;
/// Control plane and node agent: metrics.
pub const PORT_CONTROL_PLANE_METRICS: u16 = 15014;
/// Control plane: webhooks, behind service port 443.
pub const PORT_WEBHOOK: u16 = 15017;
/// Control plane: debug pages and readiness.
pub const PORT_DEBUG: u16 = 8080;
/// Node agent: readiness.
pub const PORT_NODE_AGENT_READY: u16 = 8000;

// --- redirection

/// `SO_MARK` of every socket that a proxy opens in a pod: not captured again.
pub const MARK_PROXY: u32 = 0x539;
/// Mark of connections made by the proxy, kept by conntrack.
pub const MARK_CONN: u32 = 0x111;
/// Bits that both marks use.
pub const MARK_MASK: u32 = 0xfff;
/// Routing table that brings replies to spoofed sources back.
pub const ROUTE_TABLE: u32 = 100;
/// Priority of the routing rule for [`MARK_CONN`].
pub const RULE_PRIORITY: u32 = 32764;
/// Source address of kubelet probes, IPv4.
pub const PROBE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 7, 127);
/// Source address of kubelet probes, IPv6.
pub const PROBE_V6: Ipv6Addr = Ipv6Addr::new(
    0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff,
);

// --- labels

/// On pods and namespaces: who handles their traffic.
pub const LABEL_DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// Value of [`LABEL_DATAPLANE_MODE`]: this mesh.
pub const DATAPLANE_MODE_AMBIENT: &str = "ambient";
/// Value of [`LABEL_DATAPLANE_MODE`]: nobody.
pub const DATAPLANE_MODE_NONE: &str = "none";
/// Name of the waypoint, on namespaces, services, pods and entries.
pub const LABEL_USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// Namespace of the waypoint.
pub const LABEL_USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// Value of [`LABEL_USE_WAYPOINT`]: no waypoint, whatever the namespace says.
pub const USE_WAYPOINT_NONE: &str = "none";
/// What a waypoint serves: `service`, `workload`, `all` or `none`.
pub const LABEL_WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// Revision of the control plane that handles an object.
pub const LABEL_REV: &str = "istio.io/rev";
/// Network of the system namespace or of an object.
pub const LABEL_NETWORK: &str = "topology.istio.io/network";
/// Subzone of a node.
pub const LABEL_SUBZONE: &str = "topology.istio.io/subzone";
/// Region of a node.
pub const LABEL_REGION: &str = "topology.kubernetes.io/region";
/// Zone of a node.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";
/// Tunnel protocols that a workload speaks itself; HBONE is [`TUNNEL_HTTP`].
pub const LABEL_TUNNEL: &str = "networking.istio.io/tunnel";
/// Value in [`LABEL_TUNNEL`] for HBONE.
pub const TUNNEL_HTTP: &str = "http";
/// Canonical service name of a workload.
pub const LABEL_CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// Canonical revision of a workload.
pub const LABEL_CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Kubernetes' recommended name label.
pub const LABEL_APP_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended version label.
pub const LABEL_APP_VERSION: &str = "app.kubernetes.io/version";
/// The short name label.
pub const LABEL_APP: &str = "app";
/// The short version label.
pub const LABEL_VERSION: &str = "version";
/// Name of the workload, on WorkloadEntries of a WorkloadGroup.
pub const LABEL_WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// Written by the Deployment controller on its pods.
pub const LABEL_POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Ties an EndpointSlice to its Service.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who manages an EndpointSlice.
pub const LABEL_SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Name of the Gateway that made a pod.
pub const LABEL_GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Class of the Gateway that made an object.
pub const LABEL_GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Which controller made an object for a Gateway.
pub const LABEL_GATEWAY_MANAGED: &str = "gateway.istio.io/managed";
/// Value of [`LABEL_GATEWAY_MANAGED`] for waypoints.
pub const MANAGED_MESH_CONTROLLER: &str = "istio.io-mesh-controller";
/// Value of [`LABEL_GATEWAY_MANAGED`] for gateways.
pub const MANAGED_GATEWAY_CONTROLLER: &str = "istio.io-gateway-controller";
/// Value of [`LABEL_GATEWAY_MANAGED`] for gateways between networks.
pub const MANAGED_EAST_WEST: &str = "istio.io-eastwest-controller";
/// Whether gateways send through a service's waypoint: on services and namespaces.
pub const LABEL_INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";
/// A second waypoint that gets a share of connections.
pub const LABEL_USE_WAYPOINT_CANARY: &str = "istio.io/use-waypoint-canary";
/// Its namespace.
pub const LABEL_USE_WAYPOINT_CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
/// On a waypoint's Gateway: what comes to its services around it is refused. Ours: Istio has no such switch.
pub const LABEL_WAYPOINT_ENFORCED: &str = "tulle.mesh/waypoint-enforced";
/// On ConfigMaps of the system namespace: settings for all Gateways of a class.
pub const LABEL_GATEWAY_CLASS_DEFAULTS: &str = "gateway.istio.io/defaults-for-class";

// --- Gateway API

/// Class of gateways.
pub const CLASS_ISTIO: &str = "istio";
/// Class of waypoints.
pub const CLASS_WAYPOINT: &str = "istio-waypoint";
/// Controller of [`CLASS_ISTIO`].
pub const CONTROLLER_GATEWAY: &str = "istio.io/gateway-controller";
/// Controller of [`CLASS_WAYPOINT`].
pub const CONTROLLER_MESH: &str = "istio.io/mesh-controller";
/// Protocol of a waypoint's listener.
pub const PROTOCOL_HBONE: &str = "HBONE";

// --- annotations

/// On pods: whether the node agent has enrolled them.
pub const ANNOTATION_REDIRECTION: &str = "ambient.istio.io/redirection";
/// Value of [`ANNOTATION_REDIRECTION`]: rules and proxy are in place.
pub const REDIRECTION_ENABLED: &str = "enabled";
/// Value of [`ANNOTATION_REDIRECTION`]: rules are, the proxy is not yet.
pub const REDIRECTION_PENDING: &str = "pending";
/// Ours, on the mesh's own namespace: `true` makes every node agent let go of its pods. `tulle uninstall` sets it and waits until no
/// pod carries [`ANNOTATION_REDIRECTION`].
pub const ANNOTATION_UNENROLL: &str = "tulle.mesh/unenroll";
/// On pods with an injected sidecar: leave alone.
pub const ANNOTATION_SIDECAR_STATUS: &str = "sidecar.istio.io/status";
/// On pods: no inbound capture (ingress mode).
pub const ANNOTATION_BYPASS_INBOUND: &str = "ambient.istio.io/bypass-inbound-capture";
/// On pods: whether DNS is captured.
pub const ANNOTATION_DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
/// On pods: virtual interfaces whose traffic is outbound (KubeVirt).
pub const ANNOTATION_REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
/// On policies: report, do not enforce.
pub const ANNOTATION_DRY_RUN: &str = "istio.io/dry-run";
/// On services and namespaces: where traffic should stay.
pub const ANNOTATION_TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Older spelling of [`ANNOTATION_REDIRECTION`]'s cousin for service scope; on services: which namespaces see it.
pub const ANNOTATION_EXPORT_TO: &str = "networking.istio.io/exportTo";
/// On services and namespaces: the share of the canary waypoint, 0 to 100.
pub const ANNOTATION_CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
/// On ServiceEntries: how a connection is made where a name has several addresses.
pub const ANNOTATION_CONNECT_STRATEGY: &str = "istio.io/connect-strategy";
/// Value of [`ANNOTATION_CONNECT_STRATEGY`]: to several of them, of which the first that answers is taken.
pub const CONNECT_STRATEGY_RACE: &str = "RACE_FIRST_TCP_CONNECT";
/// On waypoint Gateways, `true`: applications are told the client's identity in `x-forwarded-client-cert`.
pub const ANNOTATION_CLIENT_IDENTITY: &str = "ambient.istio.io/xfcc-include-client-identity";
/// On Gateways: name of the Deployment and Service.
pub const ANNOTATION_GATEWAY_NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
/// On Gateways: service account of the pods.
pub const ANNOTATION_GATEWAY_SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
/// On Gateways: version of the controller that owns what was made.
pub const ANNOTATION_GATEWAY_CONTROLLER_VERSION: &str = "gateway.istio.io/controller-version";
/// On Gateways: type of the Service.
pub const ANNOTATION_SERVICE_TYPE: &str = "networking.istio.io/service-type";

// --- paths

/// Node agent listens, node proxies dial (`SOCK_SEQPACKET`).
pub const ZDS_SOCKET: &str = "/var/run/ztunnel/ztunnel.sock";
/// Node agent listens, the CNI plugin posts (HTTP).
pub const PLUGIN_SOCKET: &str = "/var/run/istio-cni/pluginevent.sock";
/// The plugin's request path on [`PLUGIN_SOCKET`].
pub const PLUGIN_PATH: &str = "/cmdadd";
/// Projected token of proxies.
pub const TOKEN_PATH: &str = "/var/run/secrets/tokens/istio-token";
/// Root certificates, from [`CONFIGMAP_ROOT`].
pub const ROOT_PATH: &str = "/var/run/secrets/istio/root-cert.pem";
/// Readiness page of every part.
pub const READY_PAGE: &str = "/healthz/ready";

// --- names

/// Where the mesh lives.
pub const SYSTEM_NAMESPACE: &str = "istio-system";
/// Default trust domain; workloads leave it out on the wire.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// Default DNS suffix of the cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Default cluster id.
pub const CLUSTER_ID: &str = "Kubernetes";
/// Mesh configuration, key [`MESH_KEY`].
pub const CONFIGMAP_MESH: &str = "istio";
/// Key in [`CONFIGMAP_MESH`].
pub const MESH_KEY: &str = "mesh";
/// Root certificates in every namespace, key [`ROOT_KEY`].
pub const CONFIGMAP_ROOT: &str = "istio-ca-root-cert";
/// Key in [`CONFIGMAP_ROOT`] and in the plugged-in CA secret.
pub const ROOT_KEY: &str = "root-cert.pem";
/// The self-signed CA.
pub const SECRET_CA: &str = "istio-ca-secret";
/// The plugged-in CA.
pub const SECRET_PLUGGED_CA: &str = "cacerts";
/// Audience of tokens for the control plane.
pub const TOKEN_AUDIENCE: &str = "istio-ca";
/// Deployment and Service of the control plane.
pub const CONTROL_PLANE: &str = "istiod";
/// Its container.
pub const CONTROL_PLANE_CONTAINER: &str = "discovery";
/// DaemonSet of the node agent.
pub const NODE_AGENT: &str = "istio-cni-node";
/// Its container.
pub const NODE_AGENT_CONTAINER: &str = "install-cni";
/// DaemonSet, service account and `app` label of the node proxy.
pub const ZTUNNEL: &str = "ztunnel";
/// Its container.
pub const ZTUNNEL_CONTAINER: &str = "istio-proxy";
/// Name and type of the CNI plugin.
pub const CNI_PLUGIN: &str = "istio-cni";
/// Field manager of everything that this project applies.
pub const FIELD_MANAGER: &str = "tulle";

// --- discovery and certificates

/// Type URL of workloads and services.
pub const TYPE_ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of L4 policies.
pub const TYPE_AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
/// Type URL of gateways and waypoints: their listeners. This and those below are ours, for our own proxies.
pub const TYPE_GATEWAY: &str = "type.googleapis.com/tulle.mesh.v1.Gateway";
/// Type URL of certificates with keys.
pub const TYPE_CERTIFICATE: &str = "type.googleapis.com/tulle.mesh.v1.Certificate";
/// Type URL of routes of requests.
pub const TYPE_HTTP_ROUTE: &str = "type.googleapis.com/tulle.mesh.v1.HttpRoute";
/// Type URL of routes of connections.
pub const TYPE_STREAM_ROUTE: &str = "type.googleapis.com/tulle.mesh.v1.StreamRoute";
/// Type URL of how a service is used.
pub const TYPE_DESTINATION: &str = "type.googleapis.com/tulle.mesh.v1.DestinationPolicy";
/// Type URL of authorization of requests.
pub const TYPE_HTTP_POLICY: &str = "type.googleapis.com/tulle.mesh.v1.HttpPolicy";
/// Type URL of authentication by tokens.
pub const TYPE_AUTHENTICATION: &str = "type.googleapis.com/tulle.mesh.v1.Authentication";
/// Type URL of what is reported.
pub const TYPE_TELEMETRY: &str = "type.googleapis.com/tulle.mesh.v1.Telemetry";
/// Type URL of what holds for all waypoints and gateways.
pub const TYPE_PROXY_SETTINGS: &str = "type.googleapis.com/tulle.mesh.v1.ProxySettings";
/// Rate limits.
pub const TYPE_RATE_LIMIT: &str = "type.googleapis.com/tulle.mesh.v1.RateLimit";
/// Metadata key of a certificate request: for whom, when not for the caller.
pub const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

// --- policies made from PeerAuthentication

/// In the root namespace: denies peers without identity.
pub const POLICY_STATIC_STRICT: &str = "istio_converted_static_strict";
/// Prefix of policies for port-level modes.
pub const POLICY_PEER_AUTHENTICATION_PREFIX: &str = "converted_peer_authentication_";

// --- status conditions

/// On AuthorizationPolicies: what the node proxy makes of it.
pub const CONDITION_ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
/// On AuthorizationPolicies with `targetRefs`: what waypoints make of it.
pub const CONDITION_WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
/// On services and entries: whether their waypoint is in use.
pub const CONDITION_WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
/// On ServiceEntries: they have no effect without a waypoint, and have none.
pub const CONDITION_WAYPOINT_MISSING: &str = "istio.io/WaypointMissing";
