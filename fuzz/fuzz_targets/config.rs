//! Any bytes as config.json: what `crates/oci/tests/plan` asserts for mutated configurations holds for them as well.
#![no_main]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../crates/oci/tests/plan/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    if let Err(problem) = check::check(text) {
        panic!("{problem}");
    }
});
