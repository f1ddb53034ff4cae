use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal::size;
use crate::client::Client;

/// Signals that are passed on to a container, as far as a program may catch them.
const PASSED_ON: [(&str, i32); 7] =
    [("HUP", 1), ("INT", 2), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("TERM", 15), ("CONT", 18)];

/// Passes signals on to the container at a path of the API until it is dropped.
pub(crate) async fn forward(client: &Client, path: &str) -> io::Result<()> {
    let mut caught: Vec<(&str, Signal)> = Vec::new();
    for (name, number) in PASSED_ON {
        caught.push((name, signal(SignalKind::from_raw(number))?));
    }
    loop {
        let next = std::future::poll_fn(|cx| {
            let mut ready = caught.iter_mut();
            let found = ready.find_map(|(name, signal)| signal.poll_recv(cx).is_ready().then_some(*name));
            found.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        });
        let name = next.await;
        // It may have ended; then there is nothing to signal.
        let _ = client.post(format!("{path}/kill")).query("signal", name).done().await;
    }
}

/// Tells the daemon the terminal's size now and whenever it changes, until it is dropped.
pub(crate) async fn follow_size(client: &Client, path: &str) -> io::Result<()> {
    let mut changed = signal(SignalKind::window_change())?;
    loop {
        if let Some((rows, columns)) = size() {
            // It may have ended.
            let resize = client.post(format!("{path}/resize")).query("h", rows).query("w", columns);
            let _ = resize.done().await;
        }
        changed.recv().await;
    }
}
