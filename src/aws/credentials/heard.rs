//! An HTTP client that remembers what the last answer was: of what the container endpoint refuses the SDK's error keeps no
//! more than a text.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use aws_sdk_ecr::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

/// The status of the last answer; zero where none came.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<AtomicU16>);

impl Heard {
    /// `client`, listened to.
    pub(super) fn listening(&self, client: SharedHttpClient) -> impl HttpClient + 'static {
        Listening { client, heard: self.clone() }
    }

    /// The status of the last answer, if it was no success.
    pub(super) fn refusal(&self) -> Option<u16> {
        let status = self.0.load(Ordering::Relaxed);
        (status != 0 && !(200..300).contains(&status)).then_some(status)
    }
}

#[derive(Debug)]
struct Listening<T> {
    client: T,
    heard: Heard,
}

impl HttpClient for Listening<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let client = self.client.http_connector(settings, components);
        SharedHttpConnector::new(Listening { client, heard: self.heard.clone() })
    }
}

impl HttpConnector for Listening<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Heard(heard) = self.heard.clone();
        heard.store(0, Ordering::Relaxed);
        let answer = self.client.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            if let Ok(answer) = &answer {
                heard.store(answer.status().as_u16(), Ordering::Relaxed);
            }
            answer
        })
    }
}
