//! Time of a step on weights of the shapes of a 135M-parameter Llama, on the CPU:
//! `cargo run --release -p galore-optim --example step_time -- [galore|adamw] [float32|exact|nearest|stochastic] [rank] [layers]`

use std::time::Instant;

use galore_optim::{AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, WeightUpdate};
use tch::{Device, Kind, Tensor};

const HIDDEN: i64 = 576;
const KEY_VALUE: i64 = 192;
const INTERMEDIATE: i64 = 1536;
const VOCABULARY: i64 = 49152;
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
    let parameter = |name: String, shape: &[i64]| -> Result<Parameter, tch::TchError> {
        let weight = (Tensor::f_randn(shape, (Kind::Float, Device::Cpu))? * 0.02).f_to_kind(kind)?;
        let gradient = Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?;
        Ok(Parameter { name, weight, gradient: Some(gradient) })
    };
    let layers: usize = argument(3, "30").parse()?;
    let mut linear = Vec::new();
    let mut others = vec![parameter("embed_tokens".to_owned(), &[VOCABULARY, HIDDEN])?];
    for layer in 0..layers {
        for (name, shape) in [
            ("q_proj", [HIDDEN, HIDDEN]),
            ("k_proj", [KEY_VALUE, HIDDEN]),
            ("v_proj", [KEY_VALUE, HIDDEN]),
            ("o_proj", [HIDDEN, HIDDEN]),
            ("gate_proj", [INTERMEDIATE, HIDDEN]),
            ("up_proj", [INTERMEDIATE, HIDDEN]),
            ("down_proj", [HIDDEN, INTERMEDIATE]),
        ] {
            linear.push(parameter(format!("layers.{layer}.{name}"), &shape)?);
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            others.push(parameter(format!("layers.{layer}.{name}"), &[HIDDEN])?);
        }
    }
    let group = |parameters, adam| ParameterGroup { parameters, adam };
    let mut optimizer: Box<dyn Optimizer> = match argument(0, "galore") {
        "galore" => {
            let galore = GaLoreConfig { rank: argument(2, "128").parse()?, ..GaLoreConfig::default() };
            let others = vec![group(others, AdamConfig::galore_default())];
            Box::new(GaLoreAdamW::new(group(linear, AdamConfig::galore_default()), others, &galore, update)?)
        }
        "adamw" => {
            linear.append(&mut others);
            Box::new(AdamW::new(vec![group(linear, AdamConfig::torch_default())], update)?)
        }
        other => return Err(format!("unknown optimizer `{other}`").into()),
    };
    for step in 0..=STEPS {
        let start = Instant::now();
        optimizer.step(1e-5)?;
        let (all, refresh) = (start.elapsed(), optimizer.subspace_refresh_time());
        println!("step {step}: {:.0} ms", all.as_secs_f64() * 1e3);
        if step == 0 && !refresh.is_zero() {
            println!("  of which decompositions {:.0} ms", refresh.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
