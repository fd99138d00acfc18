//! What the programs count: each way a connection can go has a name.

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $program:literal $reason:literal,)*) => {
        /// Why a program passed, redirected or dropped; the number is the index in the counters' map.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The program that counts it.
            #[must_use]
            pub const fn program(self) -> &'static str {
                match self { $(Self::$variant => $program,)* }
            }

            /// The reason's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $reason,)* }
            }
        }
    };
}

counters! {
    /// Captured: sent to the pod's outbound listener.
    ConnectRedirect = "connect" "redirect",
    /// Passed: not TCP.
    ConnectNotTcp = "connect" "pass_not_tcp",
    /// Passed: the network namespace is not enrolled.
    ConnectNotEnrolled = "connect" "pass_not_enrolled",
    /// Passed: the agent's own.
    ConnectAgent = "connect" "pass_agent",
    /// Passed: to loopback.
    ConnectLoopback = "connect" "pass_loopback",
    /// Passed: to an address of the pod itself.
    ConnectOwnAddress = "connect" "pass_own_address",
    /// Passed: to an excluded port.
    ConnectExcludedPort = "connect" "pass_excluded_port",
    /// Passed: to an excluded CIDR.
    ConnectExcludedCidr = "connect" "pass_excluded_cidr",
    /// Passed: policy exempts it from the tunnel.
    ConnectDirect = "connect" "pass_direct",
    /// Refused: the pod has no address of the destination's family to capture at.
    ConnectNoAddress = "connect" "drop_no_pod_address",
    /// Refused: the original destination could not be stored.
    ConnectNoStorage = "connect" "drop_no_storage",
    /// A connect to the pod itself was recorded.
    SockOpsLocal = "sock_ops" "local_recorded",
    /// A connect to the pod itself could not be recorded.
    SockOpsLocalFailed = "sock_ops" "local_failed",
    /// An origin was left for the accepting side.
    SockOpsHandoverLeft = "sock_ops" "handover_left",
    /// An origin could not be left for the accepting side.
    SockOpsHandoverFailed = "sock_ops" "handover_failed",
    /// An origin was taken over by the accepted socket.
    SockOpsHandoverTaken = "sock_ops" "handover_taken",
    /// An origin could not be stored on the accepted socket.
    SockOpsNoStorage = "sock_ops" "handover_no_storage",
    /// An exempted connect was recorded.
    SockOpsDirect = "sock_ops" "direct_recorded",
    /// An exempted connect was refused: its exemption ended meanwhile, or it is from another address.
    SockOpsDirectRefused = "sock_ops" "direct_refused",
    /// An exempted connect could not be recorded.
    SockOpsDirectFailed = "sock_ops" "direct_failed",
    /// A recorded connect was accepted.
    SockOpsDirectTaken = "sock_ops" "direct_taken",
    /// An accepted direct connection could not be marked.
    SockOpsDirectNoStorage = "sock_ops" "direct_no_storage",
    /// A direct connect was answered by somebody else than its pod.
    SockOpsDirectStray = "sock_ops" "direct_stray",
    /// An event of a direct connection found no room.
    SockOpsEventLost = "sock_ops" "event_lost",
    /// Steered to the HBONE listener.
    LookupHbone = "sk_lookup" "redirect_hbone",
    /// Steered to the plaintext listener.
    LookupPlaintext = "sk_lookup" "redirect_plaintext",
    /// Passed: not TCP.
    LookupNotTcp = "sk_lookup" "pass_not_tcp",
    /// Passed: over loopback.
    LookupLoopback = "sk_lookup" "pass_loopback",
    /// Passed: a recorded connect of the pod to itself.
    LookupLocal = "sk_lookup" "pass_local",
    /// Passed: a recorded connect that policy exempts from the tunnel.
    LookupDirect = "sk_lookup" "pass_direct",
    /// Dropped: a connect whose exemption ended before it left.
    LookupRefused = "sk_lookup" "drop_direct_refused",
    /// Passed: from an address of the node.
    LookupNode = "sk_lookup" "pass_node",
    /// Dropped: came from outside with the pod's own address as its source.
    LookupOwnSource = "sk_lookup" "drop_own_source",
    /// Dropped: in the clear, and no policy could allow it.
    LookupPolicy = "sk_lookup" "drop_policy",
    /// Dropped: the agent's listener is not there.
    LookupNoListener = "sk_lookup" "drop_no_listener",
    /// Dropped: the agent's listener was refused by the kernel.
    LookupAssignFailed = "sk_lookup" "drop_assign_failed",
    /// The origin was shown instead of the true far end.
    PeernameRewritten = "getpeername" "rewritten",
    /// Passed: the agent's own.
    PeernameAgent = "getpeername" "pass_agent",
    /// Passed: the socket has no origin.
    PeernameNoOrigin = "getpeername" "pass_no_origin",
    /// Passed: an IPv6 origin cannot be shown on an IPv4 socket.
    PeernameFamily = "getpeername" "pass_other_family",
}
