//! Telemetry: merged for each proxy, mesh first, then namespace, then what targets it.
//!
//! Of several objects for the mesh, or for one namespace, the oldest counts, as in Istio.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_api::mesh::ExtensionProvider;
use tulle_api::telemetry::{
    AccessLogging, CustomTag as ApiTag, IstioMetric, Metrics as ApiMetrics, TagOperation,
    TelemetrySpec, Tracing as ApiTracing, WorkloadMode,
};
use tulle_policy::Target;
use tulle_policy::expression::Expression;
use tulle_policy::observe::{AccessLog, CustomTag, Metric, Metrics, Observe, Telemetry, Tracing};

use super::findings::{Findings, shown};
use super::settings::STDOUT;
use super::{Name, Object, targets};
use crate::cluster::{Cluster, Outputs, Value};
use crate::condition::{ObjectKind, reason};
use crate::resource::{Audience, Resource};

/// Percent of requests that are sampled when nobody says.
const SAMPLING: f64 = 1.0;

impl Cluster {
    /// The condition of one object.
    pub(super) fn telemetry(&self, name: &Name) -> Option<Outputs> {
        self.is_discovered(&name.0).then_some(())?;
        let object = self.networking.telemetries.get(name)?;
        let spec = &object.spec;
        let mut findings = Findings::default();
        self.check(spec, &mut findings);
        let references = targets::references(spec);
        if !references.is_empty() {
            let attachment = self.attach_references(name, &references);
            let condition = attachment.condition(None, &findings.texts(), object.generation);
            return Some(vec![super::conditions(
                ObjectKind::Telemetry,
                name,
                vec![condition],
            )]);
        }
        let general = spec
            .selector
            .as_ref()
            .is_none_or(|s| s.match_labels.is_empty());
        let oldest = self.general(&name.0).map(|(oldest, _)| oldest.clone());
        let attached: Vec<String> = if !general {
            self.attach_by_selector(name, spec.selector.as_ref()).bound
        } else if oldest.as_ref() == Some(name) {
            let root = name.0 == self.settings.root_namespace;
            let names = self.report_names();
            names
                .iter()
                .filter(|(ns, _)| root || *ns == name.0)
                .map(|(ns, name)| format!("{ns}/{name}"))
                .collect()
        } else {
            Vec::new()
        };
        let otherwise = || {
            let why = match &oldest {
                Some((namespace, other)) if general && other != &name.1 => {
                    format!(
                        "{namespace}/{other} is older and counts for the same proxies: merge them into one"
                    )
                }
                _ => "no waypoint or gateway is concerned".to_owned(),
            };
            (reason::ANCESTOR_NOT_BOUND, why)
        };
        let condition = findings.condition(&attached, otherwise, object.generation);
        Some(vec![super::conditions(
            ObjectKind::Telemetry,
            name,
            vec![condition],
        )])
    }

    fn serves_as_waypoint(&self, proxy: &Name) -> bool {
        self.gateway.waypoints.contains_key(proxy)
    }

    /// The object that counts for a whole namespace.
    fn general(&self, namespace: &str) -> Option<(&Name, &Object<TelemetrySpec>)> {
        let general = self
            .networking
            .telemetries
            .iter()
            .filter(|((ns, _), object)| {
                let selector = object.spec.selector.as_ref();
                **ns == *namespace
                    && self.is_discovered(ns)
                    && selector.is_none_or(|s| s.match_labels.is_empty())
                    && targets::references(&object.spec).is_empty()
            });
        general.min_by_key(|(name, object)| (object.created, (*name).clone()))
    }

