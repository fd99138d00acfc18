use super::delta::{UID, policy, response, workload};
use super::server::{Controller, Stream, TOKEN};
use super::{poll, soon};
use crate::state::delta::{ADDRESS, AUTHORIZATION};
use crate::state::{ControllerError, State, StateOptions};
use mesh_common::proto::xds::DeltaDiscoveryRequest;

/// The requests that begin a stream.
async fn first(stream: &mut Stream) -> [DeltaDiscoveryRequest; 2] {
    [stream.request().await, stream.request().await]
}

/// A state that has one workload and one policy, and its stream.
async fn synced(controller: &mut Controller) -> (State, Stream) {
    let state = State::start(controller.options(), false, None).unwrap();
    let mut stream = controller.stream().await;
    first(&mut stream).await;
    let resources = vec![workload("web", "1", &[10, 0, 0, 1])];
    stream.send(response(ADDRESS, "n1", resources, &[])).await;
    stream
        .send(response(
            AUTHORIZATION,
            "n2",
            vec![policy("p", "1", 0)],
            &[],
        ))
        .await;
    soon("the first state", state.synced()).await;
    for nonce in ["n1", "n2"] {
        assert_eq!(stream.request().await.response_nonce, nonce);
    }
    (state, stream)
}

/// Waits until the status names an error that contains `text`.
async fn failing(state: &State, text: &str) -> String {
    let ask = || async { state.sync_status().last_error.filter(|e| e.contains(text)) };
    poll(
        &format!(
            "an error about {text:?}, last {:?}",
            state.sync_status().last_error
        ),
        ask,
    )
    .await
}

#[tokio::test]
async fn the_first_state_needs_both_types() {
    let mut controller = Controller::up();
    let state = State::start(controller.options(), false, None).unwrap();
    let mut stream = controller.stream().await;
    assert_eq!(stream.metadata.get("clusterid").unwrap(), "cluster-1");
    assert_eq!(
        stream.metadata.get("authorization").unwrap(),
        &format!("Bearer {TOKEN}")
    );
    let [addresses, policies] = first(&mut stream).await;
    assert_eq!(
        (addresses.type_url.as_str(), policies.type_url.as_str()),
        (ADDRESS, AUTHORIZATION)
    );
    let node = addresses.node.unwrap();
    assert!(
        node.id.starts_with("ztunnel~127.0.0.1~node-1."),
        "{}",
        node.id
    );
    assert!(policies.node.is_none());
    for request in [
        &addresses.resource_names_subscribe,
        &policies.resource_names_subscribe,
    ] {
        assert!(request.is_empty(), "the wildcard is an empty list");
    }

    let resources = vec![workload("web", "1", &[10, 0, 0, 1])];
    stream.send(response(ADDRESS, "n1", resources, &[])).await;
    let ack = stream.request().await;
    assert_eq!(
        (ack.response_nonce.as_str(), ack.error_detail),
        ("n1", None)
    );
    assert!(!state.sync_status().synced && state.sync_status().connected);
    assert_eq!(state.snapshot().borrow().workloads().count(), 0);

    stream
        .send(response(AUTHORIZATION, "n2", vec![], &[]))
        .await;
    soon("the first state", state.synced()).await;
    assert!(state.snapshot().borrow().workload(UID).is_some());
    assert_eq!(stream.request().await.response_nonce, "n2");
    assert!(state.sync_status().last_update.is_some());
}

#[tokio::test]
async fn changes_are_published_and_bad_ones_refused() {
    let mut controller = Controller::up();
    let (state, mut stream) = synced(&mut controller).await;
    let mut snapshot = state.snapshot();

    let resources = vec![
        workload("web", "2", &[1, 2]),
        workload("api", "1", &[10, 0, 0, 2]),
    ];
    stream
        .send(response(ADDRESS, "n3", resources, &["never/there"]))
        .await;
    let nack = stream.request().await;
    assert_eq!(nack.response_nonce, "n3");
    assert!(nack.error_detail.unwrap().message.contains(UID));
    soon(
        "a change",
        snapshot.wait_for(|s| s.workload("c//Pod/shop/api").is_some()),
    )
    .await
    .unwrap();
    assert!(snapshot.borrow().workload(UID).is_some());
    assert!(failing(&state, "addresses[0]").await.contains(UID));

    stream.send(response(ADDRESS, "n4", vec![], &[UID])).await;
    let ack = stream.request().await;
    assert_eq!(
        (ack.response_nonce.as_str(), ack.error_detail),
        ("n4", None)
    );
    assert!(snapshot.borrow().workload(UID).is_none());
    assert_eq!(state.sync_status().last_error, None);
}

