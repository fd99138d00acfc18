//! Changing the root of a running mesh, step by step: pure steps from one state of the files to the next.
//!
//! 1. *prepare*: the signer that follows is put beside the one that signs, and its root into the bundle.
//! 2. *activate*: the new signer signs, once every certificate from before the first step has ended: whoever
//!    holds one now holds the new root too.
//! 3. *finish*: the old root leaves the bundle, once every certificate under it has ended.
//!
//! Each step refuses to come too early, and done again changes nothing. Until it is finished, a rotation
//! can be rolled back the way it came.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::material::{Material, Place, ROOT, ROTATION};
use super::signer::{certificates, fingerprint};
use super::{CaError, Signer, pem};

/// Replicas learn of a step, and clocks agree, within this time.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Both roots are trusted; the old signer signs.
    Prepared,
    /// Both roots are trusted; the new signer signs.
    Activated,
    /// The new root is trusted; the new signer signs; files are being put in their place.
    Finishing,
}

/// What is recorded beside the files while a rotation is under way. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    pub(super) phase: Phase,
    /// Since when the bundle has both roots.
    prepared: String,
    /// Since when the new signer signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    activated: Option<String>,
    /// Since when the old signer signs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    rolled_back: Option<String>,
    /// The longest life of a certificate.
    ttl_seconds: u64,
    /// Peers that trust the old signer trust the new one already: they share a root.
    shared_root: bool,
    /// SHA-256 of the roots that *finish* drops.
    pub(super) retiring: Vec<String>,
    /// SHA-256 of the roots that *prepare* added.
    added: Vec<String>,
}

/// A step is refused, or the record of a rotation is unusable.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The record cannot be read.
    #[error("{ROTATION}: is not the record of a rotation: {0}; restore it from a copy")]
    Record(String),
    /// There is nothing to go on with.
    #[error("no rotation is under way; start one with `ca prepare`")]
    NotPrepared,
    /// Another rotation has not ended.
    #[error("a rotation is under way already; go on with `ca {0}`, or end it with `ca rollback`")]
    UnderWay(&'static str),
    /// A step was left out.
    #[error("the new signer does not sign yet; run `ca activate` first")]
    NotActivated,
    /// There is no way back.
    #[error("the old root is being dropped; complete that with `ca finish`")]
    Finishing,
    /// The bundle was edited meanwhile.
    #[error("{ROOT} does not hold the new root any more; run `ca prepare` again")]
    NotInBundle,
    /// The step comes too early.
    #[error(
        "too early: {why}. Run it again after {at}, or, if you accept that connections fail, with --force"
    )]
    TooEarly {
        /// What would break.
        why: &'static str,
        /// RFC 3339.
        at: String,
    },
}

/// When a step is taken, and how carefully.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: SystemTime,
    /// The longest life of a certificate.
    pub ttl: Duration,
    /// Do not wait.
    pub force: bool,
}

impl Moment {
    /// Refuses until everything that was issued before `since` has ended.
    fn passed(&self, since: SystemTime, ttl: Duration, why: &'static str) -> Result<(), CaError> {
        let at = since + ttl + MARGIN;
        if self.force || self.now >= at {
            return Ok(());
        }
        Err(RotationError::TooEarly {
            why,
            at: rfc3339(at),
        }
        .into())
    }
}

impl Rotation {
    /// The rotation under way, if there is one.
    pub fn of(material: &Material) -> Result<Option<Self>, RotationError> {
        let Some(record) = material.get(ROTATION) else {
            return Ok(None);
        };
        let rotation: Self =
            serde_json::from_slice(record).map_err(|e| RotationError::Record(e.to_string()))?;
        let times = [Some(&rotation.prepared), rotation.activated.as_ref()];
        for at in times.into_iter().flatten().chain(&rotation.rolled_back) {
            parse(at)?;
        }
        if rotation.phase != Phase::Prepared && rotation.activated.is_none() {
            return Err(RotationError::Record(
                "it does not say when the signer was activated".into(),
            ));
        }
        Ok(Some(rotation))
    }

