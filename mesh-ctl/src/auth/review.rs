//! Tokens verified by the Kubernetes API server: a TokenReview for our audience.
//!
//! Answers are remembered for a short time, so that a node that asks for many certificates costs one
//! review. An API server that does not answer is a refusal, never a pass.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Caller;
use super::token::{TokenError, Unverified};

/// A good token is believed this long without being reviewed again: so long may a node go on whose
/// agent was deleted.
const GOOD: Duration = Duration::from_secs(30);
/// A bad one is refused this long without being reviewed again.
const BAD: Duration = Duration::from_secs(10);
/// Answers remembered.
const ANSWERS: usize = 4096;
/// Reviews under way at a time.
const AT_A_TIME: usize = 16;
/// An API server that takes longer has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A token that does not say when it ends is looked at again after this time.
const WITHOUT_END: Duration = Duration::from_secs(3600);
/// No service-account token is longer.
const LONGEST_TOKEN: usize = 16 << 10;

const ACCOUNT: &str = "system:serviceaccount:";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

type Answer = Result<Caller, TokenError>;
type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// Asks the API server.
pub struct TokenReviews {
    client: Client,
    audience: String,
    /// By the token's hash: the table is no store of tokens.
    answers: Mutex<HashMap<Hash, (Answer, Instant)>>,
    turns: Semaphore,
}

impl TokenReviews {
    /// For tokens of that audience.
    pub fn new(client: Client, audience: String) -> Self {
        Self {
            client,
            audience,
            answers: Mutex::default(),
            turns: Semaphore::new(AT_A_TIME),
        }
    }

    /// The answer that is remembered.
    pub(super) fn remembered(&self, token: &str) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, until) = answers.get(&hash(token))?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    /// Whose token it is.
    pub(super) async fn verify(&self, token: &str) -> Answer {
        if let Some(answer) = self.remembered(token) {
            return answer;
        }
        let unverified = Unverified::read(token).filter(|_| token.len() <= LONGEST_TOKEN);
        let unverified = unverified.ok_or(TokenError::Malformed)?;
        // What an unsigned token says can only speak against it.
        unverified.refusal(&self.audience)?;
        let answer = timeout(ANSWER_WITHIN, self.ask(token, &unverified)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(TokenError::Unreviewed("it does not answer in time".into())));
        let keep = match &answer {
            Ok(caller) => {
                let left = caller.expires.duration_since(SystemTime::now());
                GOOD.min(left.unwrap_or_default())
            }
            Err(TokenError::Unreviewed(_)) => return answer,
            Err(_) => BAD,
        };
        self.remember(token, answer.clone(), keep);
        answer
    }

    fn remember(&self, token: &str, answer: Answer, keep: Duration) {
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS {
            answers.retain(|_, (_, until)| *until > now);
        }
        // Full of answers that are still good: a bad one takes the place of a bad one, or none.
        if answers.len() >= ANSWERS {
            let bad = answers.iter().find(|(_, (answer, _))| answer.is_err());
            match bad.map(|(hash, _)| *hash) {
                Some(hash) => _ = answers.remove(&hash),
                None => return,
            }
        }
        answers.insert(hash(token), (answer, now + keep));
    }

    async fn ask(&self, token: &str, unverified: &Unverified) -> Answer {
        let _turn = self.turns.acquire().await;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![self.audience.clone()]),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        let status = reviewed
            .map_err(|e| TokenError::Unreviewed(e.to_string()))?
            .status
            .unwrap_or_default();
        if status.authenticated != Some(true) {
            return Err(TokenError::NotAuthenticated {
                claimed: unverified.claimed(),
                reason: status.error.unwrap_or_else(|| "it gives no reason".into()),
            });
        }
        // A server that does not know audiences answers for its own.
        if !status
            .audiences
            .iter()
            .flatten()
            .any(|audience| *audience == self.audience)
        {
            return Err(TokenError::Audience {
                claimed: unverified.claimed(),
                wanted: self.audience.clone(),
            });
        }
        let user = status.user.unwrap_or_default();
        let account = user
            .username
            .as_deref()
            .and_then(|name| name.strip_prefix(ACCOUNT)?.split_once(':'));
        let Some((namespace, service_account)) = account else {
            return Err(TokenError::NotAnAccount(user.username.unwrap_or_default()));
        };
        Ok(Caller {
            node: self.node(&user, namespace).await?,
            namespace: namespace.into(),
            service_account: service_account.into(),
            expires: unverified
                .expires()
                .unwrap_or_else(|| SystemTime::now() + WITHOUT_END),
        })
    }

    /// Named by the token, or else by the pod that the token is bound to.
    async fn node(&self, user: &UserInfo, namespace: &str) -> Result<String, TokenError> {
        let extra = |key: &str| {
            let values = user.extra.as_ref()?.get(key)?;
            values.first().filter(|value| !value.is_empty()).cloned()
        };
        if let Some(node) = extra(NODE_NAME) {
            return Ok(node);
        }
        let unbound = || TokenError::Claim(format!("{NODE_NAME} or {POD_NAME}"));
        let (name, uid) = extra(POD_NAME).zip(extra(POD_UID)).ok_or_else(unbound)?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = pods.get_opt(&name).await;
        let pod = pod.map_err(|e| TokenError::Unreviewed(e.to_string()))?;
        let same = pod.filter(|pod| pod.metadata.uid.as_ref() == Some(&uid));
        let node = same.and_then(|pod| pod.spec?.node_name);
        node.filter(|node| !node.is_empty())
            .ok_or_else(|| TokenError::NoPod(format!("{namespace}/{name}")))
    }
}

fn hash(token: &str) -> Hash {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let mut bytes = Hash::default();
    bytes.copy_from_slice(hash.as_ref());
    bytes
}
