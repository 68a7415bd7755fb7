//! Under which names the samples' images must be known to a cluster, and how each starts.

/// Where the `sample` program lies inside every image whose content is [`Content::Program`].
pub const PROGRAM_PATH: &str = "/usr/local/bin/sample";

/// What an image has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The `sample` program at [`PROGRAM_PATH`] with the libraries that it needs.
    Program,
    /// Debian's curl, a shell at `/bin/sh`, and `/bin/sleep`, cat, head, tail, env, ls, id and the like.
    Curl,
}

/// One image and the names it goes by.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Full references (`registry/repository:tag`) under which upstream's manifests, and ours, ask for it.
    pub references: &'static [&'static str],
    /// What it holds.
    pub content: Content,
    /// The command; manifests may override it (`sleep` does).
    pub entrypoint: &'static [&'static str],
    /// Environment that the image itself brings, as upstream's images do.
    pub env: &'static [(&'static str, &'static str)],
    /// `User` of the image configuration; numeric, so that `runAsNonRoot` can be checked.
    pub user: &'static str,
    /// The port it listens on, if it listens.
    pub port: Option<u16>,
}

/// The image known under `reference`, if the samples have one.
pub fn image_of(reference: &str) -> Option<&'static Image> {
    IMAGES
        .iter()
        .find(|image| image.references.contains(&reference))
}

/// An ordinary user: Pod Security's `restricted` level refuses root.
const USER: &str = "1001";

/// The references of one of Bookinfo's images: Istio moved its registry, and both names are in use.
macro_rules! bookinfo {
    ($name:literal) => {
        &[
            concat!(
                "registry.istio.io/release/examples-bookinfo-",
                $name,
                ":1.20.3"
            ),
            concat!("docker.io/istio/examples-bookinfo-", $name, ":1.20.3"),
            concat!("docker.io/istio/examples-bookinfo-", $name, ":1.20.2"),
            concat!("docker.io/istio/examples-bookinfo-", $name, ":1.20.1"),
            concat!("docker.io/istio/examples-bookinfo-", $name, ":1.19.1"),
            concat!("docker.io/istio/examples-bookinfo-", $name, ":1.18.0"),
        ]
    };
}

macro_rules! helloworld {
    ($version:literal) => {
        &[
            concat!(
                "registry.istio.io/release/examples-helloworld-",
                $version,
                ":1.0"
            ),
            concat!(
                "registry.istio.io/release/examples-helloworld-",
                $version,
                ":latest"
            ),
            concat!("docker.io/istio/examples-helloworld-", $version, ":1.0"),
            concat!("docker.io/istio/examples-helloworld-", $version, ":latest"),
        ]
    };
}

/// All images of the samples.
pub const IMAGES: &[Image] = &[
    Image {
        references: bookinfo!("productpage-v1"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "productpage"],
        env: &[("SERVICE_VERSION", "v1")],
        user: USER,
        port: Some(9080),
    },
    Image {
        references: bookinfo!("details-v1"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "details"],
        env: &[("SERVICE_VERSION", "v1")],
        user: USER,
        port: Some(9080),
    },
    Image {
        references: bookinfo!("ratings-v1"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "ratings"],
        env: &[("SERVICE_VERSION", "v1")],
        user: USER,
        port: Some(9080),
    },
    Image {
        references: bookinfo!("reviews-v1"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "reviews"],
        env: &[("SERVICE_VERSION", "v1"), ("ENABLE_RATINGS", "false")],
        user: USER,
        port: Some(9080),
    },
    Image {
        references: bookinfo!("reviews-v2"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "reviews"],
        env: &[
            ("SERVICE_VERSION", "v2"),
            ("ENABLE_RATINGS", "true"),
            ("STAR_COLOR", "black"),
        ],
        user: USER,
        port: Some(9080),
    },
    Image {
        references: bookinfo!("reviews-v3"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "reviews"],
        env: &[
            ("SERVICE_VERSION", "v3"),
            ("ENABLE_RATINGS", "true"),
            ("STAR_COLOR", "red"),
        ],
        user: USER,
        port: Some(9080),
    },
    Image {
        references: &[
            "docker.io/mccutchen/go-httpbin:v2.15.0",
            "docker.io/mccutchen/go-httpbin:latest",
        ],
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "httpbin"],
        env: &[],
        user: USER,
        port: Some(8080),
    },
    Image {
        // The Python httpbin of older manifests: the same paths on port 80.
        references: &["docker.io/kennethreitz/httpbin:latest"],
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "httpbin", "--port", "80"],
        env: &[],
        user: "0",
        port: Some(80),
    },
    Image {
        references: helloworld!("v1"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "helloworld"],
        env: &[("SERVICE_VERSION", "v1")],
        user: USER,
        port: Some(5000),
    },
    Image {
        references: helloworld!("v2"),
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "helloworld"],
        env: &[("SERVICE_VERSION", "v2")],
        user: USER,
        port: Some(5000),
    },
    Image {
        references: &[
            "docker.io/istio/ext-authz:0.5",
            "gcr.io/istio-testing/ext-authz:latest",
        ],
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "ext-authz"],
        env: &[],
        user: USER,
        port: Some(8000),
    },
    Image {
        references: &["docker.io/tulle/issuer:1"],
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "issuer"],
        env: &[],
        user: USER,
        port: Some(8000),
    },
    Image {
        references: &["docker.io/tulle/echo:1"],
        content: Content::Program,
        entrypoint: &[PROGRAM_PATH, "echo"],
        env: &[],
        user: USER,
        port: Some(8080),
    },
    Image {
        references: &[
            "docker.io/curlimages/curl:8.16.0",
            "docker.io/curlimages/curl:latest",
        ],
        content: Content::Curl,
        entrypoint: &["/usr/bin/curl"],
        env: &[],
        user: "100",
        port: None,
    },
];
