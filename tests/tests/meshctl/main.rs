//! `meshctl` against agents and a controller that run: what every command shows, and what it says of an
//! agent that does not answer and of a name that is wrong.
//!
//! What is shown is compared with the files in `golden`. Run with `UPDATE_GOLDEN=1` to write them anew,
//! then read the difference.

mod errors;
mod golden;
mod levels;
mod normal;
mod world;
