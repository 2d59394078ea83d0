//! A request to the API, taken apart, and what can be wrong with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::config::RegistryId;
use crate::iam::{Action, Service};
use crate::permission::{Asked, Deed, Denied, permit};
use crate::route::{NAME_FORM, is_repository};
use crate::server::{Call, Shared};
use crate::state::Repository;
use crate::sync::lock;

/// An error of the service model, or one that all of AWS has.
#[derive(Debug)]
pub(super) struct Exception {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Exception {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A parameter that isn't as it must be.
    pub(super) fn parameter(name: &str, constraint: &str) -> Self {
        let message = format!("Invalid parameter at '{name}' failed to satisfy constraint: '{constraint}'");
        Self::new("InvalidParameterException", message)
    }
}

/// A request, and all that is needed to answer it.
pub(super) struct Request<'a> {
    pub(super) shared: &'a Shared,
    pub(super) call: &'a Call,
    pub(super) sequence: usize,
    pub(super) action: Action,
    pub(super) service: Service,
    /// The access key of who asks; none for the identity at home.
    pub(super) holder: Option<&'a str>,
    /// The region that it is signed for.
    pub(super) region: &'a str,
    pub(super) input: Map<String, Value>,
}

impl Request<'_> {
    /// A parameter that is a text, if it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Exception> {
        text(&self.input, name)
    }

    /// A parameter that is a list; empty if it isn't there.
    pub(super) fn list(&self, name: &str) -> Result<&[Value], Exception> {
        match self.input.get(name) {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(Exception::new("SerializationException", format!("{name} is not a list"))),
        }
    }

    /// A parameter that is a list of texts; empty if it isn't there.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&str>, Exception> {
        let wrong = || Exception::new("SerializationException", format!("{name} is not a list of texts"));
        self.list(name)?.iter().map(|item| item.as_str().ok_or_else(wrong)).collect()
    }

    /// The account of who asks.
    pub(super) fn account(&self) -> &str {
        self.shared.config.account_of(self.holder)
    }

    /// The registry that `registryId` names, which is the caller's own if it doesn't.
    pub(super) fn registry(&self) -> Result<RegistryId, Exception> {
        let account = self.text("registryId")?.unwrap_or_else(|| self.account());
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Exception::parameter("registryId", "must satisfy regular expression '[0-9]{12}'"));
        }
        Ok(match self.service {
            Service::Private => RegistryId::new(account, self.region),
            Service::Public => RegistryId::public(account),
        })
    }

    /// The name in `repositoryName`, in its form.
    pub(super) fn repository(&self) -> Result<&str, Exception> {
        let name = self.text("repositoryName")?.unwrap_or_default();
        if is_repository(name) { Ok(name) } else { Err(Exception::new("InvalidParameterException", NAME_FORM)) }
    }

    /// Lets the caller go on, or refuses it in the API's form.
    pub(super) fn permit(&self, registry: &RegistryId, repository: Option<&str>) -> Result<(), Exception> {
        self.permit_action(self.action, registry, repository)
    }

    /// The same for an action beside the operation's own.
    pub(super) fn permit_action(
        &self,
        action: Action,
        registry: &RegistryId,
        repository: Option<&str>,
    ) -> Result<(), Exception> {
        let asked = if action.may_be_tried() { Asked::Tried } else { Asked::Needed };
        let deed = Deed { action, registry, repository, asked };
        permit(self.shared, self.call, self.holder, deed).map_err(|denied| match denied {
            Denied::Forbidden(sentence) => Exception::new("AccessDeniedException", sentence),
            Denied::Throttled => Exception::new("ThrottlingException", "Rate exceeded"),
        })
    }

    /// The registry and the repository that are named, once the caller may.
    pub(super) fn place(&self) -> Result<(RegistryId, &str), Exception> {
        let registry = self.registry()?;
        let repository = self.repository()?;
        self.permit(&registry, Some(repository))?;
        Ok((registry, repository))
    }

    /// Does something with a repository, or says that it isn't there.
    pub(super) fn within<T>(
        &self,
        registry: &RegistryId,
        name: &str,
        work: impl FnOnce(&mut Repository) -> T,
    ) -> Result<T, Exception> {
        match lock(&self.shared.state).repository_mut(registry, name) {
            Some(repository) => Ok(work(repository)),
            None => Err(missing(registry, name)),
        }
    }

    /// One page of a list, and the token of the next; of so many items unless asked otherwise.
    pub(super) fn page<T>(&self, items: Vec<T>, usual: usize) -> Result<(Vec<T>, Option<String>), Exception> {
        let most = match self.input.get("maxResults") {
            None | Some(Value::Null) => usual,
            Some(asked) => {
                let asked = asked.as_u64().and_then(|asked| usize::try_from(asked).ok());
                let within = asked.filter(|asked| (1..=1000).contains(asked));
                within.ok_or_else(|| Exception::parameter("maxResults", "Member must be between 1 and 1000"))?
            }
        };
        let most = self.shared.config.limits.page.map_or(most, |limit| most.min(limit));
        let first = match self.text("nextToken")? {
            None => 0,
            Some(token) => read_token(token).ok_or_else(|| Exception::parameter("nextToken", "Invalid token"))?,
        };
        let next = (first + most < items.len()).then(|| STANDARD.encode(format!("from {}", first + most)));
        Ok((items.into_iter().skip(first).take(most).collect(), next))
    }
}

fn read_token(token: &str) -> Option<usize> {
    let plain = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    plain.strip_prefix("from ")?.parse().ok()
}

/// A field that is a text, if it is there.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Exception> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Exception::new("SerializationException", format!("{name} is not a text"))),
    }
}

/// The exception for a repository that isn't there.
pub(super) fn missing(registry: &RegistryId, name: &str) -> Exception {
    let account = &registry.account;
    let message = format!("The repository with name '{name}' does not exist in the registry with id '{account}'");
    Exception::new("RepositoryNotFoundException", message)
}

/// An output, and the token of its next page if there is one.
pub(super) fn with_next(mut output: Value, next: Option<String>) -> Value {
    if let Some(token) = next {
        output["nextToken"] = token.into();
    }
    output
}
