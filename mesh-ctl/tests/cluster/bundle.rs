//! The root bundle in every enrolled namespace.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_ctl::ca::bundle::{Publisher, Target};
use mesh_ctl::ca::{Authority, Place, Signer};
use mesh_ctl::metrics::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::ApiServer;
use crate::wait::eventually;

struct Running {
    server: ApiServer,
    authority: Arc<Authority>,
    held: watch::Sender<bool>,
    _stop: DropGuard,
}

fn signer() -> Signer {
    let now = SystemTime::now();
    let place = Place::Directory("ca".into());
    Signer::load(&Signer::create(now).unwrap(), &place, now).unwrap()
}

impl Running {
    async fn start(held: bool) -> Self {
        let server = ApiServer::start().await;
        let target = Target {
            name: "istio-ca-root-cert".into(),
            label: "istio.io/dataplane-mode".into(),
            value: "ambient".into(),
            always: ["weft-system", "absent"].map(str::to_owned).into(),
        };
        let authority = Arc::new(Authority::new(signer()));
        let publisher = Publisher::new(
            server.client(),
            target,
            Arc::clone(&authority),
            Metrics::default(),
        );
        let (held, holds) = watch::channel(held);
        let stop = CancellationToken::new();
        tokio::spawn(publisher.run(holds, stop.clone()));
        let running = Self {
            server,
            authority,
            held,
            _stop: stop.drop_guard(),
        };
        running.namespace("weft-system", &json!({}));
        running
    }

    fn namespace(&self, name: &str, labels: &Value) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        });
        self.server
            .create(&format!("/api/v1/namespaces/{name}"), namespace);
    }

    fn published(&self, namespace: &str) -> Option<String> {
        let map = self.server.object(&path(namespace))?;
        Some(map["data"]["root-cert.pem"].as_str()?.to_owned())
    }

    async fn until_published(&self, namespace: &str) {
        let wanted = self.authority.current().roots_pem();
        eventually("the bundle is there", || {
            self.published(namespace).as_ref() == Some(&wanted)
        })
        .await;
    }
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert")
}

fn enrolled() -> Value {
    json!({"istio.io/dataplane-mode": "ambient"})
}

#[tokio::test]
async fn it_is_published_where_it_is_needed_and_nowhere_else() {
    let running = Running::start(true).await;
    running.namespace("shop", &enrolled());
    running.namespace("other", &json!({}));
    running.until_published("shop").await;
    running.until_published("weft-system").await;
    // Enrolled later.
    running.namespace("late", &json!({"istio.io/dataplane-mode": "none"}));
    running.server.edit("/api/v1/namespaces/late", |namespace| {
        namespace["metadata"]["labels"] = enrolled();
    });
    running.until_published("late").await;
    assert_eq!(running.published("other"), None);
    let absent = "/api/v1/namespaces/absent/configmaps";
    assert_eq!(running.server.asked("POST", absent), 0);
}

#[tokio::test]
async fn an_edit_or_a_loss_is_repaired() {
    let running = Running::start(true).await;
    running.namespace("shop", &enrolled());
    running.until_published("shop").await;
    running.server.edit(&path("shop"), |map| {
        map["data"] = json!({"root-cert.pem": "forged", "kept": "yes"});
    });
    running.until_published("shop").await;
    let map = running.server.object(&path("shop")).unwrap();
    assert_eq!(map["data"]["kept"], "yes");
    running.server.delete(&path("shop"));
    running.until_published("shop").await;
}

#[tokio::test]
async fn a_new_root_is_published_everywhere() {
    let running = Running::start(true).await;
    running.namespace("shop", &enrolled());
    running.until_published("shop").await;
    let before = running.published("shop");
    running.authority.replace(signer());
    running.until_published("shop").await;
    running.until_published("weft-system").await;
    assert_ne!(running.published("shop"), before);
}

#[tokio::test]
async fn only_the_holder_of_the_lease_writes() {
    let running = Running::start(false).await;
    running.namespace("shop", &enrolled());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(running.published("shop"), None);
    running.held.send_replace(true);
    running.until_published("shop").await;
    running.held.send_replace(false);
    running.server.delete(&path("shop"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(running.published("shop"), None);
    running.held.send_replace(true);
    running.until_published("shop").await;
}

#[tokio::test]
async fn a_write_that_fails_is_tried_again() {
    let running = Running::start(true).await;
    running.until_published("weft-system").await;
    running
        .server
        .answer("/api/v1/namespaces/shop/configmaps", |_| Err(403));
    running.namespace("shop", &enrolled());
    let create = "/api/v1/namespaces/shop/configmaps";
    eventually("it is tried again", || {
        running.server.asked("POST", create) >= 2
    })
    .await;
    running.server.forget(create);
    running.until_published("shop").await;
}
