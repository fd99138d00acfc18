//! Root rotation: the order of the steps, their waits, their crashes, and what a fleet of workloads sees.

use std::time::{Duration, SystemTime};

use rcgen::{CertifiedIssuer, KeyPair};
use rustls_pki_types::CertificateDer;

use super::{HOUR, ca_params, identity};
use crate::ca::rotation::{Moment, activate, finish, prepare, rollback, status};
use crate::ca::signer::verify;
use crate::ca::{CaError, Directory, Material, Place, Signer, sign};

const TTL: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

fn place() -> Place {
    Place::Directory("ca".into())
}

/// An authority at a time of its own.
struct Rotating {
    material: Material,
    now: SystemTime,
}

impl Rotating {
    fn new() -> Self {
        // Whole seconds, as the record has them.
        let now = humantime::parse_rfc3339("2030-01-01T00:00:00Z").unwrap();
        Self {
            material: Signer::create(now).unwrap(),
            now,
        }
    }

    fn moment(&self, force: bool) -> Moment {
        Moment {
            now: self.now,
            ttl: TTL,
            force,
        }
    }

    fn prepare(&mut self) -> Result<(), CaError> {
        self.material = prepare(&self.material, None, &place(), &self.moment(false))?;
        Ok(())
    }

    fn activate(&mut self) -> Result<(), CaError> {
        self.material = activate(&self.material, &place(), &self.moment(false))?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), CaError> {
        let [_, finished] = finish(&self.material, &place(), &self.moment(false))?;
        self.material = finished;
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), CaError> {
        self.material = rollback(&self.material, &place(), &self.moment(false))?;
        Ok(())
    }

    fn signer(&self) -> Signer {
        Signer::load(&self.material, &place(), self.now).unwrap()
    }

    fn status(&self) -> String {
        status(&self.material, &self.moment(false)).unwrap()
    }

    fn issue(&self) -> Workload {
        let signer = self.signer();
        let key = KeyPair::generate().unwrap();
        let leaf = sign::workload(&signer, &identity(), &key, TTL, self.now).unwrap();
        Workload {
            leaf: leaf.certificate,
            not_after: leaf.not_after,
            renews: self.now + (leaf.not_after.duration_since(self.now).unwrap()) / 2,
            intermediates: signer.intermediates,
            roots: signer.roots,
        }
    }
}

