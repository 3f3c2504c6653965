//! Updates: how a gradient becomes the step of a weight, or of its coordinates in a subspace.
//! Adam's two moments are in [`adam`](crate::adam), where fused kernels can take them. Each other
//! update is a file here: its paper, its equation, and what it keeps beside moments.

mod adafactor;
mod scaled;

use crate::adam::{AdamFormula, AdamStep};
use crate::parameter_state::{ParameterState, decay};
use crate::projector::Projector;
use crate::scratch::Scratch;
use crate::{AdamConfig, GaLoreConfig, MomentDtype, SubspaceSolver};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

/// What an optimizer does with gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Adam(AdamFormula),
    Adafactor,
    Apollo(ApolloScaling),
}

/// What APOLLO takes one factor for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApolloScaling {
    /// Each row or column along the longer side of a matrix. The default.
    #[default]
    Channel,
    /// The whole matrix, as in APOLLO-Mini.
    Tensor,
}

serde_plain::derive_display_from_serialize!(ApolloScaling);
serde_plain::derive_fromstr_from_deserialize!(ApolloScaling);

impl From<AdamFormula> for Rule {
    fn from(formula: AdamFormula) -> Self {
        Rule::Adam(formula)
    }
}

impl Rule {
    /// The name in state files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rule::Adam(AdamFormula::Torch) => "adamw",
            Rule::Adam(AdamFormula::GaLore) => "galore_adamw",
            Rule::Adam(AdamFormula::BitsAndBytes) => "adamw_8bit",
            Rule::Adafactor => "adafactor",
            Rule::Apollo(ApolloScaling::Channel) => "apollo",
            Rule::Apollo(ApolloScaling::Tensor) => "apollo_tensor",
        }
    }

    /// The formula of Adam's moments, where there are any.
    pub(crate) fn formula(self) -> AdamFormula {
        match self {
            Rule::Adam(formula) => formula,
            Rule::Adafactor | Rule::Apollo(_) => AdamFormula::Torch,
        }
    }

    pub(crate) fn has_moments(self) -> bool {
        self != Rule::Adafactor
    }

    /// What in these settings does not go with this update.
    pub(crate) fn problems(self, adam: &AdamConfig, galore: Option<&GaLoreConfig>) -> Vec<String> {
        let mut problems = Vec::new();
        if self == Rule::Adafactor && adam.moments != MomentDtype::Float32 {
            problems.push(format!("moments = {}: must be float32, because Adafactor keeps none", adam.moments));
        }
        let Some(galore) = galore else { return problems };
        if self == Rule::Adafactor && (galore.moments != Default::default() || galore.subspace == SubspaceSolver::Power)
        {
            problems
                .push("moments and subspace: Adafactor has no moments to carry over or to find a basis with".into());
        }
        if galore.fira && !matches!(self, Rule::Adam(_)) {
            problems.push("fira = true: must be false, because only AdamW has a step to add the residual to".into());
        }
        problems
    }
}

/// What an update keeps of a parameter beside moments, by the suffixes of the names in the state.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<(&'static str, Tensor)>);

impl Kept {
    /// Zeros for a parameter whose step is computed in this shape.
    pub(crate) fn new(
        rule: Rule,
        projector: Option<&Projector>,
        (shape, device): (&[i64], Device),
    ) -> Result<Self, TchError> {
        let shapes = match (rule, projector) {
            (Rule::Adafactor, _) => adafactor::kept(shape),
            (Rule::Apollo(_), Some(_)) => scaled::kept(),
            (Rule::Adam(_), Some(projector)) if projector.config.fira => scaled::kept(),
            _ => Vec::new(),
        };
        let zeros = shapes
            .into_iter()
            .map(|(suffix, shape)| Ok::<_, TchError>((suffix, Tensor::f_zeros(shape, (Kind::Float, device))?)));
        zeros.collect::<Result<_, _>>().map(Kept)
    }

    /// Its tensors by suffix.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.0.iter().map(|(suffix, tensor)| (*suffix, tensor))
    }
}

/// One step of one parameter.
pub(crate) struct Turn<'a> {
    pub(crate) rule: Rule,
    pub(crate) adam: &'a AdamStep,
    pub(crate) learning_rate: f64,
    /// Counted from 1.
    pub(crate) step: i64,
    /// The same since the moments were last zero.
    pub(crate) adam_step: i64,
}

impl ParameterState {
    /// The step of an unprojected parameter by an update that looks at the whole of it.
    pub(crate) fn whole_update(
        &mut self,
        gradient: &Tensor,
        turn: &Turn<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let shape = gradient.size();
        let gradient = scratch.widened(crate::scratch::Slot::Gradient, gradient)?;
        let update = adafactor::update(&self.kept, &gradient, turn)?;
        self.change_master(turn, scratch, |master, _| {
            master.f_view(&shape[..])?.f_add_(&update.f_mul_scalar(-1.0)?).map(drop)
        })
    }

    /// The step of a projected parameter, float32 `gradient [rows, cols]`, by an update other than
    /// Adam alone.
    pub(crate) fn composed_update(
        &mut self,
        gradient: &Tensor,
        projector: &Projector,
        turn: &Turn<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let low_rank = projector.project(gradient, scratch)?;
        match turn.rule {
            Rule::Adafactor => {
                let update = adafactor::update(&self.kept, &low_rank, turn)?.f_mul_scalar(-projector.scale)?;
                let shape = gradient.size();
                self.change_master(turn, scratch, |master, scratch| {
                    projector.add_back(&update, &mut master.f_view(&shape[..])?, scratch)
                })
            }
            Rule::Apollo(scaling) => self.apollo(gradient, projector, (low_rank, scaling, turn), scratch),
            Rule::Adam(_) => self.fira(gradient, projector, (low_rank, turn), scratch),
        }
    }

    /// Reads the weight in float32, decays and changes it, and stores it.
    fn change_master(
        &self,
        turn: &Turn<'_>,
        scratch: &mut Scratch,
        change: impl FnOnce(&Tensor, &mut Scratch) -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        let whole = (0, self.master.numel());
        let mut master = self.master.begin(whole, scratch)?;
        let (before, after) = match turn.rule {
            // Adafactor decays before its step, by the whole learning rate.
            Rule::Adafactor => (turn.adam.decay_before.or(turn.adam.decay_after), None),
            // As in Adam's GaLore form.
            Rule::Apollo(_) => (None, turn.adam.decay_before.or(turn.adam.decay_after)),
            Rule::Adam(_) => (turn.adam.decay_before, turn.adam.decay_after),
        };
        decay(&mut master, before)?;
        change(&master, scratch)?;
        decay(&mut master, after)?;
        self.master.finish(whole, &master, self.num_steps, scratch)
    }
}
