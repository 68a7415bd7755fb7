//! `load`: makes and answers test traffic; the program of the load pods.

use clap::Parser;
use tulle_testing::load::{Command, run};

#[derive(Parser)]
#[command(
    name = "load",
    about = "Makes and answers test traffic; prints one JSON object when done"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> anyhow::Result<()> {
    run(Cli::parse().command)
}
