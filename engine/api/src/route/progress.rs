//! Answers that tell the progress of work, a line of JSON each, and end when it does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::ApiError;
use crate::render;

/// Bytes of progress that may wait for a client that does not keep up; further lines are not told.
const WAITING_MAX: usize = 16 << 20;

/// Where work tells its progress. Never blocks.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    lines: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    clipped: Arc<AtomicUsize>,
}

impl Progress {
    /// Tells a line. A client that does not keep up is told how much it has missed.
    pub(super) fn tell(&self, line: &Value) {
        let line = text(line);
        if self.waiting.load(Ordering::Relaxed) + line.len() > WAITING_MAX {
            self.clipped.fetch_add(line.len(), Ordering::Relaxed);
            return;
        }
        let clipped = self.clipped.swap(0, Ordering::Relaxed);
        if clipped > 0 {
            let note = format!("[{clipped} bytes of progress are left out: the client does not keep up]\n");
            self.send(text(&json!({ "stream": note })));
        }
        self.send(line);
    }

    fn send(&self, line: Bytes) {
        self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let _ = self.lines.send(line); // a client that has gone ends the work soon
    }
}

/// Work that stops when nobody waits for it any more.
struct Task(JoinHandle<Result<(), ApiError>>);

impl Task {
    async fn result(&mut self) -> Result<(), ApiError> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does the work and answers with its progress. Work that fails before it has told anything is answered by its error
/// alone; work that nobody waits for any more is dropped.
pub(super) async fn answer<F>(work: impl FnOnce(Progress) -> F) -> Result<Response, ApiError>
where
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (sender, mut lines) = mpsc::unbounded_channel::<Bytes>();
    let waiting = Arc::new(AtomicUsize::new(0));
    let progress = Progress { lines: sender, waiting: Arc::clone(&waiting), clipped: Arc::default() };
    let mut task = Task(tokio::spawn(work(progress)));
    let first = lines.recv().await;
    if first.is_none() {
        task.result().await?;
        return Ok(render::stream("application/json", Body::empty()));
    }
    let body = unfold((first, lines, Some(task)), move |(first, mut lines, task)| {
        let waiting = Arc::clone(&waiting);
        async move {
            let line = match first {
                Some(line) => Some(line),
                None => lines.recv().await,
            };
            match (line, task) {
                (Some(line), task) => {
                    waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    Some((Ok::<_, Infallible>(line), (None, lines, task)))
                }
                (None, Some(mut task)) => {
                    let error = task.result().await.err()?;
                    Some((Ok(text(&failure(&error))), (None, lines, None)))
                }
                (None, None) => None,
            }
        }
    });
    Ok(render::stream("application/json", Body::from_stream(body)))
}

fn failure(error: &ApiError) -> Value {
    let message = error.message();
    let mut detail = json!({ "message": message });
    if let Some(code) = error.exit_code() {
        detail["code"] = json!(code);
    }
    json!({ "errorDetail": detail, "error": message })
}

fn text(line: &Value) -> Bytes {
    Bytes::from(format!("{line}\r\n"))
}
