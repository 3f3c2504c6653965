//! Saves a checkpoint at every evaluation that is the best so far.

use trainer_core::{
    BoxError, Callback, CallbackContext, EventResult, LogEntry, Requests, SaveStrategy, TrainingArguments,
};

/// Marks every evaluation that is the best so far and requests a save for it.
///
/// The best evaluation has the lowest `eval_loss`, unless `metric_for_best_model` and
/// `greater_is_better` of the [`TrainingArguments`] say otherwise. An equal or a non-finite metric
/// is never better. The save happens whether or not the save strategy asks for one at that step, so
/// that the best checkpoint exists when training ends. With [`SaveStrategy::No`] nothing is saved,
/// and there is no best.
#[derive(Clone, Copy, Debug, Default)]
pub struct BestModelCheckpointCallback;

impl Callback for BestModelCheckpointCallback {
    fn on_evaluate(
        &mut self,
        context: &CallbackContext<'_>,
        metrics: &LogEntry,
        requests: &mut Requests,
    ) -> EventResult {
        let CallbackContext { arguments, state, .. } = context;
        let metric = deciding_metric(arguments, metrics)?;
        if arguments.save_strategy != SaveStrategy::No && arguments.is_better(metric, state.best_metric) {
            requests.mark_best(metric);
            requests.request_save();
        }
        Ok(())
    }
}

/// The metric that decides which checkpoint is best. NaN if it is not finite.
///
/// # Errors
/// When the evaluation has no such metric.
pub(crate) fn deciding_metric(arguments: &TrainingArguments, metrics: &LogEntry) -> Result<f64, BoxError> {
    let key = arguments.best_metric_key();
    let Some(metric) = metrics.get(&key) else {
        let known = TrainingArguments::BEST_METRICS.join(", ");
        return Err(
            format!("metric_for_best_model is {key}, but evaluations have no such metric; use one of {known}").into()
        );
    };
    // Metrics that are not finite are null in JSON.
    Ok(metric.as_f64().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use trainer_core::TrainerState;

    /// The metric that the callback marked when it saw `metrics` and the best so far was `best`.
    fn evaluate(arguments: &TrainingArguments, best: Option<f64>, metrics: Value) -> Result<Option<f64>, BoxError> {
        let state = TrainerState { best_metric: best, ..Default::default() };
        let mut requests = Requests::default();
        let context = CallbackContext { arguments, state: &state, resumed_from: None };
        BestModelCheckpointCallback.on_evaluate(&context, metrics.as_object().unwrap(), &mut requests)?;
        let mut expected = Requests::default();
        let metric = metrics[arguments.best_metric_key()].as_f64();
        if requests == expected {
            return Ok(None);
        }
        expected.mark_best(metric.unwrap());
        expected.request_save();
        assert_eq!(requests, expected, "a best evaluation is both marked and saved");
        Ok(metric)
    }

    #[test]
    fn only_a_strictly_better_finite_metric_is_best() {
        let arguments = TrainingArguments::documented_recipe();
        let loss = |best, loss: Value| evaluate(&arguments, best, json!({ "eval_loss": loss })).unwrap();
        assert_eq!(loss(None, json!(2.0)), Some(2.0));
        assert_eq!(loss(Some(2.0), json!(1.5)), Some(1.5));
        assert_eq!(loss(Some(2.0), json!(2.0)), None);
        assert_eq!(loss(Some(2.0), json!(2.5)), None);
        assert_eq!(loss(None, Value::Null), None);
    }

    #[test]
    fn another_metric_may_decide() {
        let metric_for_best_model = Some("mean_token_accuracy".to_owned());
        let arguments = TrainingArguments { metric_for_best_model, ..TrainingArguments::documented_recipe() };
        let metrics = json!({ "eval_loss": 9.0, "eval_mean_token_accuracy": 0.5 });
        assert_eq!(evaluate(&arguments, Some(0.4), metrics.clone()).unwrap(), Some(0.5));
        assert_eq!(evaluate(&arguments, Some(0.6), metrics).unwrap(), None);
    }

    #[test]
    fn a_metric_that_does_not_exist_is_an_error_that_names_those_that_do() {
        let arguments = TrainingArguments {
            metric_for_best_model: Some("bleu".to_owned()),
            ..TrainingArguments::documented_recipe()
        };
        let message =
            evaluate(&arguments, None, json!({ "eval_loss": 1.0, "perplexity": 2.7 })).unwrap_err().to_string();
        assert!(
            message.contains("eval_bleu") && message.contains("use one of loss, mean_token_accuracy, perplexity"),
            "{message}"
        );
    }

    #[test]
    fn without_saving_there_is_no_best() {
        let arguments = TrainingArguments { save_strategy: SaveStrategy::No, ..TrainingArguments::documented_recipe() };
        assert_eq!(evaluate(&arguments, None, json!({ "eval_loss": 1.0 })).unwrap(), None);
    }
}
