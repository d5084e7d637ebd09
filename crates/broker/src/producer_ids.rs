//! Producer ids: handed out from a block that the controller has given this broker; asks for the next block when it is used up.

use std::ops::Range;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::ProducerId;
use tokio::sync::Mutex;

use crate::control::Control;

/// The block in use.
#[derive(Debug)]
pub struct ProducerIds {
    /// Guards the block; held while the next one is asked for, so that one request is on its way at most.
    block: Mutex<Range<i64>>,
}

impl Default for ProducerIds {
    fn default() -> Self {
        Self { block: Mutex::new(0..0) }
    }
}

impl ProducerIds {
    /// An id that nobody has been given before.
    ///
    /// # Errors
    /// The controller's code, when it gave no new block.
    pub async fn next(&self, control: &Control) -> Result<ProducerId, ErrorCode> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = control.allocate_producer_ids().await?;
        }
        block.next().map(ProducerId).ok_or(ErrorCode::CoordinatorNotAvailable)
    }
}