    /// What the proxies of one Gateway report.
    pub(super) fn reports(&self, proxy: &Name) -> Option<Outputs> {
        if !self.report_names().contains(proxy) {
            return None;
        }
        let key: Arc<str> = format!("{}/{}", proxy.0, proxy.1).into();
        let root = &self.settings.root_namespace;
        let mut layers: Vec<&TelemetrySpec> = Vec::new();
        layers.extend(self.general(root).map(|(_, object)| &object.spec));
        if proxy.0 != *root {
            layers.extend(self.general(&proxy.0).map(|(_, object)| &object.spec));
        }
        let mut own: Vec<(&Name, &Object<TelemetrySpec>)> = Vec::new();
        let mut of_services: BTreeMap<Arc<str>, Vec<(&Name, &Object<TelemetrySpec>)>> =
            BTreeMap::new();
        for (name, object) in &self.networking.telemetries {
            if !self.is_discovered(&name.0) {
                continue;
            }
            let references = targets::references(&object.spec);
            if references.is_empty() {
                let selector = object
                    .spec
                    .selector
                    .as_ref()
                    .filter(|s| !s.match_labels.is_empty());
                let attachment =
                    selector.map(|selector| self.attach_by_selector(name, Some(selector)));
                if attachment.is_some_and(|a| a.targets.contains(&Target::Gateway(key.clone()))) {
                    own.push((name, object));
                }
                continue;
            }
            for target in self.attach_references(name, &references).targets {
                match target {
                    Target::Gateway(gateway) if gateway == key => own.push((name, object)),
                    Target::Service(service) if self.waypoints_of(&service).contains(&key) => {
                        of_services
                            .entry(service.as_str().into())
                            .or_default()
                            .push((name, object));
                    }
                    Target::Waypoints if self.serves_as_waypoint(proxy) => own.push((name, object)),
                    _ => {}
                }
            }
        }
        own.sort_by_key(|(name, object)| (object.created, (*name).clone()));
        layers.extend(own.first().map(|(_, object)| &object.spec));
        let services = of_services.into_iter().map(|(service, mut of_service)| {
            of_service.sort_by_key(|(name, object)| (object.created, (*name).clone()));
            let mut layers = layers.clone();
            layers.extend(of_service.first().map(|(_, object)| &object.spec));
            (service, self.merged(&layers))
        });
        let resource = Telemetry {
            gateway: key.clone(),
            services: services.collect(),
            all: self.merged(&layers),
        };
        let audience = Audience::Gateways(BTreeSet::from([key]));
        Some(vec![Value::resource(
            audience,
            Resource::Telemetry(Box::new(resource)),
        )])
    }

    /// Later layers count before earlier ones, field by field.
    fn merged(&self, layers: &[&TelemetrySpec]) -> Observe {
        Observe {
            access_logs: self.access_logs(layers),
            metrics: metrics(layers),
            tracing: self.tracing(layers),
        }
    }

    fn access_logs(&self, layers: &[&TelemetrySpec]) -> Vec<AccessLog> {
        let mesh = &self.settings.mesh;
        let mut defaults: Vec<String> = mesh.default_providers.access_logging.clone();
        if defaults.is_empty() && !mesh.access_log_file.is_empty() {
            defaults.push(STDOUT.to_owned());
        }
        let on = |provider: &String| (Arc::from(provider.as_str()), None);
        let mut logs: BTreeMap<Arc<str>, Option<Arc<str>>> = defaults.iter().map(on).collect();
        for layer in layers {
            let items: Vec<&AccessLogging> = layer
                .access_logging
                .iter()
                .filter(|item| server(item.matches.as_ref().and_then(|m| m.mode)))
                .collect();
            let named = items.iter().any(|item| !item.providers.is_empty());
            // Providers that are named replace those of the layer above.
            let above = std::mem::take(&mut logs);
            if !named {
                logs.clone_from(&above);
            }
            for item in items {
                let names: Vec<Arc<str>> = if item.providers.is_empty() {
                    let inherited: Vec<Arc<str>> =
                        logs.keys().chain(above.keys()).cloned().collect();
                    if inherited.is_empty() {
                        vec![STDOUT.into()]
                    } else {
                        inherited
                    }
                } else {
                    item.providers
                        .iter()
                        .map(|provider| provider.name.as_str().into())
                        .collect()
                };
                for name in names {
                    if item.disabled == Some(true) {
                        logs.remove(&name);
                        continue;
                    }
                    let filter = item
                        .filter
                        .as_ref()
                        .and_then(|f| f.expression.as_deref())
                        .filter(|text| usable(text));
                    let inherited = above.get(&name).cloned().flatten();
                    logs.insert(name, filter.map(Arc::from).or(inherited));
                }
            }
        }
        logs.into_iter()
            .map(|(provider, filter)| AccessLog { provider, filter })
            .collect()
    }

    fn tracing(&self, layers: &[&TelemetrySpec]) -> Option<Tracing> {
        let mesh = &self.settings.mesh;
        let mut found = !mesh.default_providers.tracing.is_empty();
        let configured = mesh
            .default_config
            .tracing
            .as_ref()
            .and_then(|tracing| tracing.sampling.as_ref());
        let mut tracing = Tracing {
            providers: mesh
                .default_providers
                .tracing
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            sampling: configured
                .and_then(serde_json::Number::as_f64)
                .unwrap_or(SAMPLING),
            report_disabled: false,
            propagation_disabled: false,
            tags: BTreeMap::new(),
            istio_tags: true,
        };
        for layer in layers {
            for item in layer
                .tracing
                .iter()
                .filter(|item| server(item.matches.as_ref().and_then(|m| m.mode)))
            {
                found = true;
                overlay(&mut tracing, item);
            }
        }
        found.then_some(tracing)
    }

