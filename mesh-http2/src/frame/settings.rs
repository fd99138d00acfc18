//! The SETTINGS frame (RFC 9113 section 6.5).

use super::{
    ConnectionError, DEFAULT_MAX_FRAME_SIZE, FrameHeader, MAX_MAX_FRAME_SIZE, MAX_WINDOW, flag,
};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// Size of one setting in bytes: its identifier and its value.
const SETTING_LEN: usize = 6;

/// The settings that one frame carries. A setting that comes twice has its last value (section 6.5.3);
/// settings with other identifiers are ignored (section 6.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// SETTINGS_HEADER_TABLE_SIZE: the most the sender's HPACK decoder keeps, in bytes.
    pub header_table_size: Option<u32>,
    /// SETTINGS_ENABLE_PUSH. From a server, `true` is a PROTOCOL_ERROR, which is the client's to raise.
    pub enable_push: Option<bool>,
    /// SETTINGS_MAX_CONCURRENT_STREAMS: streams the receiver may have open at once.
    pub max_concurrent_streams: Option<u32>,
    /// SETTINGS_INITIAL_WINDOW_SIZE: the window of each stream towards the sender, in bytes.
    pub initial_window_size: Option<u32>,
    /// SETTINGS_MAX_FRAME_SIZE: the largest payload the sender accepts, in bytes.
    pub max_frame_size: Option<u32>,
    /// SETTINGS_MAX_HEADER_LIST_SIZE: the largest header list the sender accepts, in bytes, with 32
    /// bytes for each field.
    pub max_header_list_size: Option<u32>,
}

impl Settings {
    /// Reads the payload; `None` is an acknowledgement.
    ///
    /// # Errors
    /// PROTOCOL_ERROR on any stream but 0; FRAME_SIZE_ERROR for an acknowledgement that is not empty
    /// and for a size that is no multiple of 6; for values out of range what section 6.5.2 says.
    pub fn parse(header: &FrameHeader, payload: &[u8]) -> Result<Option<Self>, ConnectionError> {
        header.on_connection("SETTINGS on a stream")?;
        if header.has(flag::ACK) {
            return match payload {
                [] => Ok(None),
                _ => Err(ConnectionError::frame_size(
                    "a SETTINGS acknowledgement is not empty",
                )),
            };
        }
        let (entries, rest) = payload.as_chunks::<SETTING_LEN>();
        if !rest.is_empty() {
            let reason = "the size of a SETTINGS frame is no multiple of 6";
            return Err(ConnectionError::frame_size(reason));
        }
        let mut settings = Self::default();
        for &[i0, i1, v0, v1, v2, v3] in entries {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            settings.set(u16::from_be_bytes([i0, i1]), value)?;
        }
        Ok(Some(settings))
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), ConnectionError> {
        match id {
            HEADER_TABLE_SIZE => self.header_table_size = Some(value),
            ENABLE_PUSH if value > 1 => {
                return Err(ConnectionError::protocol(
                    "SETTINGS_ENABLE_PUSH is neither 0 nor 1",
                ));
            }
            ENABLE_PUSH => self.enable_push = Some(value == 1),
            MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value),
            INITIAL_WINDOW_SIZE if value > MAX_WINDOW => {
                return Err(ConnectionError::flow_control(
                    "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1",
                ));
            }
            INITIAL_WINDOW_SIZE => self.initial_window_size = Some(value),
            MAX_FRAME_SIZE if !(DEFAULT_MAX_FRAME_SIZE..=MAX_MAX_FRAME_SIZE).contains(&value) => {
                return Err(ConnectionError::protocol(
                    "SETTINGS_MAX_FRAME_SIZE is outside 2^14 to 2^24-1",
                ));
            }
            MAX_FRAME_SIZE => self.max_frame_size = Some(value),
            MAX_HEADER_LIST_SIZE => self.max_header_list_size = Some(value),
            _ => {}
        }
        Ok(())
    }

    /// The settings that are present, as identifier and value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u16, u32)> {
        [
            (HEADER_TABLE_SIZE, self.header_table_size),
            (ENABLE_PUSH, self.enable_push.map(u32::from)),
            (MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
            (INITIAL_WINDOW_SIZE, self.initial_window_size),
            (MAX_FRAME_SIZE, self.max_frame_size),
            (MAX_HEADER_LIST_SIZE, self.max_header_list_size),
        ]
        .into_iter()
        .filter_map(|(id, value)| value.map(|value| (id, value)))
    }
}
