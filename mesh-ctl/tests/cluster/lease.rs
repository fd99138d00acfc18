//! One holder at a time, whatever fails.

use std::time::Duration;

use mesh_ctl::lease::Lease;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::ApiServer;
use crate::wait::{DEADLINE, eventually};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases/work";

struct Replica {
    held: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(server: &ApiServer, name: &str) -> Self {
        let stop = CancellationToken::new();
        let lease = Lease::new(server.client(), "weft-system", "work", name);
        let (held, task) = lease.lasting(Duration::from_secs(4)).start(stop.clone());
        Self { held, stop, task }
    }

    async fn until(&mut self, wanted: bool) {
        let changed = self.held.wait_for(|held| *held == wanted);
        tokio::time::timeout(DEADLINE, changed)
            .await
            .unwrap()
            .unwrap();
    }
}

fn holder(server: &ApiServer) -> Value {
    server.object(PATH).unwrap()["spec"]["holderIdentity"].clone()
}

#[tokio::test]
async fn one_of_two_holds_it_and_the_other_follows() {
    let server = ApiServer::start().await;
    let mut first = Replica::start(&server, "a");
    first.until(true).await;
    let mut second = Replica::start(&server, "b");
    eventually("it is renewed again and again", || {
        server.asked("PUT", PATH) > 4
    })
    .await;
    assert!(*first.held.borrow() && !*second.held.borrow());
    assert_eq!(holder(&server), "a");

    first.stop.cancel();
    second.until(true).await;
    first.task.await.unwrap();
    assert!(!*first.held.borrow());
    assert_eq!(holder(&server), "b");
    assert_eq!(server.object(PATH).unwrap()["spec"]["leaseTransitions"], 2);
}

#[tokio::test]
async fn a_dead_holder_is_succeeded() {
    let server = ApiServer::start().await;
    let mut first = Replica::start(&server, "a");
    first.until(true).await;
    first.task.abort();
    let mut second = Replica::start(&server, "b");
    second.until(true).await;
    assert_eq!(holder(&server), "b");
}

#[tokio::test]
async fn a_holder_that_cannot_renew_gives_up_and_comes_back() {
    let server = ApiServer::start().await;
    let mut first = Replica::start(&server, "a");
    first.until(true).await;
    server.fail_with(Some(500));
    first.until(false).await;
    server.fail_with(None);
    first.until(true).await;
}

#[tokio::test]
async fn a_lease_that_another_wrote_is_not_held_any_more() {
    let server = ApiServer::start().await;
    let mut first = Replica::start(&server, "a");
    first.until(true).await;
    server.edit(PATH, |lease| {
        lease["spec"]["holderIdentity"] = "z".into();
        lease["spec"]["leaseDurationSeconds"] = 3600.into();
    });
    first.until(false).await;
    first.stop.cancel();
    first.task.await.unwrap();
    assert_eq!(holder(&server), "z", "what is not held is not given back");
}
