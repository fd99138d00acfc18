//! What the agent says that it would do with a connection is what it does.

use anyhow::{Context as _, Result, ensure};
use lab::mesh::Mesh;
use lab::peer::{self, Server};
use lab::serial::serial;
use mesh_common::policy::Reason;
use mesh_common::question::{Answer, Outcome, Route};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const QUESTION: &str = "/policy/explain?from=pod:shop/client&to=pod:shop/server&port=7001";

/// What each agent says of the question; they agree.
fn explained(mesh: &Mesh) -> Result<Answer> {
    let near: Answer = mesh.agent(1)?.admin(QUESTION)?;
    let far: Answer = mesh.agent(2)?.admin(QUESTION)?;
    ensure!(near == far, "{near:?} at the client, {far:?} at the server");
    Ok(near)
}

#[test]
fn an_explanation_says_what_becomes_of_the_connection() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = Mesh::pair()?;
    let check = Server::start(&server, server.v4.into(), 7001, &["check", "1"])?;
    // From no policy on, each is added to those before.
    let steps = [
        (None, true, Reason::NoPolicy, None),
        (
            Some((
                "others",
                "action: ALLOW\nrules: [{from: [{source: {serviceAccounts: [other]}}]}]\n",
            )),
            false,
            Reason::NoAllowMatched,
            Some("shop/others"),
        ),
        (
            Some((
                "callers",
                "action: ALLOW\nrules: [{to: [{operation: {ports: [\"1\"]}}]}, {from: [{source: {namespaces: [shop]}}]}]\n",
            )),
            true,
            Reason::AllowRule,
            Some("shop/callers"),
        ),
        (
            Some((
                "no-client",
                "action: DENY\nrules: [{from: [{source: {principals: [\"*/sa/client\"]}}]}]\n",
            )),
            false,
            Reason::DenyRule,
            Some("shop/no-client"),
        ),
    ];
    for (policy, allowed, reason, by) in steps {
        if let Some((name, spec)) = policy {
            mesh.add_policy("shop", name, spec)?;
        }
        let answer = explained(&mesh)?;
        let outcome = if allowed {
            Outcome::Allowed
        } else {
            Outcome::Denied
        };
        assert_eq!(answer.outcome, outcome, "{answer:?}");
        let [case] = answer.cases.as_slice() else {
            panic!("{answer:?}")
        };
        assert_eq!(case.route, Route::MutualTls);
        let explanation = case.explanation.as_ref().context("an explanation")?;
        let verdict = &explanation.verdict;
        assert_eq!((verdict.reason, verdict.policy.as_deref()), (reason, by));
        let near = explanation.nearest.is_some();
        assert_eq!(near, reason == Reason::NoAllowMatched, "{explanation:?}");

        let log = mesh.agent(2)?.access_log();
        let mark = log.mark();
        let sent = peer::client(&client, check.address, &["send", "10", "1"], LIMIT);
        assert_eq!(sent.is_ok(), allowed, "{sent:?}");
        let line = log.wait(mark, "the connection", |e| e.is_between("client", "server"))?;
        assert_eq!(line.policy.as_deref(), by, "{line:?}");
        let rule = verdict.rule.map(u64::try_from).transpose()?;
        assert_eq!(line.rule, rule, "{line:?}");
        assert_eq!(line.is_denied(), !allowed, "{line:?}");
        let said = line.reason.as_deref();
        assert_eq!(said, Some(&*verdict.reason.to_string()), "{line:?}");
    }
    Ok(())
}

#[test]
fn a_question_that_has_no_answer_is_refused_with_the_reason() -> Result<()> {
    let _one = serial();
    let (mesh, _client, _server) = Mesh::pair()?;
    for (query, said) in [
        (
            "from=shop/clinet&to=pod:shop/server&port=1",
            "did you mean shop/client?",
        ),
        (
            "from=shop/client&to=pod:shop/server&port=1",
            "both a service account and a pod",
        ),
        ("from=client&to=pod:shop/server&port=1", "is no name"),
        (
            "from=pod:shop/client&to=pod:shop/server&port=seven",
            "write /policy/explain?from=",
        ),
    ] {
        let path = format!("/policy/explain?{query}");
        let refused = mesh.agent(1)?.admin::<Answer>(&path);
        let error = format!("{:#}", refused.err().context("an answer")?);
        ensure!(error.contains(said), "{query}: {error}");
    }
    Ok(())
}