    /// Tells of what has no effect.
    fn check(&self, spec: &TelemetrySpec, findings: &mut Findings) {
        let providers = &self.settings.mesh.extension_providers;
        let mut provider = |path: &str, name: &str| {
            if name == STDOUT || name == "prometheus" {
                return;
            }
            let path = format!("{path}.providers");
            match providers.iter().find(|provider| provider.name == name) {
                None => {
                    let name = shown(name);
                    let why = format!("the mesh configuration has no extension provider {name:?}");
                    findings.invalid(path, why);
                }
                Some(found) if !reports(found) => {
                    let name = shown(name);
                    let why = format!(
                        "{name:?} is of a kind that has no effect: use opentelemetry, envoyOtelAls, envoyFileAccessLog or prometheus"
                    );
                    findings.unsupported(path, why);
                }
                Some(_) => {}
            }
        };
        for item in &spec.tracing {
            item.providers
                .iter()
                .for_each(|p| provider("spec.tracing", &p.name));
        }
        for item in &spec.metrics {
            item.providers
                .iter()
                .for_each(|p| provider("spec.metrics", &p.name));
        }
        for item in &spec.access_logging {
            item.providers
                .iter()
                .for_each(|p| provider("spec.accessLogging", &p.name));
        }
        for item in &spec.access_logging {
            let filter = item.filter.as_ref().and_then(|f| f.expression.as_deref());
            if let Some(Err(why)) = filter
                .filter(|text| !text.is_empty())
                .map(Expression::parse)
            {
                let why = format!("{why}: everything is logged");
                findings.invalid("spec.accessLogging.filter.expression", why);
            }
        }
        for item in &spec.metrics {
            for (tag, change) in item
                .overrides
                .iter()
                .flat_map(|change| &change.tag_overrides)
            {
                let value = change.value.as_deref().filter(|value| !value.is_empty());
                if let Some(Err(why)) = value.map(Expression::parse) {
                    let path = format!("spec.metrics.overrides.tagOverrides[{}]", shown(tag));
                    findings.invalid(path, format!("{why}: the tag stays as it is"));
                }
            }
            if item.reporting_interval.is_some() {
                findings.unsupported(
                    "spec.metrics.reportingInterval",
                    "has no effect: metrics are always up to date",
                );
            }
            for change in &item.overrides {
                if change.matches.as_ref().is_some_and(|m| {
                    m.custom_metric
                        .as_deref()
                        .is_some_and(|name| metric_named(name).is_none())
                }) {
                    findings.unsupported(
                        "spec.metrics.overrides.match.customMetric",
                        "only Istio's standard metrics are known",
                    );
                }
            }
        }
    }
}

/// Whether a provider receives something from proxies.
fn reports(provider: &ExtensionProvider) -> bool {
    let otlp = provider.opentelemetry.is_some() || provider.envoy_otel_als.is_some();
    otlp || provider.envoy_file_access_log.is_some() || provider.prometheus.is_some()
}

/// Waypoints and gateways are servers; what is for clients only is not for them.
fn server(mode: Option<WorkloadMode>) -> bool {
    mode != Some(WorkloadMode::Client)
}

fn overlay(tracing: &mut Tracing, item: &ApiTracing) {
    if !item.providers.is_empty() {
        tracing.providers = item
            .providers
            .iter()
            .map(|provider| provider.name.as_str().into())
            .collect();
    }
    if let Some(percent) = item.random_sampling_percentage {
        tracing.sampling = percent.clamp(0.0, 100.0);
    }
    tracing.report_disabled = item
        .disable_span_reporting
        .unwrap_or(tracing.report_disabled);
    tracing.propagation_disabled = item
        .disable_context_propagation
        .unwrap_or(tracing.propagation_disabled);
    tracing.istio_tags = item.enable_istio_tags.unwrap_or(tracing.istio_tags);
    if !item.custom_tags.is_empty() {
        let tags = item
            .custom_tags
            .iter()
            .filter_map(|(name, tag)| Some((name.as_str().into(), self::tag(tag)?)));
        tracing.tags = tags.collect();
    }
}

