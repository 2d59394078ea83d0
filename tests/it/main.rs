//! The integration tests: the real binary, its environment cleared, against real servers wherever there is one.

mod support;

mod cleanup;
mod cli;
mod credentials;
mod faults;
mod layouts;
mod progress;
mod push;
mod real;
mod signals;
