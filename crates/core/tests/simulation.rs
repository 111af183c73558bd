//! A small part of the simulation, so that `cargo test` alone notices a broken rule; `scripts/simulate` runs the rest.

use podwright_core::sim::Schedule;

#[test]
fn no_invariant_is_violated_with_and_without_a_crash() {
    for seed in 0..60 {
        let schedule = Schedule::new(seed);
        let calm = schedule.run(&[]);
        assert_eq!(calm.violation, None, "seed {seed}\n{}", calm.timeline.join("\n"));
        let crash = 1 + seed % calm.steps.max(1);
        let crashed = schedule.run(&[crash]);
        assert_eq!(crashed.violation, None, "seed {seed}, crash {crash}\n{}", crashed.timeline.join("\n"));
        if schedule.is_undisturbed() {
            assert_eq!(crashed.outcomes, calm.outcomes, "seed {seed}, crash {crash}");
        }
    }
}

#[test]
fn a_seed_makes_the_same_schedule_every_time() {
    let run = || Schedule::new(17).run(&[5]).timeline;
    assert_eq!(run(), run());
}
