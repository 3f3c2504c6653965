//! Step times.

use serde_json::{Map, Value};
use std::time::Duration;

/// Collects step times. Steps between two waits for the device share their mean time, because the
/// time of a single one on the host is only the time to queue its work.
#[derive(Debug, Default)]
pub(crate) struct StepClock {
    steps: Vec<StepTime>,
    /// Tokens of the steps since the last wait.
    pending: Vec<u64>,
    pending_time: Duration,
}

#[derive(Clone, Copy, Debug)]
struct StepTime {
    milliseconds: f64,
    tokens: u64,
}

impl StepClock {
    /// Whether no step was added yet.
    pub fn is_new(&self) -> bool {
        self.steps.is_empty() && self.pending.is_empty()
    }

    /// Adds a step that took `elapsed` on the host.
    pub fn add(&mut self, elapsed: Duration, tokens: u64) {
        self.pending.push(tokens);
        self.pending_time += elapsed;
    }

    /// Records that the device has finished all steps so far, and that the host waited `waited` for
    /// it.
    pub fn end_wait(&mut self, waited: Duration) {
        let total = self.pending_time + waited;
        let milliseconds = total.as_secs_f64() * 1e3 / self.pending.len() as f64;
        self.steps.extend(self.pending.drain(..).map(|tokens| StepTime { milliseconds, tokens }));
        self.pending_time = Duration::ZERO;
    }

    /// The figures: `first_step_ms`, `step_time_ms_max` over the other steps, and the median and
    /// the tokens per second over the second half of the steps, when caches are warm.
    pub fn report(&self) -> Map<String, Value> {
        let mut report = Map::new();
        let Some(first) = self.steps.first() else { return report };
        let after_first = if self.steps.len() > 1 { &self.steps[1..] } else { &self.steps[..] };
        let max = after_first.iter().map(|step| step.milliseconds).fold(0.0, f64::max);

        let second_half = &self.steps[self.steps.len() / 2..];
        let mut sorted: Vec<f64> = second_half.iter().map(|step| step.milliseconds).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        let seconds = sorted.iter().sum::<f64>() / 1e3;
        let tokens: u64 = second_half.iter().map(|step| step.tokens).sum();
        let tokens_per_second = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };

        report.insert("train_tokens_per_second".to_owned(), tokens_per_second.into());
        report.insert("step_time_ms_median".to_owned(), median.into());
        report.insert("step_time_ms_max".to_owned(), max.into());
        report.insert("first_step_ms".to_owned(), first.milliseconds.into());
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_second_half() {
        let mut clock = StepClock::default();
        for (milliseconds, tokens) in [(900, 1), (40, 1), (10, 50), (20, 100), (30, 150)] {
            clock.add(Duration::from_millis(milliseconds), tokens);
            clock.end_wait(Duration::ZERO);
        }
        let report = clock.report();
        let figure = |key: &str| report[key].as_f64().unwrap().round();
        assert_eq!(figure("first_step_ms"), 900.0);
        assert_eq!(figure("step_time_ms_max"), 40.0);
        assert_eq!(figure("step_time_ms_median"), 20.0);
        assert_eq!(figure("train_tokens_per_second"), 5000.0); // 300 tokens in 60 ms
    }

    #[test]
    fn steps_between_waits_share_their_mean() {
        let mut clock = StepClock::default();
        clock.add(Duration::from_millis(1), 1);
        clock.add(Duration::from_millis(1), 1);
        clock.end_wait(Duration::from_millis(38));
        let report = clock.report();
        assert_eq!(report["step_time_ms_max"].as_f64().unwrap().round(), 20.0);
    }

    #[test]
    fn without_steps_there_are_no_figures() {
        assert!(StepClock::default().report().is_empty());
    }
}
