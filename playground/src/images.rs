//! The images of the project: the mesh, and the samples' client.

use std::path::Path;

use anyhow::Result;

use crate::image::Image;

/// What a shell session in the samples' client may want, besides curl.
const CLIENT_PROGRAMS: [&str; 26] = [
    "cat", "cut", "date", "dd", "echo", "env", "false", "getent", "grep", "head", "hostname", "id",
    "ls", "mkdir", "printf", "sed", "seq", "sh", "sleep", "sort", "tail", "test", "timeout", "tr",
    "true", "wc",
];
/// Certificates that Debian's curl trusts.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The mesh's image: the one program, the CNI plugin, and the two tools that they call. No shell.
pub fn mesh(reference: &str, tulle: &Path, plugin: &Path) -> Result<Image> {
    let image = Image::new(reference)
        .program(tulle, "/usr/local/bin/tulle")?
        .program(plugin, "/usr/local/bin/tulle-cni")?
        .host_program("nft", "/usr/sbin/nft")?
        .host_program("ip", "/usr/sbin/ip")?;
    Ok(image
        .entrypoint(&["/usr/local/bin/tulle"])
        .label("org.opencontainers.image.title", "tulle"))
}

/// An image of one program with its libraries.
pub fn program(reference: &str, program: &Path, path: &str) -> Result<Image> {
    Ok(Image::new(reference)
        .program(program, path)?
        .entrypoint(&[path]))
}

/// This host's curl, a shell, and what one uses with them.
pub fn client(reference: &str) -> Result<Image> {
    let mut image = Image::new(reference).host_program("curl", "/usr/bin/curl")?;
    for name in CLIENT_PROGRAMS {
        image = image.host_program(name, &format!("/bin/{name}"))?;
    }
    if Path::new(TRUSTED).exists() {
        image = image.file(TRUSTED, TRUSTED)?;
    }
    Ok(image.entrypoint(&["/usr/bin/curl"]))
}
