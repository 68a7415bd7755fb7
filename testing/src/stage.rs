//! A playground with the mesh and the samples on it: what `make up` leaves running, and what the walks start from.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use tulle_playground::image::Image;
use tulle_playground::{Options, Playground, Progress, images};
use tulle_samples::{Content, IMAGES, PROGRAM_PATH};

use crate::kubectl::Kubectl;

/// Sample manifests that `up` applies to the namespace `default`.
const SAMPLES: [&str; 5] = [
    "bookinfo.yaml",
    "sleep.yaml",
    "notsleep.yaml",
    "httpbin.yaml",
    "helloworld.yaml",
];

/// The built programs that go into images.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The one program.
    pub tulle: PathBuf,
    /// The CNI plugin.
    pub cni: PathBuf,
    /// The samples' program.
    pub sample: PathBuf,
}

/// A running playground and how to reach its cluster.
pub struct Stage {
    /// The nodes.
    pub playground: Playground,
    /// kubectl on it.
    pub kubectl: Kubectl,
    programs: Programs,
}

impl Stage {
    /// Starts the playground and loads the images of mesh and samples, and `further` ones.
    pub fn start(
        name: &str,
        programs: &Programs,
        further: &[Image],
        progress: &mut Progress,
    ) -> Result<Self> {
        let mut all = vec![images::mesh(
            &mesh_reference(&programs.tulle)?,
            &programs.tulle,
            &programs.cni,
        )?];
        all.extend(sample_images(&programs.sample)?);
        all.extend(further.iter().cloned());
        let playground = Playground::up(&Options::named(name), progress)?;
        let kubectl = Kubectl {
            kubeconfig: playground.kubeconfig(),
            path: playground
                .path()
                .into_string()
                .map_err(|p| anyhow!("PATH is not UTF-8: {}", p.display()))?,
        };
        progress.step("load the images of mesh and samples", |_| {
            playground.load_images(&all)
        })?;
        Ok(Self {
            playground,
            kubectl,
            programs: programs.clone(),
        })
    }

    /// Installs the mesh as `tulle install` does anywhere.
    pub fn install_mesh(&self, progress: &mut Progress) -> Result<()> {
        progress
            .step("install the mesh: tulle install", |_| {
                self.tulle(&["install"])
            })
            .map(drop)
    }

    /// Deploys the samples and installs the mesh; both become ready side by side.
    pub fn install(&self, progress: &mut Progress) -> Result<()> {
        progress.step("deploy the samples", |_| {
            let mut apply = vec!["apply".to_owned()];
            for sample in SAMPLES {
                apply.extend([
                    "-f".to_owned(),
                    samples_directory()
                        .join(sample)
                        .to_string_lossy()
                        .into_owned(),
                ]);
            }
            self.kubectl
                .run_args(&apply.iter().map(String::as_str).collect::<Vec<_>>())
        })?;
        progress.step("install the mesh: tulle install", |_| {
            self.tulle(&["install"])
        })?;
        progress.step("wait for the samples", |_| {
            self.kubectl
                .run("wait deployment --all --for=condition=Available --timeout=120s")
        })?;
        Ok(())
    }

    /// One real call through the samples.
    pub fn first_call(&self, progress: &mut Progress) -> Result<()> {
        progress.step("call productpage from sleep", |_| {
            let said = self
                .kubectl
                .curl("deploy/sleep", &["http://productpage:9080/"])?;
            ensure!(
                said.out.starts_with("<!DOCTYPE html>"),
                "productpage did not answer: curl ended with {}: {}",
                said.code,
                said.err
            );
            Ok(())
        })
    }

    /// The CLI on this cluster. Fails with what it said when it does.
    pub fn tulle(&self, args: &[&str]) -> Result<String> {
        let output = self
            .kubectl
            .program(&self.programs.tulle.to_string_lossy())
            .args(args)
            .output()?;
        ensure!(
            output.status.success(),
            "tulle {}: {}\n{}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Where the sample manifests lie.
pub fn samples_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples")
}

/// The image that `tulle install` asks for by default: asked of the program itself.
fn mesh_reference(tulle: &Path) -> Result<String> {
    let output = std::process::Command::new(tulle)
        .args(["version", "--client", "-o", "json"])
        .output()
        .with_context(|| format!("running {}", tulle.display()))?;
    let version: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("tulle version")?;
    let version = version["clientVersion"]["version"]
        .as_str()
        .context("clientVersion.version")?;
    Ok(format!("docker.io/tulle/tulle:{version}"))
}

fn sample_images(sample: &Path) -> Result<Vec<Image>> {
    IMAGES
        .iter()
        .map(|described| {
            let (first, others) = described
                .references
                .split_first()
                .context("a sample image without a reference")?;
            let mut image = match described.content {
                Content::Program => Image::new(first).program(sample, PROGRAM_PATH)?,
                Content::Curl => images::client(first)?,
            };
            for other in others {
                image = image.also_named(other);
            }
            for (key, value) in described.env {
                image = image.env(key, value);
            }
            Ok(image.entrypoint(described.entrypoint).user(described.user))
        })
        .collect()
}
