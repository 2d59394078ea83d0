//! ECR's authorization token: fetched once for each registry, fetched again when it expires in mid-push.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::sync::Mutex;

use super::host::EcrRegistry;
use super::session::{AwsError, AwsSession};

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// AWS gave none.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The answer has no token.
    #[error("ECR's API in {region} answered without a token")]
    Empty {
        /// The region of the registry.
        region: String,
    },
}

/// The token of one registry.
#[derive(Debug)]
pub struct EcrToken {
    session: Arc<AwsSession>,
    current: Mutex<Option<SecretString>>,
}

impl EcrToken {
    /// A token that isn't fetched yet.
    #[must_use]
    pub fn new(session: Arc<AwsSession>) -> Self {
        Self { session, current: Mutex::new(None) }
    }

    /// Whose it is.
    #[must_use]
    pub fn session(&self) -> &Arc<AwsSession> {
        &self.session
    }

    /// The token, as it goes behind `Basic`; fetched by the first who asks, while others wait for it.
    ///
    /// `expiresAt` is not looked at: test servers put it into the past (facts/ecr.md, Credentials), and the registry says
    /// itself when a token has expired.
    ///
    /// # Errors
    /// When there are no credentials, or ECR gives no token for them.
    pub async fn get(&self) -> Result<SecretString, TokenError> {
        let mut current = self.current.lock().await;
        if let Some(token) = &*current {
            return Ok(token.clone());
        }
        let token = Box::pin(self.fetch()).await?;
        *current = Some(token.clone());
        Ok(token)
    }

    /// A token other than `stale`, which the registry refused.
    ///
    /// # Errors
    /// As [`EcrToken::get`].
    pub async fn renew(&self, stale: &SecretString) -> Result<SecretString, TokenError> {
        let mut current = self.current.lock().await;
        // Of many requests that were refused together the first fetches, and the others find its token here.
        if let Some(token) = current.as_ref().filter(|token| token.expose_secret() != stale.expose_secret()) {
            return Ok(token.clone());
        }
        let token = Box::pin(self.fetch()).await?;
        *current = Some(token.clone());
        Ok(token)
    }

    // Boxed by those who wait for it: what the SDK does takes more room than all of a registry's requests, and would be a part
    // of each of them.
    async fn fetch(&self) -> Result<SecretString, TokenError> {
        let session = &self.session;
        let token = match session.registry() {
            EcrRegistry::Private(_) => {
                let asking = session.ask("ecr:GetAuthorizationToken", || async {
                    Ok(session.ecr().await?.get_authorization_token().send().await)
                });
                let data = asking.await?.authorization_data.unwrap_or_default();
                data.into_iter().find_map(|data| data.authorization_token)
            }
            EcrRegistry::Public => {
                let asking = session.ask("ecr-public:GetAuthorizationToken", || async {
                    Ok(session.public().await?.get_authorization_token().send().await)
                });
                asking.await?.authorization_data.and_then(|data| data.authorization_token)
            }
        };
        let region = || session.registry().region().to_owned();
        token.map(SecretString::from).ok_or_else(|| TokenError::Empty { region: region() })
    }
}
