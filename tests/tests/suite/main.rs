//! Tests of `train_and_save` as a whole.

mod bad_input;
mod best;
mod damage;
mod disk;
mod disturbed;
mod files;
mod formats;
mod library;
mod parity;
mod precision;
mod repeat;
mod torture;
