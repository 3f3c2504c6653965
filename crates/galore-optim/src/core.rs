//! What the two optimizers share: all parameters, and one formula.

use crate::adam::Flavour;
use crate::parameter_state::ParameterState;
use crate::projector::Projector;
use crate::scratch::Scratch;
use crate::stack::Stack;
use crate::stagger::refresh_steps;
use crate::{Error, GaLoreConfig, ParameterGroup, WeightUpdate};
use std::collections::HashSet;
use std::time::Duration;
use tch::Device;

/// About what the backward of a block needs, which is through when the optimizer's turn comes.
const DEFAULT_REFRESH_BYTES: u64 = 600_000_000;

/// All parameters of an optimizer.
#[derive(Debug)]
pub(crate) struct Core {
    flavour: Flavour,
    pub(crate) parameters: Vec<ParameterState>,
    /// Ranges of parameters that can take their step together, in order.
    pub(crate) stacks: Vec<Stack>,
    scratches: Vec<Scratch>,
    pub(crate) num_steps: u64,
    pub(crate) refresh_time: Duration,
    pub(crate) refresh_bytes: u64,
}

impl Core {
    pub(crate) fn new(flavour: Flavour) -> Self {
        Core {
            flavour,
            parameters: Vec::new(),
            stacks: Vec::new(),
            scratches: Vec::new(),
            num_steps: 0,
            refresh_time: Duration::ZERO,
            refresh_bytes: DEFAULT_REFRESH_BYTES,
        }
    }

    /// Adds a group of parameters; with `galore`, of targets.
    pub(crate) fn add(
        &mut self,
        group: ParameterGroup,
        galore: Option<&GaLoreConfig>,
        update: WeightUpdate,
    ) -> Result<(), Error> {
        let ParameterGroup { parameters, adam } = group;
        adam.validate()?;
        let first = self.parameters.len();
        for parameter in parameters {
            if !parameter.weight.defined() {
                return Err(Error::UndefinedWeight { name: parameter.name });
            }
            let projector = match (galore, &parameter.weight.size()[..]) {
                (None, _) => None,
                (Some(config), &[rows, cols]) => Some(Projector::new(rows, cols, config, adam.moments.basis_kind())),
                (Some(_), shape) => {
                    return Err(Error::TargetNotMatrix { name: parameter.name, shape: shape.to_vec() });
                }
            };
            self.parameters.push(ParameterState::new(parameter, &adam, projector, update)?);
        }
        if let Some(config) = galore {
            let targets = &mut self.parameters[first..];
            let shapes: Vec<Vec<i64>> = targets.iter().map(|target| target.parameter.weight.size()).collect();
            let device = targets.first().map_or(Device::Cpu, |target| target.parameter.weight.device());
            let steps = refresh_steps(&shapes, config.refresh, config.update_proj_gap, device);
            for (target, step) in targets.iter_mut().zip(steps) {
                target.projector.iter_mut().for_each(|projector| projector.refresh_at(step));
            }
            self.stacks.extend(Stack::find(&mut self.parameters, first)?);
        }
        let mut names = HashSet::new();
        match self.parameters.iter().map(|state| &state.parameter.name).find(|name| !names.insert(name.as_str())) {
            Some(name) => Err(Error::DuplicateName { name: name.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn step(&mut self, learning_rate: f64) -> Result<(), Error> {
        if !learning_rate.is_finite() || learning_rate < 0.0 {
            return Err(Error::LearningRate { learning_rate });
        }
        let mut stacks = self.stacks.iter().peekable();
        let mut index = 0;
        while index < self.parameters.len() {
            if let Some(stack) = stacks.next_if(|stack| stack.members.start == index) {
                let members = &mut self.parameters[stack.members.clone()];
                if stack.can_step(members) {
                    self.refresh_time +=
                        stack.step(members, self.flavour, learning_rate, self.refresh_bytes, &mut self.scratches)?;
                    index = stack.members.end;
                    continue;
                }
            }
            self.refresh_time += self.parameters[index].step(self.flavour, learning_rate, &mut self.scratches)?;
            index += 1;
        }
        self.num_steps += 1;
        // torch's allocator keeps what is freed on a GPU, for the next forward among others; the
        // host's would return it to the system.
        self.scratches.retain(|scratch| !scratch.is_on_gpu());
        Ok(())
    }

    /// Seed of stochastic rounding, where it is used.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.parameters.iter().find_map(|state| state.master.seed())
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.parameters.iter_mut().for_each(|state| state.master.set_seed(seed));
    }

    /// Name of the formula in state files.
    pub(crate) fn optimizer_name(&self) -> &'static str {
        match self.flavour {
            Flavour::Torch => "adamw",
            Flavour::GaLore => "galore_adamw",
        }
    }
}
