//! The AWS SDK's HTTP client: with our certificate authorities, the proxy that the environment names, and names that are
//! looked up so that a failure says which one it was.

use std::error::Error as StdError;

use aws_sdk_ecr::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use reqwest::Url;

use crate::names;
use crate::oci::reference::Host;
use crate::trust::Trust;

/// Looks names up as the system does. The SDK's own way loses which name it was.
#[derive(Debug, Clone)]
struct Names;

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = names::lookup(name).await.map_err(ResolveDnsError::new)?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The client: through the proxy that the environment names, but for those who are on this machine or its link.
pub(super) fn client(trust: &Trust) -> Result<SharedHttpClient, Box<dyn StdError + Send + Sync>> {
    let context = TlsContext::builder().with_trust_store(trust.store()).build()?;
    let through = |proxy: ProxyConfig| {
        let context = context.clone();
        // The SDK's own builder for a client with other authorities leaves proxies out.
        aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
            let mut builder = Connector::builder()
                .tls_provider(tls::Provider::rustls(tls::rustls_provider::CryptoMode::AwsLc))
                .tls_context(context.clone())
                .proxy_config(proxy.clone());
            builder.set_connector_settings(settings.cloned());
            builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
            builder.build_with_resolver(Names)
        })
    };
    let (direct, proxied) = (through(ProxyConfig::disabled()), through(ProxyConfig::from_env()));
    Ok(SharedHttpClient::new(Either { direct, proxied }))
}

/// Two clients, or two connectors, of which a request's host chooses one.
#[derive(Debug, Clone)]
struct Either<T> {
    direct: T,
    proxied: T,
}

impl HttpClient for Either<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        SharedHttpConnector::new(Either { direct: connector(&self.direct), proxied: connector(&self.proxied) })
    }
}

impl HttpConnector for Either<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = Url::parse(request.uri()).ok().and_then(|url| Host::parse(url.host_str()?).ok());
        let direct = host.is_some_and(|host| host.is_near());
        if direct { self.direct.call(request) } else { self.proxied.call(request) }
    }
}