    /// The longest life of a certificate that the steps are timed for.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds)
    }

    fn longest(&self, moment: &Moment) -> Duration {
        self.ttl().max(moment.ttl)
    }

    fn record(&self, material: &mut Material) -> Result<(), RotationError> {
        let text =
            serde_json::to_string_pretty(self).map_err(|e| RotationError::Record(e.to_string()))?;
        material.insert(ROTATION, text + "\n");
        Ok(())
    }
}

/// Puts the signer `next` (under the conventional names) beside the one that signs.
pub fn prepare(
    material: &Material,
    next: Option<&Material>,
    place: &Place,
    moment: &Moment,
) -> Result<Material, CaError> {
    let present = Signer::load(material, place, moment.now)?;
    if let Some(rotation) = &present.rotation {
        let other = next.is_some_and(|next| *next != material.next());
        return match rotation.phase {
            Phase::Finishing => Err(RotationError::Finishing.into()),
            Phase::Activated => Err(RotationError::UnderWay("finish").into()),
            Phase::Prepared if other => Err(RotationError::UnderWay("activate").into()),
            Phase::Prepared => complete(material, rotation, place, moment),
        };
    }
    let made;
    let next = if let Some(next) = next {
        next
    } else {
        made = Signer::create(moment.now).map_err(|e| CaError::Key {
            file: place.to_string(),
            reason: format!("cannot make a CA: {e}"),
        })?;
        &made
    };
    let follows = Signer::load(next, place, moment.now)?;
    let fingerprints = |roots: &[CertificateDer<'_>], but: &[CertificateDer<'_>]| {
        let others = roots.iter().filter(|root| !but.contains(root));
        others.map(fingerprint).collect::<Vec<_>>()
    };
    let rotation = Rotation {
        phase: Phase::Prepared,
        prepared: rfc3339(moment.now),
        activated: None,
        rolled_back: None,
        ttl_seconds: moment.ttl.as_secs(),
        shared_root: follows
            .anchors
            .iter()
            .any(|root| present.anchors.contains(root)),
        retiring: fingerprints(&present.anchors, &follows.roots),
        added: fingerprints(&follows.roots, &present.roots),
    };
    let mut prepared = material.with_next(next);
    bundle(&mut prepared, &present.roots, &follows.roots);
    rotation.record(&mut prepared)?;
    Ok(prepared)
}

/// Done again: nothing changes, unless the root was taken out of the bundle meanwhile.
fn complete(
    material: &Material,
    rotation: &Rotation,
    place: &Place,
    moment: &Moment,
) -> Result<Material, CaError> {
    let present = certificates(material, place, ROOT)?;
    let next = certificates(&material.next(), place, ROOT)?;
    let mut completed = material.clone();
    if next.iter().any(|root| !present.contains(root)) {
        bundle(&mut completed, &present, &next);
        let mut rotation = rotation.clone();
        rotation.prepared = rfc3339(moment.now);
        rotation.record(&mut completed)?;
    }
    Ok(completed)
}

/// Lets the new signer sign.
pub fn activate(material: &Material, place: &Place, moment: &Moment) -> Result<Material, CaError> {
    let mut rotation = Rotation::of(material)?.ok_or(RotationError::NotPrepared)?;
    match rotation.phase {
        Phase::Activated => return Ok(material.clone()),
        Phase::Finishing => return Err(RotationError::Finishing.into()),
        Phase::Prepared => {}
    }
    let present = certificates(material, place, ROOT)?;
    let next = certificates(&material.next(), place, ROOT)?;
    if next.iter().any(|root| !present.contains(root)) {
        return Err(RotationError::NotInBundle.into());
    }
    if !rotation.shared_root {
        moment.passed(
            parse(&rotation.prepared)?,
            rotation.longest(moment),
            "workloads whose certificates are from before `ca prepare` do not trust the new root yet",
        )?;
    }
    rotation.phase = Phase::Activated;
    rotation.activated = Some(rfc3339(moment.now));
    rotation.rolled_back = None;
    rotation.ttl_seconds = rotation.longest(moment).as_secs();
    let mut activated = material.clone();
    rotation.record(&mut activated)?;
    // It signs from here on, so it must be able to.
    Signer::load(&activated, place, moment.now)?;
    Ok(activated)
}

