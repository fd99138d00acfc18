//! The authority: its files, its refusals, and what its certificates say.

mod requests;
mod rotation;
mod service;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mesh_common::identity::SpiffeId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::ca::store::Store;
use crate::ca::{CaError, Directory, Signer, sign};

/// As a controller opens it: created when there is none.
fn open(directory: &Path) -> Result<Signer, CaError> {
    let store = Store::Directory(Directory::new(directory.into()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let material = runtime.block_on(store.read_or_create())?;
    Signer::load(&material, store.place(), SystemTime::now())
}

const HOUR: Duration = Duration::from_secs(3600);

fn identity() -> SpiffeId {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        std::fs::write(directory.join(name), content).unwrap();
    }
}

fn refusal(directory: &Path) -> String {
    let Err(error) = open(directory) else {
        panic!("was accepted")
    };
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn creates_once_and_loads_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca");
    let first = open(&path).unwrap();
    let mode = std::fs::metadata(path.join("ca-key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(first.not_after() > SystemTime::now() + Duration::from_secs(9 * 365 * 24 * 3600));
    let again = open(&path).unwrap();
    assert_eq!(first.roots_pem(), again.roots_pem());
}

#[test]
fn controllers_that_start_together_make_one_authority() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca");
    let roots: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&path))).collect();
        let opened = threads.into_iter().map(|thread| thread.join().unwrap());
        opened
            .map(|signer| signer.unwrap().roots_pem().clone())
            .collect()
    });
    assert!(roots.iter().all(|other| *other == roots[0]));
}

#[test]
fn an_authority_that_was_not_finished_is_made_anew() {
    for died_after in 0..=3 {
        let directory = tempfile::tempdir().unwrap();
        let dead = Signer::create(SystemTime::now()).unwrap();
        Directory::new(directory.path().into()).die_creating(&dead, died_after);
        let opened = open(directory.path()).unwrap();
        let whole = died_after == 3;
        let root = dead.get("root-cert.pem").unwrap();
        assert_eq!(opened.roots_pem().as_bytes() == root, whole, "{died_after}");
        let again = open(directory.path()).unwrap();
        assert_eq!(opened.roots_pem(), again.roots_pem());
    }
}

#[test]
fn a_key_that_somebody_put_there_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &[("ca-key.pem", "mine")]);
    let line = refusal(directory.path());
    assert!(line.contains("ca-cert.pem"), "{line}");
    let kept = std::fs::read_to_string(directory.path().join("ca-key.pem")).unwrap();
    assert_eq!(kept, "mine");
}

#[test]
fn a_leaf_says_what_it_must_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let signer = open(directory.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let issued = sign::workload(&signer, &identity(), &key, HOUR, SystemTime::now()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.certificate).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    assert_eq!(
        san.value.general_names,
        [GeneralName::URI(identity().as_str())]
    );
    assert!(!leaf.is_ca());
    assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    let validity = leaf.validity();
    assert_eq!(
        validity.not_after.timestamp() - validity.not_before.timestamp(),
        3600 + 120
    );
    let other = sign::workload(&signer, &identity(), &key, HOUR, SystemTime::now()).unwrap();
    assert_ne!(issued.serial, other.serial);
}

#[test]
fn an_intermediate_is_loaded_and_sent() {
    let directory = tempfile::tempdir().unwrap();
    let root =
        CertifiedIssuer::self_signed(ca_params("root"), KeyPair::generate().unwrap()).unwrap();
    let middle_key = KeyPair::generate().unwrap();
    let key_pem = middle_key.serialize_pem();
    let middle = CertifiedIssuer::signed_by(ca_params("middle"), middle_key, &root).unwrap();
    let chain = middle.pem() + &root.pem();
    write(
        directory.path(),
        &[
            ("ca-cert.pem", &middle.pem()),
            ("ca-key.pem", &key_pem),
            ("root-cert.pem", &root.pem()),
            ("cert-chain.pem", &chain),
        ],
    );
    let signer = open(directory.path()).unwrap();
    assert_eq!(signer.intermediates, [middle.der().clone()]);
    assert_eq!(signer.roots, [root.der().clone()]);

    let stranger =
        CertifiedIssuer::self_signed(ca_params("stranger"), KeyPair::generate().unwrap()).unwrap();
    write(directory.path(), &[("root-cert.pem", &stranger.pem())]);
    assert!(refusal(directory.path()).contains("does not verify against"));
}

#[test]
fn bad_files_are_named_with_the_remedy() {
    let fresh = || {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).unwrap();
        directory
    };
    let directory = fresh();
    write(directory.path(), &[("ca-key.pem", "not a key")]);
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: is not a private key"), "{line}");

    let other = KeyPair::generate().unwrap().serialize_pem();
    write(directory.path(), &[("ca-key.pem", &other)]);
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: is not the key of"), "{line}");

    std::fs::remove_file(directory.path().join("ca-key.pem")).unwrap();
    std::fs::create_dir(directory.path().join("ca-key.pem")).unwrap();
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: cannot read it"), "{line}");

    std::fs::remove_dir(directory.path().join("ca-key.pem")).unwrap();
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: is missing"), "{line}");

    let directory = fresh();
    write(directory.path(), &[("ca-cert.pem", "nothing")]);
    let line = refusal(directory.path());
    assert!(line.contains("ca-cert.pem: holds no certificate"), "{line}");

    for (expired, wanted) in [(true, "expired on"), (false, "is not a CA certificate")] {
        let mut params = ca_params("x");
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        } else {
            params.is_ca = IsCa::NoCa;
        }
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("ca-cert.pem", &*pem),
            ("root-cert.pem", &pem),
            ("ca-key.pem", &key),
        ];
        write(directory.path(), &files);
        let line = refusal(directory.path());
        assert!(line.contains(wanted), "{line}");
    }
}

#[test]
fn nothing_outlives_the_signer_or_what_it_hangs_on() {
    let now = SystemTime::now();
    let ending = |name: &str, after: Duration| {
        let mut params = ca_params(name);
        params.not_after = (now + after).into();
        params
    };
    for (root_ends, signer_ends) in [(10 * HOUR, HOUR / 2), (HOUR / 2, 10 * HOUR)] {
        let key = KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(ending("root", root_ends), key).unwrap();
        let key = KeyPair::generate().unwrap();
        let key_pem = key.serialize_pem();
        let middle = ending("middle", signer_ends);
        let middle = CertifiedIssuer::signed_by(middle, key, &root).unwrap();
        let directory = tempfile::tempdir().unwrap();
        write(
            directory.path(),
            &[
                ("ca-cert.pem", &middle.pem()),
                ("ca-key.pem", &key_pem),
                ("root-cert.pem", &root.pem()),
            ],
        );
        let signer = open(directory.path()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issued = sign::workload(&signer, &identity(), &key, 24 * HOUR, now).unwrap();
        assert!(issued.not_after <= now + HOUR / 2);
        assert_eq!(issued.not_after, signer.not_after());
        let late = signer.not_after();
        let refused = sign::workload(&signer, &identity(), &key, HOUR, late);
        assert!(refused.is_err(), "the signer has ended");
    }
}
