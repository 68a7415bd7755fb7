//! How requests to a host are routed.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shape::{Duration, choice, shape};
use crate::status::IstioStatus;

shape! {
    /// How requests to a host are routed.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io",
        version = "v1",
        kind = "VirtualService",
        plural = "virtualservices",
        shortname = "vs",
        category = "istio-io",
        category = "networking-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "How requests to a host are routed.",
        printcolumn = r#"{"name":"Gateways","type":"string","description":"Where the routes apply.","jsonPath":".spec.gateways"}"#,
        printcolumn = r#"{"name":"Hosts","type":"string","description":"The hosts that are routed.","jsonPath":".spec.hosts"}"#,
        printcolumn = r#"{"name":"Age","type":"date","description":"When the resource was made.","jsonPath":".metadata.creationTimestamp"}"#
    )]
    VirtualServiceSpec {
        hosts: Vec<String>,
        gateways: Vec<String>,
        http: Vec<HttpRoute>,
        tls: Vec<TlsRoute>,
        tcp: Vec<TcpRoute>,
        export_to: Vec<String>,
    }
}

shape! {
    /// One rule for HTTP; the first that matches is taken.
    HttpRoute {
        name: Option<String>,
        #[serde(rename = "match")]
        matches: Vec<HttpMatchRequest>,
        route: Vec<HttpRouteDestination>,
        redirect: Option<HttpRedirect>,
        direct_response: Option<HttpDirectResponse>,
        delegate: Option<Delegate>,
        rewrite: Option<HttpRewrite>,
        timeout: Option<Duration>,
        retries: Option<HttpRetry>,
        fault: Option<HttpFaultInjection>,
        mirror: Option<Destination>,
        mirrors: Vec<HttpMirrorPolicy>,
        mirror_percent: Option<u32>,
        /// Older spelling.
        #[serde(rename = "mirror_percent")]
        mirror_percent_snake: Option<u32>,
        mirror_percentage: Option<Percent>,
        cors_policy: Option<CorsPolicy>,
        headers: Option<Headers>,
    }
}

shape! {
    /// What a request must look like; all of it.
    HttpMatchRequest {
        name: Option<String>,
        uri: Option<StringMatch>,
        scheme: Option<StringMatch>,
        method: Option<StringMatch>,
        authority: Option<StringMatch>,
        headers: BTreeMap<String, StringMatch>,
        port: Option<u32>,
        source_labels: BTreeMap<String, String>,
        gateways: Vec<String>,
        query_params: BTreeMap<String, StringMatch>,
        ignore_uri_case: Option<bool>,
        without_headers: BTreeMap<String, StringMatch>,
        source_namespace: Option<String>,
        stat_prefix: Option<String>,
    }
}

shape! {
    /// One of three ways to compare a text.
    StringMatch {
        exact: Option<String>,
        prefix: Option<String>,
        regex: Option<String>,
    }
}

shape! {
    /// Where requests go, with a weight.
    HttpRouteDestination {
        = destination: Destination,
        weight: Option<i32>,
        headers: Option<Headers>,
    }
}

shape! {
    /// A service, a subset of it, and a port.
    Destination {
        = host: String,
        subset: Option<String>,
        port: Option<PortSelector>,
    }
}

shape! {
    /// A port by its number.
    PortSelector {
        number: Option<u32>,
    }
}

shape! {
    /// Changes to headers.
    Headers {
        request: Option<HeaderOperations>,
        response: Option<HeaderOperations>,
    }
}

shape! {
    /// Changes to headers of one direction.
    HeaderOperations {
        set: BTreeMap<String, String>,
        add: BTreeMap<String, String>,
        remove: Vec<String>,
    }
}

shape! {
    /// Sends the client elsewhere.
    HttpRedirect {
        uri: Option<String>,
        authority: Option<String>,
        port: Option<u32>,
        derive_port: Option<RedirectPort>,
        scheme: Option<String>,
        redirect_code: Option<u32>,
        prefix_rewrite: Option<String>,
    }
}

