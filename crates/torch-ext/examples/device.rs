//! Prints which device training would use: `cargo run -p torch-ext --example device`.

fn main() -> Result<(), torch_ext::Error> {
    if torch_ext::cuda::load() {
        let memory = torch_ext::cuda::memory(0)?;
        println!("cuda:0, {} bytes in tensors", memory.current_bytes);
    } else {
        println!("cpu, {} threads", tch::get_num_threads());
    }
    Ok(())
}
