use std::io::Read;

use super::*;

fn read(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(File::open(archive).unwrap());
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path, bytes)
    });
    entries.collect()
}

fn images() -> [Image; 2] {
    let base = Image::new("docker.io/a/one:1")
        .text("/etc/motd", "hello\n")
        .link("motd", "/etc/link")
        .user("1001");
    let two = Image {
        names: vec!["docker.io/a/two:2".to_owned()],
        ..base.clone()
    };
    [
        base.also_named("example.org/one:1")
            .entrypoint(&["/bin/a"])
            .port(80),
        two.entrypoint(&["/bin/b"]),
    ]
}

#[test]
fn a_docker_archive_lists_images_that_share_a_layer() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("x.tar");
    write_docker_archive(&images(), &archive).unwrap();
    let files = read(&archive);
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(
        manifest[0]["RepoTags"],
        json!(["docker.io/a/one:1", "example.org/one:1"])
    );
    assert_eq!(manifest[0]["Layers"], manifest[1]["Layers"]);
    assert_eq!(
        files.len(),
        4,
        "two configurations, one layer, the manifest"
    );
    let config: Value =
        serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
    assert_eq!(config["config"]["Entrypoint"], json!(["/bin/a"]));
    assert_eq!(config["config"]["User"], "1001");
    let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        format!("sha256:{}", digest(layer))
    );
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["x.tar"], "nothing unfinished stays");
}

#[test]
fn an_oci_archive_names_every_blob_by_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("x.tar");
    write_oci_archive(&images(), &archive).unwrap();
    let files = read(&archive);
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        assert_eq!(path, &format!("blobs/sha256/{}", digest(bytes)));
    }
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 3, "one for each name");
    assert_eq!(
        manifests[1]["annotations"]["io.containerd.image.name"],
        "example.org/one:1"
    );
    let blob = |descriptor: &Value| {
        files[&descriptor["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "blobs/sha256/")]
            .clone()
    };
    let manifest: Value = serde_json::from_slice(&blob(&manifests[0])).unwrap();
    assert_eq!(
        manifest["layers"][0]["size"],
        blob(&manifest["layers"][0]).len()
    );
}

#[test]
fn a_layer_is_the_same_each_time_and_has_parents_before_children() {
    let program = Image::new("x:1")
        .host_program("sh", "/opt/deep/sh")
        .unwrap();
    let layer = program.layer().unwrap();
    assert_eq!(digest(&layer), digest(&program.layer().unwrap()));
    let mut tar = tar::Archive::new(layer.as_slice());
    let paths: Vec<_> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let place = |wanted: &str| {
        paths
            .iter()
            .position(|path| path.trim_end_matches('/') == wanted)
            .unwrap()
    };
    assert!(place("opt") < place("opt/deep") && place("opt/deep") < place("opt/deep/sh"));
    assert!(
        paths.iter().any(|path| path.contains("libc.so")),
        "{paths:?}"
    );
}

#[test]
fn what_ldd_says_is_read() {
    let text = "\tlinux-vdso.so.1 (0x00007)\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n\t/lib64/ld-linux-x86-64.so.2 (0x2)\n";
    assert_eq!(
        parse_libraries(text).unwrap(),
        [
            Path::new("/lib/libc.so.6"),
            Path::new("/lib64/ld-linux-x86-64.so.2")
        ]
    );
    let missing = parse_libraries("\tlibx.so => not found\n")
        .unwrap_err()
        .to_string();
    assert!(missing.contains("libx.so"), "{missing}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Image::new("x:1").file("/no/such/file", "/x").unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/file"), "{error:#}");
}
