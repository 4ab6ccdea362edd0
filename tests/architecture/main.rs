//! The layers of the crate: upper rows may use lower ones, never the reverse; neighbours know nothing of each other, and no files import each other in
//! a circle.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod build;
mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use imports::{Imports, circles};

/// The rows from the bottom up. A module may use those of its own row and of the rows before it.
const ROWS: &[&[&str]] = &[
    &["domain", "proto", "private_files", "settings"],
    &["ports", "telemetry"],
    &["codec", "id_generator", "circuit_breaker", "identity"],
    &["processors"],
    &["cluster", "log_tools"],
    &["application"],
    &["server"],
    &["config"],
    &["cli", "node"],
    &["main"],
];

/// Modules of one row that must not use each other.
const APART: &[(&str, &[&str])] = &[
    ("cluster", &["log_tools"]),
    ("log_tools", &["cluster"]),
    ("processors::handlers", &["processors::outbox", "processors::projections"]),
    ("processors::outbox", &["processors::handlers", "processors::projections"]),
    ("processors::projections", &["processors::handlers", "processors::outbox"]),
    ("server::grpc", &["server::rest", "server::dashboard"]),
];

/// Folders that must not use each other. Code that two of them share is below or above them.
const STRANGERS: &[&[&str]] = &[
    &["src/server/grpc", "src/server/rest", "src/server/dashboard"],
    &["src/processors/outbox", "src/processors/handlers", "src/processors/projections"],
];

/// The modules that a backend may use besides its own folder: the traits and bytes.
const BACKENDS_MAY_USE: &[&str] = &["ports", "telemetry", "private_files", "settings"];

/// The names in `backends` that belong to no single backend.
const WHAT_BACKENDS_SHARE: &[&str] = &["self", "connect_error", "descriptor", "find"];

