//! Trains with an optimizer that the program makes: GaLore of rank 16 on attention, of rank 64 on
//! the MLP, AdamW on all else.
//!
//! ```text
//! cargo run --release -p sft-trainer --example own_optimizer -- <model> <dataset> <output folder>
//! ```

use causal_lm::CausalLm;
use galore_optim::{AdamConfig, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, WeightUpdate};
use sft_trainer::callbacks::{BestModelCheckpointCallback, BoxError};
use sft_trainer::{SftConfig, SftTrainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let [model, dataset, output_dir]: [String; 3] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: own_optimizer <model> <dataset> <output folder>")?;

    let mut config = SftConfig::new(model, output_dir);
    config.dataset.dataset_name = dataset;
    config.training.num_train_epochs = 1.0;
    let trained = SftTrainer::builder(config)
        .optimizer("galore of two ranks", two_ranks)
        .load()?
        .callback(BestModelCheckpointCallback)
        .train()?;
    Ok(trained.publish()?)
}

fn two_ranks(model: &mut CausalLm) -> Result<Box<dyn Optimizer>, BoxError> {
    let gradients: Vec<_> =
        model.parameters_mut().gradients()?.iter().map(|gradient| gradient.shallow_clone()).collect();
    let (mut attention, mut mlp, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let weights = model.parameters().specs().iter().zip(model.parameters().weights());
    for ((spec, weight), gradient) in weights.zip(&gradients) {
        let is_matrix = spec.shape.len() == 2;
        let group = match &spec.name {
            name if is_matrix && name.contains("attn") => &mut attention,
            name if is_matrix && name.contains("mlp") => &mut mlp,
            _ => &mut others,
        };
        group.push(Parameter::new(&spec.name, weight).with_gradient(gradient));
    }
    let adam = AdamConfig::galore_default();
    let of_rank = |rank: i64| GaLoreConfig { rank: rank.into(), ..GaLoreConfig::default() };
    let groups = vec![
        ParameterGroup::new(attention, adam.clone()).with_galore(of_rank(16)),
        ParameterGroup::new(mlp, adam.clone()).with_galore(of_rank(64)),
        ParameterGroup::new(others, adam),
    ];
    Ok(Box::new(GaLoreAdamW::new(groups, WeightUpdate::Exact)?))
}
