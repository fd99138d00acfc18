//! No connection slips through a policy change: every interleaving of the code that lets a connection through
//! with the code that publishes a state and the code that rechecks.
//!
//! Each of the three runs on a thread of its own, and only one at a time: where it calls [`step`], it waits to
//! be chosen again. Which one goes on is a choice, and all sequences of choices are tried. Between two steps
//! a thread touches what is shared at most once, so no order of events is left out.

use futures::future::LocalBoxFuture;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle};

use super::tests::World;
use super::*;
use crate::proxy::authorize::authorize;

thread_local! {
    static TURNS: RefCell<Option<Turns>> = const { RefCell::new(None) };
}

/// Lets others go on before this thread does. Does nothing in a thread that no schedule runs.
pub(in crate::proxy) fn step() {
    pass(Said::Ready);
}

/// False when nobody will ever choose this thread again.
fn pass(said: Said) -> bool {
    TURNS.with_borrow(|turns| turns.as_ref().is_none_or(|turns| turns.pass(said)))
}

/// What a thread says when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// It can go on.
    Ready,
    /// It can go on once there is a state that it has not seen.
    WaitsForState,
    /// It goes on when nobody else can.
    WaitsForAll,
    Ended,
}

/// A thread's side of the schedule.
struct Turns {
    go: Receiver<()>,
    said: Sender<Said>,
}

impl Turns {
    fn pass(&self, said: Said) -> bool {
        self.said.send(said).unwrap();
        self.go.recv().is_ok()
    }
}

/// The schedule's side of a thread.
struct Actor {
    go: Sender<()>,
    said: Receiver<Said>,
    last: Said,
    thread: JoinHandle<()>,
}

impl Actor {
    /// The work begins when the thread is chosen, which it can be as it `first` says.
    fn start(first: Said, work: impl FnOnce() + Send + 'static) -> Self {
        let (go, gone) = channel();
        let (sayer, said) = channel();
        let turns = Turns {
            go: gone,
            said: sayer.clone(),
        };
        let thread = thread::spawn(move || {
            if !turns.pass(first) {
                return;
            }
            TURNS.set(Some(turns));
            work();
            sayer.send(Said::Ended).unwrap();
        });
        let last = said.recv().unwrap();
        Self {
            go,
            said,
            last,
            thread,
        }
    }

    fn advance(&mut self) {
        self.go.send(()).unwrap();
        self.last = self.said.recv().unwrap();
    }
}

/// The choices of one run: of how many, and which was taken.
#[derive(Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((of, 0));
        }
        let (options, choice) = self.taken[self.at];
        assert_eq!(options, of, "the same choices led elsewhere");
        self.at += 1;
        choice
    }

    /// Goes on to the next sequence; false after the last.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((options, choice)) = self.taken.pop() {
            if choice + 1 < options {
                self.taken.push((options, choice + 1));
                return true;
            }
        }
        false
    }
}

type State = watch::Receiver<Arc<Snapshot>>;
type Revoked = LocalBoxFuture<'static, Verdict>;
/// Lets a connection through, to be revoked later; none when it is denied.
type LetThrough = fn(&Registry, &State, Facts) -> Option<Revoked>;

/// As the data plane does.
fn registered_first(registry: &Registry, state: &State, facts: Facts) -> Option<Revoked> {
    let permit = authorize(registry, state, facts).ok()?;
    Some(Box::pin(async move { permit.revoked().await }))
}

/// The mistake that the order of steps in `authorize` avoids.
fn judged_first(registry: &Registry, state: &State, facts: Facts) -> Option<Revoked> {
    let newest = state.borrow().clone();
    step();
    if !facts.judge(&newest).is_allow() {
        return None;
    }
    let registration = registry.register(facts);
    Some(Box::pin(async move { registration.revoked().await }))
}

