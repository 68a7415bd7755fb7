//! Network namespaces on one bridge. They are anonymous: they end with this process.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tulle_linux::NetNs;

/// The bridge, and how many are on it.
pub(super) struct World {
    hub: NetNs,
    places: u8,
}

/// A namespace with one address.
pub(super) struct Place {
    pub(super) netns: NetNs,
    pub(super) ip: IpAddr,
}

impl World {
    pub(super) fn new() -> Result<Self> {
        let hub = NetNs::create().context("making a network namespace (this needs root)")?;
        run_in(&hub, "ip link add hub type bridge")?;
        run_in(&hub, "ip link set hub up")?;
        // Where this host filters what is bridged, it would do so here too, and that is no proxy's doing.
        let filter = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        let off = hub.enter(|| std::fs::write(filter, "0"))?;
        if let Err(error) = off
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).context(filter);
        }
        Ok(Self { hub, places: 0 })
    }

    /// One more place on the bridge.
    pub(super) fn place(&mut self) -> Result<Place> {
        self.places += 1;
        let n = self.places;
        let netns = NetNs::create()?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.fd().as_raw_fd());
        let ip = Ipv4Addr::new(10, 79, 0, n);
        for command in [
            format!("ip link add port{n} type veth peer name eth0 netns {path}"),
            format!("ip link set port{n} master hub"),
            format!("ip link set port{n} up"),
        ] {
            run_in(&self.hub, &command)?;
        }
        run_in(&netns, &format!("ip addr add {ip}/24 dev eth0"))?;
        run_in(&netns, "ip link set eth0 up")?;
        Ok(Place {
            netns,
            ip: ip.into(),
        })
    }
}

fn run_in(netns: &NetNs, command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let program = words.next().context("an empty command")?;
    let output = netns
        .enter(|| Command::new(program).args(words).output())?
        .with_context(|| format!("{program} (of the package iproute2)"))?;
    ensure!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
