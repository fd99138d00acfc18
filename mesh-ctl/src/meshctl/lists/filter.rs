//! Which of many things are shown.

use super::super::{CliError, Session};
use mesh_common::suggest;

/// By namespace and name.
#[derive(Clone, Debug, clap::Args)]
pub struct Filter {
    /// Only what has this name; NAMESPACE/NAME says both
    pub name: Option<String>,
    /// Only what is in this namespace; without it, the namespace of the kubeconfig's context if it names
    /// one, or else all
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// What has names.
pub trait Named {
    /// Its namespaces; a connection has two.
    fn namespaces(&self) -> Vec<&str>;
    /// All names that stand for it.
    fn names(&self) -> Vec<&str>;
}

/// A filter with its defaults filled in.
#[derive(Clone, Debug)]
pub struct Selection {
    what: [&'static str; 2],
    name: Option<String>,
    namespace: Option<String>,
}

impl Filter {
    /// What is wanted of `what`, which is given in the singular and the plural.
    pub fn selection(&self, what: [&'static str; 2], session: &Session) -> Selection {
        let own = self.namespace.clone();
        let mut selection = Selection {
            what,
            name: self.name.clone(),
            namespace: match self.all_namespaces {
                true => None,
                false => own.or_else(|| session.reach.default_namespace()),
            },
        };
        // A service account and an identity have slashes too, but more of them.
        if let Some((namespace, name)) = self.name.as_deref().and_then(|name| name.split_once('/'))
            && !namespace.is_empty()
            && !name.contains('/')
        {
            selection.namespace = Some(namespace.to_owned());
            selection.name = Some(name.to_owned());
        }
        selection
    }
}

impl Selection {
    /// Those that are wanted, in their order. It is an error if there is none of the name. A namespace in which
    /// there is nothing is none; a hint goes to standard error.
    pub fn choose<T: Named>(&self, items: Vec<T>) -> Result<Vec<T>, CliError> {
        let (chosen, others): (Vec<T>, Vec<T>) =
            items.into_iter().partition(|item| self.matches(item));
        if chosen.is_empty() {
            self.none(&others)?;
        }
        Ok(chosen)
    }

    /// Whether it is one of those that are wanted.
    pub fn matches(&self, item: &impl Named) -> bool {
        self.in_namespace(item)
            && self
                .name
                .as_deref()
                .is_none_or(|name| item.names().contains(&name))
    }

    /// The name that is wanted, if one is.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn in_namespace(&self, item: &impl Named) -> bool {
        let wanted = self.namespace.as_deref();
        wanted.is_none_or(|namespace| item.namespaces().contains(&namespace))
    }

    fn none(&self, others: &[impl Named]) -> Result<(), CliError> {
        let [one, many] = self.what;
        let place = match &self.namespace {
            Some(namespace) => format!(" in namespace {namespace}"),
            None => String::new(),
        };
        let Some(name) = &self.name else {
            let namespaces = others.iter().flat_map(Named::namespaces);
            let hint = match &self.namespace {
                Some(namespace) => suggest::suggestion(namespace, namespaces),
                None => String::new(),
            };
            eprintln!("no {many}{place}{hint}");
            return Ok(());
        };
        let near = others.iter().filter(|item| self.in_namespace(*item));
        let mut hint = suggest::suggestion(name, near.flat_map(Named::names));
        let elsewhere = others
            .iter()
            .filter(|item| item.names().contains(&name.as_str()))
            .find_map(|item| item.namespaces().first().map(|s| (*s).to_owned()));
        if let Some(elsewhere) = elsewhere {
            hint = format!("; there is one in namespace {elsewhere}");
        }
        Err(CliError::NotFound(format!(
            "there is no {one} {name:?}{place}{hint}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for (&str, &str) {
        fn namespaces(&self) -> Vec<&str> {
            vec![self.0]
        }

        fn names(&self) -> Vec<&str> {
            vec![self.1]
        }
    }

    fn selection(namespace: Option<&str>, name: Option<&str>) -> Selection {
        Selection {
            what: ["workload", "workloads"],
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
        }
    }

    fn all() -> Vec<(&'static str, &'static str)> {
        vec![("shop", "client"), ("shop", "server"), ("bank", "server")]
    }

    #[test]
    fn namespace_and_name_choose() {
        let chosen = |namespace, name| selection(namespace, name).choose(all()).unwrap();
        assert_eq!(chosen(None, None), all());
        assert_eq!(chosen(Some("bank"), None), [("bank", "server")]);
        assert_eq!(
            chosen(None, Some("server")),
            [("shop", "server"), ("bank", "server")]
        );
        assert_eq!(chosen(Some("nowhere"), None), []);
    }

    #[test]
    fn a_wrong_name_suggests_the_nearest_where_it_was_looked_for() {
        let error = |namespace, name| {
            let error = selection(namespace, Some(name)).choose(all()).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            error(None, "clinet"),
            "there is no workload \"clinet\"; did you mean \"client\"?"
        );
        assert_eq!(
            error(Some("bank"), "clinet"),
            "there is no workload \"clinet\" in namespace bank"
        );
        assert_eq!(
            error(Some("bank"), "client"),
            "there is no workload \"client\" in namespace bank; there is one in namespace shop"
        );
    }
}
