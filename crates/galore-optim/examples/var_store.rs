//! Trains a tch `VarStore` by autograd with GaLore:
//! `cargo run -p galore-optim --example var_store`.

use galore_optim::tch::nn::Module;
use galore_optim::tch::{Device, Kind, Tensor, nn};
use galore_optim::{GaLore, GaLoreConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variables = nn::VarStore::new(Device::Cpu);
    let root = variables.root();
    let model = nn::seq()
        .add(nn::linear(&root / "first", 16, 64, Default::default()))
        .add_fn(|hidden| hidden.tanh())
        .add(nn::linear(&root / "second", 64, 1, Default::default()));
    let config =
        GaLoreConfig { rank: 8.into(), update_proj_gap: 50, scale: 1.0.into(), fira: true, ..Default::default() };
    let mut optimizer = GaLore::new(variables.variables(), config)?;

    let input = Tensor::f_rand([256, 16], (Kind::Float, Device::Cpu))?;
    let wanted = input.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?.f_sin()?;
    for step in 0..=300 {
        optimizer.zero_grad()?;
        let loss = model.forward(&input).f_mse_loss(&wanted, tch::Reduction::Mean)?;
        loss.f_backward()?;
        optimizer.step(0.003)?;
        if step % 100 == 0 {
            println!("step {step}: loss {:.5}", loss.f_double_value(&[])?);
        }
    }
    Ok(())
}
