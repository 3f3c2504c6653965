//! What the two optimizers share: all parameters with their state, and one AdamW formula.

use crate::adam::AdamFormula;
use crate::parameter_state::ParameterState;
use crate::projector::Projector;
use crate::refresh_schedule::refresh_steps;
use crate::scratch::Scratch;
use crate::stack::Stack;
use crate::{Error, GaLoreConfig, GradientCheck, ParameterGroup, WeightUpdate, family, gradient_check};
use std::collections::HashSet;
use std::time::Duration;
use tch::Device;

/// About what the backward pass of a transformer block needs, which is free when the optimizer
/// runs.
const DEFAULT_REFRESH_BYTES: u64 = 600_000_000;

/// All parameters of an optimizer, and how they take a step.
#[derive(Debug)]
pub(crate) struct Engine {
    formula: AdamFormula,
    pub(crate) parameters: Vec<ParameterState>,
    /// Ranges of parameters that can take their step together, in order.
    pub(crate) stacks: Vec<Stack>,
    scratches: Vec<Scratch>,
    pub(crate) num_steps: u64,
    pub(crate) refresh_time: Duration,
    pub(crate) refresh_bytes: u64,
    pub(crate) gradient_check: GradientCheck,
}

impl Engine {
    pub(crate) fn new(formula: AdamFormula, groups: Vec<ParameterGroup>, update: WeightUpdate) -> Result<Self, Error> {
        let mut engine = Engine {
            formula,
            parameters: Vec::new(),
            stacks: Vec::new(),
            scratches: Vec::new(),
            num_steps: 0,
            refresh_time: Duration::ZERO,
            refresh_bytes: DEFAULT_REFRESH_BYTES,
            gradient_check: GradientCheck::default(),
        };
        let mut names = HashSet::new();
        for group in groups {
            if let Some(twice) = group.parameters.iter().find(|parameter| !names.insert(parameter.name.clone())) {
                return Err(Error::DuplicateName { name: twice.name.clone() });
            }
            engine.add(group, update)?;
        }
        Ok(engine)
    }

    fn add(&mut self, group: ParameterGroup, update: WeightUpdate) -> Result<(), Error> {
        let ParameterGroup { parameters, adam, galore } = group;
        if let Some(config) = &galore {
            config.validate()?;
        }
        adam.validate()?;
        let first = self.parameters.len();
        for parameter in parameters {
            if !parameter.weight.defined() {
                return Err(Error::UndefinedWeight { name: parameter.name });
            }
            let Some(config) = &galore else {
                self.parameters.push(ParameterState::new(parameter, &adam, None, update)?);
                continue;
            };
            let place = (adam.moments.basis_kind(), parameter.weight.device());
            match parameter.weight.size()[..] {
                [rows, cols] => {
                    let projector = Projector::new([rows, cols], config, place);
                    self.parameters.push(ParameterState::new(parameter, &adam, Some(projector), update)?);
                }
                [_, rows, cols] => {
                    for (matrix, family) in family::matrices(&parameter)? {
                        let projector = Projector::new([rows, cols], config, place);
                        let mut state = ParameterState::new(matrix, &adam, Some(projector), update)?;
                        state.family = Some(family);
                        self.parameters.push(state);
                    }
                }
                ref shape => return Err(Error::TargetNotMatrix { name: parameter.name, shape: shape.to_vec() }),
            }
        }
        if let Some(config) = &galore {
            self.schedule(first, config);
            self.stacks.extend(Stack::find(&mut self.parameters, first)?);
        }
        Ok(())
    }

    /// Assigns steps for refreshes to the targets from `first` on.
    fn schedule(&mut self, first: usize, config: &GaLoreConfig) {
        let targets = &mut self.parameters[first..];
        let shapes: Vec<Vec<i64>> = targets.iter().map(|target| target.parameter.weight.size()).collect();
        let device = targets.first().map_or(Device::Cpu, |target| target.parameter.weight.device());
        let steps = refresh_steps(&shapes, config.refresh, config.update_proj_gap, device);
        for (target, step) in targets.iter_mut().zip(steps) {
            target.projector.iter_mut().for_each(|projector| projector.schedule.refresh_at(step));
        }
    }

    pub(crate) fn step(&mut self, learning_rate: f64) -> Result<(), Error> {
        if !learning_rate.is_finite() || learning_rate < 0.0 {
            return Err(Error::LearningRate { learning_rate });
        }
        gradient_check::check(&self.parameters, self.gradient_check)?;
        let mut stacks = self.stacks.iter().peekable();
        let mut index = 0;
        while index < self.parameters.len() {
            if let Some(stack) = stacks.next_if(|stack| stack.members.start == index) {
                let members = &mut self.parameters[stack.members.clone()];
                if stack.can_step(members) {
                    self.refresh_time +=
                        stack.step(members, self.formula, learning_rate, self.refresh_bytes, &mut self.scratches)?;
                    index = stack.members.end;
                    continue;
                }
            }
            self.refresh_time += self.parameters[index].step(self.formula, learning_rate, &mut self.scratches)?;
            index += 1;
        }
        self.num_steps += 1;
        // torch's allocator keeps what is freed on a GPU, and the next forward pass can use it. The
        // host's allocator would return it to the system.
        self.scratches.retain(|scratch| !scratch.is_on_gpu());
        Ok(())
    }

    /// The seed of stochastic rounding, if it is used.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.parameters.iter().find_map(|state| state.master.seed())
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.parameters.iter_mut().for_each(|state| state.master.set_seed(seed));
    }

    /// The name of the formula in state files.
    pub(crate) fn optimizer_name(&self) -> &'static str {
        match self.formula {
            AdamFormula::Torch => "adamw",
            AdamFormula::GaLore => "galore_adamw",
        }
    }
}
