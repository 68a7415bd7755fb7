use super::*;

#[test]
fn a_full_disk_is_named_with_numbers() {
    let error = free_disk(Path::new("/"), u64::MAX).unwrap_err().to_string();
    assert!(
        error.contains("the disk of / is nearly full") && error.contains("GiB"),
        "{error}"
    );
    free_disk(Path::new("/"), 1).unwrap();
}
