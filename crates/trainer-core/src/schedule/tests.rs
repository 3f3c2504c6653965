use super::*;

#[derive(Deserialize)]
struct Golden {
    lr_scheduler_type: SchedulerType,
    lr_scheduler_kwargs: SchedulerKwargs,
    training_steps: u64,
    warmup_steps: f64,
    learning_rates: Vec<f64>,
}

/// Learning rates of transformers 5.17.0, made by `goldens/make.py`.
const GOLDENS: &str = include_str!("../../goldens/schedules.json");

#[test]
fn equals_transformers() {
    let goldens: Vec<Golden> = serde_json::from_str(GOLDENS).unwrap();
    assert!(goldens.len() > 50);
    for golden in goldens {
        let arguments = TrainingArguments {
            lr_scheduler_type: golden.lr_scheduler_type,
            lr_scheduler_kwargs: golden.lr_scheduler_kwargs,
            learning_rate: 1e-5,
            warmup_steps: Some(golden.warmup_steps),
            warmup_ratio: 0.0,
            ..Default::default()
        };
        let schedule = Schedule::new(&arguments, golden.training_steps);
        for (step, expected) in golden.learning_rates.iter().enumerate() {
            let found = schedule.learning_rate(step as u64);
            let error = (found - expected).abs() / arguments.learning_rate;
            assert!(error < 1e-12, "{schedule:?} step {step}: {found:e} is not {expected:e}");
        }
    }
}

#[derive(Deserialize)]
struct PlateauGolden {
    lr_scheduler_kwargs: SchedulerKwargs,
    metrics: Vec<f64>,
    learning_rates: Vec<f64>,
}

#[test]
fn a_plateau_reduces_the_rate_as_torch_does() {
    let goldens: Vec<PlateauGolden> = serde_json::from_str(include_str!("../../goldens/plateaus.json")).unwrap();
    for PlateauGolden { lr_scheduler_kwargs, metrics, learning_rates } in goldens {
        let arguments = TrainingArguments {
            lr_scheduler_type: SchedulerType::ReduceLrOnPlateau,
            lr_scheduler_kwargs,
            learning_rate: 1e-5,
            warmup_ratio: 0.5,
            ..Default::default()
        };
        let mut schedule = Schedule::new(&arguments, 200);
        assert_eq!(schedule.learning_rate(0), 1e-5, "there is no warm-up");
        for (at, expected) in learning_rates.iter().enumerate() {
            schedule.adapt_to(metrics[..=at].iter().copied());
            assert_eq!(schedule.learning_rate(at as u64), *expected, "{schedule:?} after {at}");
        }
        assert!(learning_rates.last() < Some(&1e-5), "{schedule:?}: never reduced");
    }
}

#[test]
fn every_rate_is_finite_beyond_the_end_too() {
    let types = [
        SchedulerType::Linear,
        SchedulerType::Cosine,
        SchedulerType::CosineWithRestarts,
        SchedulerType::Polynomial,
        SchedulerType::Constant,
        SchedulerType::ConstantWithWarmup,
        SchedulerType::InverseSqrt,
        SchedulerType::CosineWithMinLr,
        SchedulerType::CosineWarmupWithMinLr,
        SchedulerType::WarmupStableDecay,
        SchedulerType::ReduceLrOnPlateau,
    ];
    for lr_scheduler_type in types {
        for (training_steps, warmup_ratio) in [(1, 0.0), (1, 1.0), (3, 0.5), (10, 1.0)] {
            let arguments = TrainingArguments { lr_scheduler_type, warmup_ratio, ..Default::default() };
            let schedule = Schedule::new(&arguments, training_steps);
            for step in 0..2 * training_steps + 2 {
                let rate = schedule.learning_rate(step);
                assert!(rate.is_finite() && rate >= 0.0, "{lr_scheduler_type} step {step} of {training_steps}: {rate}");
            }
        }
    }
}

#[test]
fn warmup_rounds_up_and_steps_win_over_the_ratio() {
    let warmup = |warmup_steps, warmup_ratio, training_steps| {
        let arguments = TrainingArguments { warmup_steps, warmup_ratio, ..Default::default() };
        Schedule::new(&arguments, training_steps).warmup_steps()
    };
    assert_eq!(warmup(None, 0.1, 31), 4); // ceil(3.1)
    assert_eq!(warmup(None, 1.0, 31), 31);
    assert_eq!(warmup(Some(7.0), 0.1, 31), 7);
    assert_eq!(warmup(Some(0.2), 0.1, 31), 7); // below 1 it is a ratio: ceil(6.2)
    assert_eq!(warmup(Some(0.0), 0.1, 31), 0); // given, so it is not left to the ratio
}

#[test]
fn the_first_warmup_step_has_rate_zero() {
    let schedule = Schedule::new(&TrainingArguments::documented_recipe(), 100);
    assert_eq!(schedule.learning_rate(0), 0.0);
    assert!(schedule.learning_rate(1) > 0.0);
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let message = "cosin".parse::<SchedulerType>().unwrap_err().to_string();
    assert!(message.contains("`cosin`") && message.contains("cosine_with_restarts"), "{message}");
}
