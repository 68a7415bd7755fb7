//! Certificates as users make them: openssl on this host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::Kubectl;

/// A directory with a root (`root.crt`) and what it signed.
pub struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// Makes the root.
    pub fn new() -> anyhow::Result<Self> {
        let this = Self {
            directory: tempfile::tempdir()?,
        };
        this.root("root")?;
        Ok(this)
    }

    /// Makes one more root.
    pub fn root(&self, name: &str) -> anyhow::Result<()> {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -keyout {name}.key -out {name}.crt -subj /CN={name}"
        ))
    }

    /// Makes a certificate with names such as `DNS:a.example`, signed by a root.
    pub fn sign(&self, root: &str, name: &str, names: &str) -> anyhow::Result<()> {
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} \
             -addext subjectAltName={names}"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {root}.crt -CAkey {root}.key -CAcreateserial -days 1 -copy_extensions copy -out {name}.crt"
        ))
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The same as text.
    pub fn text(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    /// A file of the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Makes or replaces a Secret of a certificate; with a root, clients are checked against it.
    pub fn secret(
        &self,
        kubectl: &Kubectl,
        namespace: &str,
        name: &str,
        certificate: &str,
        root: Option<&str>,
    ) -> anyhow::Result<()> {
        let text = |file: String| {
            let path = self.file(&file);
            std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
        };
        let indented = |text: String| {
            text.lines()
                .map(|line| format!("    {line}\n"))
                .collect::<String>()
        };
        let mut manifest = format!(
            "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData:\n  \
             tls.crt: |\n{}  tls.key: |\n{}",
            indented(text(format!("{certificate}.crt"))?),
            indented(text(format!("{certificate}.key"))?)
        );
        if let Some(root) = root {
            manifest.push_str("  ca.crt: |\n");
            manifest.push_str(&indented(text(format!("{root}.crt"))?));
        }
        kubectl.apply(&manifest)
    }

    /// Makes a ConfigMap with a root, as BackendTLSPolicy and the Gateway's frontend want it.
    pub fn config_map(
        &self,
        kubectl: &Kubectl,
        namespace: &str,
        name: &str,
        root: &str,
    ) -> anyhow::Result<()> {
        let file = format!("ca.crt={}", self.file(&format!("{root}.crt")).display());
        kubectl
            .run_args(&[
                "create",
                "configmap",
                name,
                "-n",
                namespace,
                "--from-file",
                &file,
            ])
            .map(drop)
    }

    fn openssl(&self, args: &str) -> anyhow::Result<()> {
        let output = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(self.path())
            .output()
            .context("starting openssl")?;
        ensure!(
            output.status.success(),
            "openssl {args}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
