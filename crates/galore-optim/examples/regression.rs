//! Fits a two-layer network to a curve with autograd, in bfloat16, with only this crate and tch.
//! `cargo run -p galore-optim --example regression`

use galore_optim::{
    AdamConfig, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, TargetModules, WeightUpdate,
    clip_gradients, global_gradient_norm, select_targets,
};
use tch::{Device, Kind, Reduction, Tensor};

const HIDDEN: i64 = 64;
const STEPS: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tch::manual_seed(0);
    let leaf = |shape: &[i64], scale: f64| {
        let values = Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale;
        values.to_kind(Kind::BFloat16).set_requires_grad(true)
    };
    let weights = [
        ("first.weight", leaf(&[HIDDEN, 1], 2.0)),
        ("first.bias", leaf(&[HIDDEN], 1.0)),
        ("second.weight", leaf(&[HIDDEN, HIDDEN], 0.1)),
        ("head.weight", leaf(&[1, HIDDEN], 0.1)),
    ];
    let [(_, first), (_, bias), (_, second), (_, head)] = &weights;

    // One of the linear modules becomes a target. The rest is updated without projection.
    let linear = ["first", "second", "head"];
    let targets = select_targets(&linear, &TargetModules::List(vec!["second".to_owned()]))?;
    let (targets, others) = weights
        .iter()
        .map(|(name, weight)| Parameter::new(*name, weight))
        .partition(|parameter| targets.iter().any(|target| parameter.name == format!("{target}.weight")));
    let group = |parameters| ParameterGroup::new(parameters, AdamConfig::galore_default());
    let galore = GaLoreConfig { rank: 8.into(), update_proj_gap: 50, scale: 1.0.into(), ..GaLoreConfig::default() };
    let mut optimizer = GaLoreAdamW::new(vec![group(targets).with_galore(galore), group(others)], WeightUpdate::Exact)?;

    let x = Tensor::linspace(-2.0, 2.0, 256, (Kind::Float, Device::Cpu)).view([-1, 1]).to_kind(Kind::BFloat16);
    let y = (x.to_kind(Kind::Float) * 3.0).sin();
    let (mut first_loss, mut loss) = (None, f64::NAN);
    for step in 0..STEPS {
        let hidden = (x.matmul(&first.tr()) + bias).tanh();
        let hidden = &hidden + hidden.matmul(&second.tr()).tanh();
        let error = hidden.matmul(&head.tr()).to_kind(Kind::Float).mse_loss(&y, Reduction::Mean);
        error.backward();

        let gradients: Vec<Tensor> = weights.iter().map(|(_, weight)| weight.grad()).collect();
        let norm = global_gradient_norm(&gradients.iter().collect::<Vec<_>>())?;
        clip_gradients(&gradients, 1.0, &norm)?;
        optimizer.step(5e-3 * (1.0 - step as f64 / STEPS as f64))?;
        for mut gradient in gradients {
            let _ = gradient.f_zero_()?;
        }

        loss = error.double_value(&[]);
        first_loss.get_or_insert(loss);
        if step % 50 == 0 {
            println!("step {step:3}  loss {loss:.5}  gradient norm {:.3}", norm.double_value(&[]));
        }
    }
    let first_loss = first_loss.unwrap_or(f64::NAN);
    println!("loss {first_loss:.4} -> {loss:.5} in {} steps", optimizer.num_steps());
    if loss < first_loss / 20.0 { Ok(()) } else { Err("the fit failed".into()) }
}
