use tokio::sync::watch;

/// How urgently a run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Not,
    /// End steps with TERM, run post steps, keep what is to be kept.
    Gracefully,
    /// Kill everything.
    AtOnce,
}

/// Asks a run to stop.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<Urgency>);

/// What a run watches.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Urgency>);

/// A handle and what it controls.
pub fn stop_pair() -> (StopHandle, Stop) {
    let (sender, receiver) = watch::channel(Urgency::Not);
    (StopHandle(sender), Stop(receiver))
}

impl StopHandle {
    /// Asks for an end: gracefully at first, at once when asked again.
    pub fn stop(&self) {
        self.0.send_modify(|urgency| {
            *urgency = if *urgency == Urgency::Not { Urgency::Gracefully } else { Urgency::AtOnce };
        });
    }
}

impl Stop {
    /// Completes once the run is to stop.
    pub(crate) async fn requested(&self) {
        self.at_least(Urgency::Gracefully).await;
    }

    /// Completes once it is to stop at once.
    pub(crate) async fn urgent(&self) {
        self.at_least(Urgency::AtOnce).await;
    }

    /// Whether the run is to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() >= Urgency::Gracefully
    }

    /// Whether it is to stop at once.
    pub(crate) fn is_urgent(&self) -> bool {
        *self.0.borrow() >= Urgency::AtOnce
    }

    async fn at_least(&self, wanted: Urgency) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|urgency| *urgency >= wanted).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}
