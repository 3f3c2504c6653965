//! Compositions of callbacks are callbacks.

use super::{Callback, CallbackContext, EventResult};
use crate::{BoxError, EvaluationProgress, LogEntry, Requests, WindowFigures};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// An error with the name of the callback that failed and of the event. The callback may be nested
/// in a composition.
#[derive(Debug, thiserror::Error)]
#[error("callback {callback} failed in {event}: {source}")]
pub(crate) struct CallbackFailure {
    pub(crate) callback: String,
    pub(crate) event: &'static str,
    pub(crate) source: BoxError,
}

impl CallbackFailure {
    /// Adds the names, unless an inner composition has added them.
    fn wrap(callback: &str, event: &'static str, source: BoxError) -> BoxError {
        if source.is::<Self>() { source } else { Box::new(Self { callback: callback.to_owned(), event, source }) }
    }
}

/// Calls `$handle!` with all events except `on_train_end`, each with the argument that it carries.
macro_rules! with_events {
    ($handle:ident) => {
        $handle! {
            on_train_begin() on_epoch_begin() on_epoch_end() on_step_begin() on_substep_end() on_pre_optimizer_step()
            on_optimizer_step() on_step_end() on_log(entry: &LogEntry) on_evaluate(metrics: &LogEntry)
            on_save(checkpoint: &Path) on_window_figures(figures: WindowFigures)
            on_prediction_step(progress: EvaluationProgress)
        }
    };
}

/// One callback behind a pointer.
macro_rules! forward {
    ($($event:ident($($argument:ident: $type:ty)?))*) => {
        $(fn $event(&mut self, context: &CallbackContext<'_>, $($argument: $type,)? requests: &mut Requests) -> EventResult {
            (**self).$event(context, $($argument,)? requests)
        })*

        fn on_train_end(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
            (**self).on_train_end(context, requests)
        }

        fn name(&self) -> &str {
            (**self).name()
        }

        fn state(&self) -> Option<Value> {
            (**self).state()
        }

        fn restore(&mut self, state: &Value) -> EventResult {
            (**self).restore(state)
        }
    };
}

impl<C: Callback + ?Sized> Callback for Box<C> {
    with_events!(forward);
}

impl<C: Callback + ?Sized> Callback for &mut C {
    with_events!(forward);
}

/// One callback or none.
macro_rules! forward_if_some {
    ($($event:ident($($argument:ident: $type:ty)?))*) => {
        $(fn $event(&mut self, context: &CallbackContext<'_>, $($argument: $type,)? requests: &mut Requests) -> EventResult {
            self.as_mut().map_or(Ok(()), |callback| callback.$event(context, $($argument,)? requests))
        })*
    };
}

impl<C: Callback> Callback for Option<C> {
    with_events!(forward_if_some);

    fn on_train_end(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
        self.as_mut().map_or(Ok(()), |callback| callback.on_train_end(context, requests))
    }

    fn name(&self) -> &str {
        self.as_ref().map_or("none", |callback| callback.name())
    }

    fn state(&self) -> Option<Value> {
        self.as_ref().and_then(|callback| callback.state())
    }

    fn restore(&mut self, state: &Value) -> EventResult {
        self.as_mut().map_or(Ok(()), |callback| callback.restore(state))
    }
}

/// Several callbacks, in order, until the first error.
macro_rules! forward_to_each {
    ($($event:ident($($argument:ident: $type:ty)?))*) => {
        $(fn $event(&mut self, context: &CallbackContext<'_>, $($argument: $type,)? requests: &mut Requests) -> EventResult {
            for callback in self {
                let outcome = callback.$event(context, $($argument,)? requests);
                outcome.map_err(|error| CallbackFailure::wrap(callback.name(), stringify!($event), error))?;
            }
            Ok(())
        })*
    };
}

impl<C: Callback> Callback for Vec<C> {
    with_events!(forward_to_each);

    /// Calls all callbacks, and then returns the first error.
    fn on_train_end(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
        let mut first_error = Ok(());
        for callback in self {
            let outcome = callback.on_train_end(context, requests);
            let outcome = outcome.map_err(|error| CallbackFailure::wrap(callback.name(), "on_train_end", error));
            first_error = first_error.and(outcome);
        }
        first_error
    }

    fn name(&self) -> &str {
        "callbacks"
    }

    /// An object with a state for each name. As with HF, callbacks with the same name share a list.
    fn state(&self) -> Option<Value> {
        let mut by_name: Map<String, Value> = Map::new();
        for callback in self {
            let state = callback.state();
            if is_only_one_named(self, callback.name()) {
                state.map(|state| by_name.insert(callback.name().to_owned(), state));
            } else if let Value::Array(list) = by_name.entry(callback.name()).or_insert_with(|| Value::Array(vec![])) {
                list.push(state.unwrap_or(Value::Null));
            }
        }
        by_name.retain(|_, state| !matches!(state, Value::Array(list) if list.iter().all(Value::is_null)));
        (!by_name.is_empty()).then_some(Value::Object(by_name))
    }

