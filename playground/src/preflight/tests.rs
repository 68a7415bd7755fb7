use super::*;

#[test]
fn used_up_inotify_instances_are_named_with_what_to_do() {
    // The real ones are left alone: others on this machine need them.
    let left = std::cell::Cell::new(3);
    let open = || match left.get() {
        0 => Err(Errno::MFILE),
        n => {
            left.set(n - 1);
            Ok(())
        }
    };
    let error = some_instances(5, open).unwrap_err().to_string();
    assert!(
        error.contains("a playground needs 5, 3 are left") && error.contains("sysctl -w"),
        "{error}"
    );
    left.set(5);
    some_instances(5, open).unwrap();
    inotify(1).unwrap();
}

#[test]
fn a_full_disk_is_named_with_numbers() {
    let error = free_disk(Path::new("/"), u64::MAX).unwrap_err().to_string();
    assert!(
        error.contains("the disk of / is nearly full") && error.contains("GiB"),
        "{error}"
    );
    free_disk(Path::new("/"), 1).unwrap();
}
