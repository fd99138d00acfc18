//! A sink that keeps what it is given, and looks at every step.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use lab::kubernetes::ControlPlane;
use mesh_ctl::lease::Lease;
use mesh_ctl::metrics::Metrics;
use mesh_ctl::model::{Change, Objects};
use mesh_ctl::source::{KubernetesSource, Sink};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes this long.
const DEADLINE: Duration = Duration::from_secs(90);

/// What has been handed on so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) objects: Arc<Objects>,
    /// How often everything was replaced.
    pub(crate) replaced: usize,
    /// What a step violated.
    pub(crate) violations: Vec<String>,
}

type Check = Box<dyn Fn(&Objects) -> Option<String> + Send>;

struct Watcher {
    seen: watch::Sender<Seen>,
    check: Check,
}

impl Watcher {
    fn step(&self, replaced: usize, change: impl FnOnce(&mut Objects)) {
        self.seen.send_modify(|seen| {
            seen.replaced += replaced;
            change(Arc::make_mut(&mut seen.objects));
            seen.violations.extend((self.check)(&seen.objects));
        });
    }
}

impl Sink for Watcher {
    fn replace(&mut self, objects: Objects) {
        self.step(1, |all| *all = objects);
    }

    fn change(&mut self, changes: Vec<Change>) {
        self.step(0, |all| all.apply(changes));
    }
}

/// A source at work.
pub(crate) struct Watching {
    seen: watch::Receiver<Seen>,
    pub(crate) metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Watching {
    /// Starts a source; `check` names what is wrong with a state, and is asked at every step.
    pub(crate) fn start(
        client: Client,
        check: impl Fn(&Objects) -> Option<String> + Send + 'static,
    ) -> Self {
        let metrics = Metrics::default();
        let source = KubernetesSource::new(client, metrics.watches());
        Self::run(source, metrics, Box::new(check))
    }

    /// Starts a source that also writes the status of policies.
    pub(crate) fn with_status(client: Client, lease: Lease) -> Self {
        let metrics = Metrics::default();
        let source = KubernetesSource::new(client, metrics.watches()).writing_status(lease);
        Self::run(source, metrics, Box::new(|_| None))
    }

    fn run(source: KubernetesSource, metrics: Metrics, check: Check) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let sink = Watcher {
            seen: sender,
            check,
        };
        let stop = CancellationToken::new();
        Self {
            seen,
            metrics,
            task: tokio::spawn(source.run(sink, stop.clone())),
            stop,
        }
    }

    /// Waits for a state.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Objects) -> bool) -> Seen {
        self.until_equal(what, is, |objects| format!("{objects:#?}"))
            .await
    }

    /// As `until`; `explain` says what of the last state is wrong.
    pub(crate) async fn until_equal(
        &mut self,
        what: &str,
        is: impl Fn(&Objects) -> bool,
        explain: impl Fn(&Objects) -> String,
    ) -> Seen {
        let waited = self
            .seen
            .wait_for(|seen| seen.replaced > 0 && is(&seen.objects));
        let Ok(seen) = tokio::time::timeout(DEADLINE, waited).await else {
            panic!("never: {what}; there is: {}", explain(&self.now().objects));
        };
        seen.unwrap().clone()
    }

    pub(crate) async fn synced(&mut self) -> Seen {
        self.until("the first state", |_| true).await
    }

    pub(crate) fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// A metric's value; zero when it was never counted.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has at least this value.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while self.metric(name) < value {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never: {name} {value}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the source; no step may have violated anything, and there was one first state.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        let seen = self.seen.borrow();
        assert_eq!(seen.violations, [""; 0]);
        assert_eq!(
            seen.replaced, 1,
            "a state is handed on as a whole only once"
        );
    }
}

/// A control plane with the CRDs, and an administrator's client.
pub(crate) async fn cluster() -> (ControlPlane, Client) {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    lab::kubernetes::crds::install(&client).await.unwrap();
    (control_plane, client)
}
