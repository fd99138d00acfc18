//! Breaks the tunnel on purpose so that the lab can show its checks would notice. Never shipped.

use std::sync::LazyLock;

/// Whether this agent was told to send in clear after the handshake: records keep their form, and
/// nothing is encrypted.
pub(super) fn plaintext() -> bool {
    static TOLD: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("WEFT_SABOTAGE").is_some_and(|mode| mode == "plaintext"));
    *TOLD
}
