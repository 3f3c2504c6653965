//! Prints the device that training would use: `cargo run -p torch-ext --example device -- cuda:1`

use tch::Device;
use torch_ext::cuda::memory;
use torch_ext::device::{DeviceChoice, choose};

fn main() -> Result<(), torch_ext::Error> {
    let choice = std::env::args().nth(1).map_or(Ok(DeviceChoice::Auto), |name| name.parse())?;
    match choose(choice, &[])? {
        Device::Cuda(index) => println!("cuda:{index}, {} bytes in tensors", memory(index)?.current_bytes),
        _ => println!("cpu, {} threads", tch::get_num_threads()),
    }
    Ok(())
}
