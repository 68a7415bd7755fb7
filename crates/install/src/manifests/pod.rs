//! Pieces of pod specifications.

use std::collections::BTreeMap;

use tulle_api::k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, HostPathVolumeSource, LocalObjectReference, ObjectFieldSelector, Probe,
    ProjectedVolumeSource, ResourceFieldSelector, ResourceRequirements,
    ServiceAccountTokenProjection, Toleration, Volume, VolumeMount, VolumeProjection,
};
use tulle_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tulle_api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::values::{Resources, Values};

/// Where the one program lies in the image.
const PROGRAM: &str = "/usr/local/bin/tulle";

/// A container that runs one part of the one program.
pub(super) fn container(
    name: &str,
    part: &str,
    values: &Values,
    resources: &Resources,
) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(values.image.clone()),
        image_pull_policy: some_text(&values.image_pull_policy),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec!["run".to_owned(), part.to_owned()]),
        resources: Some(requirements(resources)),
        ..Default::default()
    }
}

fn requirements(resources: &Resources) -> ResourceRequirements {
    let quantities = |table: &BTreeMap<String, String>| {
        let quantities = table
            .iter()
            .map(|(name, value)| (name.clone(), Quantity(value.clone())));
        Some(quantities.collect::<BTreeMap<_, _>>()).filter(|table| !table.is_empty())
    };
    ResourceRequirements {
        requests: quantities(&resources.requests),
        limits: quantities(&resources.limits),
        ..Default::default()
    }
}

pub(super) fn some_text(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

pub(super) fn pull_secrets(values: &Values) -> Option<Vec<LocalObjectReference>> {
    let secrets = values.image_pull_secrets.iter();
    let secrets: Vec<_> = secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    Some(secrets).filter(|secrets| !secrets.is_empty())
}

/// The environment of a container; the user's variables come last and replace ours of the same name.
pub(super) struct Environment(Vec<EnvVar>);

impl Environment {
    /// Log level and format, as every part has them.
    pub(super) fn new(values: &Values) -> Self {
        let mut env = Environment(Vec::new()).text("RUST_LOG", &values.log_level);
        if values.log_as_json {
            env = env.text("LOG_FORMAT", "json");
        }
        env
    }

    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.0.push(EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        });
        self
    }

    /// A field of the pod, e.g. `spec.nodeName`.
    pub(super) fn field(mut self, name: &str, path: &str) -> Self {
        let field = ObjectFieldSelector {
            field_path: path.to_owned(),
            ..Default::default()
        };
        let source = EnvVarSource {
            field_ref: Some(field),
            ..Default::default()
        };
        self.0.push(EnvVar {
            name: name.to_owned(),
            value_from: Some(source),
            ..Default::default()
        });
        self
    }

    /// The container's CPU limit in whole CPUs; the node's CPUs if it has none.
    pub(super) fn cpu_limit(mut self, name: &str) -> Self {
        let field = ResourceFieldSelector {
            resource: "limits.cpu".to_owned(),
            divisor: Some(Quantity("1".to_owned())),
            ..Default::default()
        };
        let source = EnvVarSource {
            resource_field_ref: Some(field),
            ..Default::default()
        };
        self.0.push(EnvVar {
            name: name.to_owned(),
            value_from: Some(source),
            ..Default::default()
        });
        self
    }

    pub(super) fn with(mut self, users: &BTreeMap<String, String>) -> Vec<EnvVar> {
        self.0
            .retain(|variable| !users.contains_key(&variable.name));
        let users = users.iter().map(|(name, value)| EnvVar {
            name: name.clone(),
            value: Some(value.clone()),
            ..Default::default()
        });
        self.0.extend(users);
        self.0
    }
}

/// Looks often: a part counts as ready within a second of being so.
pub(super) fn readiness(path: &str, port: u16) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port.into()),
            ..Default::default()
        }),
        period_seconds: Some(1),
        timeout_seconds: Some(5),
        ..Default::default()
    }
}

pub(super) fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    }
}

pub(super) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..Default::default()
    }
}

pub(super) fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(name, path)
    }
}

/// A directory of the node.
pub(super) fn host_path(name: &str, path: &str, kind: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: path.to_owned(),
            type_: Some(kind.to_owned()),
        }),
        ..Default::default()
    }
}

pub(super) fn config_map(name: &str, config_map: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Default::default()
    }
}

/// A token of the pod's account for `audience`, renewed by the kubelet.
pub(super) fn token(name: &str, path: &str, audience: &str) -> Volume {
    /// Half a day, as upstream.
    const LIFETIME_SECONDS: i64 = 43_200;
    let projection = ServiceAccountTokenProjection {
        audience: Some(audience.to_owned()),
        expiration_seconds: Some(LIFETIME_SECONDS),
        path: path.to_owned(),
    };
    let source = VolumeProjection {
        service_account_token: Some(projection),
        ..Default::default()
    };
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![source]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The node parts run on every node, whatever its taints.
pub(super) fn tolerate_everything() -> Vec<Toleration> {
    let exists = |effect: Option<&str>, key: Option<&str>| Toleration {
        effect: effect.map(str::to_owned),
        key: key.map(str::to_owned),
        operator: Some("Exists".to_owned()),
        ..Default::default()
    };
    vec![
        exists(Some("NoSchedule"), None),
        exists(None, Some("CriticalAddonsOnly")),
        exists(Some("NoExecute"), None),
    ]
}
