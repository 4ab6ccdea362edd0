//! The scenarios that every client runs, each as one test. Arguments other than options select tests by a part of their name.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod driver;
mod matching;
mod money;
#[path = "../server/mod.rs"]
mod server;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

use driver::{Api, File};
use matching::{Variables, check, load};
use server::{Redis, root};

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut suite = Suite { wanted, passed: 0, failed: Vec::new() };
    let scenarios = root().join("clients/conformance");
    run_matching_cases(&mut suite, &scenarios.join("matching/cases.yaml"));
    money::run_cases(&mut suite, &scenarios.join("money/cases.yaml"));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::if_wanted(folder.path());
    let api = Api::read();
    for path in yaml_files(&scenarios) {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let content = load(&path);
        // Started by the first scenario that is to run; the one before has ended.
        let mut file = None;
        for scenario in content["scenarios"].as_array().unwrap() {
            suite.run(&format!("{stem}: {}", scenario["name"].as_str().unwrap()), || {
                runtime.block_on(async {
                    if file.is_none() {
                        file = Some(File::start(&api, &content, folder.path(), redis.clone(), stem).await);
                    }
                    file.as_mut().unwrap().run(scenario["steps"].as_array().unwrap()).await
                })
            });
        }
    }
    suite.report()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(!paths.is_empty(), "no scenarios in {}", folder.display());
    paths
}

fn run_matching_cases(suite: &mut Suite, path: &Path) {
    for case in load(path).as_array().unwrap() {
        let (pattern, mut saved) = (&case["pattern"], Variables::new());
        let actual = |value: &Value| if value == "$nothing" { Value::Null } else { value.clone() };
        suite.run(&format!("matching: {pattern}"), || {
            for value in case["matches"].as_array().unwrap() {
                check(pattern, &actual(value), &mut saved, "")?;
            }
            for value in case["refuses"].as_array().unwrap() {
                if check(pattern, &actual(value), &mut saved, "").is_ok() {
                    return Err(format!("{pattern} must not match {value}"));
                }
            }
            Ok(())
        });
    }
}

/// The results so far.
struct Suite {
    wanted: Vec<String>,
    passed: usize,
    failed: Vec<String>,
}

impl Suite {
    /// Runs a test, unless another one is wanted; a panic is a failure.
    fn run(&mut self, name: &str, test: impl FnOnce() -> Result<(), String>) {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|part| name.contains(part)) {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|_| Err("panicked".to_owned()));
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok");
            }
            Err(error) => {
                println!("test {name} ... FAILED: {error}");
                self.failed.push(name.to_owned());
            }
        }
    }

    fn report(self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed.len());
        self.failed.iter().for_each(|name| println!("failed: {name}"));
        // Parts may name tests of other programs.
        if self.failed.is_empty() && (self.passed > 0 || !self.wanted.is_empty()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
