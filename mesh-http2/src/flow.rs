//! Flow-control windows (RFC 9113, section 5.2).

use crate::frame::{ConnectionError, DEFAULT_WINDOW, MAX_WINDOW};

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
        self.0 <= i64::from(MAX_WINDOW)
    }
}

/// What the peer may send, what it has sent and is still held here, and what it may send again but has
/// not been told of yet. The three together are the window's size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    size: u32,
    /// Negative while DATA arrives that the peer sent before it knew of a smaller size.
    left: i64,
    held: u32,
    released: u32,
    /// By how much the window is larger than `size` until the peer knows the size.
    surplus: u32,
}

impl ReceiveWindow {
    /// A window whose size the peer knows, or will know by a WINDOW_UPDATE.
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            left: i64::from(size),
            held: 0,
            released: 0,
            surplus: 0,
        }
    }

    /// The window of a stream that begins before the peer has acknowledged the SETTINGS that name its
    /// size. Until then the peer may use the default (section 6.9.3).
    pub(crate) fn unacknowledged(size: u32) -> Self {
        let surplus = DEFAULT_WINDOW.saturating_sub(size);
        Self {
            left: i64::from(size) + i64::from(surplus),
            surplus,
            ..Self::new(size)
        }
    }

    /// The peer has acknowledged the size.
    pub(crate) fn acknowledged(&mut self) {
        self.left -= i64::from(std::mem::take(&mut self.surplus));
    }

    /// Takes `bytes` out of the window.
    ///
    /// # Errors
    /// The peer sent more than the window holds.
    pub(crate) fn receive(&mut self, bytes: u32) -> Result<(), ConnectionError> {
        if i64::from(bytes) > self.left.max(0) {
            return Err(ConnectionError::flow_control(
                "more DATA than the window allows",
            ));
        }
        self.left -= i64::from(bytes);
        self.held += bytes;
        Ok(())
    }

    /// Gives `bytes` back, at most what is held; returns the increment to announce once half of the
    /// window waits.
    pub(crate) fn release(&mut self, bytes: u32) -> Option<u32> {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.released += bytes;
        if self.released == 0 || self.released < self.size / 2 {
            return None;
        }
        let increment = std::mem::take(&mut self.released);
        self.left += i64::from(increment);
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
        assert!(window.adjust(i64::from(MAX_WINDOW) - 1));
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

    #[test]
    fn no_more_is_given_back_than_came() {
        let mut window = ReceiveWindow::new(MAX_WINDOW);
        assert_eq!(window.release(u32::MAX), None);
        window.receive(MAX_WINDOW).unwrap();
        assert_eq!(window.release(u32::MAX), Some(MAX_WINDOW));
        assert_eq!(window.release(u32::MAX), None);
    }

    #[test]
    fn the_smallest_windows_announce_no_increment_of_zero() {
        for size in [0, 1] {
            let mut window = ReceiveWindow::new(size);
            assert_eq!(window.release(1), None, "size {size}");
        }
        let mut window = ReceiveWindow::new(1);
        window.receive(1).unwrap();
        assert_eq!(window.release(1), Some(1));
    }

    #[test]
    fn the_default_holds_until_a_smaller_size_is_acknowledged() {
        let mut window = ReceiveWindow::unacknowledged(10);
        window.receive(DEFAULT_WINDOW).unwrap();
        assert!(window.receive(1).is_err());
        window.acknowledged();
        assert!(window.receive(0).is_ok());
        assert_eq!(
            window.release(DEFAULT_WINDOW - 10),
            Some(DEFAULT_WINDOW - 10)
        );
        assert!(window.receive(1).is_err(), "the surplus is gone");
        assert_eq!(window.release(10), Some(10));
        window.receive(10).unwrap();
        assert!(window.receive(1).is_err());
        // Nothing changes for a size above the default, nor at a second acknowledgement.
        for mut window in [window, ReceiveWindow::unacknowledged(DEFAULT_WINDOW + 1)] {
            let before = window.left;
            window.acknowledged();
            assert_eq!(window.left, before);
        }
    }
}
