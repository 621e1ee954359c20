//! `gaia completions` and `gaia man`: what shells and `man` are told, made from the command line's
//! own definition.

use std::path::Path;
use std::{fs, io};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::CommandError;
use super::arguments::{Arguments, CompletionsArguments, ManArguments};
use crate::program::report::Destination;

/// Prints the script of a shell.
pub(super) fn completions(arguments: &CompletionsArguments) -> Result<(), CommandError> {
    Destination::Stdout.write(&completion(arguments.shell)).map_err(CommandError::Output)
}

pub(super) fn completion(shell: Shell) -> String {
    let (mut command, mut script) = (Arguments::command(), Vec::new());
    clap_complete::generate(shell, &mut command, "gaia", &mut script);
    String::from_utf8(script).expect("a script is text")
}

/// Prints the page of the program, or writes those of all commands.
pub(super) fn man(arguments: &ManArguments) -> Result<(), CommandError> {
    match &arguments.directory {
        None => Destination::Stdout.write(&page()).map_err(CommandError::Output),
        Some(directory) => write_pages(directory)
            .map_err(|source| CommandError::Pages { directory: directory.display().to_string(), source }),
    }
}

pub(super) fn page() -> String {
    let mut page = Vec::new();
    Man::new(Arguments::command()).render(&mut page).expect("memory takes all that is written");
    String::from_utf8(page).expect("a page is text")
}

pub(super) fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Arguments::command(), directory)
}
