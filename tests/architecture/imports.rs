//! The files of `src` that a file imports from, found by its paths: `use` declarations, and paths within the code.
//!
//! A path is walked from the module where it starts (`crate`, `self`, `super`, or a child module) as far as there are files; a name that a module
//! re-exports leads on to the file that has it. Re-exports themselves are not imports: a file that names a module by its parent's name knows that
//! module.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// A module, by the names that lead to it from the root of the crate.
type Module = Vec<String>;

/// The files of the crate and their imports.
pub struct Imports {
    modules: BTreeMap<Module, Source>,
}

struct Source {
    file: PathBuf,
    imported: Vec<String>,
    /// The re-exported paths, by the name that they have here.
    reexports: BTreeMap<String, String>,
}

impl Imports {
    /// Of the `sources`, which are files with their code.
    pub fn of(sources: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let modules = sources.into_iter().map(|(file, code)| (module_at(&file), Source::read(file, &code)));
        Self { modules: modules.collect() }
    }

    /// Each file, with the files that it imports from. A module and the modules inside of it are one, so that they may import each other.
    pub fn between_files(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut found: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
        for (module, source) in &self.modules {
            let imported = source.imported.iter().filter_map(|path| self.resolve(module, path));
            let outside = imported.filter(|other| !other.starts_with(module) && !module.starts_with(other));
            let files = outside.map(|other| self.modules[&other].file.as_path());
            found.insert(&source.file, files.collect());
        }
        found
    }

    /// The module that has what `path` names, as seen in `module`.
    fn resolve(&self, module: &Module, path: &str) -> Option<Module> {
        let mut names = path.split("::").peekable();
        let mut at = match names.peek().copied()? {
            "crate" => Vec::new(),
            "self" | "super" => module.clone(),
            child if self.modules.contains_key(&joined(module, child)) => module.clone(),
            _ => return None,
        };
        while let Some(step) = names.next_if(|name| ["crate", "self", "super"].contains(name)) {
            if step == "super" {
                at.pop();
            }
        }
        while let Some(name) = names.next_if(|name| self.modules.contains_key(&joined(&at, name))) {
            at.push(name.to_owned());
        }
        let reexport = names.next().and_then(|name| self.modules.get(&at)?.reexports.get(name));
        match reexport {
            Some(path) => self.resolve(&at, path).or(Some(at)),
            None => self.modules.contains_key(&at).then_some(at),
        }
    }
}

impl Source {
    fn read(file: PathBuf, code: &str) -> Self {
        let (mut imported, mut reexports) = (Vec::new(), BTreeMap::new());
        let mut rest = String::new();
        let mut lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        while let Some(line) = lines.next() {
            let begins = line.trim_start();
            let visible = begins.strip_prefix("pub").map(|after| match after.strip_prefix('(') {
                Some(scope) => scope.split_once(')').map_or("", |(_, after)| after),
                None => after,
            });
            let Some(tree) = visible.unwrap_or(begins).trim_start().strip_prefix("use ") else {
                rest.push_str(line);
                rest.push('\n');
                continue;
            };
            let mut tree = tree.to_owned();
            while !tree.contains(';') {
                tree.push_str(lines.next().unwrap_or(";"));
            }
            let tree: String =
                tree.split(';').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            for path in paths_of(&tree) {
                let (path, name) =
                    path.split_once(" as ").unwrap_or((&path, path.rsplit("::").next().unwrap_or(&path)));
                match visible {
                    Some(_) => drop(reexports.insert(name.to_owned(), path.to_owned())),
                    None => imported.push(path.to_owned()),
                }
            }
        }
        imported.extend(paths_within(&rest));
        Self { file, imported, reexports }
    }
}

/// The paths of a `use` tree: `a::{b, c::d}` has `a::b` and `a::c::d`.
fn paths_of(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, group)) = tree.split_once('{') else {
        return if tree.is_empty() { Vec::new() } else { vec![tree.trim_end_matches("::self").to_owned()] };
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("one at least").push(character);
    }
    let whole = parts.iter().filter(|part| !part.trim().is_empty());
    whole.flat_map(|part| paths_of(&format!("{prefix}{}", part.trim()))).collect()
}

/// The paths of at least two names in `code`: `super::convert::reply`.
fn paths_within(code: &str) -> Vec<String> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    let words = code.split(|character| !is_part(character));
    let paths = words.filter(|word| word.starts_with(|first: char| first.is_lowercase() || first == '_'));
    paths.filter(|word| word.contains("::")).map(|word| word.trim_end_matches(':').to_owned()).collect()
}

/// The module in `file`: `server::grpc` for `src/server/grpc/mod.rs` and for `src/server/grpc.rs`.
fn module_at(file: &Path) -> Module {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let mut module: Module = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

fn joined(module: &Module, child: &str) -> Module {
    [module.as_slice(), &[child.to_owned()]].concat()
}

/// The circles in `imports`: the sets of files each of which leads to all others of its set.
pub fn circles<'a>(imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Vec<BTreeSet<&'a Path>> {
    let reached: BTreeMap<_, _> = imports.keys().map(|file| (*file, reachable(imports, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in reached.iter().filter(|(file, others)| others.contains(*file)) {
        let together = others.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
        circles.insert(together.copied().collect::<BTreeSet<_>>());
    }
    circles.into_iter().collect()
}

fn reachable<'a>(imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>, from: &Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Path> = imports.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(imports.get(file).into_iter().flatten());
        }
    }
    reached
}
