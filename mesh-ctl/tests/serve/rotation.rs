//! The authority of a running controller changes: certificates go on to verify each other, and what is
//! unusable is not put in force.

use std::process::{Command, Output};

use mesh_common::proto::auth::IstioCertificateResponse;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificates::{WEB, csr, message, send};
use crate::fixture::{Fixture, eventually};

/// What a node got: a leaf, and the bundle to check peers by.
struct Svid {
    leaf: CertificateDer<'static>,
    above: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Svid {
    fn read(answer: &IstioCertificateResponse) -> Self {
        let all = |pem: &String| -> Vec<_> {
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .map(Result::unwrap)
                .collect()
        };
        let (roots, chain) = answer.cert_chain.split_last().unwrap();
        let mut chain: Vec<_> = chain.iter().flat_map(all).collect();
        Self {
            leaf: chain.remove(0),
            above: chain,
            roots: all(roots),
        }
    }

    async fn new(fixture: &Fixture) -> Self {
        let message = message(Some(WEB), csr(WEB).1, 3600);
        Self::read(&send(fixture, &fixture.token("n1"), message).await.unwrap())
    }

    fn trusts(&self, peer: &Self) -> bool {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone()).unwrap();
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.into()).build();
        let verified =
            verifier
                .unwrap()
                .verify_client_cert(&peer.leaf, &peer.above, UnixTime::now());
        verified.is_ok()
    }

    fn each_other(&self, peer: &Self) -> bool {
        self.trusts(peer) && peer.trusts(self)
    }
}

fn ca(fixture: &Fixture, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-controller"));
    command.arg("ca").args(arguments);
    command.arg("--ca-dir").arg(fixture.path("ca"));
    command.output().unwrap()
}

fn step(fixture: &Fixture, arguments: &[&str]) -> String {
    let output = ca(fixture, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(fixture: &Fixture, arguments: &[&str]) -> String {
    let output = ca(fixture, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    text
}

/// The roots that a certificate comes with now.
async fn follows(fixture: &Fixture, what: &str, good: impl Fn(&Svid) -> bool) -> Svid {
    let fits = || async { good(&Svid::new(fixture).await) };
    eventually(what, fits).await;
    Svid::new(fixture).await
}

#[tokio::test]
async fn a_root_is_rotated_under_a_running_controller() {
    let fixture = Fixture::start().await;
    let before = Svid::new(&fixture).await;
    let old_root = before.roots[0].clone();
    assert!(refusal(&fixture, &["activate"]).contains("`ca prepare`"));
    assert!(step(&fixture, &["status"]).contains("no rotation is under way"));

    let text = step(&fixture, &["prepare"]);
    assert!(text.contains("next: `ca activate`, after "), "{text}");
    let prepared = follows(&fixture, "both roots", |svid| svid.roots.len() == 2).await;
    assert!(before.each_other(&prepared));
    assert_eq!(fixture.metric("weft_controller_ca_roots").await, 2.0);
    let end = fixture.metric("weft_controller_ca_expiry_seconds").await;
    assert!(end > 1.8e9, "{end}");
    let line = refusal(&fixture, &["activate"]);
    assert!(
        line.contains("do not trust the new root yet") && line.contains("Run it again after"),
        "{line}"
    );
    assert!(refusal(&fixture, &["finish"]).contains("run `ca activate` first"));

    // Everybody has renewed: nobody holds a certificate from before.
    step(&fixture, &["activate", "--force"]);
    let new_root_signs = |svid: &Svid| {
        let old_alone = Svid {
            roots: vec![old_root.clone()],
            leaf: svid.leaf.clone(),
            above: Vec::new(),
        };
        !old_alone.trusts(svid)
    };
    let activated = follows(&fixture, "the new root", new_root_signs).await;
    assert!(prepared.each_other(&activated));
    assert!(activated.trusts(&before));
    assert!(!before.trusts(&activated), "what the wait is for");
    assert!(refusal(&fixture, &["finish"]).contains("still in use"));

    step(&fixture, &["finish", "--force"]);
    let finished = follows(&fixture, "the new root alone", |svid| svid.roots.len() == 1).await;
    assert!(activated.each_other(&finished));
    assert!(finished.trusts(&activated) && !finished.trusts(&before));
    assert!(!finished.roots.contains(&old_root));
    assert!(step(&fixture, &["status"]).contains("no rotation is under way"));
    assert_eq!(
        fixture
            .metric("weft_controller_ca_loads_total{outcome=\"invalid\"}")
            .await,
        0.0,
        "no state on the way was unusable"
    );
}

#[tokio::test]
async fn an_unusable_authority_is_not_put_in_force() {
    let fixture = Fixture::start().await;
    let before = Svid::new(&fixture).await;
    let invalid = "weft_controller_ca_loads_total{outcome=\"invalid\"}";
    let key = fixture.path("ca/ca-key.pem");
    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    eventually("the bad key is seen", || async {
        fixture.metric(invalid).await == 1.0
    })
    .await;
    assert!(before.each_other(&Svid::new(&fixture).await));
    std::fs::remove_dir_all(fixture.path("ca")).unwrap();
    eventually("the loss is seen", || async {
        fixture.metric(invalid).await >= 2.0
    })
    .await;
    std::fs::create_dir(fixture.path("ca")).unwrap();

    // Another authority in its place, whole.
    let made = Fixture::start().await;
    for name in ["ca-key.pem", "root-cert.pem", "ca-cert.pem"] {
        let content = std::fs::read(made.path("ca").join(name)).unwrap();
        std::fs::write(fixture.path("ca").join(name), content).unwrap();
    }
    let theirs = Svid::new(&made).await;
    eventually("it serves with it", || async {
        fixture.try_channel().await.is_ok()
    })
    .await;
    let after = Svid::new(&fixture).await;
    assert!(after.each_other(&theirs) && !after.trusts(&before));
}
