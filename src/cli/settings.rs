//! The flags of the settings, derived from their table.

use std::{ffi::OsString, marker::PhantomData, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint,
    builder::{OsStringValueParser, PathBufValueParser, PossibleValue, TypedValueParser},
    error::Error,
};

use crate::{
    config::{
        FlagValues, env_name,
        settings::{groups, settings},
    },
    settings::{Kind, Setting},
};

/// How a command shows the flags of the settings.
pub(super) trait View {
    /// The flag in the form of this command.
    fn of(flag: Arg) -> Arg;
}

/// The flags of a node: all are shown, and `-h` shows the common ones.
pub(super) struct OfNode;

/// The flags of a command that calls a node: they are accepted, since they determine where the node of the same configuration listens.
pub(super) struct OfTarget;

/// The flags of a command on a data folder: only the settings that name the folder are shown.
pub(super) struct OfFolder;

impl View for OfNode {
    fn of(flag: Arg) -> Arg {
        flag
    }
}

impl View for OfTarget {
    fn of(flag: Arg) -> Arg {
        flag.hide(true).conflicts_with("address")
    }
}

impl View for OfFolder {
    fn of(flag: Arg) -> Arg {
        let is_shown = ["config", "data-dir"].contains(&flag.get_id().as_str());
        flag.hide(!is_shown)
    }
}

/// The settings given on a command line.
pub(super) struct SettingFlags<V> {
    pub(super) values: FlagValues,
    view: PhantomData<V>,
}

impl<V: View> Args for SettingFlags<V> {
    fn augment_args(command: Command) -> Command {
        let of_group = |heading: &'static str, settings: &'static [Setting]| {
            settings.iter().map(move |setting| flag(setting).help_heading(heading))
        };
        let flags = groups().iter().flat_map(|group| of_group(group.heading, group.settings));
        command.arg(V::of(config_file())).args(flags.map(V::of))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<V: View> FromArgMatches for SettingFlags<V> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self { values: values(matches), view: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.values = values(matches);
        Ok(())
    }
}

fn config_file() -> Arg {
    let variable = env_name("config");
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .value_hint(ValueHint::FilePath)
        .help("Configuration file, .toml or .json")
        .long_help(format!("Configuration file, .toml or .json [env: {variable}]"))
}

fn flag(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.key)
        .long(setting.key)
        .help(help(setting))
        .long_help(format!("{} [env: {}]", help(setting), env_name(setting.key)))
        .hide_short_help(!setting.is_common);
    let arg = match setting.kind {
        Kind::Flag => return arg.action(ArgAction::SetTrue),
        Kind::Choice(words) => return arg.value_name("VALUE").value_parser(AnyText { words }),
        // So that -1 gets our own error, with the range, instead of "unexpected argument".
        Kind::Integer { .. } => arg.value_name("N").allow_negative_numbers(true),
        Kind::Text => arg.value_name("TEXT"),
        Kind::File => arg.value_name("FILE").value_hint(ValueHint::FilePath),
        Kind::Folder => arg.value_name("DIR").value_hint(ValueHint::DirPath),
        Kind::ServerUrl(_) => arg.value_name("ADDRESS").value_hint(ValueHint::Hostname),
        Kind::List => arg.value_name("LIST"),
    };
    arg.value_parser(AnyText { words: &[] })
}

fn help(setting: &Setting) -> String {
    match setting.default {
        None | Some("") => setting.help.to_owned(),
        // A switch that is not given is off.
        Some(_) if matches!(setting.kind, Kind::Flag) => setting.help.to_owned(),
        Some(default) => format!("{} [default: {default}]", setting.help),
    }
}

/// Accepts any text, even an empty one: values of all sources are validated in one place, and an error of clap would repeat a password. Help and
/// shell completion show the words.
#[derive(Clone)]
struct AnyText {
    words: &'static [&'static str],
}

impl TypedValueParser for AnyText {
    type Value = OsString;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<OsString, Error> {
        OsStringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        if self.words.is_empty() {
            return None;
        }
        Some(Box::new(self.words.iter().map(|word| PossibleValue::new(*word))))
    }
}

fn values(matches: &ArgMatches) -> FlagValues {
    let value_of = |setting: &Setting| match setting.kind {
        Kind::Flag => matches.get_flag(setting.key).then(|| OsString::from("true")),
        _ => matches.get_one::<OsString>(setting.key).cloned(),
    };
    FlagValues {
        config_file: matches.get_one::<PathBuf>("config").cloned(),
        values: settings().filter_map(|setting| Some((setting.key, value_of(setting)?))).collect(),
    }
}
