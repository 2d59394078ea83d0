//! The AWS SDK's HTTP client: with our certificate authorities, the proxy that the environment names, and names that are
//! looked up so that a failure says which one it was.

use std::error::Error as StdError;
use std::net::SocketAddr;

use aws_sdk_ecr::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use thiserror::Error;

use crate::trust::Trust;

/// A host's name that doesn't resolve.
#[derive(Debug, Error)]
#[error("the name {host} does not resolve")]
pub(super) struct Nameless {
    pub(super) host: String,
    source: std::io::Error,
}

/// Looks names up as the system does. The SDK's own way loses which name it was.
#[derive(Debug, Clone)]
struct Names;

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await;
            let found = found.map_err(|source| ResolveDnsError::new(Nameless { host: name.to_owned(), source }))?;
            Ok(found.map(|address: SocketAddr| address.ip()).collect())
        })
    }
}

/// The client. The SDK's own builder for one with other authorities leaves proxies out.
pub(super) fn client(trust: &Trust) -> Result<SharedHttpClient, Box<dyn StdError + Send + Sync>> {
    let context = TlsContext::builder().with_trust_store(trust.store()).build()?;
    Ok(aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder()
            .tls_provider(tls::Provider::rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .tls_context(context.clone())
            .proxy_config(ProxyConfig::from_env());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.build_with_resolver(Names)
    }))
}
