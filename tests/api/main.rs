//! The service from outside: real sockets, each test a server of its own.

mod support;

mod commands;
mod rest;
mod rest_conventions;
mod rest_document;
mod rest_health;
mod rest_input;
mod rest_seeds;
mod rest_streams;