/// The mistake that the order of steps in `Registration::revoked` avoids.
fn looked_first(registry: &Registry, state: &State, facts: Facts) -> Option<Revoked> {
    let registration = registry.register(facts);
    let newest = state.borrow().clone();
    step();
    if !registration.facts().judge(&newest).is_allow() {
        return None;
    }
    Some(Box::pin(async move {
        let entry = &registration.entry;
        if entry.verdict.get().is_none() {
            step();
            entry.revoked.notified().await;
        }
        Verdict::clone(entry.verdict.get().unwrap())
    }))
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Denied,
    Revoked,
    /// It was let through and runs on.
    Runs,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A connection's task: let through or not, and polled again only if it was woken.
fn connect(let_through: LetThrough, registry: &Registry, state: &State, facts: Facts) -> Fate {
    let Some(mut revoked) = let_through(registry, state, facts) else {
        return Fate::Denied;
    };
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut is_revoked = || revoked.as_mut().poll(&mut context).is_ready();
    if is_revoked() {
        return Fate::Revoked;
    }
    pass(Said::WaitsForAll);
    if woken.0.load(Ordering::SeqCst) && is_revoked() {
        Fate::Revoked
    } else {
        Fate::Runs
    }
}

/// Runs every interleaving of a connection of bob's with the publication of `states`, of which the first was
/// there before. Returns how many led to each fate.
fn explore(let_through: LetThrough, states: &[Arc<Snapshot>]) -> BTreeMap<Fate, usize> {
    let facts = World::new(&[]).from("bob");
    let mut fates = BTreeMap::new();
    let mut choices = Choices::default();
    loop {
        let fate = run(let_through, states, facts.clone(), &mut choices);
        *fates.entry(fate).or_default() += 1;
        if !choices.next() {
            return fates;
        }
    }
}

fn run(
    let_through: LetThrough,
    states: &[Arc<Snapshot>],
    facts: Facts,
    choices: &mut Choices,
) -> Fate {
    let registry = Registry::default();
    let (publish, state) = watch::channel(states[0].clone());
    let publish = Arc::new(publish);
    let rechecked = Arc::new(Mutex::new(state.clone()));
    let fate = Arc::new(OnceLock::new());

    let connecting = {
        let (registry, fate) = (registry.clone(), fate.clone());
        move || {
            let met = connect(let_through, &registry, &state, facts);
            fate.set(met).unwrap();
        }
    };
    let later = states[1..].to_vec();
    let publishing = {
        let publish = publish.clone();
        move || {
            for (i, state) in later.into_iter().enumerate() {
                if i > 0 {
                    step();
                }
                publish.send_replace(state);
            }
        }
    };
    let rechecking = {
        let rechecked = rechecked.clone();
        move || {
            loop {
                registry.recheck_newest(&mut rechecked.lock().unwrap());
                if !pass(Said::WaitsForState) {
                    return;
                }
            }
        }
    };
    let mut actors = vec![
        Actor::start(Said::Ready, connecting),
        Actor::start(Said::Ready, publishing),
        Actor::start(Said::WaitsForState, rechecking),
    ];
    loop {
        let can_go_on = |actor: &Actor| match actor.last {
            Said::Ready => true,
            Said::WaitsForState => rechecked.lock().unwrap().has_changed().unwrap(),
            Said::WaitsForAll | Said::Ended => false,
        };
        let ready: Vec<_> = (0..actors.len())
            .filter(|&i| can_go_on(&actors[i]))
            .collect();
        let waiting = actors
            .iter()
            .position(|actor| actor.last == Said::WaitsForAll);
        match (ready.as_slice(), waiting) {
            ([], Some(last)) => actors[last].advance(),
            ([], None) => break,
            (ready, _) => actors[ready[choices.choose(ready.len())]].advance(),
        }
    }
    for Actor { go, thread, .. } in actors {
        drop(go);
        thread.join().unwrap();
    }
    *fate.get().unwrap()
}

/// A state that denies nobody, another one, and one that denies bob.
fn states() -> [Arc<Snapshot>; 3] {
    let no = |account| World::new(&[]).deny(account).snapshot();
    [World::new(&[]).snapshot(), no("nobody"), no("bob")]
}

#[test]
fn no_connection_slips_through_a_change() {
    let [open, other, closed] = states();
    for states in [
        vec![open.clone(), closed.clone()],
        vec![open, other, closed],
    ] {
        let fates = explore(registered_first, &states);
        println!("{} states: {fates:?}", states.len());
        assert!(!fates.contains_key(&Fate::Runs), "{fates:?}");
        // Both ways of being seen are among them, each met by many interleavings.
        let met = |fate| fates.get(&fate).copied().unwrap_or(0);
        assert!(
            met(Fate::Denied) >= 40 && met(Fate::Revoked) >= 50,
            "{fates:?}"
        );
    }
}

#[test]
fn a_change_that_denies_nobody_revokes_nobody() {
    let [open, other, _] = states();
    let fates = explore(registered_first, &[open, other]);
    assert_eq!(fates.keys().collect::<Vec<_>>(), [&Fate::Runs]);
}

/// The test is able to fail: with two steps swapped, some interleaving lets a denied connection run.
#[test]
fn steps_in_the_wrong_order_are_found() {
    let [open, _, closed] = states();
    let mistakes: [LetThrough; 2] = [judged_first, looked_first];
    for mistake in mistakes {
        let fates = explore(mistake, &[open.clone(), closed.clone()]);
        println!("{fates:?}");
        assert!(fates[&Fate::Runs] > 0, "{fates:?}");
    }
}
