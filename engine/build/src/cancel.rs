use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Problem;

/// Tells the threads that read and write files that nobody waits for them any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancelled(Arc<AtomicBool>);

/// Cancels when dropped, as the build's future is.
#[derive(Debug, Default)]
pub(crate) struct CancelOnDrop(Cancelled);

impl Cancelled {
    pub(crate) fn check(&self) -> Result<(), Problem> {
        if self.0.load(Ordering::Relaxed) { Err(Problem::Cancelled) } else { Ok(()) }
    }
}

impl CancelOnDrop {
    pub(crate) fn flag(&self) -> Cancelled {
        self.0.clone()
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
