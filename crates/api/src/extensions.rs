//! `extensions.istio.io`: code in proxies. Kept so that manifests apply; answered with a condition.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::{PolicyTargetReference, WorkloadSelector};
use crate::shape::{FreeForm, choice, shape};
use crate::status::IstioStatus;

shape! {
    /// WebAssembly in proxies. Without effect here.
    #[derive(CustomResource)]
    #[kube(
        group = "extensions.istio.io",
        version = "v1alpha1",
        kind = "WasmPlugin",
        plural = "wasmplugins",
        category = "istio-io",
        category = "extensions-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "WebAssembly in proxies. Without effect here.",
        printcolumn = r#"{"name":"Age","type":"date","description":"When the resource was made.","jsonPath":".metadata.creationTimestamp"}"#
    )]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
        "message": "only one of selector, targetRef and targetRefs can be given",
    }]))]
    WasmPluginSpec {
        = #[schemars(length(min = 1))] url: String,
        selector: Option<WorkloadSelector>,
        target_ref: Option<PolicyTargetReference>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        #[schemars(regex(pattern = "(^$|^[a-f0-9]{64}$)"))]
        sha256: Option<String>,
        image_pull_policy: Option<PullPolicy>,
        #[schemars(length(min = 1, max = 253))]
        image_pull_secret: Option<String>,
        verification_key: Option<String>,
        plugin_config: Option<FreeForm>,
        #[schemars(length(min = 1, max = 256))]
        plugin_name: Option<String>,
        phase: Option<PluginPhase>,
        priority: Option<i32>,
        fail_strategy: Option<FailStrategy>,
        vm_config: Option<VmConfig>,
        #[serde(rename = "match")]
        matches: Vec<TrafficSelector>,
        #[serde(rename = "type")]
        type_: Option<PluginType>,
    }
}

choice! {
    /// When an image is fetched.
    PullPolicy {
        Unspecified = "UNSPECIFIED_POLICY",
        IfNotPresent = "IfNotPresent",
        Always = "Always",
    }
}

choice! {
    /// Where in the chain a plugin runs.
    PluginPhase {
        Unspecified = "UNSPECIFIED_PHASE",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }
}

choice! {
    /// What happens when a plugin fails.
    FailStrategy {
        FailClose = "FAIL_CLOSE",
        FailOpen = "FAIL_OPEN",
        FailReload = "FAIL_RELOAD",
    }
}

choice! {
    /// Kind of a plugin.
    PluginType {
        Unspecified = "UNSPECIFIED_PLUGIN_TYPE",
        Http = "HTTP",
        Network = "NETWORK",
    }
}

shape! {
    /// Environment of a plugin.
    VmConfig {
        #[schemars(length(max = 256))]
        env: Vec<EnvVar>,
    }
}

shape! {
    /// One variable.
    EnvVar {
        = #[schemars(length(min = 1, max = 256))] name: String,
        value_from: Option<EnvValueSource>,
        #[schemars(length(max = 2048))]
        value: Option<String>,
    }
}

choice! {
    /// Where a variable comes from.
    EnvValueSource {
        Inline = "INLINE",
        Host = "HOST",
    }
}

shape! {
    /// Which traffic a plugin sees.
    TrafficSelector {
        mode: Option<TrafficMode>,
        ports: Vec<PortSelector>,
    }
}

choice! {
    /// Which direction a plugin sees.
    TrafficMode {
        Undefined = "UNDEFINED",
        Client = "CLIENT",
        Server = "SERVER",
        ClientAndServer = "CLIENT_AND_SERVER",
    }
}

shape! {
    /// A port.
    PortSelector {
        = #[schemars(range(min = 1, max = 65535))] number: u32,
    }
}

shape! {
    /// WebAssembly or Lua in proxies. Without effect here.
    #[derive(CustomResource)]
    #[kube(
        group = "extensions.istio.io",
        version = "v1alpha1",
        kind = "TrafficExtension",
        plural = "trafficextensions",
        category = "istio-io",
        category = "extensions-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "WebAssembly or Lua in proxies. Without effect here.",
        printcolumn = r#"{"name":"Age","type":"date","description":"When the resource was made.","jsonPath":".metadata.creationTimestamp"}"#
    )]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "!(has(self.selector) && has(self.targetRefs))",
            "message": "only one of selector and targetRefs can be given",
        },
        {
            "rule": "has(self.wasm) != has(self.lua)",
            "message": "exactly one of wasm and lua must be given",
        },
    ]))]
    TrafficExtensionSpec {
        selector: Option<WorkloadSelector>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        phase: Option<ExtensionPhase>,
        priority: Option<i32>,
        #[serde(rename = "match")]
        matches: Vec<TrafficSelector>,
        wasm: Option<WasmConfig>,
        lua: Option<LuaConfig>,
    }
}

choice! {
    /// Where in the chain an extension runs.
    ExtensionPhase {
        Unspecified = "UNSPECIFIED",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }
}

shape! {
    /// A WebAssembly module.
    WasmConfig {
        = #[schemars(length(min = 1))] url: String,
        #[schemars(regex(pattern = "(^$|^[a-f0-9]{64}$)"))]
        sha256: Option<String>,
        image_pull_policy: Option<PullPolicy>,
        #[schemars(length(min = 1, max = 253))]
        image_pull_secret: Option<String>,
        verification_key: Option<String>,
        plugin_config: Option<FreeForm>,
        #[schemars(length(min = 1, max = 256))]
        plugin_name: Option<String>,
        fail_strategy: Option<FailStrategy>,
        vm_config: Option<VmConfig>,
        #[serde(rename = "type")]
        type_: Option<PluginType>,
    }
}

shape! {
    /// A Lua script.
    LuaConfig {
        = #[schemars(length(min = 1, max = 65536))] inline_code: String,
    }
}
