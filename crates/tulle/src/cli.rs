//! The command line: names, help and examples.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::Format;

pub(crate) mod waypoint;

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    something failed; the message says what and what to do
  2    the command was not understood
  3    nothing failed, but not everything is ready (a deadline passed, or `status` found problems)
  130  interrupted by Ctrl-C

The cluster is the current context of kubectl: --kubeconfig and --context, else KUBECONFIG, else ~/.kube/config.";

/// A sidecar-less service mesh for Kubernetes: Istio's ambient mode in one program.
#[derive(Debug, Parser)]
#[command(name = "tulle", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// Kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install or upgrade the mesh, and wait until everything runs
    #[command(after_help = "Examples:\n  \
        tulle install\n  \
        tulle install --image registry.example/tulle:0.1.0\n  \
        tulle install --set cni.cniBinDir=/var/lib/rancher/k3s/data/cni --set meshConfig.trustDomain=td1\n  \
        tulle install --dry-run | kubectl diff -f -")]
    Install(Box<InstallArguments>),
    /// Take every pod out of the mesh, then remove the mesh
    #[command(after_help = "Examples:\n  \
        tulle uninstall --purge\n  \
        tulle uninstall --purge --delete-crds\n\n\
        First every pod is un-enrolled: its redirect rules go, its connections go on outside the mesh. Only when no pod \
        is left in the mesh is anything deleted. Istio's resource definitions and your policies are kept unless \
        --delete-crds is given. The namespace istio-system goes if an installation made it and nothing else is in it.")]
    Uninstall(UninstallArguments),
    /// Versions of this program, the control plane and the data plane
    Version(VersionArguments),
    /// Parts, nodes, enrolled pods, and what is wrong
    Status(StatusArguments),
    /// What a node proxy knows: workloads, services, policies, certificates, connections
    #[command(
        visible_alias = "zc",
        after_help = "Examples:\n  \
        tulle zc workloads --workload-namespace default     # PROTOCOL: HBONE is mTLS, TCP is not\n  \
        tulle zc certificates --node worker-1\n  \
        tulle zc connections deploy/productpage-v1.default\n  \
        tulle zc policies -o yaml\n  \
        tulle zc all -f dump.json\n  \
        tulle zc log --level debug"
    )]
    ZtunnelConfig(ZtunnelConfigArguments),
    /// Waypoints: layer 7 for services and workloads
    #[command(after_help = "Examples:\n  \
        tulle waypoint apply -n shop --enroll-namespace --wait   # everything in shop uses it\n  \
        tulle waypoint list -A\n  \
        tulle waypoint status -n shop\n  \
        tulle waypoint delete waypoint -n shop")]
    Waypoint(waypoint::WaypointArguments),
    /// Print what an installation would apply
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Run a part of the mesh; for the containers that `install` starts
    #[command(subcommand)]
    Run(RunCommand),
}

