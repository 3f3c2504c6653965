//! Whether the hub answers, and whether it accepts the token.

use super::connection::Connection;
use super::{Hub, HubError};

/// What was found out about the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubHealth {
    /// Its address: the one of `HF_ENDPOINT`, or Hugging Face's own.
    pub endpoint: String,
    /// Why it does not answer. `None`: it does.
    pub failure: Option<String>,
    /// Whether it knows the user.
    pub token: TokenState,
}

/// Whether there is a token, and what the hub says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// There is none: only public repositories can be read.
    Missing,
    /// The hub knows whose it is.
    Valid {
        /// The name of the user.
        user: String,
    },
    /// The hub does not accept it.
    Refused,
    /// The hub did not answer.
    Unknown,
}

impl Hub {
    /// Sends one request to the hub, and none if the environment says that it is offline.
    ///
    /// # Errors
    /// If no client can be made, for example because a file of certificates cannot be read.
    pub fn health(&self) -> Result<HubHealth, HubError> {
        let endpoint = self.settings.endpoint().to_owned();
        let has_token = self.settings.token.is_some();
        if self.settings.is_offline {
            let failure = Some("HF_HUB_OFFLINE or a variable like it says offline: only the cache is used".to_owned());
            return Ok(HubHealth { endpoint, failure, token: TokenState::Unknown });
        }
        let (failure, token) = match Connection::new(&self.settings)?.user() {
            Ok(Some(user)) => (None, TokenState::Valid { user }),
            Ok(None) if has_token => (None, TokenState::Refused),
            Ok(None) => (None, TokenState::Missing),
            Err(error) => {
                // The errors above it name only the request.
                let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                let text = causes.last().map_or_else(String::new, ToString::to_string);
                (Some(text), if has_token { TokenState::Unknown } else { TokenState::Missing })
            }
        };
        Ok(HubHealth { endpoint, failure, token })
    }
}
