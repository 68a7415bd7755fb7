//! HTTPRoute, GRPCRoute, TCPRoute and TLSRoute.

use serde::{Deserialize, Serialize};

use super::part;

part!(
    /// What a route attaches to.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    ParentReference {
        group: Option<String>,
        kind: Option<String>,
        namespace: Option<String>,
        name: String,
        section_name: Option<String>,
        port: Option<i64>,
    }
);

part!(
    /// An object, perhaps of another namespace.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    ObjectRefTo {
        group: Option<String>,
        kind: Option<String>,
        name: String,
        namespace: Option<String>,
        port: Option<i64>,
    }
);

part!(
    /// A destination of requests or connections.
    BackendRef {
        #[serde(flatten)]
        to: ObjectRefTo,
        weight: Option<i64>,
    }
);

part!(
    /// The same, with filters.
    HttpBackendRef {
        #[serde(flatten)]
        to: ObjectRefTo,
        weight: Option<i64>,
        filters: Vec<HttpFilter>,
    }
);

part!(
    /// The same for gRPC.
    GrpcBackendRef {
        #[serde(flatten)]
        to: ObjectRefTo,
        weight: Option<i64>,
        filters: Vec<GrpcFilter>,
    }
);

part!(
    /// Routes of requests.
    HttpRouteSpec {
        parent_refs: Vec<ParentReference>,
        hostnames: Vec<String>,
        rules: Vec<HttpRule>,
    }
);

part!(
    /// One rule.
    HttpRule {
        name: Option<String>,
        matches: Vec<HttpMatch>,
        filters: Vec<HttpFilter>,
        backend_refs: Vec<HttpBackendRef>,
        timeouts: Option<RouteTimeouts>,
        retry: Option<RetryPolicy>,
        session_persistence: Option<serde_json::Value>,
    }
);

part!(
    /// Which requests.
    HttpMatch {
        path: Option<PathMatch>,
        headers: Vec<HeaderMatch>,
        query_params: Vec<HeaderMatch>,
        method: Option<String>,
    }
);

part!(
    /// Which paths.
    PathMatch {
        #[serde(rename = "type")]
        type_: Option<String>,
        value: Option<String>,
    }
);

part!(
    /// Which values of a header or query parameter.
    HeaderMatch {
        #[serde(rename = "type")]
        type_: Option<String>,
        name: String,
        value: String,
    }
);

part!(
    /// One step of processing.
    HttpFilter {
        #[serde(rename = "type")]
        type_: String,
        request_header_modifier: Option<HeaderFilter>,
        response_header_modifier: Option<HeaderFilter>,
        request_mirror: Option<MirrorFilter>,
        request_redirect: Option<RedirectFilter>,
        url_rewrite: Option<RewriteFilter>,
        cors: Option<CorsFilter>,
        external_auth: Option<ExternalAuth>,
        extension_ref: Option<ObjectRefTo>,
    }
);

part!(
    /// Edits of headers.
    HeaderFilter {
        set: Vec<HeaderValue>,
        add: Vec<HeaderValue>,
        remove: Vec<String>,
    }
);

part!(
    /// A header.
    HeaderValue {
        name: String,
        value: String,
    }
);

part!(
    /// A copy of requests.
    MirrorFilter {
        backend_ref: ObjectRefTo,
        percent: Option<i64>,
        fraction: Option<Fraction>,
    }
);

part!(
    /// A share.
    Fraction {
        numerator: i64,
        denominator: Option<i64>,
    }
);

part!(
    /// The client is sent elsewhere.
    RedirectFilter {
        scheme: Option<String>,
        hostname: Option<String>,
        path: Option<PathModifier>,
        port: Option<i64>,
        status_code: Option<i64>,
    }
);

part!(
    /// Host and path are changed.
    RewriteFilter {
        hostname: Option<String>,
        path: Option<PathModifier>,
    }
);

part!(
    /// What becomes of a path.
    PathModifier {
        #[serde(rename = "type")]
        type_: String,
        replace_full_path: Option<String>,
        replace_prefix_match: Option<String>,
    }
);

part!(
    /// Cross-origin requests.
    CorsFilter {
        allow_origins: Vec<String>,
        allow_credentials: Option<bool>,
        allow_methods: Vec<String>,
        allow_headers: Vec<String>,
        expose_headers: Vec<String>,
        max_age: Option<i64>,
    }
);

part!(
    /// Authorization by somebody else.
    ExternalAuth {
        protocol: String,
        backend_ref: ObjectRefTo,
    }
);

part!(
    /// How long things may take.
    RouteTimeouts {
        request: Option<String>,
        backend_request: Option<String>,
    }
);

part!(
    /// When a request is tried again.
    RetryPolicy {
        codes: Vec<i64>,
        attempts: Option<i64>,
        backoff: Option<String>,
    }
);

part!(
    /// Routes of gRPC calls.
    GrpcRouteSpec {
        parent_refs: Vec<ParentReference>,
        hostnames: Vec<String>,
        rules: Vec<GrpcRule>,
    }
);

part!(
    /// One rule.
    GrpcRule {
        name: Option<String>,
        matches: Vec<GrpcMatch>,
        filters: Vec<GrpcFilter>,
        backend_refs: Vec<GrpcBackendRef>,
        session_persistence: Option<serde_json::Value>,
    }
);

part!(
    /// Which calls.
    GrpcMatch {
        method: Option<GrpcMethodMatch>,
        headers: Vec<HeaderMatch>,
    }
);

part!(
    /// Which methods.
    GrpcMethodMatch {
        #[serde(rename = "type")]
        type_: Option<String>,
        service: Option<String>,
        method: Option<String>,
    }
);

part!(
    /// One step of processing.
    GrpcFilter {
        #[serde(rename = "type")]
        type_: String,
        request_header_modifier: Option<HeaderFilter>,
        response_header_modifier: Option<HeaderFilter>,
        request_mirror: Option<MirrorFilter>,
        extension_ref: Option<ObjectRefTo>,
    }
);

part!(
    /// Routes of connections: TCPRoute, and TLSRoute with host names.
    StreamRouteSpec {
        parent_refs: Vec<ParentReference>,
        hostnames: Vec<String>,
        rules: Vec<StreamRouteRule>,
    }
);

part!(
    /// One rule.
    StreamRouteRule {
        name: Option<String>,
        backend_refs: Vec<BackendRef>,
    }
);
