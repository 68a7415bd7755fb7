//! Our manifests of the samples, compiled in so that `make up` and the tests need no path.

/// One file of `samples/`.
#[derive(Clone, Copy, Debug)]
pub struct Manifest {
    /// Its name without `.yaml`.
    pub name: &'static str,
    /// Its YAML documents.
    pub yaml: &'static str,
    /// `make up` deploys it; the others are there for walks of Istio's documentation.
    pub deployed: bool,
}

macro_rules! manifest {
    ($name:literal, deployed: $deployed:literal) => {
        Manifest {
            name: $name,
            yaml: include_str!(concat!("../", $name, ".yaml")),
            deployed: $deployed,
        }
    };
}

/// All manifests, in the order in which they are applied.
pub const MANIFESTS: &[Manifest] = &[
    manifest!("bookinfo", deployed: true),
    manifest!("sleep", deployed: true),
    manifest!("notsleep", deployed: true),
    manifest!("curl", deployed: false),
    manifest!("httpbin", deployed: true),
    manifest!("helloworld", deployed: true),
    manifest!("echo", deployed: false),
    manifest!("ext-authz", deployed: false),
    manifest!("issuer", deployed: false),
];
