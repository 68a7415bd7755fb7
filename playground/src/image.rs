//! Container images made of files of this host: one layer each, no base image, no registry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Directories that programs expect, and their modes.
const DIRECTORIES: [(&str, u32); 8] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image to be written to an archive.
#[derive(Clone, Debug)]
pub struct Image {
    names: Vec<String>,
    entries: BTreeMap<String, Entry>,
    entrypoint: Vec<String>,
    env: Vec<String>,
    user: String,
    ports: Vec<u16>,
    labels: BTreeMap<String, String>,
}

/// What lies at one path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory { mode: u32 },
    File { source: PathBuf, mode: u32 },
    Text { text: String },
    Link { target: String },
}

impl Image {
    /// An empty image: a few directories and the user root. `name` is a full reference, such as
    /// `docker.io/istio/examples-helloworld-v1:1.0`.
    pub fn new(name: &str) -> Self {
        let directories =
            DIRECTORIES.map(|(path, mode)| (path.to_owned(), Entry::Directory { mode }));
        let users =
            "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
        let mut image = Image {
            names: vec![name.to_owned()],
            entries: directories.into(),
            entrypoint: Vec::new(),
            env: vec![PATH.to_owned()],
            user: String::new(),
            ports: Vec::new(),
            labels: BTreeMap::new(),
        };
        image.entries.insert(
            "etc/passwd".to_owned(),
            Entry::Text {
                text: users.to_owned(),
            },
        );
        image.entries.insert(
            "etc/group".to_owned(),
            Entry::Text {
                text: "root:x:0:\nnogroup:x:65534:\n".to_owned(),
            },
        );
        image
    }

    /// A further reference under which the image is known.
    #[must_use]
    pub fn also_named(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// One file, readable by all, executable if it is executable here. Fails if there is no such file.
    pub fn file(mut self, source: impl AsRef<Path>, to: &str) -> Result<Self> {
        let source = fs::canonicalize(source.as_ref()).with_context(|| {
            format!(
                "the file {} for the image {}",
                source.as_ref().display(),
                self.name()
            )
        })?;
        let metadata = source
            .metadata()
            .with_context(|| format!("reading {}", source.display()))?;
        ensure!(
            metadata.is_file(),
            "{} for the image {} is not a file",
            source.display(),
            self.name()
        );
        let mode = if metadata.permissions().mode() & 0o111 == 0 {
            0o644
        } else {
            0o755
        };
        self.insert(to, Entry::File { source, mode });
        Ok(self)
    }

    /// A program with the libraries that `ldd` names, each at the path where it is here.
    pub fn program(self, source: impl AsRef<Path>, to: &str) -> Result<Self> {
        let libraries = libraries(source.as_ref())?;
        let image = self.file(source, to)?;
        libraries.iter().try_fold(image, |image, library| {
            image.file(library, &library.to_string_lossy())
        })
    }

    /// A program of this host's PATH, at `to`, with its libraries.
    pub fn host_program(self, name: &str, to: &str) -> Result<Self> {
        let source = crate::prerequisites::find_program(name).with_context(|| {
            format!(
                "the image {} needs the program {name}, which this host lacks",
                self.name()
            )
        })?;
        self.program(source, to)
    }

    /// A small text file.
    #[must_use]
    pub fn text(mut self, to: &str, text: &str) -> Self {
        self.insert(
            to,
            Entry::Text {
                text: text.to_owned(),
            },
        );
        self
    }

    /// A symbolic link at `path`.
    #[must_use]
    pub fn link(mut self, target: &str, path: &str) -> Self {
        self.insert(
            path,
            Entry::Link {
                target: target.to_owned(),
            },
        );
        self
    }

    /// A directory with the given mode.
    #[must_use]
    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.insert(path, Entry::Directory { mode });
        self
    }

    /// The command that a container runs unless its pod says otherwise.
    #[must_use]
    pub fn entrypoint(mut self, command: &[&str]) -> Self {
        self.entrypoint = command.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push(format!("{key}={value}"));
        self
    }

    /// The user, as a number: kubelet cannot check `runAsNonRoot` for a name.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// A port that the program listens on; information only.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// A label, such as `org.opencontainers.image.version`.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The first reference.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/').to_owned();
        let parents = path
            .match_indices('/')
            .map(|(end, _)| path.split_at(end).0.to_owned());
        for parent in parents.collect::<Vec<_>>() {
            self.entries
                .entry(parent)
                .or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path, entry);
    }

    /// The layer: the same bytes for the same files, whenever it is made.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let added = match entry {
                Entry::Directory { mode } => append(
                    &mut tar,
                    path,
                    header(tar::EntryType::Directory, *mode, 0),
                    b"",
                ),
                Entry::Text { text } => {
                    let header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
                    append(&mut tar, path, header, text.as_bytes())
                }
                Entry::Link { target } => {
                    let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target)
                }
                Entry::File { source, mode } => {
                    let bytes = fs::read(source)
                        .with_context(|| format!("reading {}", source.display()))?;
                    append(
                        &mut tar,
                        path,
                        header(tar::EntryType::Regular, *mode, bytes.len() as u64),
                        &bytes,
                    )
                }
            };
            added.with_context(|| format!("adding /{path} to the image {}", self.name()))?;
        }
        tar.into_inner()
            .with_context(|| format!("finishing the layer of {}", self.name()))
    }

    /// The configuration, as Docker's and OCI's formats share it.
    fn config(&self, layer: &str) -> Value {
        let ports: BTreeMap<_, _> = self
            .ports
            .iter()
            .map(|port| (format!("{port}/tcp"), json!({})))
            .collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": self.env,
                "ExposedPorts": ports,
                "Labels": self.labels,
                "User": self.user,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
            "history": [{"created_by": "tulle playground"}],
        })
    }
}

