use super::*;

#[test]
fn enter_moves_the_thread_and_brings_it_back() {
    let home = NetNs::current().unwrap();
    let other = NetNs::create().unwrap();
    assert_ne!(home.id(), other.id());
    let inside = other.enter(|| NetNs::current().unwrap().id()).unwrap();
    assert_eq!(inside, other.id());
    assert_eq!(NetNs::current().unwrap().id(), home.id());
}

#[test]
fn enter_nests() {
    let home = NetNs::current().unwrap();
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let seen = a
        .enter(|| {
            let in_b = b.enter(|| NetNs::current().unwrap().id()).unwrap();
            (in_b, NetNs::current().unwrap().id())
        })
        .unwrap();
    assert_eq!(seen, (b.id(), a.id()));
    assert_eq!(NetNs::current().unwrap().id(), home.id());
}

#[test]
fn a_panic_inside_still_comes_back() {
    let home = NetNs::current().unwrap();
    let other = NetNs::create().unwrap();
    let outcome = std::panic::catch_unwind(|| other.enter(|| panic!("inside")));
    assert!(outcome.is_err());
    assert_eq!(NetNs::current().unwrap().id(), home.id());
}

#[test]
fn only_network_namespaces_are_taken() {
    let file = File::open("/dev/null").unwrap();
    assert_eq!(
        NetNs::from_fd(file.into()).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    let mount = File::open("/proc/self/ns/mnt").unwrap();
    assert_eq!(
        NetNs::from_fd(mount.into()).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn two_descriptors_of_one_namespace_are_equal() {
    assert_eq!(
        NetNs::current().unwrap(),
        NetNs::open(Path::new("/proc/thread-self/ns/net")).unwrap()
    );
}