/// A certificate and the bundle that came with it.
struct Workload {
    leaf: CertificateDer<'static>,
    not_after: SystemTime,
    renews: SystemTime,
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Workload {
    fn trusts(&self, peer: &Self, now: SystemTime) -> bool {
        verify(&peer.leaf, &peer.intermediates, &self.roots, now).is_ok()
    }
}

fn refused(step: Result<(), CaError>, because: &str) {
    let line = step.unwrap_err().to_string();
    assert!(line.contains(because), "{line}");
}

#[test]
fn steps_in_the_wrong_order_are_refused_with_what_to_do() {
    let mut ca = Rotating::new();
    refused(ca.activate(), "start one with `ca prepare`");
    refused(ca.finish(), "start one with `ca prepare`");
    refused(ca.rollback(), "start one with `ca prepare`");
    ca.prepare().unwrap();
    refused(ca.finish(), "run `ca activate` first");
    refused(ca.activate(), "Run it again after 2030-01-02T00:05:00Z");
    ca.now += TTL;
    refused(ca.activate(), "do not trust the new root yet");
    ca.now += 5 * MINUTE;
    ca.activate().unwrap();
    refused(ca.prepare(), "go on with `ca finish`");
    refused(ca.finish(), "Run it again after 2030-01-03T00:10:00Z");
    ca.now += TTL + 5 * MINUTE;
    ca.finish().unwrap();
    refused(ca.finish(), "start one with `ca prepare`");
    assert_eq!(ca.signer().roots.len(), 1);
}

#[test]
fn force_does_not_wait_and_does_not_skip_a_step() {
    let mut ca = Rotating::new();
    ca.prepare().unwrap();
    let forced = ca.moment(true);
    assert!(finish(&ca.material, &place(), &forced).is_err());
    ca.material = activate(&ca.material, &place(), &forced).unwrap();
    finish(&ca.material, &place(), &forced).unwrap();
}

#[test]
fn a_step_done_again_changes_nothing() {
    let mut ca = Rotating::new();
    ca.prepare().unwrap();
    let prepared = ca.material.clone();
    ca.now += HOUR;
    ca.prepare().unwrap();
    assert_eq!(ca.material, prepared);
    ca.now += TTL;
    ca.activate().unwrap();
    let activated = ca.material.clone();
    ca.now += HOUR;
    ca.activate().unwrap();
    assert_eq!(ca.material, activated);
}

#[test]
fn the_wait_is_for_the_longest_life_that_was_ever_given() {
    let mut ca = Rotating::new();
    ca.prepare().unwrap();
    ca.now += 25 * HOUR;
    let longer = Moment {
        ttl: 48 * HOUR,
        ..ca.moment(false)
    };
    assert!(activate(&ca.material, &place(), &longer).is_err());
    let shorter = Moment {
        ttl: HOUR,
        now: ca.now - 10 * HOUR,
        ..ca.moment(false)
    };
    assert!(activate(&ca.material, &place(), &shorter).is_err());
}

#[test]
fn a_root_taken_out_of_the_bundle_begins_the_wait_anew() {
    let mut ca = Rotating::new();
    let alone = ca.signer().roots_pem();
    ca.prepare().unwrap();
    ca.now += 25 * HOUR;
    ca.material.insert("root-cert.pem", alone);
    refused(ca.activate(), "run `ca prepare` again");
    ca.prepare().unwrap();
    refused(ca.activate(), "Run it again after 2030-01-03T01:05:00Z");
    ca.now += 25 * HOUR;
    ca.activate().unwrap();
}

#[test]
fn it_can_be_rolled_back_until_it_is_finished() {
    let mut ca = Rotating::new();
    let (before, old) = (ca.signer(), ca.issue());
    ca.prepare().unwrap();
    ca.rollback().unwrap();
    assert_eq!(ca.signer().roots, before.roots);

    ca.prepare().unwrap();
    ca.now += 25 * HOUR;
    ca.activate().unwrap();
    let new = ca.issue();
    assert_eq!(ca.signer().anchors.len(), 1);
    assert_ne!(ca.signer().anchors, before.anchors);
    ca.rollback().unwrap();
    assert_eq!(ca.signer().anchors, before.anchors);
    assert!(
        ca.issue().trusts(&new, ca.now),
        "what was issued meanwhile is good"
    );
    refused(
        ca.rollback(),
        "certificates of the new signer are still in use",
    );
    ca.activate().unwrap();
    ca.rollback().unwrap();
    ca.now += 25 * HOUR;
    ca.rollback().unwrap();
    assert_eq!(ca.signer().roots, before.roots);
    assert!(old.not_after < ca.now);
}

#[test]
fn a_new_intermediate_under_the_same_root_need_not_wait() {
    let root =
        CertifiedIssuer::self_signed(ca_params("root"), KeyPair::generate().unwrap()).unwrap();
    let under = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let key_pem = key.serialize_pem();
        let middle = CertifiedIssuer::signed_by(ca_params(name), key, &root).unwrap();
        let mut material = Material::default();
        material.insert("ca-cert.pem", middle.pem());
        material.insert("ca-key.pem", key_pem);
        material.insert("cert-chain.pem", middle.pem());
        material.insert("root-cert.pem", root.pem());
        material
    };
    let mut ca = Rotating::new();
    ca.material = under("first");
    let old = ca.issue();
    let second = under("second");
    ca.material = prepare(&ca.material, Some(&second), &place(), &ca.moment(false)).unwrap();
    ca.activate().unwrap();
    let new = ca.issue();
    assert!(old.trusts(&new, ca.now) && new.trusts(&old, ca.now));
    assert_ne!(old.intermediates, new.intermediates);
    ca.finish().unwrap();
    assert_eq!(ca.material, second);
}

#[test]
fn roots_that_are_not_of_the_signer_stay_trusted() {
    let mut ca = Rotating::new();
    let partner = Signer::create(ca.now).unwrap();
    let partner = Signer::load(&partner, &place(), ca.now).unwrap();
    let both = ca.signer().roots_pem() + &partner.roots_pem();
    ca.material.insert("root-cert.pem", both);
    ca.prepare().unwrap();
    ca.now += 25 * HOUR;
    ca.activate().unwrap();
    ca.now += 25 * HOUR;
    ca.finish().unwrap();
    let signer = ca.signer();
    assert_eq!(signer.roots.len(), 2);
    assert!(signer.roots.contains(&partner.roots[0]));
}

