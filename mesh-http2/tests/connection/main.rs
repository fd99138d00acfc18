//! One connection, its peer played by hand: what RFC 9113 demands, what streams go through, and what
//! a hostile peer gets.

mod conformance;
mod floods;
mod states;
mod under_test;
mod windows;
mod wire;
