//! Flow control (RFC 9113, section 5.2): how much may be sent, how much may still arrive.

use crate::frame::{Violation, code};

const LARGEST: i64 = (1 << 31) - 1;

/// What the peer lets us send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// WINDOW_UPDATE, or a change of SETTINGS_INITIAL_WINDOW_SIZE (which may be negative).
    pub(crate) fn adjust(&mut self, by: i64) -> Result<(), Violation> {
        self.0 += by;
        if self.0 > LARGEST {
            return Err(Violation {
                code: code::FLOW_CONTROL_ERROR,
                what: "a window beyond 2^31-1",
            });
        }
        Ok(())
    }
}

/// What we let the peer send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    size: u32,
    /// What the peer may still send.
    left: i64,
    /// Bytes dealt with and not yet confirmed.
    owed: u32,
}

impl ReceiveWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            left: i64::from(size),
            owed: 0,
        }
    }

    /// Bytes arrived; false if the peer was not allowed to send them.
    #[must_use]
    pub(crate) fn arrived(&mut self, bytes: usize) -> bool {
        self.left -= bytes as i64;
        self.left >= 0
    }

    /// Bytes were dealt with. From half a window on, they are to be confirmed: returns the increment.
    #[must_use]
    pub(crate) fn release(&mut self, bytes: usize) -> Option<u32> {
        self.owed += bytes as u32;
        if self.owed < self.size / 2 || self.owed == 0 {
            return None;
        }
        let increment = std::mem::take(&mut self.owed);
        self.left += i64::from(increment);
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_returned_at_half_a_window() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.arrived(60));
        assert_eq!(window.release(49), None);
        assert_eq!(window.release(1), Some(50));
        assert!(window.arrived(90));
        assert!(!window.arrived(1));
    }

    #[test]
    fn send_window_follows_settings_below_zero() {
        let mut window = SendWindow::new(10);
        window.consume(10);
        window.adjust(-5).unwrap();
        assert_eq!(window.available(), 0);
        window.adjust(6).unwrap();
        assert_eq!(window.available(), 1);
        assert_eq!(
            window.adjust(LARGEST).unwrap_err().code,
            code::FLOW_CONTROL_ERROR
        );
    }
}
