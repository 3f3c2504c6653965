//! Prints the perplexity of token ids under the model of a folder:
//! `cargo run -p causal-lm --example perplexity -- MODEL_DIR ID ID ID…`

use causal_lm::{CausalLm, ModelOptions, TokenBatch};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: perplexity MODEL_DIR ID ID…")?;
    let ids = arguments.map(|id| id.parse()).collect::<Result<Vec<i64>, _>>()?;
    let (model, report) = CausalLm::load(Path::new(&folder), ModelOptions::default())?;
    println!("{} parameters, {} tensors not used", model.parameters().num_parameters(), report.extra_tensors.len());

    let targets: Vec<i64> = ids.iter().skip(1).copied().chain([-1]).collect();
    let batch = TokenBatch::new(&ids, &targets, &[ids.len()], model.options().device)?;
    let loss = model.loss(&batch)?.loss.f_double_value(&[])? / batch.num_targets() as f64;
    println!("loss {loss:.4}, perplexity {:.2}", loss.exp());
    Ok(())
}
