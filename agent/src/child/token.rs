//! The token of the agent's ServiceAccount: a file that the kubelet replaces before the token expires.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::time::Instant;

/// How long what was read is shown. The kubelet replaces a token at 80 % of its life, ten minutes at least before its end.
const READ_EVERY: Duration = Duration::from_secs(60);

/// Shows the token. Clones share what was read.
#[derive(Clone)]
pub(super) struct Token {
    file: PathBuf,
    read: Arc<Mutex<(HeaderValue, Instant)>>,
}

impl Token {
    pub(super) fn read(file: PathBuf) -> io::Result<Self> {
        let value = value(&file)?;
        Ok(Self { file, read: Arc::new(Mutex::new((value, Instant::now()))) })
    }

    /// Says who asks. A file that cannot be read leaves the token that was read last: it may still be good.
    pub(super) fn show(&self, headers: &mut HeaderMap) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.1.elapsed() >= READ_EVERY {
            match value(&self.file) {
                Ok(value) => read.0 = value,
                Err(error) => tracing::warn!(error = %error, "the agent's token cannot be read again"),
            }
            read.1 = Instant::now();
        }
        headers.insert(AUTHORIZATION, read.0.clone());
    }
}

fn value(file: &PathBuf) -> io::Result<HeaderValue> {
    let text = std::fs::read_to_string(file)?;
    let value = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
    let mut value = value.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the token is no header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replaced_token_is_shown_within_a_minute_and_a_lost_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "first\n").unwrap();
        let token = Token::read(file.clone()).unwrap();
        let shown = || {
            let mut headers = HeaderMap::new();
            token.show(&mut headers);
            headers[AUTHORIZATION].to_str().unwrap().to_owned()
        };
        assert_eq!(shown(), "Bearer first");
        std::fs::write(&file, "second").unwrap();
        assert_eq!(shown(), "Bearer first", "not read at every request");
        tokio::time::advance(READ_EVERY).await;
        assert_eq!(shown(), "Bearer second");
        std::fs::remove_file(&file).unwrap();
        tokio::time::advance(READ_EVERY).await;
        assert_eq!(shown(), "Bearer second");
    }
}
