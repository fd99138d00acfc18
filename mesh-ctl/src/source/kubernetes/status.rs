//! Tells in a policy's status when it is not enforced as it was written, and when it is again.
//!
//! One replica writes: the one that holds the lease. It writes only what differs from what the status
//! says, a few at a time, and leaves the conditions of others alone. A policy that always was enforced in
//! full gets no condition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::api::{self, Failure};
use super::backoff::Backoff;
use super::resource::{self, Resource};
use super::verdict::{PolicyKey, Verdict};

/// The condition's type.
const CONDITION: &str = "WeftEnforced";
/// At most one status is written in this time.
const PACE: Duration = Duration::from_millis(100);

type Verdicts = BTreeMap<PolicyKey, Verdict>;

/// Writes statuses.
pub(super) struct Writer {
    client: Client,
    verdicts: watch::Receiver<Verdicts>,
    /// What this replica wrote.
    written: Verdicts,
    /// Policies whose status says that they are not enforced.
    flagged: BTreeSet<PolicyKey>,
    /// What was last reported, and is not reported again.
    trouble: String,
}

/// What came of one status.
enum Outcome {
    /// It says what it should.
    Done,
    /// The policy has changed, or somebody else wrote: there will be a newer verdict, or another attempt.
    Later,
}

impl Writer {
    pub(super) fn new(client: Client, verdicts: watch::Receiver<Verdicts>) -> Self {
        Self {
            client,
            verdicts,
            written: Verdicts::new(),
            flagged: BTreeSet::new(),
            trouble: String::new(),
        }
    }

