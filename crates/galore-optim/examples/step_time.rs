//! Time of a step on weights with the shapes of a 135M-parameter Llama on the CPU, or of a 0.5B
//! Qwen with bfloat16 gradients on a GPU:
//! `cargo run --release -p galore-optim --example step_time -- [galore|adamw] [float32|exact|nearest|stochastic] [rank] [layers] [cpu|cuda] [float32|bfloat16 moments]`

use galore_optim::{
    AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, MomentDtype, Optimizer, Parameter, ParameterGroup, WeightUpdate,
    clip_gradients, global_gradient_norm,
};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Hidden width, width of keys and values, width inside the MLP, vocabulary.
const LLAMA: [i64; 4] = [576, 192, 1536, 49152];
const QWEN: [i64; 4] = [1024, 1024, 2816, 151_936];
const STEPS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default| arguments.get(index).map_or(default, String::as_str);
    let (kind, update) = match argument(1, "float32") {
        "float32" => (Kind::Float, WeightUpdate::Exact),
        "exact" => (Kind::BFloat16, WeightUpdate::Exact),
        "nearest" => (Kind::BFloat16, WeightUpdate::Nearest),
        "stochastic" => (Kind::BFloat16, WeightUpdate::Stochastic { seed: 0 }),
        other => return Err(format!("unknown update `{other}`").into()),
    };
    let device = match argument(4, "cpu") {
        "cpu" => Device::Cpu,
        "cuda" if torch_ext::cuda::load() => Device::Cuda(0),
        other => return Err(format!("no device `{other}`").into()),
    };
    let [hidden, key_value, intermediate, vocabulary] = if device == Device::Cpu { LLAMA } else { QWEN };
    let gradient_kind = if device == Device::Cpu { Kind::Float } else { Kind::BFloat16 };
    let moments = if argument(5, "float32") == "bfloat16" { MomentDtype::Bfloat16 } else { MomentDtype::Float32 };
    let galore_adam = AdamConfig { moments, ..AdamConfig::galore_default() };
    let parameter = |name: String, shape: &[i64]| -> Result<Parameter, tch::TchError> {
        let weight = (Tensor::f_randn(shape, (Kind::Float, device))? * 0.02).f_to_kind(kind)?;
        let gradient = Tensor::f_randn(shape, (Kind::Float, device))?.f_to_kind(gradient_kind)?;
        Ok(Parameter { name, weight, gradient: Some(gradient) })
    };
    let layers: usize = argument(3, "30").parse()?;
    let mut linear = Vec::new();
    let mut others = vec![parameter("embed_tokens".to_owned(), &[vocabulary, hidden])?];
    for layer in 0..layers {
        for (name, shape) in [
            ("q_proj", [hidden, hidden]),
            ("k_proj", [key_value, hidden]),
            ("v_proj", [key_value, hidden]),
            ("o_proj", [hidden, hidden]),
            ("gate_proj", [intermediate, hidden]),
            ("up_proj", [intermediate, hidden]),
            ("down_proj", [hidden, intermediate]),
        ] {
            linear.push(parameter(format!("layers.{layer}.{name}"), &shape)?);
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            others.push(parameter(format!("layers.{layer}.{name}"), &[hidden])?);
        }
    }
    // Sorted by shape and adjacent in memory, as in a model with one flat buffer.
    linear.sort_by_key(|parameter| parameter.weight.size());
    let flat = |tensors: Vec<Tensor>| -> Result<Tensor, tch::TchError> {
        let flat = tensors.iter().map(|tensor| tensor.f_view([-1])).collect::<Result<Vec<_>, _>>()?;
        Tensor::f_cat(&flat, 0)
    };
    let weights = flat(linear.iter().map(|parameter| parameter.weight.shallow_clone()).collect())?;
    let gradients = flat(linear.iter().filter_map(|p| p.gradient.as_ref().map(Tensor::shallow_clone)).collect())?;
    let mut start = 0;
    for parameter in &mut linear {
        let (shape, length) = (parameter.weight.size(), parameter.weight.numel() as i64);
        parameter.weight = weights.f_narrow(0, start, length)?.f_view(&shape[..])?;
        parameter.gradient = Some(gradients.f_narrow(0, start, length)?.f_view(&shape[..])?);
        start += length;
    }
    let mut optimizer: Box<dyn Optimizer> = match argument(0, "galore") {
        "galore" => {
            let galore = GaLoreConfig {
                rank: argument(2, "128").parse()?,
                update_proj_gap: STEPS as i64,
                ..GaLoreConfig::default()
            };
            let others = ParameterGroup::new(others, galore_adam.clone());
            let targets = ParameterGroup::new(linear, galore_adam).with_galore(galore);
            Box::new(GaLoreAdamW::new(vec![targets, others], update)?)
        }
        "adamw" => {
            linear.append(&mut others);
            let adam = AdamConfig { moments, ..AdamConfig::torch_default() };
            Box::new(AdamW::new(vec![ParameterGroup::new(linear, adam)], update)?)
        }
        other => return Err(format!("unknown optimizer `{other}`").into()),
    };
    optimizer.allow_refresh_memory(4_000_000_000);
    for repeat in 0..3 {
        let start = Instant::now();
        let norm = global_gradient_norm(&[&gradients])?;
        if let Device::Cuda(_) = device {
            tch::Cuda::synchronize(0);
        }
        let measured = start.elapsed();
        clip_gradients(&[gradients.shallow_clone()], 1e9, &norm.f_to_device(Device::Cpu)?)?;
        let (elements, milliseconds) = (gradients.numel() as f64, measured.as_secs_f64() * 1e3);
        println!("gradient norm {repeat}: {milliseconds:.2} ms for {:.0} M elements", elements / 1e6);
    }
    // The last step refreshes again, with everything loaded that the first one had to load.
    for step in 0..=STEPS {
        let (start, before) = (Instant::now(), optimizer.subspace_refresh_time());
        optimizer.step(1e-5)?;
        if let Device::Cuda(_) = device {
            tch::Cuda::synchronize(0);
        }
        let (all, refresh) = (start.elapsed(), optimizer.subspace_refresh_time() - before);
        println!("step {step}: {:.1} ms", all.as_secs_f64() * 1e3);
        if !refresh.is_zero() {
            println!("  of which decompositions {:.0} ms", refresh.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
