//! The CRDs that Weft ships, applied as an operator would: only where there are none.

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use std::time::{Duration, Instant};

const SHIPPED: [&str; 2] = [
    include_str!("../../../manifests/crds/authorization-policies.yaml"),
    include_str!("../../../manifests/crds/peer-authentications.yaml"),
];
const DEADLINE: Duration = Duration::from_secs(30);

/// Creates those that are absent, leaves the others as they are, and waits until all are served.
pub async fn install(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for text in SHIPPED {
        let definition: CustomResourceDefinition =
            serde_norway::from_str(text).context("a CRD in manifests/crds is invalid")?;
        let name = definition.name_any();
        match api.create(&PostParams::default(), &definition).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {name}")),
        }
        served(&api, &name).await?;
    }
    Ok(())
}

async fn served(api: &Api<CustomResourceDefinition>, name: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let definition = api.get(name).await?;
        let conditions = definition.status.and_then(|status| status.conditions);
        let is_true = |kind: &str| {
            let mut all = conditions.iter().flatten();
            all.any(|condition| condition.type_ == kind && condition.status == "True")
        };
        if is_true("Established") {
            return Ok(());
        }
        anyhow::ensure!(
            start.elapsed() < DEADLINE,
            "{name} is not served: {conditions:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
