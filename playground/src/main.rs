//! `playground`: a real Kubernetes on this machine, from the command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;
use tulle_playground::image::{write_docker_archive, write_oci_archive};
use tulle_playground::{
    Health, Options, Playground, Programs, Progress, images, install, interrupt, prerequisites,
};

/// A real Kubernetes on one machine, without images from outside.
#[derive(Parser)]
#[command(name = "playground", version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Args)]
struct Which {
    /// Name of the playground.
    #[arg(long, env = "PLAYGROUND", default_value = "tulle", global = true)]
    name: String,
    /// Directory that holds playgrounds.
    #[arg(long, default_value = "/var/lib/tulle/playgrounds", global = true)]
    directory: PathBuf,
}

#[derive(Subcommand)]
enum Action {
    /// Build Kubernetes and all that it needs (minutes from nothing, then cached).
    Build,
    /// Say which programs of the distribution are missing.
    Prerequisites {
        /// Install them.
        #[arg(long)]
        install: bool,
    },
    /// Start a playground; does nothing if it runs.
    Up {
        #[command(flatten)]
        which: Which,
        /// Number of nodes.
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// A /16 for machines, pods and Services; chosen by the name when not given.
        #[arg(long)]
        subnet: Option<Ipv4Net>,
        /// Leave the Gateway API's resource definitions out.
        #[arg(long)]
        no_gateway_api: bool,
        /// Give no addresses to Services of type LoadBalancer.
        #[arg(long)]
        no_load_balancer: bool,
    },
    /// Stop a playground and remove everything that it made.
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// Say how a playground is, and where its files are.
    Status {
        #[command(flatten)]
        which: Which,
    },
    /// Print the lines that a shell evaluates to use the playground.
    Env {
        #[command(flatten)]
        which: Which,
    },
    /// Run a command inside a node's namespaces.
    Node {
        #[command(flatten)]
        which: Which,
        /// The node's number, from 1; 0 is the API server's machine.
        node: usize,
        /// Command and arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Images: make them, load them on all nodes.
    #[command(subcommand)]
    Image(ImageAction),
}

#[derive(Subcommand)]
enum ImageAction {
    /// Load archives on all nodes.
    Load {
        #[command(flatten)]
        which: Which,
        /// Archives in Docker's or OCI's format.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Make the mesh's image.
    Mesh {
        /// Full reference, such as docker.io/tulle/tulle:0.1.0.
        #[arg(long)]
        reference: String,
        /// The program `tulle`.
        #[arg(long)]
        tulle: PathBuf,
        /// The CNI plugin `tulle-cni`.
        #[arg(long)]
        plugin: PathBuf,
        /// The archive to write, in OCI's format, or in Docker's with --docker.
        #[arg(long)]
        output: PathBuf,
        /// Write Docker's format.
        #[arg(long)]
        docker: bool,
    },
    /// Make an image of one program with its libraries and load it on all nodes.
    Program {
        #[command(flatten)]
        which: Which,
        /// Full reference, such as docker.io/me/server:1.
        #[arg(long)]
        reference: String,
        /// The program.
        program: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            Progress::stderr().say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Build => {
            interrupt::watch()?;
            Programs::build(&mut Progress::stderr())?;
        }
        Action::Prerequisites { install } => return check_prerequisites(install),
        Action::Up {
            which,
            nodes,
            subnet,
            no_gateway_api,
            no_load_balancer,
        } => {
            interrupt::watch()?;
            let options = Options {
                name: which.name,
                nodes,
                directory: which.directory,
                subnet,
                gateway_api: !no_gateway_api,
                load_balancer: !no_load_balancer,
            };
            let playground = Playground::up(&options, &mut Progress::stderr())?.keep();
            environment(&playground)?;
        }
        Action::Down { which } => {
            let mut progress = Progress::stderr();
            let there = progress.step(
                &format!("take playground {} down", which.name),
                |progress| Playground::down_named(&which.directory, &which.name, progress),
            )?;
            if !there {
                progress.say("there was none");
            }
        }
        Action::Status { which } => return status(&which),
        Action::Env { which } => environment(&attach(&which)?)?,
        Action::Node {
            which,
            node,
            command,
        } => return node_command(&which, node, &command),
        Action::Image(action) => image(action)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn attach(which: &Which) -> Result<Playground> {
    Playground::attach_in(&which.directory, &which.name)
}

fn check_prerequisites(wanted: bool) -> Result<ExitCode> {
    if wanted {
        install(&mut Progress::stderr())?;
        return Ok(ExitCode::SUCCESS);
    }
    let missing = prerequisites();
    for missing in &missing {
        print(&format!("missing: {missing}"))?;
    }
    Ok(if missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn environment(playground: &Playground) -> Result<()> {
    print(&format!(
        "export KUBECONFIG={}",
        playground.kubeconfig().display()
    ))?;
    print(&format!(
        "export PATH={}:$PATH",
        playground.programs().user_path().display()
    ))
}

fn status(which: &Which) -> Result<ExitCode> {
    match Playground::health(&which.directory, &which.name)? {
        Health::Absent => print(&format!("playground {}: absent", which.name))?,
        Health::Broken(why) => print(&format!("playground {}: broken: {why}", which.name))?,
        Health::Running => {
            let playground = attach(which)?;
            let subnets = playground.subnets();
            print(&format!(
                "playground {}: running, {} nodes",
                which.name,
                playground.nodes()
            ))?;
            print(&format!("directory:  {}", playground.directory().display()))?;
            print(&format!(
                "bridge:     {} ({})",
                playground.bridge(),
                subnets.bridge()
            ))?;
            print(&format!("API server: https://{}:6443", subnets.server()))?;
            for node in 1..=playground.nodes() {
                let (address, link) = (
                    playground.node_address(node),
                    playground.node_interface(node),
                );
                print(&format!(
                    "node{node}:      {address}, pods {}, link {link}",
                    subnets.node_pods(node)
                ))?;
            }
            print(&format!("Services:   {}", subnets.services()))?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::FAILURE)
}

fn node_command(which: &Which, node: usize, command: &[String]) -> Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command to run on node {node}")
    };
    let mut command = attach(which)?.node_command(node, program)?;
    let status = command
        .args(arguments)
        .status()
        .with_context(|| format!("running {program} on node {node}"))?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}

fn image(action: ImageAction) -> Result<()> {
    let mut progress = Progress::stderr();
    match action {
        ImageAction::Load { which, archives } => {
            let playground = attach(&which)?;
            for archive in archives {
                let what = format!("load {}", archive.display());
                progress.step(&what, |_| playground.load_image(&archive))?;
            }
            Ok(())
        }
        ImageAction::Mesh {
            reference,
            tulle,
            plugin,
            output,
            docker,
        } => {
            let write = if docker {
                write_docker_archive
            } else {
                write_oci_archive
            };
            progress.step(
                &format!("write {reference} to {}", output.display()),
                |_| write(&[images::mesh(&reference, &tulle, &plugin)?], &output),
            )
        }
        ImageAction::Program {
            which,
            reference,
            program,
        } => {
            let playground = attach(&which)?;
            let file = program
                .file_name()
                .with_context(|| format!("{} has no file name", program.display()))?;
            let path = format!("/usr/local/bin/{}", file.to_string_lossy());
            let image = images::program(&reference, &program, &path)?;
            progress.step(&format!("load {reference}"), |_| {
                playground.load_images(&[image])
            })
        }
    }
}

/// A line of output; an error if nobody reads it.
fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("writing to standard output")
}
