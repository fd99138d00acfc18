//! Arbitrary policies and a connection: the compiled engine, its explanation and the plain reference agree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::policy::{Input, check};

fuzz_target!(|input: Input| check(&input));