/// Drops the old root. The first state is on the way to the second, for files that are written one by one.
pub fn finish(
    material: &Material,
    place: &Place,
    moment: &Moment,
) -> Result<[Material; 2], CaError> {
    let mut rotation = Rotation::of(material)?.ok_or(RotationError::NotPrepared)?;
    match rotation.phase {
        Phase::Prepared => return Err(RotationError::NotActivated.into()),
        Phase::Activated if !rotation.retiring.is_empty() => {
            let activated = rotation.activated.as_deref().unwrap_or(&rotation.prepared);
            moment.passed(
                parse(activated)?,
                rotation.longest(moment),
                "certificates of the old signer are still in use",
            )?;
        }
        Phase::Activated | Phase::Finishing => {}
    }
    rotation.phase = Phase::Finishing;
    let mut finishing = material.clone();
    rotation.record(&mut finishing)?;
    let signer = Signer::load(&finishing, place, moment.now)?;
    let mut finished = material.next();
    finished.insert(ROOT, signer.roots_pem());
    Ok([finishing, finished])
}

/// Takes the last step back: the old signer signs again, or the new root leaves the bundle.
pub fn rollback(material: &Material, place: &Place, moment: &Moment) -> Result<Material, CaError> {
    let mut rotation = Rotation::of(material)?.ok_or(RotationError::NotPrepared)?;
    match rotation.phase {
        Phase::Finishing => Err(RotationError::Finishing.into()),
        Phase::Activated => {
            rotation.phase = Phase::Prepared;
            rotation.activated = None;
            rotation.rolled_back = Some(rfc3339(moment.now));
            let mut back = material.clone();
            rotation.record(&mut back)?;
            Signer::load(&back, place, moment.now)?;
            Ok(back)
        }
        Phase::Prepared => {
            if let Some(since) = &rotation.rolled_back
                && !rotation.added.is_empty()
            {
                moment.passed(
                    parse(since)?,
                    rotation.longest(moment),
                    "certificates of the new signer are still in use",
                )?;
            }
            let mut back = material.conventional();
            let mut roots = certificates(material, place, ROOT)?;
            roots.retain(|root| !rotation.added.contains(&fingerprint(root)));
            bundle(&mut back, &roots, &[]);
            Signer::load(&back, place, moment.now)?;
            Ok(back)
        }
    }
}

/// One line on how it stands, and what comes next.
pub fn status(material: &Material, moment: &Moment) -> Result<String, CaError> {
    let Some(rotation) = Rotation::of(material)? else {
        return Ok("no rotation is under way; `ca prepare` starts one".into());
    };
    let ttl = rotation.longest(moment) + MARGIN;
    let from = |since: &str, wait: bool| -> Result<String, CaError> {
        let at = parse(since)? + if wait { ttl } else { Duration::ZERO };
        Ok(if at <= moment.now {
            "now".into()
        } else {
            format!("after {}", rfc3339(at))
        })
    };
    Ok(match rotation.phase {
        Phase::Prepared => format!(
            "prepared on {}: both roots are trusted, the old signer signs; next: `ca activate`, {}",
            rotation.prepared,
            from(&rotation.prepared, !rotation.shared_root)?
        ),
        Phase::Activated => {
            let activated = rotation.activated.as_deref().unwrap_or(&rotation.prepared);
            format!(
                "activated on {activated}: both roots are trusted, the new signer signs; next: `ca finish`, {}",
                from(activated, !rotation.retiring.is_empty())?
            )
        }
        Phase::Finishing => {
            "finishing: the old root is not trusted any more; next: `ca finish`, now".into()
        }
    })
}

/// Writes the bundle; certificates that are there already stay where they are.
fn bundle(material: &mut Material, present: &[CertificateDer<'_>], added: &[CertificateDer<'_>]) {
    let new = added.iter().filter(|root| !present.contains(root));
    let text: String = present.iter().chain(new).map(|root| pem(root)).collect();
    material.insert(ROOT, text);
}

fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn parse(at: &str) -> Result<SystemTime, RotationError> {
    humantime::parse_rfc3339(at).map_err(|e| RotationError::Record(format!("{at:?}: {e}")))
}