#[tokio::test]
async fn a_reconnect_states_what_is_held_and_learns_what_went() {
    let mut controller = Controller::up();
    let (state, stream) = synced(&mut controller).await;
    drop(stream);
    let mut stream = controller.stream().await;
    assert!(state.snapshot().borrow().workload(UID).is_some());
    let [addresses, policies] = first(&mut stream).await;
    assert!(addresses.node.is_some());
    assert_eq!(addresses.initial_resource_versions[UID], "1");
    assert_eq!(policies.initial_resource_versions["shop/p"], "1");
    assert!(addresses.response_nonce.is_empty());

    stream.send(response(ADDRESS, "m1", vec![], &[UID])).await;
    assert_eq!(stream.request().await.response_nonce, "m1");
    assert!(state.snapshot().borrow().workload(UID).is_none());
    assert_eq!(state.snapshot().borrow().policies().count(), 1);
}

#[tokio::test]
async fn a_controller_that_is_down_at_the_start_and_later() {
    let mut controller = Controller::down();
    let state = State::start(controller.options(), false, None).unwrap();
    let error = failing(&state, "cannot connect").await;
    assert!(
        error.contains("127.0.0.1") && error.contains("refused"),
        "{error}"
    );
    assert!(!state.sync_status().connected);

    controller.start();
    let mut stream = controller.stream().await;
    first(&mut stream).await;
    stream
        .send(response(
            ADDRESS,
            "1",
            vec![workload("web", "1", &[10, 0, 0, 1])],
            &[],
        ))
        .await;
    stream.send(response(AUTHORIZATION, "2", vec![], &[])).await;
    soon("the first state", state.synced()).await;
    assert_eq!(state.sync_status().last_error, None);

    controller.stop();
    drop(stream);
    failing(&state, "cannot connect").await;
    assert!(!state.sync_status().connected && state.sync_status().synced);
    assert!(state.snapshot().borrow().workload(UID).is_some());

    controller.start();
    let mut stream = controller.stream().await;
    let [addresses, _] = first(&mut stream).await;
    assert_eq!(addresses.initial_resource_versions[UID], "1");
}

#[tokio::test]
async fn a_wrong_token_is_named_and_a_new_one_is_read() {
    let mut controller = Controller::up();
    let token = controller.file("token");
    std::fs::write(&token, "wrong").unwrap();
    let state = State::start(controller.options(), false, None).unwrap();
    let error = failing(&state, "refuses the token").await;
    let path = token.display().to_string();
    assert!(
        error.contains(&path) && error.contains("signature is wrong"),
        "{error}"
    );
    assert!(!error.contains("Bearer"), "{error}");
    std::fs::write(&token, TOKEN).unwrap();
    controller.stream().await;
}

#[tokio::test]
async fn files_that_are_no_good_are_named() {
    let mut controller = Controller::up();
    let (token, ca) = (controller.file("token"), controller.file("ca.pem"));
    let good_ca = std::fs::read_to_string(&ca).unwrap();
    std::fs::write(&ca, "no certificate").unwrap();
    std::fs::write(&token, " \n").unwrap();
    let state = State::start(controller.options(), false, None).unwrap();
    assert!(
        failing(&state, "ca.pem")
            .await
            .contains("no PEM certificate")
    );
    std::fs::remove_file(&ca).unwrap();
    failing(&state, "No such file").await;
    let other = super::pki::Pki::root("another root");
    std::fs::write(&ca, &other.certificate).unwrap();
    failing(&state, "certificate").await;
    std::fs::write(&ca, good_ca).unwrap();
    assert!(failing(&state, "token file").await.contains("it is empty"));
    std::fs::write(&token, TOKEN).unwrap();
    controller.stream().await;
}

#[tokio::test]
async fn a_bad_url_is_refused_at_once() {
    let good = Controller::down().options();
    for url in [
        "",
        "127.0.0.1:15012",
        "http://127.0.0.1:15012",
        "https://",
        "ht tp://x",
    ] {
        let options = StateOptions {
            controller: url.into(),
            ..good.clone()
        };
        match State::start(options, false, None) {
            Err(ControllerError::Url(named, _)) => assert_eq!(named, url),
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_stream_ends_when_nobody_wants_the_state() {
    let mut controller = Controller::up();
    let (state, mut stream) = synced(&mut controller).await;
    drop(state);
    let ended = async { while stream.request_or_end().await.is_some() {} };
    soon("the end of the stream", ended).await;
}
