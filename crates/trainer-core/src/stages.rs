//! How far a long stage is: a bar on a terminal, and elsewhere a line now and then.
//!
//! Libraries tell it by `tracing` events with the target [`PROGRESS_TARGET`]. A subscriber hands
//! their fields to [`Stages`].

use crate::progress_lines::time_of_day;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The target of events that tell how far a stage is. Their fields are `stage`, `done`, `total` (if
/// it is known) and `unit`, such as `rows` or `bytes`. The last one has `done` equal to `total`.
pub const PROGRESS_TARGET: &str = "progress";
/// Between two lines of a stage, and before the first.
const BETWEEN_LINES: Duration = Duration::from_secs(30);
/// A stage that took less is not worth a bar.
const WORTH_A_BAR: Duration = Duration::from_millis(500);

/// One event: how far a stage is.
#[derive(Debug, PartialEq)]
pub struct StageProgress {
    stage: String,
    done: u64,
    total: Option<u64>,
    unit: String,
}

impl StageProgress {
    /// From the fields of the event. `None` if they are not those of progress.
    pub fn of(fields: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| fields.get(name)?.as_str().map(str::to_owned);
        let number = |name: &str| fields.get(name)?.as_u64();
        let (stage, done) = (text("stage")?, number("done")?);
        Some(Self { stage, done, total: number("total"), unit: text("unit").unwrap_or_default() })
    }

    fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| self.done >= total)
    }

    fn line(&self) -> String {
        let Self { stage, done, total, unit } = self;
        let amount = |number: u64| if unit == "bytes" { gigabytes(number) } else { number.to_string() };
        let unit = if unit == "bytes" { "GB" } else { unit };
        match total {
            Some(total) => {
                let percent = (*done as f64 / (*total).max(1) as f64 * 100.0).min(100.0);
                format!("{stage}: {} of {} {unit} ({percent:.0} %)", amount(*done), amount(*total))
            }
            None => format!("{stage}: {} {unit}", amount(*done)),
        }
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e9)
}

/// A stage that has begun and not ended.
struct Stage {
    began: Instant,
    /// When the last line was written.
    told: Instant,
    bar: Option<ProgressBar>,
}

/// The stages that are going on.
pub struct Stages {
    bars: MultiProgress,
    open: Mutex<HashMap<String, Stage>>,
}

impl Stages {
    /// Stages whose bars are drawn among these.
    pub fn new(bars: MultiProgress) -> Self {
        Self { bars, open: Mutex::new(HashMap::new()) }
    }

    /// Draws a bar, or returns the line to write where no bar can be drawn. It ends with the time
    /// of day in UTC.
    pub fn show(&self, progress: StageProgress) -> Option<String> {
        let line = self.show_at(progress, Instant::now())?;
        Some(format!("{line}  {}", time_of_day()))
    }

    fn show_at(&self, progress: StageProgress, now: Instant) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || Stage { began: now, told: now, bar: None };
        let stage = open.entry(progress.stage.clone()).or_insert_with(begin);
        if !self.bars.is_hidden() {
            if stage.bar.is_none() && now.duration_since(stage.began) >= WORTH_A_BAR && !progress.is_complete() {
                stage.bar = Some(self.bars.add(bar(&progress)));
            }
            if let Some(bar) = &stage.bar {
                bar.set_position(progress.done);
            }
        }
        let has_told = stage.told != stage.began;
        let is_due = now.duration_since(stage.told) >= BETWEEN_LINES;
        if is_due {
            stage.told = now;
        }
        if progress.is_complete()
            && let Some(bar) = open.remove(&progress.stage).and_then(|stage| stage.bar)
        {
            bar.finish_and_clear();
        }
        // The end of a stage is told only if its beginning was.
        let is_told = self.bars.is_hidden() && (is_due || has_told && progress.is_complete());
        is_told.then(|| progress.line())
    }
}

fn bar(progress: &StageProgress) -> ProgressBar {
    let amount = match (progress.unit.as_str(), progress.total) {
        ("bytes", Some(_)) => "{bytes}/{total_bytes} {eta}",
        ("bytes", None) => "{bytes}",
        (_, Some(_)) => "{human_pos}/{human_len} {eta}",
        (_, None) => "{human_pos}",
    };
    let template = match progress.total {
        Some(_) => format!("{{prefix}} {{wide_bar}} {amount}"),
        None => format!("{{prefix}} {{spinner}} {amount}"),
    };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = progress.total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style).with_prefix(format!("{} ({})", progress.stage, progress.unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;
    use serde_json::json;

    fn progress(done: u64) -> StageProgress {
        StageProgress { stage: "tokenizing".to_owned(), done, total: Some(4000), unit: "rows".to_owned() }
    }

    #[test]
    fn a_short_stage_is_not_told_and_a_long_one_now_and_then() {
        let stages = Stages::new(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(stages.show_at(progress(0), start), None);
        assert_eq!(stages.show_at(progress(4000), at(29)), None);
        // The same stage of another split.
        assert_eq!(stages.show_at(progress(0), at(100)), None);
        assert_eq!(stages.show_at(progress(1000), at(129)), None);
        assert_eq!(stages.show_at(progress(2000), at(131)).unwrap(), "tokenizing: 2000 of 4000 rows (50 %)");
        assert_eq!(stages.show_at(progress(2500), at(140)), None);
        assert_eq!(stages.show_at(progress(4000), at(150)).unwrap(), "tokenizing: 4000 of 4000 rows (100 %)");
        assert_eq!(stages.show_at(progress(0), at(151)), None);
    }

    #[test]
    fn only_the_fields_of_progress_are_progress() {
        let fields = |value: Value| value.as_object().unwrap().clone();
        let known = json!({"stage": "tokenizing", "done": 7, "total": 4000, "unit": "rows"});
        assert_eq!(StageProgress::of(&fields(known)), Some(progress(7)));
        assert_eq!(StageProgress::of(&fields(json!({"stage": "tokenizing"}))), None);
        let unknown =
            StageProgress::of(&fields(json!({"stage": "reading", "done": 2_500_000_000u64, "unit": "bytes"})));
        assert_eq!(unknown.unwrap().line(), "reading: 2.50 GB");
    }
}
