use super::pki::{DAY, Pki, Validity};
use super::server::{Controller, TOKEN, valid_for};
use super::{poll, soon};
use crate::state::{CertificateError, Certificates, ControllerError, SvidError};
use mesh_common::identity::SpiffeId;
use prost_types::value::Kind;
use std::sync::Arc;
use std::time::SystemTime;
use tonic::Status;

fn web() -> SpiffeId {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

#[tokio::test]
async fn an_svid_is_what_was_asked_for() {
    let controller = Controller::up();
    let certificates = Certificates::new(controller.options()).unwrap();
    assert!(certificates.list().is_empty());
    let svid = soon("an SVID", certificates.get(&web())).await.unwrap();
    assert_eq!(svid.identity, web());
    assert_eq!((svid.chain.len(), svid.roots.len()), (1, 1));
    assert!(svid.is_valid_at(SystemTime::now()));

    let asked = controller.asked();
    let [(metadata, request)] = asked.as_slice() else {
        panic!("{} requests", asked.len())
    };
    assert_eq!(metadata.get("clusterid").unwrap(), "cluster-1");
    assert_eq!(
        metadata.get("authorization").unwrap(),
        &format!("Bearer {TOKEN}")
    );
    assert_eq!(request.validity_duration, 86400);
    assert!(
        request
            .csr
            .starts_with("-----BEGIN CERTIFICATE REQUEST-----")
    );
    let fields = &request.metadata.as_ref().unwrap().fields;
    let expected = Kind::StringValue(web().to_string());
    assert_eq!(fields["ImpersonatedIdentity"].kind, Some(expected));

    let list = certificates.list();
    assert!(list[0].valid && list[0].last_error.is_none());
    let chain: Vec<_> = list[0].chain.iter().map(|c| &*c.role).collect();
    assert_eq!(chain, ["leaf", "root"]);
    assert_eq!(list[0].chain[0].name, web().to_string());
    let again = certificates.get(&web()).await.unwrap();
    assert!(Arc::ptr_eq(&svid, &again));
    assert_eq!(controller.asked().len(), 1);
}

#[tokio::test]
async fn many_that_wait_ask_once() {
    let controller = Controller::up();
    let certificates = Certificates::new(controller.options()).unwrap();
    let ask = |_| {
        let certificates = certificates.clone();
        tokio::spawn(async move { certificates.get(&web()).await.map(|svid| svid.not_after) })
    };
    let waiting: Vec<_> = (0..50).map(ask).collect();
    for task in waiting {
        soon("an SVID", task).await.unwrap().unwrap();
    }
    assert_eq!(controller.asked().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_told_at_once_and_overcome_later() {
    let controller = Controller::up();
    controller.sign_by(Box::new(|_, _| {
        Err(Status::permission_denied("no such pod here"))
    }));
    let certificates = Certificates::new(controller.options()).unwrap();
    let error = soon("an error", certificates.get(&web()))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(web().as_str()) && text.contains("no such pod here"),
        "{text}"
    );
    assert_eq!(certificates.list()[0].last_error.as_ref(), Some(&text));
    controller.sign_by(valid_for(DAY));
    poll("an SVID", || async { certificates.get(&web()).await.ok() }).await;
    assert_eq!(certificates.list()[0].last_error, None);
}

#[tokio::test]
async fn a_wrong_token_is_named() {
    let controller = Controller::up();
    std::fs::write(controller.file("token"), "wrong").unwrap();
    let certificates = Certificates::new(controller.options()).unwrap();
    let error = soon("an error", certificates.get(&web()))
        .await
        .unwrap_err();
    let CertificateError::Controller(_, ControllerError::Token(_, path, _)) = error else {
        panic!("{error}")
    };
    assert_eq!(path, controller.file("token"));
}

#[tokio::test]
async fn a_controller_that_is_down_is_named_and_waited_for() {
    let mut controller = Controller::down();
    let certificates = Certificates::new(controller.options()).unwrap();
    let error = soon("an error", certificates.get(&web()))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot connect to the controller at https://127.0.0.1")
    );
    controller.start();
    poll("an SVID", || async { certificates.get(&web()).await.ok() }).await;
}

#[tokio::test]
async fn answers_that_are_no_good_are_not_used() {
    let controller = Controller::up();
    controller.sign_by(Box::new(|_, request| {
        let stranger = Pki::root("stranger");
        Ok(vec![
            stranger.sign(&request.csr, DAY),
            Pki::root("another").certificate,
        ])
    }));
    let certificates = Certificates::new(controller.options()).unwrap();
    let error = soon("an error", certificates.get(&web()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, CertificateError::Answer(_, SvidError::Chain(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_is_renewed_in_the_background() {
    let controller = Controller::up();
    controller.sign_by(valid_for(Validity::seconds(100, 5)));
    let certificates = Certificates::new(controller.options()).unwrap();
    let first = soon("an SVID", certificates.get(&web())).await.unwrap();
    controller.sign_by(valid_for(DAY));
    let renewed = || async {
        let now = certificates.get(&web()).await.unwrap();
        (now.not_after > first.not_after).then_some(now)
    };
    let second = poll("a renewal", renewed).await;
    assert_ne!(first.chain, second.chain);
    assert_ne!(first.key.secret_der(), second.key.secret_der());
}

#[tokio::test]
async fn the_old_one_is_kept_while_valid_and_not_longer() {
    let controller = Controller::up();
    controller.sign_by(valid_for(Validity::seconds(100, 5)));
    let certificates = Certificates::new(controller.options()).unwrap();
    let first = soon("an SVID", certificates.get(&web())).await.unwrap();
    controller.sign_by(Box::new(|_, _| Err(Status::unavailable("on holiday"))));
    let failed = || async { certificates.list()[0].last_error.clone() };
    let error = poll("a failed renewal", failed).await;
    assert!(error.contains("on holiday"), "{error}");
    let kept = certificates.get(&web()).await;
    // Only a machine that stood still for seconds gets here after the expiry.
    if SystemTime::now() < first.not_after {
        assert!(Arc::ptr_eq(&first, &kept.unwrap()));
    }
    let error = poll("the expiry", || async {
        certificates.get(&web()).await.err()
    })
    .await;
    assert!(SystemTime::now() >= first.not_after);
    assert!(error.to_string().contains("on holiday"), "{error}");
    assert!(!certificates.list()[0].valid);
}

#[tokio::test]
async fn what_is_released_is_forgotten() {
    let controller = Controller::up();
    let certificates = Certificates::new(controller.options()).unwrap();
    soon("an SVID", certificates.get(&web())).await.unwrap();
    certificates.release(&web());
    certificates.release(&web());
    assert!(certificates.list().is_empty());
    soon("an SVID", certificates.get(&web())).await.unwrap();
    assert_eq!(controller.asked().len(), 2);
}

#[tokio::test]
async fn whoever_waits_for_a_released_one_is_told() {
    let controller = Controller::up();
    let gate = Arc::new(std::sync::Barrier::new(2));
    let inside = gate.clone();
    controller.sign_by(Box::new(move |_, _| {
        inside.wait();
        Err(Status::unavailable("too late"))
    }));
    let certificates = Certificates::new(controller.options()).unwrap();
    let identity = web();
    let get = certificates.get(&identity);
    tokio::pin!(get);
    let none_yet = poll("the request", || async {
        (!controller.asked().is_empty()).then_some(())
    });
    tokio::select! {
        result = &mut get => panic!("{result:?}"),
        () = none_yet => {}
    }
    certificates.release(&identity);
    assert_eq!(
        soon("the end", get).await.unwrap_err(),
        CertificateError::Released(web())
    );
    gate.wait();
}
