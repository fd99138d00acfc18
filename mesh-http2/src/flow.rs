//! Flow-control windows (RFC 9113, section 5.2).

use crate::frame::ConnectionError;

/// The largest window: 2^31 - 1 bytes.
const LARGEST: i64 = (1 << 31) - 1;

/// What may be sent. Negative after the peer has made the initial window smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) fn new(bytes: u32) -> Self {
        Self(i64::from(bytes))
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Notes bytes that were sent; not more than [`SendWindow::available`].
    pub(crate) fn spend(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.available());
        self.0 -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// The peer's WINDOW_UPDATE or a new initial window. False when the window grows too large.
    pub(crate) fn adjust(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= LARGEST
    }
}

/// What the peer may send, and what it may send again but has not been told of yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    size: u32,
    left: u32,
    released: u32,
}

impl ReceiveWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            left: size,
            released: 0,
        }
    }

    /// Takes `bytes` out of the window.
    ///
    /// # Errors
    /// The peer sent more than the window holds.
    pub(crate) fn receive(&mut self, bytes: u32) -> Result<(), ConnectionError> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or(ConnectionError::flow_control(
                "more DATA than the window allows",
            ))?;
        Ok(())
    }

    /// Gives `bytes` back; returns the increment to announce once half of the window waits.
    pub(crate) fn release(&mut self, bytes: u32) -> Option<u32> {
        self.released = self.released.saturating_add(bytes);
        if self.released < self.size / 2 {
            return None;
        }
        let increment = std::mem::take(&mut self.released);
        self.left += increment;
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_window_may_be_negative_and_has_a_largest_size() {
        let mut window = SendWindow::new(100);
        window.spend(60);
        assert!(window.adjust(-50));
        assert_eq!(window.available(), 0);
        assert!(window.adjust(11));
        assert_eq!(window.available(), 1);
        assert!(window.adjust(LARGEST - 1));
        assert!(!window.adjust(1));
    }

    #[test]
    fn a_receive_window_is_announced_in_halves() {
        let mut window = ReceiveWindow::new(100);
        window.receive(100).unwrap();
        assert_eq!(window.release(49), None);
        assert_eq!(window.release(1), Some(50));
        assert_eq!(window.release(50), Some(50));
        window.receive(100).unwrap();
        assert!(window.receive(1).is_err());
    }
}
