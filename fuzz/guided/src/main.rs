//! One target of `tulle-fuzz` under libFuzzer. The variable FUZZ_TARGET names it (`list` lists them), FUZZ_SEEDS a directory that
//! its seeds are written to first. `run.sh` builds and starts this.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tulle_fuzz::{TARGETS, Target, write_seeds};

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        TARGETS
            .iter()
            .find(|target| target.name == name)
            .unwrap_or_else(|| {
                TARGETS
                    .iter()
                    .for_each(|target| println!("{}", target.name));
                std::process::exit(if name == "list" { 0 } else { 2 })
            })
    })
}

fn prepare() {
    let target = target();
    let Some(directory) = std::env::var_os("FUZZ_SEEDS") else {
        return;
    };
    if let Err(error) = write_seeds(target, Path::new(&directory)) {
        eprintln!("error: cannot write seeds to {}: {error}", directory.display());
        std::process::exit(2);
    }
}

fuzz_target!(init: prepare(), |data: &[u8]| (target().run)(data));
