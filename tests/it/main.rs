//! Integration tests: one binary, real sockets, real files, real processes.

#![allow(clippy::unwrap_used, reason = "what a test unwraps is what it asserts")]

mod again;
mod alert;
mod alertmanager;
mod architecture;
mod backtest;
mod by_hand;
mod cluster;
mod confirmed;
mod corpus;
mod daemon;
mod demo;
mod engine;
mod http;
mod journal;
mod kill;
mod ladder;
mod looks;
mod outbox;
mod pages;
mod prometheus;
mod report;
mod rules;
mod scenarios;
mod shipped;
mod simulation;
mod story;
mod tls;
mod unwritten;
mod world;
