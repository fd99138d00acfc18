//! The parts of a rule: source, operation and condition, each parsed into a [`Term`].

use mesh_common::proto::security::Match;

use super::spec::{ConditionSpec, OperationSpec, SourceSpec};
use super::{FieldError, Term, matchers};

pub(crate) fn source(field: &str, namespace: &str, spec: &SourceSpec) -> Result<Term, FieldError> {
    let at = |name: &str| format!("{field}.{name}");
    let account = matchers::service_account(namespace);
    // At L4 nothing stands between the peer and the workload: the remote address is the source's.
    let mut source_ips = matchers::list(&at("ipBlocks"), &spec.ip_blocks, matchers::block)?;
    let remote = matchers::list(
        &at("remoteIpBlocks"),
        &spec.remote_ip_blocks,
        matchers::block,
    )?;
    if !source_ips.is_empty() && !remote.is_empty() {
        return Err(FieldError::new(
            at("remoteIpBlocks"),
            "stands beside ipBlocks, and both mean the source address here; keep one of them",
        ));
    }
    source_ips.extend(remote);
    let mut not_source_ips =
        matchers::list(&at("notIpBlocks"), &spec.not_ip_blocks, matchers::block)?;
    not_source_ips.extend(matchers::list(
        &at("notRemoteIpBlocks"),
        &spec.not_remote_ip_blocks,
        matchers::block,
    )?);
    let l4 = Match {
        principals: matchers::list(&at("principals"), &spec.principals, matchers::principal)?,
        not_principals: matchers::list(
            &at("notPrincipals"),
            &spec.not_principals,
            matchers::principal,
        )?,
        namespaces: matchers::list(&at("namespaces"), &spec.namespaces, matchers::string)?,
        not_namespaces: matchers::list(
            &at("notNamespaces"),
            &spec.not_namespaces,
            matchers::string,
        )?,
        service_accounts: matchers::list(&at("serviceAccounts"), &spec.service_accounts, &account)?,
        not_service_accounts: matchers::list(
            &at("notServiceAccounts"),
            &spec.not_service_accounts,
            &account,
        )?,
        source_ips,
        not_source_ips,
        ..Match::default()
    };
    let l7 = [
        ("requestPrincipals", &spec.request_principals),
        ("notRequestPrincipals", &spec.not_request_principals),
    ];
    Term::new(field, l4, &l7)
}

pub(crate) fn operation(field: &str, spec: &OperationSpec) -> Result<Term, FieldError> {
    let at = |name: &str| format!("{field}.{name}");
    let l4 = Match {
        destination_ports: matchers::list(&at("ports"), &spec.ports, matchers::port)?,
        not_destination_ports: matchers::list(&at("notPorts"), &spec.not_ports, matchers::port)?,
        ..Match::default()
    };
    let l7 = [
        ("hosts", &spec.hosts),
        ("notHosts", &spec.not_hosts),
        ("methods", &spec.methods),
        ("notMethods", &spec.not_methods),
        ("paths", &spec.paths),
        ("notPaths", &spec.not_paths),
    ];
    Term::new(field, l4, &l7)
}

pub(crate) fn condition(
    field: &str,
    namespace: &str,
    spec: &ConditionSpec,
) -> Result<Term, FieldError> {
    if spec.values.is_empty() && spec.not_values.is_empty() {
        return Err(FieldError::new(
            field,
            "has neither values nor notValues; add one",
        ));
    }
    let (values, not_values) = (format!("{field}.values"), format!("{field}.notValues"));
    let mut l4 = Match::default();
    match spec.key.as_str() {
        "source.ip" | "remote.ip" => {
            l4.source_ips = matchers::list(&values, &spec.values, matchers::block)?;
            l4.not_source_ips = matchers::list(&not_values, &spec.not_values, matchers::block)?;
        }
        "source.namespace" => {
            l4.namespaces = matchers::list(&values, &spec.values, matchers::string)?;
            l4.not_namespaces = matchers::list(&not_values, &spec.not_values, matchers::string)?;
        }
        "source.principal" => {
            l4.principals = matchers::list(&values, &spec.values, matchers::principal)?;
            l4.not_principals = matchers::list(&not_values, &spec.not_values, matchers::principal)?;
        }
        "source.serviceAccount" => {
            let account = matchers::service_account(namespace);
            l4.service_accounts = matchers::list(&values, &spec.values, &account)?;
            l4.not_service_accounts = matchers::list(&not_values, &spec.not_values, &account)?;
        }
        "destination.ip" => {
            l4.destination_ips = matchers::list(&values, &spec.values, matchers::block)?;
            l4.not_destination_ips =
                matchers::list(&not_values, &spec.not_values, matchers::block)?;
        }
        "destination.port" => {
            l4.destination_ports = matchers::list(&values, &spec.values, matchers::port)?;
            l4.not_destination_ports =
                matchers::list(&not_values, &spec.not_values, matchers::port)?;
        }
        key if is_l7(key) => {
            return Ok(Term {
                l4,
                l7: vec![format!("{field} ({key})")],
            });
        }
        key => {
            return Err(FieldError::new(
                format!("{field}.key"),
                format!(
                    "{key:?} is unknown; write source.ip, source.namespace, source.principal, \
                     source.serviceAccount, remote.ip, destination.ip or destination.port"
                ),
            ));
        }
    }
    Ok(Term { l4, l7: Vec::new() })
}

fn is_l7(key: &str) -> bool {
    key == "connection.sni" || key.starts_with("request.") || key.starts_with("experimental.")
}