/// One archive of several images in Docker's format, for `ctr images import` and `docker load`. Equal layers are in it once.
pub fn write_docker_archive(images: &[Image], archive: &Path) -> Result<()> {
    let mut blobs = BTreeSet::new();
    let mut manifest = Vec::new();
    write_archive(archive, |tar| {
        for image in images {
            let layer = image.layer()?;
            let digest = digest(&layer);
            let config = serde_json::to_vec(&image.config(&digest))
                .context("encoding an image configuration")?;
            let (config_file, layer_file) = (
                format!("{}.json", self::digest(&config)),
                format!("{digest}.tar"),
            );
            for (file, bytes) in [(&config_file, &config), (&layer_file, &layer)] {
                if blobs.insert(file.clone()) {
                    append_file(tar, file, bytes)?;
                }
            }
            manifest.push(
                json!({"Config": config_file, "RepoTags": image.names, "Layers": [layer_file]}),
            );
        }
        append_file(
            tar,
            "manifest.json",
            &serde_json::to_vec(&manifest).context("encoding the manifest")?,
        )
    })
}

/// One archive of several images in OCI's layout, for registries' tools such as skopeo, crane and podman.
pub fn write_oci_archive(images: &[Image], archive: &Path) -> Result<()> {
    let mut blobs = BTreeSet::new();
    let mut manifests = Vec::new();
    write_archive(archive, |tar| {
        let mut blob = |tar: &mut tar::Builder<_>, kind: &str, bytes: &[u8]| -> Result<Value> {
            let digest = digest(bytes);
            if blobs.insert(digest.clone()) {
                append_file(tar, &format!("blobs/sha256/{digest}"), bytes)?;
            }
            let kind = format!("application/vnd.oci.image.{kind}");
            Ok(
                json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()}),
            )
        };
        append_file(tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for image in images {
            let layer = image.layer()?;
            let config = serde_json::to_vec(&image.config(&digest(&layer)))
                .context("encoding an image configuration")?;
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(tar, "config.v1+json", &config)?,
                "layers": [blob(tar, "layer.v1.tar", &layer)?],
            });
            let manifest = serde_json::to_vec(&manifest).context("encoding the manifest")?;
            for name in &image.names {
                let mut listed = blob(tar, "manifest.v1+json", &manifest)?;
                let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
                listed["platform"] = json!({"architecture": architecture(), "os": "linux"});
                listed["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
                manifests.push(listed);
            }
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        append_file(
            tar,
            "index.json",
            &serde_json::to_vec(&index).context("encoding the index")?,
        )
    })
}

/// Writes beside the archive and renames, so that nobody loads half of one.
fn write_archive(
    archive: &Path,
    fill: impl FnOnce(&mut tar::Builder<BufWriter<File>>) -> Result<()>,
) -> Result<()> {
    let mut unfinished = archive.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let file =
        File::create(&unfinished).with_context(|| format!("creating {}", unfinished.display()))?;
    let mut tar = tar::Builder::new(BufWriter::new(file));
    fill(&mut tar)?;
    let written = tar.into_inner().and_then(|mut output| output.flush());
    written.with_context(|| format!("writing {}", unfinished.display()))?;
    fs::rename(&unfinished, archive).with_context(|| format!("finishing {}", archive.display()))
}

fn append_file(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> Result<()> {
    append(
        tar,
        path,
        header(tar::EntryType::Regular, 0o644, bytes.len() as u64),
        bytes,
    )
    .with_context(|| format!("adding {path} to an archive"))
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    mut header: tar::Header,
    bytes: &[u8],
) -> std::io::Result<()> {
    tar.append_data(&mut header, path, bytes)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Go's name of this processor, as images use it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The libraries of a program, and its loader; none for a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        ensure!(
            said.contains("not a dynamic executable"),
            "ldd {}: {}",
            program.display(),
            said.trim()
        );
        return Ok(Vec::new());
    }
    parse_libraries(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("the libraries of {}", program.display()))
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse_libraries(ldd: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in ldd.lines().map(str::trim) {
        ensure!(
            !line.ends_with("not found"),
            "a library is missing on this host: {line}"
        );
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