    fn restore(&mut self, state: &Value) -> EventResult {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for index in 0..self.len() {
            let name = self[index].name().to_owned();
            let nth = seen.entry(name.clone()).or_default();
            let own = state.get(&name);
            let own = if is_only_one_named(self, &name) { own } else { own.and_then(|list| list.get(*nth)) };
            *nth += 1;
            if let Some(own) = own.filter(|own| !own.is_null()) {
                self[index].restore(own).map_err(|error| CallbackFailure::wrap(&name, "restore", error))?;
            }
        }
        Ok(())
    }
}

fn is_only_one_named<C: Callback>(callbacks: &[C], name: &str) -> bool {
    callbacks.iter().filter(|callback| callback.name() == name).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrainerState, TrainingArguments};

    #[derive(Default)]
    struct Counter(u64);

    impl Callback for Counter {
        fn on_step_end(&mut self, _: &CallbackContext<'_>, _: &mut Requests) -> EventResult {
            self.0 += 1;
            Ok(())
        }

        fn state(&self) -> Option<Value> {
            (self.0 > 0).then(|| self.0.into())
        }

        fn restore(&mut self, state: &Value) -> EventResult {
            self.0 = state.as_u64().ok_or("not a count")?;
            Ok(())
        }
    }

    /// Fails in every event it overrides.
    struct Broken;

    impl Callback for Broken {
        fn on_step_end(&mut self, _: &CallbackContext<'_>, _: &mut Requests) -> EventResult {
            Err("no disk".into())
        }

        fn on_train_end(&mut self, _: &CallbackContext<'_>, _: &mut Requests) -> EventResult {
            Err("still no disk".into())
        }
    }

    struct Ended<'a>(&'a std::cell::Cell<u32>);

    impl Callback for Ended<'_> {
        fn on_train_end(&mut self, _: &CallbackContext<'_>, _: &mut Requests) -> EventResult {
            self.0.set(self.0.get() + 1);
            Ok(())
        }
    }

    fn step_end(callback: &mut impl Callback) -> EventResult {
        let (arguments, state) = (TrainingArguments::default(), TrainerState::default());
        callback.on_step_end(
            &CallbackContext { arguments: &arguments, state: &state, resumed_from: None },
            &mut Requests::default(),
        )
    }

    #[test]
    fn compositions_pass_events_and_states_on() {
        let mut counter = Counter::default();
        step_end(&mut vec![Some(Box::new(&mut counter)), None]).unwrap();
        assert_eq!(counter.0, 1);
        assert_eq!(Some(counter).state(), Some(1.into()));
    }

    #[test]
    fn the_first_error_names_callback_and_event_and_stops_the_rest() {
        let mut callbacks: Vec<Vec<Box<dyn Callback>>> = vec![vec![Box::new(Broken)], vec![Box::new(Counter(0))]];
        let error = step_end(&mut callbacks).unwrap_err();
        assert_eq!(error.to_string(), "callback Broken failed in on_step_end: no disk");
        assert_eq!(callbacks.state(), None, "the counter must not have been called");
    }

    #[test]
    fn train_end_reaches_all_in_spite_of_an_error() {
        let reached = std::cell::Cell::new(0);
        let mut callbacks: Vec<Box<dyn Callback + '_>> =
            vec![Box::new(Ended(&reached)), Box::new(Broken), Box::new(Ended(&reached))];
        let (arguments, state) = (TrainingArguments::default(), TrainerState::default());
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
        let error = callbacks.on_train_end(&context, &mut Requests::default()).unwrap_err();
        assert_eq!(error.to_string(), "callback Broken failed in on_train_end: still no disk");
        assert_eq!(reached.get(), 2);
    }

    #[test]
    fn states_of_one_name_are_a_list_and_come_back_in_order() {
        let saved = vec![Counter(3), Counter(0), Counter(5)].state().unwrap();
        assert_eq!(saved, serde_json::json!({ "Counter": [3, null, 5] }));
        let mut restored = vec![Counter(9), Counter(9), Counter(9)];
        restored.restore(&saved).unwrap();
        assert_eq!(restored.iter().map(|counter| counter.0).collect::<Vec<_>>(), [3, 9, 5]);

        let saved = vec![Counter(3)].state().unwrap();
        assert_eq!(saved, serde_json::json!({ "Counter": 3 }));
        let error = vec![Counter(0)].restore(&serde_json::json!({ "Counter": "x" })).unwrap_err();
        assert_eq!(error.to_string(), "callback Counter failed in restore: not a count");
    }
}
