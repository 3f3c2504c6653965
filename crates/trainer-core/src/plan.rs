//! The number of steps of a run, and the steps after which something is due. The arithmetic is that
//! of HF's Trainer.

use crate::{IntervalStrategy, SaveStrategy, TrainingArguments};

/// The steps of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Micro-batches in an epoch.
    pub batches_per_epoch: usize,
    /// Micro-batches in an optimizer step. The last step of an epoch may have fewer.
    pub gradient_accumulation_steps: usize,
    /// Optimizer steps in an epoch.
    pub steps_per_epoch: u64,
    /// Optimizer steps in the run.
    pub max_steps: u64,
    /// Epochs in the run, rounded up.
    pub num_train_epochs: u64,
    /// Optimizer steps between logs.
    pub logging_steps: u64,
    /// Optimizer steps between evaluations.
    pub eval_steps: u64,
    /// Optimizer steps between checkpoints.
    pub save_steps: u64,
}

impl Plan {
    /// The plan for a training split of `batches_per_epoch` micro-batches.
    pub fn new(arguments: &TrainingArguments, batches_per_epoch: usize) -> Self {
        let accumulation = arguments.gradient_accumulation_steps.max(1);
        let steps_per_epoch = (batches_per_epoch.div_ceil(accumulation) as u64).max(1);
        let (max_steps, num_train_epochs) = if arguments.max_steps > 0 {
            let max_steps = arguments.max_steps.unsigned_abs();
            (max_steps, max_steps.div_ceil(steps_per_epoch))
        } else {
            let steps = (arguments.num_train_epochs * steps_per_epoch as f64).ceil() as u64;
            (steps, arguments.num_train_epochs.ceil() as u64)
        };
        let absolute = |steps: f64| {
            let steps = if steps < 1.0 { (max_steps as f64 * steps).ceil() } else { steps };
            (steps as u64).max(1)
        };
        Self {
            batches_per_epoch,
            gradient_accumulation_steps: accumulation,
            steps_per_epoch,
            max_steps,
            num_train_epochs,
            logging_steps: absolute(arguments.logging_steps),
            eval_steps: absolute(arguments.eval_steps.unwrap_or(arguments.logging_steps)),
            save_steps: absolute(arguments.save_steps),
        }
    }

    /// Micro-batches in the next accumulation window, when `done` micro-batches of the epoch are
    /// done. 0 at the end of the epoch.
    pub fn window_size(&self, done: usize) -> usize {
        self.gradient_accumulation_steps.min(self.batches_per_epoch.saturating_sub(done))
    }

    /// What the strategies ask for after optimizer step `step`, counted from 1.
    pub fn due_after_step(&self, arguments: &TrainingArguments, step: u64) -> Due {
        let is_last = step >= self.max_steps;
        let may_evaluate = arguments.eval_delay <= step as f64;
        Due {
            log: (step == 1 && arguments.logging_first_step)
                || (arguments.logging_strategy == IntervalStrategy::Steps && step.is_multiple_of(self.logging_steps)),
            evaluate: arguments.eval_strategy == IntervalStrategy::Steps
                && may_evaluate
                && (is_last || step.is_multiple_of(self.eval_steps)),
            save: arguments.save_strategy == SaveStrategy::Steps && (is_last || step.is_multiple_of(self.save_steps)),
        }
    }

    /// What the strategies ask for at the end of an epoch, when `epoch` epochs of the run are done.
    pub fn due_after_epoch(arguments: &TrainingArguments, epoch: f64) -> Due {
        Due {
            log: arguments.logging_strategy == IntervalStrategy::Epoch,
            evaluate: arguments.eval_strategy == IntervalStrategy::Epoch && arguments.eval_delay <= epoch,
            save: arguments.save_strategy == SaveStrategy::Epoch,
        }
    }
}

/// What the loop is to do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Log the steps since the last log.
    pub log: bool,
    /// Evaluate.
    pub evaluate: bool,
    /// Save a checkpoint.
    pub save: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> TrainingArguments {
        TrainingArguments { gradient_accumulation_steps: 3, num_train_epochs: 2.0, ..Default::default() }
    }

    #[test]
    fn the_last_partial_window_is_a_step() {
        let plan = Plan::new(&arguments(), 10);
        assert_eq!((plan.steps_per_epoch, plan.max_steps, plan.num_train_epochs), (4, 8, 2));
        assert_eq!([0, 3, 6, 9, 10].map(|done| plan.window_size(done)), [3, 3, 3, 1, 0]);
    }

    #[test]
    fn fewer_batches_than_the_window_make_one_step() {
        assert_eq!(Plan::new(&arguments(), 2).max_steps, 2);
    }

    #[test]
    fn fractional_epochs_round_steps_up() {
        let plan = Plan::new(&TrainingArguments { num_train_epochs: 1.3, ..arguments() }, 10);
        assert_eq!((plan.max_steps, plan.num_train_epochs), (6, 2)); // ceil(1.3 · 4) = ceil(5.2)
    }

    #[test]
    fn max_steps_wins_over_epochs() {
        let plan = Plan::new(&TrainingArguments { max_steps: 9, ..arguments() }, 10);
        assert_eq!((plan.max_steps, plan.num_train_epochs), (9, 3));
    }

    #[test]
    fn ratios_are_of_the_run_rounded_up() {
        let ratios = TrainingArguments { logging_steps: 0.3, eval_steps: None, save_steps: 0.5, ..arguments() };
        let plan = Plan::new(&ratios, 10);
        assert_eq!((plan.logging_steps, plan.eval_steps, plan.save_steps), (3, 3, 4)); // of 8
    }

    #[test]
    fn step_strategies_are_due_at_multiples_and_at_the_end() {
        let steps = TrainingArguments {
            logging_steps: 4.0,
            logging_first_step: true,
            eval_strategy: IntervalStrategy::Steps,
            eval_steps: Some(3.0),
            eval_delay: 4.0,
            save_strategy: SaveStrategy::Steps,
            save_steps: 5.0,
            ..arguments()
        };
        let plan = Plan::new(&steps, 10);
        let due: Vec<(u64, Due)> = (1..=8).map(|step| (step, plan.due_after_step(&steps, step))).collect();
        let at = |select: fn(&Due) -> bool| -> Vec<u64> {
            due.iter().filter(|(_, due)| select(due)).map(|(step, _)| *step).collect()
        };
        assert_eq!(at(|due| due.log), [1, 4, 8]);
        assert_eq!(at(|due| due.evaluate), [6, 8]); // 3 is before the delay; 8 is the last step
        assert_eq!(at(|due| due.save), [5, 8]);
    }
}
