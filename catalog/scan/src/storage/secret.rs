//! A text that is never shown.
//!
//! What holds a key, a token or a password has this type from the place where it is read to the
//! place where it is used. The rule: it is exposed by [`Secret::expose`] and in no other way.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A key, a token or a password.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "[secret]" })
    }
}

impl Serialize for Secret {
    // A configuration that is printed shows that there is one, and no more.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "[secret]" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_shown_by_nothing_but_expose() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.expose(), "hunter2");
        let shown = [format!("{secret:?}"), serde_json::to_string(&secret).unwrap()];
        assert!(shown.iter().all(|text| !text.contains("hunter2")), "{shown:?}");
    }
}
