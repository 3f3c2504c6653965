//! Prints the logits after each of some token ids as JSON, to compare with another implementation:
//! `cargo run -p causal-lm --example logits -- MODEL_DIR ID ID ID…`

use causal_lm::{CausalLm, ModelOptions, TokenBatch};
use std::error::Error;
use std::path::Path;
use tch::Kind;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: logits MODEL_DIR ID ID…")?;
    let ids = arguments.map(|id| id.parse()).collect::<Result<Vec<i64>, _>>()?;
    let options = ModelOptions { dtype: Some(Kind::Float), ..ModelOptions::default() };
    let (model, _) = CausalLm::load(Path::new(&folder), options)?;
    let batch = TokenBatch::new(&ids, &vec![-1; ids.len()], &[ids.len()], model.options().device)?;
    let rows = Vec::<Vec<f32>>::try_from(model.logits(&batch)?)?;
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}