#[test]
fn no_module_uses_one_above_it() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let module = module_of(&file);
        if module == "lib" || module == "backends" {
            continue;
        }
        let own = row_of(&module).unwrap_or_else(|| panic!("{} is in no row: {}", module, file.display()));
        for used in modules_used(&text) {
            let is_allowed = match row_of(&used) {
                Some(row) => row <= own,
                // Only the composition root opens backends. The configuration knows their descriptors, and none of them by name.
                None => {
                    let names_none = || backends_used(&text).iter().all(|name| WHAT_BACKENDS_SHARE.contains(&&**name));
                    used == "backends" && (module == "node" || module == "config" && names_none())
                }
            };
            if !is_allowed {
                wrong.push(format!("{} uses crate::{used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn modules_that_are_kept_apart_do_not_use_each_other() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let own = path_of(&file);
        let used = paths_used(&text, &own);
        for (_, others) in APART.iter().filter(|(module, _)| is_within(&own, module)) {
            for path in used.iter().filter(|path| others.iter().any(|other| is_within(path, other))) {
                wrong.push(format!("{} uses {}", file.display(), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_that_is_kept_apart_exists() {
    let files: Vec<_> = sources().into_iter().map(|(file, _)| path_of(&file)).collect();
    for module in APART.iter().flat_map(|(module, others)| [module].into_iter().chain(*others)) {
        assert!(files.iter().any(|path| is_within(path, module)), "there is no {module}");
    }
}

#[test]
fn a_backend_knows_the_traits_and_neither_the_domain_nor_another_backend() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Ok(inside) = file.strip_prefix("src/backends") else { continue };
        let backend = inside.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        for used in modules_used(&text).iter().filter(|used| !BACKENDS_MAY_USE.contains(&used.as_str())) {
            let is_own = used == "backends"
                && backends_used(&text).iter().all(|name| *name == backend || WHAT_BACKENDS_SHARE.contains(&&**name));
            if !is_own {
                wrong.push(format!("{} uses crate::{used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_protocols_know_nothing_of_each_other_and_neither_do_the_processors() {
    let imports = Imports::of(sources());
    let imported = imports.between_files();
    let mut wrong = Vec::new();
    for folders in STRANGERS {
        for folder in *folders {
            let inside = imported.iter().filter(|(file, _)| file.starts_with(folder));
            assert!(inside.clone().next().is_some(), "{folder} has files");
            for (file, others) in inside {
                let strange = |other: &&&Path| folders.iter().any(|it| it != folder && other.starts_with(it));
                wrong.extend(others.iter().filter(strange).map(|other| format!("{file:?} uses {other:?}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The methods that a wrapper leaves to the trait, which composes them of methods that are passed on.
const COMPOSED: &[(&str, &str)] = &[("EventStore", "confirms")];

/// A method with a default would otherwise silently lose what the wrapped one does.
#[test]
fn a_wrapper_of_a_port_passes_every_method_on() {
    let sources = sources();
    let ports = sources.iter().filter(|(file, _)| file.starts_with("src/ports"));
    let traits: Vec<_> = ports.flat_map(|(_, text)| blocks(text, "pub trait ")).collect();
    let (mut wrappers, mut wrong) = (Vec::new(), Vec::new());
    for (_, text) in &sources {
        for (port, declared) in &traits {
            for (name, body) in blocks(text, &format!("impl {port} for ")) {
                let fields = blocks(text, &format!("pub struct {name}"));
                if !fields.iter().any(|(_, fields)| fields.contains(&format!("dyn {port}>"))) {
                    continue;
                }
                let own = methods(&body);
                let is_composed = |method: &String| COMPOSED.contains(&(port, method));
                let missing = methods(declared).into_iter().filter(|it| !own.contains(it) && !is_composed(it));
                wrong.extend(missing.map(|method| format!("{name} does not pass on {port}::{method}")));
                wrappers.push(name);
            }
        }
    }
    for known in ["GuardedStore", "PatientStore", "GuardedBus", "GuardedLeases", "GuardedCheckpoints"] {
        assert!(wrappers.iter().any(|name| name == known), "{known} is found: {wrappers:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The items of a text that begin with `begin` and end at the next brace in the first column: the name after `begin`, and the body.
fn blocks(text: &str, begin: &str) -> Vec<(String, String)> {
    let begin = format!("\n{begin}");
    let block = |(at, _): (usize, &str)| {
        let rest = &text[at + begin.len()..];
        let name = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
        let body = rest.split("\n}").next().unwrap_or_default().to_owned();
        (name, body)
    };
    text.match_indices(&begin).map(block).collect()
}

/// The names of the methods in a block.
fn methods(body: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let line = line.strip_prefix("    ")?;
        let line = line.strip_prefix("async ").unwrap_or(line);
        Some(line.strip_prefix("fn ")?.split(['(', '<']).next().unwrap().to_owned())
    };
    body.lines().filter_map(name).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = Imports::of(sources());
    let imported = imports.between_files();
    let circles: Vec<_> = circles(&imported).into_iter().map(|circle| described(&circle, &imported)).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

fn described(circle: &BTreeSet<&Path>, imported: &BTreeMap<&Path, BTreeSet<&Path>>) -> Vec<String> {
    let within = |file: &&Path| imported[file].intersection(circle).copied().collect::<Vec<_>>();
    circle.iter().map(|file| format!("{file:?} uses {:?}", within(file))).collect()
}

#[test]
fn the_checks_follow_paths_through_children_parents_and_reexports() {
    let code = [
        ("src/a/mod.rs", "mod b;\npub use self::b::{\n    B, // the b\n    c as d,\n};\nfn f() { b::g() }"),
        ("src/a/b.rs", "use super::super::e::{self, E};"),
        ("src/e.rs", "use crate::a::{B as Other};"),
        ("src/f.rs", "fn f() { crate::a::d(); std::fs::read(); }\n// crate::e::E"),
    ];
    let imports = Imports::of(code.map(|(file, code)| (PathBuf::from(file), code.to_owned())));
    let imported = imports.between_files();
    let of = |file: &str| imported[Path::new(file)].iter().map(|file| file.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(of("src/a/mod.rs"), [""; 0], "a module and its parts are one");
    assert_eq!(of("src/a/b.rs"), ["src/e.rs"]);
    assert_eq!(of("src/e.rs"), ["src/a/b.rs"], "where the name comes from, not where it is re-exported");
    assert_eq!(of("src/f.rs"), ["src/a/b.rs"]);
    let circle: BTreeSet<_> = ["src/a/b.rs", "src/e.rs"].map(Path::new).into();
    assert_eq!(circles(&imported), [circle]);
}

#[test]
fn the_way_of_a_command_in_the_document_is_twelve_files_that_exist() {
    let document = fs::read_to_string("docs/architecture.md").unwrap();
    let (_, from) = document.split_once("## A PayOrder").expect("the section");
    let section = from.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains("| `src/"));
    let files: Vec<_> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(files.len(), 12, "{files:?}");
    for file in files {
        for name in ["memory", "embedded", "redis", "nats"] {
            assert!(Path::new(&file.replace("<name>", name)).exists(), "{file}");
        }
    }
}

#[test]
fn the_domain_uses_nothing_but_std() {
    let mut wrong = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| file.starts_with("src/domain")) {
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("use ") || line.starts_with("pub use "))
        {
            let path = line.trim_start_matches("pub ").trim_start_matches("use ");
            let known = [
                "std::",
                "super::",
                "crate::domain",
                "command::",
                "decider::",
                "error::",
                "event::",
                "item::",
                "state::",
            ];
            if !known.iter().any(|known| path.starts_with(known)) {
                wrong.push(format!("{}: {line}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_domain_has_no_clock_and_no_float() {
    for (file, text) in sources().into_iter().filter(|(file, _)| file.starts_with("src/domain")) {
        for word in ["SystemTime", "Instant", "f64", "f32"] {
            assert!(!text.contains(word), "{} mentions {word}", file.display());
        }
    }
}

#[test]
fn the_checks_see_a_module_that_is_used_wherever_it_is_named() {
    let text = "use crate::{\n    api::{Context, error::X},\n    codec,\n};\nfn f() { crate::outbox::run() }";
    let expected: BTreeSet<_> = ["api", "codec", "outbox"].map(str::to_owned).into();
    assert_eq!(modules_used(text), expected);
    let text = "use crate::{backends::{self, REGISTRY, redis::lease}};\nfn f() { backends::nats::start() }";
    assert_eq!(backends_used(text), ["nats", "redis", "self"].map(str::to_owned).into());
}

#[test]
fn the_checks_see_paths_in_nested_groups_and_relative_ones() {
    let text =
        "use crate::{codec, server::{rest::{Rest, json}, tls}};\nuse super::{super::grpc::Grpc, body};\nsuper::f();";
    let own = ["server", "rest", "input"].map(str::to_owned);
    let used: Vec<_> = paths_used(text, &own).into_iter().map(|path| path.join("::")).collect();
    let expected = [
        "codec",
        "server::grpc::Grpc",
        "server::rest::Rest",
        "server::rest::body",
        "server::rest::f",
        "server::rest::json",
        "server::tls",
    ];
    assert_eq!(used, expected);
    assert!(is_within(&own, "server::rest") && !is_within(&own, "server::re") && !is_within(&own, "rest"));
}

/// The path of the module in a file: `server`, `grpc`, `ids` for `src/server/grpc/ids.rs`.
fn path_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap().with_extension("");
    let names = inside.components().map(|name| name.as_os_str().to_str().unwrap().to_owned());
    names.filter(|name| name != "mod").collect()
}

fn is_within(path: &[String], module: &str) -> bool {
    let mut path = path.iter();
    module.split("::").all(|name| path.next().is_some_and(|own| own == name))
}

/// Every path that a text names from the root of the crate or from a module above its own, `own`; groups in braces are taken apart.
fn paths_used(text: &str, own: &[String]) -> BTreeSet<Vec<String>> {
    let (mut used, mut rest) = (BTreeSet::new(), text);
    while let Some(at) = ["crate::", "super::"].iter().filter_map(|root| rest.find(root)).min() {
        let is_inside_of_a_path = rest[..at].ends_with("::") || rest[..at].ends_with(|c: char| c.is_alphanumeric());
        rest = &rest[at..];
        rest = if is_inside_of_a_path { &rest["crate::".len()..] } else { expand(rest, own.to_vec(), &mut used) };
    }
    used
}

/// Follows a path, or a group of paths, that begins in the module `base`; returns what comes after it.
fn expand<'a>(text: &'a str, mut base: Vec<String>, used: &mut BTreeSet<Vec<String>>) -> &'a str {
    let mut rest = text;
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            loop {
                group = expand(group.trim_start_matches(|c: char| c.is_whitespace() || c == ','), base.clone(), used);
                group = group.trim_start();
                match group.chars().next() {
                    Some(',') => {}
                    Some('}') => return &group[1..],
                    _ => return group,
                }
            }
        }
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        rest = &rest[name.len()..];
        match name.as_str() {
            "" | "self" => {}
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            _ => base.push(name),
        }
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => break,
        }
    }
    used.insert(base);
    rest
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// The top-level module that a file belongs to: `server` for `src/server/grpc/ids.rs`.
fn module_of(file: &Path) -> String {
    let first = file.strip_prefix("src").unwrap().components().next().unwrap();
    Path::new(&first).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Every module `m` that a text refers to as `crate::m` or inside `crate::{…}`.
fn modules_used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(names_at_depth_one(group)),
            None => used.extend(leading_name(rest)),
        }
    }
    used
}

fn names_at_depth_one(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut expects_name) = (1, true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expects_name = true,
            _ if depth == 1 && expects_name && !character.is_whitespace() => {
                names.extend(leading_name(&group[at..]));
                expects_name = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn leading_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // Types and macros at the root of the crate are not modules.
    name.starts_with(|c: char| c.is_lowercase()).then_some(name)
}

/// The modules and functions of `backends` that a text names: the backends, and what they share.
fn backends_used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, found) in text.match_indices("backends::") {
        let rest = &text[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(names_at_depth_one(group)),
            None => used.extend(leading_name(rest)),
        }
    }
    used
}

fn is_of_tests(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// Every source file that is not a test, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !is_of_tests(&path) {
                let text = fs::read_to_string(&path).unwrap();
                // Tests at the end of a file may use anything.
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                sources.push((path, code));
            }
        }
    }
    assert!(sources.len() > 30, "the sources are where the test looks for them");
    sources
}
