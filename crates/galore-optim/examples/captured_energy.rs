//! Compares subspaces by eigenvectors with those by singular value decomposition: how much of real
//! gradients they hold, and how long they take.
//! `cargo run --release -p galore-optim --example captured_energy -- <gradients.safetensors> <rank>...`
//!
//! The file holds matrices in float32 or bfloat16, such as the gradients of a model's linear
//! weights. The program prints the worst ratio of energies over all matrices, for the whole
//! subspace and for its leading 8, 16, 32, ... vectors: Adam in a subspace depends on the axes and
//! not only on the span.

use galore_optim::{
    AdamConfig, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, SubspaceSolver, WeightUpdate,
};
use std::time::Instant;
use tch::{Kind, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((path, ranks)) = arguments.split_first().filter(|(_, ranks)| !ranks.is_empty()) else {
        return Err("usage: captured_energy <gradients.safetensors> <rank>...".into());
    };
    let gradients = read(path)?;
    println!("{path}: {} matrices", gradients.len());
    println!("{:>6} {:>12} {:>20} {:>12} {:>12}", "rank", "worst ratio", "worst leading part", "svd, ms", "here, ms");
    for rank in ranks {
        let rank: i64 = rank.parse().map_err(|error| format!("rank {rank}: {error}"))?;
        let (by_svd, svd_ms) = bases(&gradients, rank, SubspaceSolver::Svd)?;
        let (ours, our_ms) = bases(&gradients, rank, SubspaceSolver::Eigenvectors)?;
        let (mut worst, mut worst_part) = (f64::INFINITY, f64::INFINITY);
        for ((gradient, by_svd), ours) in gradients.iter().zip(&by_svd).zip(&ours) {
            let (wanted, found) = (energies(gradient, by_svd)?, energies(gradient, ours)?);
            let ratio = |vectors: usize| found[vectors - 1] / wanted[vectors - 1];
            let parts = (3..).map(|power| 1 << power).take_while(|&vectors| vectors < wanted.len());
            worst = worst.min(ratio(wanted.len()));
            worst_part = parts.map(ratio).fold(worst_part.min(worst), f64::min);
        }
        println!("{rank:6} {worst:12.6} {worst_part:20.6} {svd_ms:12.1} {our_ms:12.1}");
    }
    Ok(())
}

fn read(path: &str) -> Result<Vec<Tensor>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let mut gradients = Vec::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::BF16 => Kind::BFloat16,
            other => return Err(format!("{name} is {other}").into()),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        if let [_, _] = shape[..] {
            gradients.push(Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_kind(Kind::Float)?);
        }
    }
    if gradients.is_empty() { Err(format!("{path} holds no matrix").into()) } else { Ok(gradients) }
}

/// The basis of each gradient, and the mean time of one.
fn bases(gradients: &[Tensor], rank: i64, solver: SubspaceSolver) -> Result<(Vec<Tensor>, f64)> {
    let parameters = gradients.iter().enumerate().map(|(index, gradient)| {
        Ok(Parameter::new(index.to_string(), &gradient.f_zeros_like()?).with_gradient(gradient))
    });
    let parameters = parameters.collect::<Result<Vec<Parameter>>>()?;
    let config = GaLoreConfig { rank: rank.into(), subspace: solver, ..GaLoreConfig::default() };
    let targets = ParameterGroup::new(parameters, AdamConfig::galore_default()).with_galore(config);
    let mut optimizer = GaLoreAdamW::new(vec![targets], WeightUpdate::Exact)?;
    let start = Instant::now();
    optimizer.step(1e-3)?;
    let took = optimizer.subspace_refresh_time().min(start.elapsed());
    // In the order of the parameters.
    let bases = optimizer.state()?.into_iter().filter(|(name, _)| name.contains(".basis"));
    Ok((bases.map(|(_, basis)| basis).collect(), took.as_secs_f64() * 1e3 / gradients.len() as f64))
}

/// Energy that the first basis vector holds, the first two, and so on.
fn energies(gradient: &Tensor, basis: &Tensor) -> Result<Vec<f64>> {
    let (rows, cols) = gradient.size2()?;
    let (gradient, basis) = (gradient.f_to_kind(Kind::Double)?, basis.f_to_kind(Kind::Double)?);
    let of_each = if rows >= cols {
        gradient.f_mm(&basis.f_tr()?)?.f_square()?.f_sum_dim_intlist(0, false, None)?
    } else {
        basis.f_tr()?.f_mm(&gradient)?.f_square()?.f_sum_dim_intlist(1, false, None)?
    };
    Ok(Vec::try_from(&of_each.f_cumsum(0, None)?)?)
}
