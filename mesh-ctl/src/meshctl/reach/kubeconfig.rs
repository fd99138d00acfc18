//! The way to the API server, as the kubeconfig says.

use std::io::ErrorKind;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::error::{ReachError, no_code};
use super::options::ReachOptions;
use mesh_common::suggest;

/// The API server.
pub(in crate::meshctl) struct Cluster {
    pub(in crate::meshctl) client: Client,
    /// Its URL, for errors.
    pub(in crate::meshctl) server: String,
    pub(in crate::meshctl) mesh_namespace: String,
}

/// A client for the context that the options choose.
pub(super) async fn connect(options: &ReachOptions) -> Result<Cluster, ReachError> {
    let config = match read(options)? {
        Some((file, kubeconfig)) => {
            choose(&file, &kubeconfig, options.context.as_deref())?;
            let chosen = KubeConfigOptions {
                context: options.context.clone(),
                ..KubeConfigOptions::default()
            };
            let config = Config::from_custom_kubeconfig(kubeconfig, &chosen).await;
            config.map_err(|e| unusable(file, &e))?
        }
        None => Config::incluster().map_err(|_| ReachError::NoKubeconfig(searched()))?,
    };
    let server = config.cluster_url.to_string();
    let server = server.trim_end_matches('/').to_owned();
    let client = Client::try_from(config).map_err(|e| ReachError::Kubeconfig {
        file: files(options),
        reason: e.to_string(),
    })?;
    Ok(Cluster {
        client,
        server,
        mesh_namespace: options.mesh_namespace.clone(),
    })
}

/// The namespace of the chosen context.
pub(super) fn namespace(options: &ReachOptions) -> Option<String> {
    let (_, kubeconfig) = read(options).ok()??;
    let name = options.context.as_ref();
    let name = name.or(kubeconfig.current_context.as_ref())?;
    let context = kubeconfig.contexts.iter().find(|c| c.name == *name)?;
    context.context.as_ref()?.namespace.clone()
}

/// The kubeconfig and where it was; none when there is no such file and none was asked for.
fn read(options: &ReachOptions) -> Result<Option<(String, Kubeconfig)>, ReachError> {
    let file = files(options);
    let (read, asked_for) = match &options.kubeconfig {
        Some(path) => (Kubeconfig::read_from(path), true),
        None => (Kubeconfig::read(), options.context.is_some()),
    };
    match read {
        Ok(kubeconfig) => Ok(Some((file, kubeconfig))),
        Err(KubeconfigError::FindPath) if !asked_for => Ok(None),
        Err(KubeconfigError::ReadConfig(e, _)) if !asked_for && e.kind() == ErrorKind::NotFound => {
            Ok(None)
        }
        Err(e) => Err(unusable(file, &e)),
    }
}

fn choose(file: &str, kubeconfig: &Kubeconfig, wanted: Option<&str>) -> Result<(), ReachError> {
    let names = || kubeconfig.contexts.iter().map(|c| c.name.as_str());
    let all = || match names().collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "none".to_owned(),
        some => some,
    };
    let current = kubeconfig.current_context.as_deref();
    let Some(name) = wanted.or(current.filter(|name| !name.is_empty())) else {
        return Err(ReachError::NoContext {
            file: file.to_owned(),
            all: all(),
        });
    };
    if names().any(|other| other == name) {
        return Ok(());
    }
    Err(ReachError::NoSuchContext {
        file: file.to_owned(),
        name: name.to_owned(),
        hint: suggest::suggestion(name, names()),
        all: all(),
    })
}

fn unusable(file: String, error: &KubeconfigError) -> ReachError {
    match error {
        KubeconfigError::ReadConfig(e, path) if e.kind() == ErrorKind::PermissionDenied => {
            ReachError::KubeconfigPermission(path.display().to_string())
        }
        KubeconfigError::ReadConfig(e, path) => ReachError::Kubeconfig {
            file: path.display().to_string(),
            reason: no_code(&e.to_string()),
        },
        other => ReachError::Kubeconfig {
            file,
            reason: first_line(&other.to_string()),
        },
    }
}

/// What comes after it is the place in the file, drawn.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What is read, for errors.
fn files(options: &ReachOptions) -> String {
    match (&options.kubeconfig, std::env::var("KUBECONFIG")) {
        (Some(path), _) => path.display().to_string(),
        (None, Ok(list)) if !list.is_empty() => list,
        (None, _) => "~/.kube/config".to_owned(),
    }
}

fn searched() -> String {
    match std::env::var("KUBECONFIG") {
        Ok(list) if !list.is_empty() => format!("KUBECONFIG names {list}"),
        _ => "KUBECONFIG is not set, and there is no ~/.kube/config".to_owned(),
    }
}