    /// Writes while the lease is `held`.
    pub(super) async fn run(mut self, mut held: watch::Receiver<bool>) {
        loop {
            if held.wait_for(|held| *held).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.write_all() => return,
                lost = held.wait_for(|held| !*held) => if lost.is_err() { return },
            }
        }
    }

    /// Ends when no more verdicts can come.
    async fn write_all(&mut self) {
        // What the replica before this one wrote is known from the policies themselves.
        self.written.clear();
        let mut backoff = Backoff::default();
        while let Err(failure) = self.read_flagged().await {
            self.report(format!("the status of policies is not written: {failure}"));
            sleep(backoff.next()).await;
        }
        backoff.reset();
        loop {
            let due = self.due();
            let mut later = false;
            for (key, verdict) in due {
                match self.write(&key, &verdict).await {
                    Ok(Outcome::Done) => self.note(key, verdict),
                    Ok(Outcome::Later) => later = true,
                    Err(failure) => {
                        let (kind, name) = &key;
                        self.report(format!(
                            "{kind} {name}: its status is not written: {failure}"
                        ));
                        later = true;
                    }
                }
                sleep(PACE).await;
            }
            if later {
                // A newer verdict is no reason to hurry.
                sleep(backoff.next()).await;
                continue;
            }
            backoff.reset();
            if self.verdicts.changed().await.is_err() {
                return;
            }
        }
    }

    fn report(&mut self, trouble: String) {
        if trouble != self.trouble {
            tracing::warn!("{trouble}; it is tried again");
            self.trouble = trouble;
        }
    }

    fn note(&mut self, key: PolicyKey, verdict: Verdict) {
        if verdict.finding.is_some() {
            self.flagged.insert(key.clone());
            self.written.insert(key, verdict);
        } else {
            self.flagged.remove(&key);
            self.written.remove(&key);
        }
    }

    /// The verdicts that a status may not say yet. What is gone is forgotten.
    fn due(&mut self) -> Vec<(PolicyKey, Verdict)> {
        let verdicts = self.verdicts.borrow_and_update();
        self.written.retain(|key, _| verdicts.contains_key(key));
        self.flagged.retain(|key| verdicts.contains_key(key));
        let is_due = |(key, verdict): &(&PolicyKey, &Verdict)| match verdict.finding {
            Some(_) => self.written.get(*key) != Some(*verdict),
            None => self.flagged.contains(*key),
        };
        let due = verdicts.iter().filter(is_due);
        due.map(|(key, verdict)| (key.clone(), verdict.clone()))
            .collect()
    }

    async fn read_flagged(&mut self) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Policy {
            metadata: Name,
            status: Option<Status>,
        }
        #[derive(Deserialize)]
        struct Name {
            name: String,
            namespace: String,
        }
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            conditions: Vec<Value>,
        }
        for resource in resource::ALL.iter().filter(|resource| resource.policy) {
            let Some(path) = self.served(resource).await? else {
                continue;
            };
            let mut next = None;
            loop {
                let page = api::list(&self.client, path, resource, next.as_deref()).await?;
                let items = page.parse()?;
                for item in items.items.unwrap_or_default() {
                    // One whose status somebody else wrote in another shape says nothing of ours.
                    let Ok(policy) = serde_json::from_str::<Policy>(item.get()) else {
                        continue;
                    };
                    let conditions = policy.status.map(|status| status.conditions);
                    let conditions = conditions.unwrap_or_default();
                    if conditions
                        .iter()
                        .any(|c| is_ours(c) && c["status"] != "True")
                    {
                        let Name { name, namespace } = policy.metadata;
                        let name = crate::model::ObjectName::new(&namespace, &name);
                        self.flagged.insert((resource.kind, name));
                    }
                }
                next = items.list.next.filter(|next| !next.is_empty());
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Where the server has the kind.
    async fn served(&self, resource: &Resource) -> Result<Option<&'static str>, Failure> {
        for path in resource.paths() {
            match api::list(&self.client, path, resource, None).await {
                Ok(_) => return Ok(Some(path)),
                Err(Failure::NotServed) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    async fn write(&self, key: &PolicyKey, verdict: &Verdict) -> Result<Outcome, Failure> {
        let (kind, name) = key;
        let resource = resource::ALL.iter().find(|resource| resource.kind == *kind);
        for path in resource.into_iter().flat_map(Resource::paths) {
            let Some((group, plural)) = path.rsplit_once('/') else {
                continue;
            };
            let path = format!(
                "{group}/namespaces/{}/{plural}/{}",
                name.namespace, name.name
            );
            let policy = http::Request::get(&path).body(Vec::new());
            let mut policy = match self.send(policy).await {
                Ok(policy) => policy,
                Err(Failure::NotServed) => continue,
                Err(failure) => return Err(failure),
            };
            if policy["metadata"]["generation"] != verdict.generation {
                return Ok(Outcome::Later);
            }
            if !set(&mut policy, verdict, Timestamp::now()) {
                return Ok(Outcome::Done);
            }
            let status = http::Request::put(format!("{path}/status"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(policy.to_string().into_bytes());
            // The version goes along: what somebody else has changed meanwhile is not overwritten.
            return match self.send(status).await {
                Ok(_) => Ok(Outcome::Done),
                Err(Failure::Refused { code: 409, .. }) => Ok(Outcome::Later),
                Err(failure) => Err(failure),
            };
        }
        // It is gone in every version.
        Ok(Outcome::Done)
    }

    async fn send(&self, request: http::Result<http::Request<Vec<u8>>>) -> Result<Value, Failure> {
        let request = request.map_err(|e| Failure::Disconnected(e.to_string()))?;
        let answer = timeout(api::ANSWER, self.client.request_text(request)).await;
        Ok(serde_json::from_str(
            &answer.map_err(|_| Failure::Silent)??,
        )?)
    }
}

fn is_ours(condition: &Value) -> bool {
    condition["type"] == CONDITION
}

/// Puts the condition into the policy's status; false when it is there already.
fn set(policy: &mut Value, verdict: &Verdict, now: Timestamp) -> bool {
    let (status, reason, message) = match &verdict.finding {
        Some((reason, message)) => ("False", *reason, message.as_str()),
        None => ("True", "Enforced", "all of it is enforced"),
    };
    if !policy["status"].is_object() {
        policy["status"] = json!({});
    }
    let conditions = &mut policy["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return false;
    };
    let old = conditions.iter().find(|condition| is_ours(condition));
    let since = old
        .filter(|old| old["status"] == status)
        .map(|old| old["lastTransitionTime"].clone());
    let since = since.filter(Value::is_string);
    let now = json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let new = json!({
        "type": CONDITION,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": verdict.generation,
        "lastTransitionTime": since.unwrap_or(now),
    });
    if old == Some(&new) {
        return false;
    }
    conditions.retain(|condition| !is_ours(condition));
    conditions.push(new);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(finding: Option<&str>) -> Verdict {
        Verdict {
            generation: 2,
            finding: finding.map(|message| ("PartlyEnforced", message.to_owned())),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_conditions_of_others_stay() {
        let others = json!({"type": "Accepted", "status": "True"});
        let mut policy = json!({"status": {"conditions": [others], "x": 1}});
        assert!(set(&mut policy, &verdict(Some("no")), at(0)));
        let status = &policy["status"];
        assert_eq!(
            (&status["conditions"][0], &status["x"]),
            (&others, &json!(1))
        );
        assert_eq!(
            status["conditions"][1],
            json!({
                "type": "WeftEnforced", "status": "False", "reason": "PartlyEnforced", "message": "no",
                "observedGeneration": 2, "lastTransitionTime": "1970-01-01T00:00:00Z",
            })
        );
    }

    #[test]
    fn only_what_differs_is_written_and_only_a_turn_has_a_new_date() {
        let mut policy = json!({});
        assert!(set(&mut policy, &verdict(Some("no")), at(0)));
        assert!(!set(&mut policy, &verdict(Some("no")), at(60)));
        assert!(set(&mut policy, &verdict(Some("not this")), at(60)));
        let date = |policy: &Value| policy["status"]["conditions"][0]["lastTransitionTime"].clone();
        assert_eq!(date(&policy), "1970-01-01T00:00:00Z");
        assert!(set(&mut policy, &verdict(None), at(60)));
        assert_eq!(date(&policy), "1970-01-01T00:01:00Z");
        assert_eq!(policy["status"]["conditions"].as_array().unwrap().len(), 1);
    }
}