fn tag(tag: &ApiTag) -> Option<CustomTag> {
    let default = |text: &Option<String>| text.as_deref().map(Arc::<str>::from);
    if let Some(literal) = &tag.literal {
        return Some(CustomTag::Literal(literal.value.as_str().into()));
    }
    if let Some(environment) = &tag.environment {
        return Some(CustomTag::Environment {
            name: environment.name.as_str().into(),
            default: default(&environment.default_value).unwrap_or_default(),
        });
    }
    if let Some(header) = &tag.header {
        return Some(CustomTag::Header {
            name: header.name.to_ascii_lowercase().into(),
            default: default(&header.default_value),
        });
    }
    tag.formatter
        .as_ref()
        .map(|format| CustomTag::Format(format.value.as_str().into()))
}

fn metrics(layers: &[&TelemetrySpec]) -> Metrics {
    let mut metrics = Metrics::default();
    for item in layers.iter().flat_map(|layer| &layer.metrics) {
        let prometheus =
            item.providers.is_empty() || item.providers.iter().any(|p| p.name == "prometheus");
        if prometheus {
            apply(&mut metrics, item);
        }
    }
    metrics
}

fn apply(metrics: &mut Metrics, item: &ApiMetrics) {
    for change in &item.overrides {
        let selector = change.matches.as_ref();
        if !server(selector.and_then(|m| m.mode)) {
            continue;
        }
        let custom = selector.and_then(|m| m.custom_metric.as_deref());
        let selected: Vec<Metric> = match (selector.and_then(|m| m.metric), custom) {
            (_, Some(name)) => metric_named(name).into_iter().collect(),
            (None | Some(IstioMetric::AllMetrics), None) => Metric::ALL.to_vec(),
            (Some(metric), None) => metric_of(metric).into_iter().collect(),
        };
        for metric in selected {
            let entry = metrics.overrides.entry(metric).or_default();
            if let Some(disabled) = change.disabled {
                entry.disabled = disabled;
            }
            for (tag, operation) in &change.tag_overrides {
                let value = operation
                    .value
                    .as_deref()
                    .filter(|text| usable(text))
                    .map(Arc::from);
                let value = if operation.operation == Some(TagOperation::Remove) {
                    None
                } else {
                    value
                };
                if value.is_some() || operation.operation == Some(TagOperation::Remove) {
                    entry.tags.insert(tag.as_str().into(), value);
                }
            }
        }
    }
}

/// An expression that proxies can evaluate.
fn usable(text: &str) -> bool {
    !text.is_empty() && Expression::parse(text).is_ok()
}

fn metric_of(metric: IstioMetric) -> Option<Metric> {
    Some(match metric {
        IstioMetric::RequestCount => Metric::RequestCount,
        IstioMetric::RequestDuration => Metric::RequestDuration,
        IstioMetric::RequestSize => Metric::RequestSize,
        IstioMetric::ResponseSize => Metric::ResponseSize,
        IstioMetric::TcpOpenedConnections => Metric::TcpOpenedConnections,
        IstioMetric::TcpClosedConnections => Metric::TcpClosedConnections,
        IstioMetric::TcpSentBytes => Metric::TcpSentBytes,
        IstioMetric::TcpReceivedBytes => Metric::TcpReceivedBytes,
        IstioMetric::GrpcRequestMessages => Metric::GrpcRequestMessages,
        IstioMetric::GrpcResponseMessages => Metric::GrpcResponseMessages,
        IstioMetric::AllMetrics | IstioMetric::Unknown => return None,
    })
}

/// By its name in Prometheus.
fn metric_named(name: &str) -> Option<Metric> {
    Some(match name.strip_prefix("istio_").unwrap_or(name) {
        "requests_total" => Metric::RequestCount,
        "request_duration_milliseconds" => Metric::RequestDuration,
        "request_bytes" => Metric::RequestSize,
        "response_bytes" => Metric::ResponseSize,
        "tcp_connections_opened_total" => Metric::TcpOpenedConnections,
        "tcp_connections_closed_total" => Metric::TcpClosedConnections,
        "tcp_sent_bytes_total" => Metric::TcpSentBytes,
        "tcp_received_bytes_total" => Metric::TcpReceivedBytes,
        "request_messages_total" => Metric::GrpcRequestMessages,
        "response_messages_total" => Metric::GrpcResponseMessages,
        _ => return None,
    })
}
