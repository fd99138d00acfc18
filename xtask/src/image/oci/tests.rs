//! What is packed can be followed from the index to every file, and is the same each time.

use super::*;
use crate::image::blob::sha256;
use std::io::Read as _;

fn image() -> Image {
    Image {
        reference: "example.org/weft/thing:1".into(),
        architecture: "amd64",
        entrypoint: vec!["/usr/local/bin/thing".into()],
        user: "65532:65532",
        labels: BTreeMap::from([("org.opencontainers.image.title".into(), "thing".into())]),
        files: vec![File {
            path: "usr/local/bin/thing".into(),
            mode: 0o555,
            bytes: b"program".to_vec(),
        }],
        sbom: Some(b"{}".to_vec()),
        time: (5, "1970-01-01T00:00:05Z".into()),
    }
}

fn files_of(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    });
    entries.collect()
}

/// Follows a descriptor: the blob has the size and the digest that it names.
fn follow(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let hash = digest.strip_prefix("sha256:").unwrap();
    let bytes = &files[&format!("blobs/sha256/{hash}")];
    assert_eq!(sha256(bytes), hash);
    assert_eq!(descriptor["size"], bytes.len());
    bytes.clone()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_same_files_give_the_same_digest_and_the_same_bytes() {
    let (one, two) = (image().pack().unwrap(), image().pack().unwrap());
    assert_eq!(one.digest, two.digest);
    assert!(one.archive == two.archive);
    let mut other = image();
    other.files[0].bytes.push(b'!');
    assert_ne!(one.digest, other.pack().unwrap().digest);
}

#[test]
fn everything_is_reached_from_the_index() {
    let packed = image().pack().unwrap();
    let files = files_of(&packed.archive);
    let index = json_of(&files["index.json"]);
    let entry = &index["manifests"][0];
    assert_eq!(entry["digest"], packed.digest);
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        "example.org/weft/thing:1"
    );
    let manifest = json_of(&follow(&files, entry));
    let config = json_of(&follow(&files, &manifest["config"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    let layer = follow(&files, &manifest["layers"][0]);
    let mut tar = Vec::new();
    let mut unzipped = flate2::read::GzDecoder::new(&layer[..]);
    unzipped.read_to_end(&mut tar).unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        format!("sha256:{}", sha256(&tar))
    );
    assert_eq!(files_of(&tar)["usr/local/bin/thing"], b"program");
}

#[test]
fn docker_finds_the_same_configuration_and_layer() {
    let files = files_of(&image().pack().unwrap().archive);
    let docker = &json_of(&files["manifest.json"])[0];
    assert_eq!(docker["RepoTags"][0], "example.org/weft/thing:1");
    let config = json_of(&files[docker["Config"].as_str().unwrap()]);
    assert_eq!(config["os"], "linux");
    assert!(files.contains_key(docker["Layers"][0].as_str().unwrap()));
}

#[test]
fn the_sbom_refers_to_the_image() {
    let packed = image().pack().unwrap();
    let files = files_of(&packed.archive);
    let index = json_of(&files["index.json"]);
    let referrer = json_of(&follow(&files, &index["manifests"][1]));
    assert_eq!(referrer["subject"]["digest"], packed.digest);
    assert_eq!(referrer["artifactType"], SBOM);
    assert_eq!(follow(&files, &referrer["layers"][0]), b"{}");
}
