//! The binary as its operators meet it: flags, exit codes, signals, sockets.

mod command_line;
mod node;
mod shutdown;
mod support;
