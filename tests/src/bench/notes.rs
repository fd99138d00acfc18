//! What a reader of the figures must know, said in the report itself.

use super::Options;
use super::disturbance::Disturbance;
use anyhow::Result;

/// Fewer rounds are no basis for a published figure.
const ENOUGH: u32 = 5;

/// The notes on a comparison.
pub(super) fn on_comparison(
    options: &Options,
    loads: bool,
    footprints: bool,
    disturbance: &Disturbance,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if options.rounds < ENOUGH {
        let plural = if options.rounds == 1 { "" } else { "s" };
        notes.push(format!(
            "Only {} round{plural}: a published report takes at least {ENOUGH}.",
            options.rounds
        ));
    }
    let cores = std::thread::available_parallelism()?.get();
    if loads {
        notes.push(format!(
            "Client, server and proxies share {cores} cores: a proxy that uses less CPU time also leaves \
             more of it to the other two. Bytes are counted by who receives them, round trips and \
             connections when they are complete."
        ));
    }
    notes.push(
        "Contenders take turns within each round, each round begins with another; a ratio is the median of \
         the rounds' ratios, not the ratio of the medians."
            .to_owned(),
    );
    if let Some(peer) = &options.peer {
        notes.push(format!(
            "{0}: pods are handed to it by ZDS and redirected to it by nftables rules in each pod, as its \
             CNI agent does; it reads its workloads from a file.",
            peer.name
        ));
    }
    if footprints {
        notes.push(
            "Memory is the resident memory of one proxy process, the mean of the two that serve client and \
             server, each started for that figure. The kernel's memory for sockets is not in it."
                .to_owned(),
        );
        notes.push(
            "Enrolment ends with the proxy's answer; the rules that a CNI agent installs to redirect the \
             pod's connections to a proxy come on top, while Weft's answer includes its own."
                .to_owned(),
        );
    }
    notes.extend(disturbance.note());
    Ok(notes)
}