choice! {
    /// Where the port of a redirect comes from.
    RedirectPort {
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        FromRequestPort = "FROM_REQUEST_PORT",
    }
}

shape! {
    /// Answers without asking anyone.
    HttpDirectResponse {
        = status: u32,
        body: Option<HttpBody>,
    }
}

shape! {
    /// Body of a direct response.
    HttpBody {
        string: Option<String>,
        #[schemars(extend("format" = "byte"))]
        bytes: Option<String>,
    }
}

shape! {
    /// Another VirtualService that goes on.
    Delegate {
        name: Option<String>,
        namespace: Option<String>,
    }
}

shape! {
    /// Changes path and host.
    HttpRewrite {
        uri: Option<String>,
        authority: Option<String>,
        uri_regex_rewrite: Option<RegexRewrite>,
    }
}

shape! {
    /// Changes the path by pattern.
    RegexRewrite {
        #[serde(rename = "match")]
        matches: Option<String>,
        rewrite: Option<String>,
    }
}

shape! {
    /// Tries again.
    HttpRetry {
        attempts: Option<i32>,
        per_try_timeout: Option<Duration>,
        retry_on: Option<String>,
        retry_remote_localities: Option<bool>,
        retry_ignore_previous_hosts: Option<bool>,
        backoff: Option<Duration>,
    }
}

shape! {
    /// Makes requests fail on purpose.
    HttpFaultInjection {
        delay: Option<FaultDelay>,
        abort: Option<FaultAbort>,
    }
}

shape! {
    /// Delays requests.
    FaultDelay {
        percent: Option<i32>,
        fixed_delay: Option<Duration>,
        exponential_delay: Option<Duration>,
        percentage: Option<Percent>,
    }
}

shape! {
    /// Aborts requests.
    FaultAbort {
        http_status: Option<i32>,
        grpc_status: Option<String>,
        #[serde(rename = "http2Error")]
        http2_error: Option<String>,
        percentage: Option<Percent>,
    }
}

shape! {
    /// 0 to 100.
    Percent {
        value: Option<f64>,
    }
}

shape! {
    /// Sends a copy of requests elsewhere.
    HttpMirrorPolicy {
        = destination: Destination,
        percentage: Option<Percent>,
    }
}

shape! {
    /// Cross-origin requests of browsers.
    CorsPolicy {
        allow_origin: Vec<String>,
        allow_origins: Vec<StringMatch>,
        allow_methods: Vec<String>,
        allow_headers: Vec<String>,
        expose_headers: Vec<String>,
        max_age: Option<Duration>,
        allow_credentials: Option<bool>,
        unmatched_preflights: Option<UnmatchedPreflights>,
    }
}

choice! {
    /// What happens to preflight requests that do not match.
    UnmatchedPreflights {
        Unspecified = "UNSPECIFIED",
        Forward = "FORWARD",
        Ignore = "IGNORE",
    }
}

shape! {
    /// One rule for TLS that is passed through.
    TlsRoute {
        = #[serde(rename = "match")] matches: Vec<TlsMatchAttributes>,
        route: Vec<RouteDestination>,
    }
}

shape! {
    /// What a TLS connection must look like.
    TlsMatchAttributes {
        = sni_hosts: Vec<String>,
        destination_subnets: Vec<String>,
        port: Option<u32>,
        source_labels: BTreeMap<String, String>,
        gateways: Vec<String>,
        source_namespace: Option<String>,
    }
}

shape! {
    /// One rule for TCP.
    TcpRoute {
        #[serde(rename = "match")]
        matches: Vec<L4MatchAttributes>,
        route: Vec<RouteDestination>,
    }
}

shape! {
    /// What a connection must look like.
    L4MatchAttributes {
        destination_subnets: Vec<String>,
        port: Option<u32>,
        source_subnet: Option<String>,
        source_labels: BTreeMap<String, String>,
        gateways: Vec<String>,
        source_namespace: Option<String>,
    }
}

shape! {
    /// Where connections go, with a weight.
    RouteDestination {
        = destination: Destination,
        weight: Option<i32>,
    }
}