#[test]
fn an_unusable_successor_is_refused_before_anything_changes() {
    let ca = Rotating::new();
    let moment = ca.moment(false);
    let mut next = Signer::create(ca.now).unwrap();
    next.insert("ca-key.pem", KeyPair::generate().unwrap().serialize_pem());
    let error = prepare(&ca.material, Some(&next), &place(), &moment).unwrap_err();
    assert!(error.to_string().contains("is not the key of"), "{error}");
}

/// Thirty workloads renew at half of their certificates' lives, each at its own time, and every step is
/// taken as early as it is allowed.
#[test]
fn no_workload_is_ever_without_trust() {
    let mut ca = Rotating::new();
    let start = ca.now;
    let mut fleet = Vec::new();
    for _ in 0..30 {
        fleet.push(ca.issue());
        ca.now += 20 * MINUTE;
    }
    let old_root = ca.signer().roots[0].clone();
    ca.prepare().unwrap();
    let mut steps = vec!["finish", "activate"];
    let mut mixed = 0;
    while let Some(step) = steps.last() {
        ca.now += 20 * MINUTE;
        let taken = match *step {
            "activate" => ca.activate(),
            _ => ca.finish(),
        };
        if taken.is_ok() {
            steps.pop();
        }
        for workload in fleet.iter_mut().filter(|w| w.renews <= ca.now) {
            *workload = ca.issue();
        }
        let old = fleet.iter().filter(|w| {
            verify(
                &w.leaf,
                &w.intermediates,
                std::slice::from_ref(&old_root),
                ca.now,
            )
            .is_ok()
        });
        mixed += usize::from((1..30).contains(&old.count()));
        for (a, b) in fleet.iter().zip(fleet.iter().cycle().skip(7)) {
            let at = ca.now.duration_since(start).unwrap();
            assert!(a.trusts(b, ca.now), "after {at:?}, {}", ca.status());
            assert!(b.trusts(a, ca.now), "after {at:?}, {}", ca.status());
        }
    }
    assert!(mixed > 10, "certificates of both roots met: {mixed}");
    let ended = ca.issue();
    assert!(!ended.roots.contains(&old_root));
}

/// Without its wait, the rotation above would not have passed.
#[test]
fn a_step_that_comes_too_early_breaks_trust() {
    let mut ca = Rotating::new();
    let before = ca.issue();
    ca.prepare().unwrap();
    let prepared = ca.issue();
    ca.material = activate(&ca.material, &place(), &ca.moment(true)).unwrap();
    let after = ca.issue();
    assert!(!before.trusts(&after, ca.now));
    assert!(prepared.trusts(&after, ca.now) && after.trusts(&prepared, ca.now));
    let [_, finished] = finish(&ca.material, &place(), &ca.moment(true)).unwrap();
    ca.material = finished;
    assert!(!ca.issue().trusts(&prepared, ca.now));
}

/// A crash after any number of file operations leaves a usable authority, and the step done again
/// completes it.
#[test]
fn a_crash_in_the_middle_of_a_step_is_survived() {
    let mut ca = Rotating::new();
    let before = ca.material.clone();
    ca.prepare().unwrap();
    let prepared = ca.material.clone();
    ca.now += 25 * HOUR;
    ca.activate().unwrap();
    let activated = ca.material.clone();
    ca.now += 25 * HOUR;
    let [finishing, finished] = finish(&activated, &place(), &ca.moment(false)).unwrap();
    let steps = [
        (&before, &prepared),
        (&prepared, &activated),
        (&activated, &finishing),
        (&finishing, &finished),
    ];
    for (from, to) in steps {
        let mut crashes = 0;
        loop {
            let directory = tempfile::tempdir().unwrap();
            let store = Directory::new(directory.path().into());
            store.write(&Material::default(), from).unwrap();
            let completed = store.write_until(from, to, crashes).unwrap();
            let left = store.read().unwrap();
            let signer = Signer::load(&left, &place(), ca.now).unwrap();
            // Whoever trusted the signer before trusts what is signed now, in every half-way state.
            let old = Signer::load(from, &place(), ca.now).unwrap();
            assert!(signer.anchors.iter().any(|root| old.roots.contains(root)));
            if completed {
                assert_eq!(left, *to);
                break;
            }
            store.write(&left, to).unwrap();
            assert_eq!(store.read().unwrap(), *to, "after {crashes} operations");
            crashes += 1;
        }
        assert!(crashes > 0);
    }
}
