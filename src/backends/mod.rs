//! The backends. A new one is a folder with a [`Descriptor`], and its entry in [`REGISTRY`]; `docs/adding-a-backend.md` has the steps.

pub mod connect_error;
pub mod descriptor;
pub mod named;

pub mod embedded;
pub mod memory;
pub mod nats;
pub mod redis;

use descriptor::Descriptor;

/// All backends, in the order of `--help` and of the README. The first one is the default.
pub const REGISTRY: &[&Descriptor] =
    &[&memory::DESCRIPTOR, &embedded::DESCRIPTOR, &redis::DESCRIPTOR, &nats::DESCRIPTOR];

/// The names for `--persistence`.
pub const PERSISTENCES: &[&str] = &names::<{ count(Use::Persistence) }>(Use::Persistence);
/// The names for `--transport`.
pub const TRANSPORTS: &[&str] = &names::<{ count(Use::Transport) }>(Use::Transport);

/// The backend of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Descriptor> {
    REGISTRY.iter().copied().find(|backend| backend.name == name)
}

#[derive(Clone, Copy)]
enum Use {
    Persistence,
    Transport,
}

const fn is_for(backend: &Descriptor, purpose: Use) -> bool {
    match purpose {
        Use::Persistence => backend.persistence.is_some(),
        Use::Transport => backend.transport.is_some(),
    }
}

const fn count(purpose: Use) -> usize {
    let (mut count, mut at) = (0, 0);
    while at < REGISTRY.len() {
        if is_for(REGISTRY[at], purpose) {
            count += 1;
        }
        at += 1;
    }
    count
}

const fn names<const COUNT: usize>(purpose: Use) -> [&'static str; COUNT] {
    let (mut names, mut count, mut at) = ([""; COUNT], 0, 0);
    while at < REGISTRY.len() {
        if is_for(REGISTRY[at], purpose) {
            names[count] = REGISTRY[at].name;
            count += 1;
        }
        at += 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{descriptor::LogTools, *};

    #[test]
    fn the_readme_has_the_row_of_each_backend() {
        let readme = include_str!("../../README.md");
        for (at, backend) in REGISTRY.iter().enumerate() {
            let default = if at == 0 { " (default)" } else { "" };
            let [persistence, transport] = [backend.persistence, backend.transport].map(|cell| cell.unwrap_or("–"));
            let row = format!("| `{}`{default} | {persistence} | {transport} | {} |", backend.name, backend.durability);
            assert!(readme.lines().any(|line| line == row), "README.md lacks:\n{row}");
        }
    }

    #[test]
    fn names_and_addresses_lead_to_one_backend() {
        for (at, backend) in REGISTRY.iter().enumerate() {
            assert_eq!(find(backend.name), Some(*backend));
            let schemes = |backend: &Descriptor| match &backend.log_tools {
                None | Some(LogTools::Folder(_)) => &[][..],
                Some(LogTools::Server(logs)) => logs.form.schemes,
            };
            for other in &REGISTRY[..at] {
                assert_ne!(other.name, backend.name);
                assert!(
                    schemes(backend).iter().all(|scheme| !schemes(other).contains(scheme)),
                    "{backend:?} {other:?}"
                );
            }
        }
        let names_of = |is_one: fn(&Descriptor) -> bool| -> Vec<&str> {
            REGISTRY.iter().filter(|backend| is_one(backend)).map(|backend| backend.name).collect()
        };
        assert_eq!(PERSISTENCES, names_of(|backend| backend.persistence.is_some()));
        assert_eq!(TRANSPORTS, names_of(|backend| backend.transport.is_some()));
    }
}
