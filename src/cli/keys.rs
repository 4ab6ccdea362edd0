//! `ordersystem keys`.

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use strum::VariantArray as _;

use super::{
    error::{CliError, Failure},
    output::print,
};
use crate::{
    domain::{
        text::{Actor, CustomerId},
        visible,
    },
    identity::{
        Role, Roles,
        api_keys::NewKey,
        file::{self, HalfCustomer},
    },
};

const EXAMPLES: &str = "\
Prints the new key on the first line, and then its entry for the file that --identities names. The key is stored nowhere: the entry has only its \
hash. A running node reads the file again within seconds.

Examples:
  ordersystem keys new billing --role writer
  ordersystem keys new dashboard --role reader --role events --role operator
  ordersystem keys new shop-of-ada --role customer --customer ada --expires 2027-12-31T00:00:00Z

Exit codes: 0 for success, 1 for a failure, 2 for a usage error.";

/// Make API keys for the callers of a service
#[derive(Args)]
#[command(after_long_help = EXAMPLES, arg_required_else_help = false)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    action: ActionArgs,
}

#[derive(Subcommand)]
enum ActionArgs {
    /// Make a key, and print it with its entry for the identity file
    #[command(after_long_help = EXAMPLES)]
    New(NewArgs),
}

#[derive(Args)]
struct NewArgs {
    /// Name of the caller, which becomes the actor of its events
    #[arg(value_name = "NAME")]
    name: String,
    /// What the caller may do; may be repeated
    #[arg(long, value_name = "ROLE", required = true, value_parser = role_names())]
    role: Vec<Role>,
    /// Customer id whose orders are the only ones that the caller sees, for the role customer
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Date and time at which the key ends, as in 2027-12-31T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

/// A key to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCall {
    name: Actor,
    roles: Roles,
    customer: Option<CustomerId>,
    expires: Option<String>,
}

fn role_names() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::VARIANTS.iter().map(|role| role.name())).try_map(|name| name.parse::<Role>())
}

impl KeysArgs {
    pub(super) fn call(self) -> Result<KeyCall, CliError> {
        let ActionArgs::New(NewArgs { name, role, customer, expires }) = self.action;
        let usage = |flag: &str, why: String| CliError::Usage(format!("{flag}: {why}"));
        let roles: Roles = role.into_iter().collect();
        let name: Actor = visible::parse(&name).map_err(|rule| usage("NAME", rule.to_string()))?;
        let customer = customer.map(|id| visible::parse(&id)).transpose();
        let customer = customer.map_err(|rule| usage("--customer", rule.to_string()))?;
        // The same rules as in the identity file.
        file::principal(name.clone(), roles, customer.clone()).map_err(|error| match &error {
            HalfCustomer::WithoutId(_) => usage("--role", format!("{error}: add --customer ID")),
            HalfCustomer::WithoutRole(_) => usage("--customer", format!("{error}: add --role customer")),
        })?;
        if let Some(time) = &expires {
            file::instant(time).map_err(|why| usage("--expires", why))?;
        }
        Ok(KeyCall { name, roles, customer, expires })
    }
}

impl KeyCall {
    /// Makes the key and prints it.
    ///
    /// # Errors
    /// If the system has no random bytes, or standard output cannot be written.
    pub(super) fn run(self) -> Result<(), Failure> {
        let key = NewKey::draw()?;
        Ok(print(&format!("{}\n\n{}", key.as_str(), self.entry(&key)))?)
    }

    /// The entry of the identity file.
    fn entry(&self, key: &NewKey) -> String {
        // A JSON string without control characters is a TOML string as well.
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let roles: Vec<_> = self.roles.iter().map(|role| text(role.name())).collect();
        let mut entry = format!("[[api_keys]]\nname = {}\nroles = [{}]\n", text(&self.name), roles.join(", "));
        if let Some(customer) = &self.customer {
            entry.push_str(&format!("customer = {}\n", text(customer)));
        }
        if let Some(time) = &self.expires {
            entry.push_str(&format!("expires = {time}\n"));
        }
        entry.push_str(&format!("sha256 = \"{}\"\n", key.hash().to_hex()));
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::file::IdentityFile;

    #[test]
    fn the_printed_entry_is_valid_in_an_identity_file() {
        let call = KeyCall {
            name: Actor::parse("the \"shop\" \\ of = Ada").unwrap(),
            roles: Roles::of(&[Role::Reader, Role::Customer]),
            customer: Some(CustomerId::parse("'ada'").unwrap()),
            expires: Some("2027-12-31T00:00:00+01:00".to_owned()),
        };
        let key = NewKey::draw().unwrap();
        let file = IdentityFile::parse(&call.entry(&key)).unwrap();
        let [entry] = file.api_keys.as_slice() else { panic!("one key") };
        assert_eq!(entry.principal.name(), Some(&call.name));
        assert_eq!((entry.principal.roles(), entry.principal.customer()), (call.roles, call.customer.as_ref()));
        assert_eq!(entry.sha256, key.hash());
        assert!(entry.expires.is_some());
    }
}
