//! GaLore for a program with its own training loop: named tensors, gradients from autograd.

use crate::{AdamConfig, Error, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, WeightUpdate};
use tch::{Tensor, no_grad};

/// GaLore AdamW over tensors that autograd leaves gradients on, such as those of a tch `VarStore`.
///
/// Matrices are targets, all other tensors take plain AdamW. Weights of 16 bits are exact
/// ([`WeightUpdate::Exact`]), and Adam has the constants of
/// [`AdamConfig::galore_default`]. For other choices, put [`ParameterGroup`]s together and use
/// [`GaLoreAdamW`].
///
/// ```
/// use galore_optim::tch::{Device, Kind, Tensor, nn, nn::Module};
/// use galore_optim::{GaLore, GaLoreConfig};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root() / "layer", 8, 4, Default::default());
/// let config = GaLoreConfig { rank: 2.into(), update_proj_gap: 20, scale: 1.0.into(), ..Default::default() };
/// let mut optimizer = GaLore::new(variables.variables(), config)?;
///
/// let input = Tensor::f_ones([16, 8], (Kind::Float, Device::Cpu))?;
/// let loss = || layer.forward(&input).square().mean(Kind::Float);
/// let before = loss().f_double_value(&[])?;
/// for _ in 0..100 {
///     optimizer.zero_grad()?;
///     loss().f_backward()?;
///     optimizer.step(0.01)?;
/// }
/// assert!(loss().f_double_value(&[])? < before / 10.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GaLore {
    weights: Vec<Tensor>,
    optimizer: GaLoreAdamW,
}

impl GaLore {
    /// An optimizer of these tensors, which it sorts by name, so that a state file does not depend
    /// on their order. They share memory with the optimizer.
    ///
    /// # Errors
    /// As [`GaLoreAdamW::new`].
    pub fn new(named_tensors: impl IntoIterator<Item = (String, Tensor)>, config: GaLoreConfig) -> Result<Self, Error> {
        let mut named: Vec<(String, Tensor)> = named_tensors.into_iter().collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (targets, others): (Vec<_>, Vec<_>) = named
            .iter()
            .map(|(name, weight)| Parameter::new(name, weight))
            .partition(|parameter| parameter.weight.defined() && parameter.weight.dim() == 2);
        let adam = AdamConfig::galore_default();
        let groups =
            vec![ParameterGroup::new(targets, adam.clone()).with_galore(config), ParameterGroup::new(others, adam)];
        let optimizer = GaLoreAdamW::new(groups, WeightUpdate::Exact)?;
        Ok(GaLore { weights: named.into_iter().map(|(_, weight)| weight).collect(), optimizer })
    }

    /// Sets all gradients to zero. Call it before each backward pass.
    ///
    /// # Errors
    /// [`Error::Torch`] if a tensor operation fails.
    pub fn zero_grad(&mut self) -> Result<(), Error> {
        for weight in &self.weights {
            let mut gradient = weight.f_grad()?;
            if gradient.defined() {
                no_grad(|| gradient.f_zero_().map(drop))?;
            }
        }
        Ok(())
    }

    /// Updates every tensor that has a gradient.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step(&mut self, learning_rate: f64) -> Result<(), Error> {
        no_grad(|| self.optimizer.step(learning_rate))
    }

    /// The optimizer itself: its state, saving and loading.
    pub fn optimizer(&mut self) -> &mut dyn Optimizer {
        &mut self.optimizer
    }
}
