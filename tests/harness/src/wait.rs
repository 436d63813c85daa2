//! Waiting for a condition, with a deadline: never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks again and again until the condition holds; `false` when the deadline passed first.
pub async fn until<F, Fut>(patience: Duration, mut condition: F) -> bool
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let began = Instant::now();
    loop {
        if condition().await {
            return true;
        }
        if began.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
