//! Names, proxies, TLS and clocks on the way to ECR's API and to the registry.

use std::net::IpAddr;
use std::time::Duration;

use super::{Notes, Patient, State};
use crate::aws::region;
use crate::aws::session::AwsSession;
use crate::cause::chain;
use crate::clock;
use crate::error::status;
use crate::registry::endpoint::Endpoint;
use crate::registry::failure::Network;
use crate::registry::touch::{TouchError, Way, resolve, touch};

/// One of the two places that a push needs.
#[derive(Clone, Copy)]
enum Place {
    Api,
    Registry,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Registry => "registry",
        }
    }

    /// The VPC endpoint that leads there.
    fn service(self) -> &'static str {
        match self {
            Self::Api => "ecr.api",
            Self::Registry => "ecr.dkr",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Api => "--endpoint-url",
            Self::Registry => "--registry-endpoint",
        }
    }
}

/// The way to ECR's API, and its clock.
pub(super) async fn api(notes: &mut Notes, patient: &Patient<'_>, session: &AwsSession) {
    let url = match session.api_url().await {
        Ok(url) => url,
        Err(error) => return notes.unknown("API name", chain(&error)),
    };
    // What the SDK would take and we wouldn't has a query, say: the token's check tells what becomes of it.
    let Some(endpoint) = Endpoint::parse(&url) else {
        return notes.unknown("API name", "the API's URL has a user, a query or a fragment, and is not looked for");
    };
    if let Some(ahead) = walk(notes, patient, Place::Api, endpoint).await {
        let seconds = ahead.unsigned_abs();
        let relation = if ahead < 0 { "behind" } else { "ahead of" };
        let finding = format!("this machine's clock is {seconds} s {relation} AWS's");
        if Duration::from_secs(seconds) >= clock::TOLERANCE {
            let mend = format!("set the clock: AWS allows for {} s", clock::TOLERANCE.as_secs());
            notes.failed("clock", finding, Some(mend), status::DENIED);
        } else {
            notes.good("clock", finding);
        }
    }
}

/// The way to the registry.
pub(super) async fn registry(notes: &mut Notes, patient: &Patient<'_>) {
    let access = &patient.examination.access;
    let host = &patient.examination.destination.repository.host;
    let given = access.registry_endpoints.get(host);
    let scheme = if access.plain_http && patient.ecr.is_none() { "http" } else { "https" };
    let Some(endpoint) = given.clone().or_else(|| Endpoint::parse(&format!("{scheme}://{host}"))) else { return };
    // Whether a loopback registry speaks TLS is found out by the push itself, and here by the login.
    if given.is_none() && scheme == "https" && host.is_loopback() {
        return notes.good("registry name", format!("{host} is on this machine"));
    }
    walk(notes, patient, Place::Registry, endpoint.below("v2/")).await;
}

/// Goes to a place as far as it leads; gives by how many seconds our clock is ahead of the one there.
async fn walk(notes: &mut Notes, patient: &Patient<'_>, place: Place, endpoint: Endpoint) -> Option<i64> {
    let access = &patient.examination.access;
    let (name, connection) = (format!("{} name", place.word()), format!("{} connection", place.word()));
    let way = Way::to(endpoint);
    let (host, _) = way.first_host();
    let through = way.proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    match resolve(&way, access.timeout).await {
        Ok(_) if host.parse::<IpAddr>().is_ok() => notes.good(&name, format!("{host} needs none")),
        Ok(addresses) => {
            let private = addresses.iter().all(|address| is_private(*address)) && !way.endpoint.is_loopback();
            let endpoint = if private && way.proxy.is_none() { ", a private address: a VPC endpoint" } else { "" };
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            notes.good(&name, format!("{host} is {}{endpoint}", addresses.join(", ")));
        }
        Err(error) => {
            failed(notes, patient, &name, place, &error, &through);
            return None;
        }
    }
    match touch(&way, &patient.trust, access.connect_timeout, access.timeout).await {
        Ok(ahead) => {
            let secure = if way.endpoint.is_secure() { "over TLS with a trusted certificate" } else { "in the clear" };
            let state = if way.endpoint.is_in_the_clear() { State::Notice } else { State::Good };
            notes.note(&connection, state, format!("{} answers {secure}{through}", way.endpoint));
            ahead
        }
        Err(error) => {
            failed(notes, patient, &connection, place, &error, &through);
            None
        }
    }
}

fn failed(notes: &mut Notes, patient: &Patient<'_>, name: &str, place: Place, error: &TouchError, through: &str) {
    let known = patient.ecr.as_ref().map(|ecr| (ecr.region(), region::known(ecr.region())));
    let mend = match (error.network(), known) {
        (Some(Network::Name), Some((region, None))) if through.is_empty() => {
            format!("{region} is no region that this version knows: was {} meant?", region::nearest(region))
        }
        (Some(Network::Name), Some(_)) if through.is_empty() => {
            "look at DNS; in a VPC without internet an endpoint with private DNS has to lead there".to_owned()
        }
        (Some(Network::Name), None) if through.is_empty() => "look at the spelling of the host; else at DNS".to_owned(),
        (Some(Network::Tls), _) => {
            "--ca-file FILE trusts a private certificate authority; a proxy that opens TLS has one".to_owned()
        }
        (Some(Network::NotTls), _) => {
            "what answers there does not speak TLS: is it the right port, is a portal in between?".to_owned()
        }
        _ if !through.is_empty() => "look at the proxy (HTTPS_PROXY, NO_PROXY)".to_owned(),
        (_, Some(_)) => {
            format!("is there a way there (proxy, VPC endpoint `{}`, {})?", place.service(), place.option())
        }
        (_, None) => format!("is there a way there (proxy, {})?", place.option()),
    };
    notes.failed(name, format!("{}{through}", chain(error)), Some(mend), status::UNAVAILABLE);
}

/// Whether an address is one of those that nobody outside reaches (RFC 1918, RFC 4193).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}