/// What to install.
#[derive(Debug, Args)]
pub(crate) struct ValuesArguments {
    /// Values file (YAML); may be repeated, later ones win
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// One value, e.g. cni.ipv6=false; `tulle manifest values` lists them all
    #[arg(short, long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Profile; there is one
    #[arg(long, default_value = "ambient")]
    pub(crate) profile: Profile,
    /// Image of all parts
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) image: Option<String>,
    /// Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY")]
    pub(crate) image_pull_policy: Option<String>,
    /// Where the container runtime looks for CNI programs on the nodes
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_dir: Option<String>,
    /// Where the container runtime looks for CNI configuration on the nodes
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_conf_dir: Option<String>,
    /// Where the container runtime keeps network namespaces on the nodes
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_netns_dir: Option<String>,
    /// Trust domain of all identities
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) trust_domain: Option<String>,
    /// Name of the cluster in metrics and logs
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_id: Option<String>,
    /// Log level of all parts
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Profile {
    /// Control plane, node agent, node proxy
    Ambient,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArguments {
    #[command(flatten)]
    pub(crate) values: ValuesArguments,
    /// Print the objects as YAML and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not wait until everything is ready
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait, e.g. 90s or 5m
    #[arg(long, visible_alias = "readiness-timeout", default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// Accepted for scripts written for istioctl; nothing is ever asked
    #[arg(short = 'y', long, alias = "yes", hide = true)]
    pub(crate) skip_confirmation: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArguments {
    /// The whole mesh; required
    #[arg(long)]
    pub(crate) purge: bool,
    /// Also delete Istio's resource definitions, and with them every Istio object in the cluster
    #[arg(long)]
    pub(crate) delete_crds: bool,
    /// Go on although pods are still enrolled at the deadline; they lose their network until restarted
    #[arg(long)]
    pub(crate) force: bool,
    /// How long to wait until no pod is enrolled
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// Accepted for scripts written for istioctl; nothing is ever asked
    #[arg(short = 'y', long, alias = "yes", hide = true)]
    pub(crate) skip_confirmation: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArguments {
    /// Only this program's version; asks no cluster
    #[arg(long)]
    pub(crate) client: bool,
    /// Output format
    #[arg(short, long, default_value = "short")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Output format
    #[arg(short, long, default_value = "short")]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// All objects as YAML
    Generate(ManifestArguments),
    /// All values, as they are with the given flags
    Values(ManifestArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ManifestArguments {
    #[command(flatten)]
    pub(crate) values: ValuesArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ZtunnelConfigArguments {
    #[command(subcommand)]
    pub(crate) command: ZtunnelCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ZtunnelCommand {
    /// Workloads and how they are reached; PROTOCOL HBONE means mTLS
    #[command(visible_alias = "workload", alias = "w")]
    Workloads(WorkloadArguments),
    /// Services, their addresses, waypoints and healthy endpoints
    #[command(visible_alias = "service", aliases = ["svc"])]
    Services(ServiceArguments),
    /// Authorization policies in force
    #[command(visible_alias = "policy")]
    Policies(PolicyArguments),
    /// Certificates that the proxy holds for the pods of its node
    #[command(visible_alias = "certificate", aliases = ["cert", "certs"])]
    Certificates(CertificateArguments),
    /// Connections that are open now
    #[command(visible_alias = "connection")]
    Connections(ConnectionArguments),
    /// Everything that the proxy knows
    All(AllArguments),
    /// Show or change log levels
    #[command(visible_alias = "logging")]
    Log(LogArguments),
}

/// Which proxy, and how to print.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Source {
    /// A ztunnel pod, or any pod or workload whose node's ztunnel is meant: [kind/]name[.namespace]
    #[arg(value_name = "POD")]
    pub(crate) pod: Option<String>,
    /// The ztunnel of this node
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Read a saved config_dump instead of asking a proxy; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["pod", "node"])]
    pub(crate) file: Option<PathBuf>,
    /// Output format
    #[arg(short, long, default_value = "short")]
    pub(crate) output: Format,
    /// Port of the proxy's admin pages
    #[arg(long, default_value_t = tulle_api::contract::PORT_ADMIN, value_name = "PORT")]
    pub(crate) proxy_admin_port: u16,
    /// Namespace of a pod that is named without one
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WorkloadArguments {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Only workloads of this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) workload_namespace: Option<String>,
    /// Only workloads on this node
    #[arg(long, value_name = "NODE")]
    pub(crate) workload_node: Option<String>,
    /// Only the workload with this address
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServiceArguments {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Only services of this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) service_namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PolicyArguments {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Only policies of this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) policy_namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CertificateArguments {
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConnectionArguments {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Only connections of workloads of this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) workload_namespace: Option<String>,
    /// Only one direction
    #[arg(long)]
    pub(crate) direction: Option<Direction>,
    /// Addresses instead of names
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AllArguments {
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LogArguments {
    #[command(flatten)]
    pub(crate) source: Source,
    /// New level: <level> or <scope>:<level>,... with off, error, warn, info, debug, trace
    #[arg(long, conflicts_with = "reset")]
    pub(crate) level: Option<String>,
    /// Back to the level the proxy was started with
    #[arg(short, long)]
    pub(crate) reset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum RunCommand {
    /// Discovery, certificate authority, status (Deployment istiod)
    ControlPlane,
    /// Enrols the pods of a node (DaemonSet istio-cni-node)
    NodeAgent,
    /// Carries the traffic of a node's pods (DaemonSet ztunnel)
    Ztunnel {
        /// Run the proxy itself; without it, a small parent starts and restarts it and holds its sockets
        #[arg(long, hide = true)]
        worker: bool,
    },
    /// Carries requests: a waypoint, or an ingress or egress gateway (Deployments made for Gateways)
    Waypoint,
}

/// `90s`, `5m`, `1h`, `500ms`, or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is no time such as 90s, 5m or 1h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
