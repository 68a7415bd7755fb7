//! `tulle waypoint …`: flags and help, as istioctl has them.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::duration;
use crate::output::Format;

#[derive(Debug, Args)]
pub(crate) struct WaypointArguments {
    /// Namespace; that of the kubeconfig's context if not given
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Name of the waypoint
    #[arg(long, global = true, value_name = "NAME", default_value = "waypoint")]
    pub(crate) name: String,
    #[command(subcommand)]
    pub(crate) command: WaypointCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WaypointCommand {
    /// Apply a waypoint to a namespace
    #[command(after_help = "Examples:\n  \
        tulle waypoint apply\n  \
        tulle waypoint apply --namespace default --wait\n  \
        tulle waypoint apply -n shop --enroll-namespace --wait\n  \
        tulle waypoint apply --name pods --for workload")]
    Apply(ApplyArguments),
    /// Print a waypoint as YAML
    #[command(after_help = "Examples:\n  tulle waypoint generate --namespace default")]
    Generate(GenerateArguments),
    /// Delete waypoints
    #[command(after_help = "Examples:\n  \
        tulle waypoint delete waypoint --namespace default\n  \
        tulle waypoint delete one another --namespace default\n  \
        tulle waypoint delete --all --namespace default\n  \
        tulle waypoint delete --revision v1 --namespace default")]
    Delete(DeleteArguments),
    /// List waypoints
    #[command(
        after_help = "Examples:\n  tulle waypoint list --namespace default\n  tulle waypoint list -A"
    )]
    List(ListArguments),
    /// Show the status of waypoints, after waiting until they are ready
    #[command(after_help = "Examples:\n  \
        tulle waypoint status\n  \
        tulle waypoint status --namespace default --wait=false\n  \
        tulle waypoint status --all-namespaces")]
    Status(StatusArguments),
}

/// What a waypoint serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrafficType {
    /// Traffic to services and to workloads
    All,
    /// Traffic to services
    Service,
    /// Traffic to the addresses of pods and virtual machines
    Workload,
    /// Nothing; for tests
    None,
}

impl TrafficType {
    /// As the label has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Service => "service",
            Self::Workload => "workload",
            Self::None => "none",
        }
    }
}

/// Flags of old releases, which are recognised to show the modern form.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LegacyArguments {
    /// Of Istio before 1.22
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) service_account: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArguments {
    /// Traffic type of the waypoint; the control plane's default is service
    #[arg(long = "for", value_name = "TYPE")]
    pub(crate) traffic: Option<TrafficType>,
    /// Label the namespace with the waypoint's name, so that everything in it uses the waypoint
    #[arg(long)]
    pub(crate) enroll_namespace: bool,
    /// Replace the waypoint that the namespace uses
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Revision to label the waypoint with
    #[arg(short, long, value_name = "NAME")]
    pub(crate) revision: Option<String>,
    /// Wait until the waypoint is ready
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, default_value = "90s", value_parser = duration, value_name = "TIME")]
    pub(crate) waypoint_timeout: Duration,
    #[command(flatten)]
    pub(crate) legacy: LegacyArguments,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct GenerateArguments {
    /// Traffic type of the waypoint; the control plane's default is service
    #[arg(long = "for", value_name = "TYPE")]
    pub(crate) traffic: Option<TrafficType>,
    /// Revision to label the waypoint with
    #[arg(short, long, value_name = "NAME")]
    pub(crate) revision: Option<String>,
    #[command(flatten)]
    pub(crate) legacy: LegacyArguments,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Names of waypoints
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// All waypoints of the namespace
    #[arg(long)]
    pub(crate) all: bool,
    /// All waypoints of this revision
    #[arg(short, long, value_name = "NAME")]
    pub(crate) revision: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ListArguments {
    /// Waypoints of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Output format
    #[arg(short, long, default_value = "short")]
    pub(crate) output: Format,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArguments {
    /// Waypoints of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Wait until the waypoints are ready; --wait=false shows them as they are
    #[arg(
        short,
        long,
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    wait: bool,
    /// How long to wait for all of them
    #[arg(long, default_value = "90s", value_parser = duration, value_name = "TIME")]
    pub(crate) waypoint_timeout: Duration,
    /// Output format
    #[arg(short, long, default_value = "short")]
    pub(crate) output: Format,
}

impl StatusArguments {
    /// Whether to wait.
    pub(crate) fn waits(&self) -> bool {
        self.wait
    }
}
