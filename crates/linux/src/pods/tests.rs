use super::*;

const UID: &str = "0aa1b2c3-1111-2222-3333-444455556666";

#[test]
fn every_cgroup_form_yields_the_uid() {
    let forms = [
        "12:memory:/node-a/kubepods/besteffort/pod0aa1b2c3-1111-2222-3333-444455556666/abc",
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0aa1b2c3_1111_2222_3333_444455556666.slice/cri-containerd-abc.scope",
        "0::/kubepods.slice/kubepods-pod0aa1b2c3_1111_2222_3333_444455556666.slice/crio-abc.scope",
        "0::/../../pod0aa1b2c3-1111-2222-3333-444455556666/abc",
        "3:cpu,cpuacct:/\n1:name=systemd:/kubepods/pod0aa1b2c3-1111-2222-3333-444455556666/abc\n0::/",
    ];
    for form in forms {
        assert_eq!(pod_uid(form).as_deref(), Some(UID), "{form}");
    }
}

#[test]
fn other_cgroups_yield_nothing() {
    for other in [
        "0::/",
        "0::/system.slice/podman.service",
        "0::/user.slice/podcast",
        "",
        "rubbish",
        "1:x:/pod-",
    ] {
        assert_eq!(pod_uid(other), None, "{other}");
    }
}

#[test]
fn start_time_survives_odd_names() {
    let rest: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
    assert_eq!(
        start_time(&format!("7 (a ) b) {}", rest.join(" "))),
        Some(22)
    );
}

/// A directory that looks like `/proc`, made of links to real namespaces.
fn fake_process(proc: &Path, pid: u32, cgroup: &str, started: u64, ns: &NetNs) {
    use std::os::fd::AsRawFd;
    let directory = proc.join(pid.to_string());
    std::fs::create_dir_all(directory.join("ns")).unwrap();
    std::fs::write(directory.join("cgroup"), cgroup).unwrap();
    let zeros = "0 ".repeat(18);
    std::fs::write(
        directory.join("stat"),
        format!("{pid} (x) S {zeros}{started} 0"),
    )
    .unwrap();
    let target = format!("/proc/{}/fd/{}", std::process::id(), ns.fd().as_raw_fd());
    std::os::unix::fs::symlink(target, directory.join("ns/net")).unwrap();
}

#[test]
fn the_oldest_process_of_a_pod_wins_and_the_node_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (host, first, second) = (
        NetNs::current().unwrap(),
        NetNs::create().unwrap(),
        NetNs::create().unwrap(),
    );
    let pod = format!("0::/kubepods/pod{UID}/c");
    fake_process(dir.path(), 1, "0::/", 1, &host);
    fake_process(dir.path(), 30, &pod, 300, &second);
    fake_process(dir.path(), 31, &pod, 200, &first);
    fake_process(
        dir.path(),
        40,
        "0::/kubepods/pod99999999-1111-2222-3333-444455556666/c",
        50,
        &host,
    );
    std::fs::create_dir(dir.path().join("sys")).unwrap();
    let found = find_pod_netns(dir.path()).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [UID]);
    assert_eq!(found[UID], first);
}

#[test]
fn a_fresh_namespace_has_no_address_of_its_own() {
    assert_eq!(
        addresses(&NetNs::create().unwrap()).unwrap(),
        Vec::<IpAddr>::new()
    );
}
