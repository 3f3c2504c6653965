//! Measures each fused kernel: its time in microseconds and the bandwidth that it reaches. The
//! shapes are those of a batch of 8 × 1024 tokens in a model of width 1024, with 2816 inside the
//! MLP and a vocabulary of 151,936. The last lines are cuSOLVER's batched eigenvectors, so a run
//! uses the driver, NVRTC and cuSOLVER: `cargo run --release -p torch-ext --example kernel_times`

use std::time::Instant;
use tch::{Cuda, Device, Kind, Tensor};
use torch_ext::eigen;
use torch_ext::kernels::adam::{Constants, Moments, Weight, WeightFormat};
use torch_ext::kernels::{adam, available, column_sum, cross_entropy, embedding, norm, rms_norm, rope, swiglu};

const TOKENS: i64 = 8192;
const REPEATS: usize = 30;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cuda(0);
    torch_ext::cuda::load_from(&[])?;
    if !available(&[&Tensor::f_zeros([1], (Kind::Float, device))?]) {
        return Err("kernels cannot be compiled for this GPU".into());
    }
    let random = |shape: &[i64]| Tensor::f_randn(shape, (Kind::BFloat16, device));
    let floats = |n: i64| Tensor::f_rand([n], (Kind::Float, device));
    let (x, residual, weight) = (random(&[TOKENS, 1024])?, random(&[TOKENS, 1024])?, random(&[1024])?);
    let elements = (TOKENS * 1024) as f64;

    time("rms_norm forward", 2.0 * 2.0 * elements, || {
        rms_norm::forward(&x, None, rms_norm::Weight::rounded(&weight), 1e-6).map(drop)
    })?;
    time("rms_norm forward of a sum", 4.0 * 2.0 * elements, || {
        rms_norm::forward(&x, Some(&residual), rms_norm::Weight::rounded(&weight), 1e-6).map(drop)
    })?;
    let r = rms_norm::forward(&x, None, rms_norm::Weight::rounded(&weight), 1e-6)?.reciprocal_rms;
    let saved = rms_norm::Saved { x: &x, weight: rms_norm::Weight::rounded(&weight), reciprocal_rms: &r };
    let mut gradient = Tensor::f_zeros([1024], (Kind::Float, device))?;
    time("rms_norm backward plus", 4.0 * 2.0 * elements, || {
        rms_norm::backward(&residual, saved, Some(&residual), &mut gradient).map(drop)
    })?;
    let (d_qkv, mut bias) = (random(&[TOKENS, 3072])?, random(&[3072])?);
    time("gradient of q, k, v's biases", 3.0 * 2.0 * elements, || column_sum::add(&d_qkv, &mut bias))?;

    let mut projected = random(&[TOKENS, 48, 64])?; // q, k and v
    let angles = random(&[TOKENS, 1, 32])?;
    time("rope of q and k", 2.0 * 2.0 * 2.0 * elements, || rope::rotate(&mut projected, 32, &angles, &angles))?;
    let heads = random(&[TOKENS, 16, 64])?;
    time("rope back", 3.0 * 2.0 * 2.0 * elements, || rope::rotate_back([&heads; 3], &angles, &angles).map(drop))?;

    let (gate_up, da) = (random(&[TOKENS, 2 * 2816])?, random(&[TOKENS, 2816])?);
    let elements = (TOKENS * 2816) as f64;
    time("swiglu forward", 3.0 * 2.0 * elements, || swiglu::forward(swiglu::Activation::Silu, &gate_up).map(drop))?;
    time("swiglu backward", 6.0 * 2.0 * elements, || {
        swiglu::backward(swiglu::Activation::Silu, da.shallow_clone(), &gate_up).map(drop)
    })?;

    let mut logits = random(&[2048, 151_936])?;
    let targets = Tensor::f_randint(151_936, [2048], (Kind::Int64, device))?;
    let scale = Tensor::from(1e-4f64).to_device(device);
    let what = cross_entropy::Logits::Gradient { scale: &scale };
    time("cross_entropy, 2048 rows", 2.0 * 2.0 * 2048.0 * 151_936.0, || {
        cross_entropy::forward_backward(&mut logits, &targets, what).map(drop)
    })?;

    let ids = Tensor::f_randint(4096, [TOKENS], (Kind::Int64, device))?;
    let order = ids.f_argsort(0, false)?.f_to_kind(Kind::Int)?;
    let mut table = random(&[151_936, 1024])?;
    let dy = random(&[TOKENS, 1024])?;
    time("embedding backward", (1.0 + 2.0 * 0.43) * 2.0 * (TOKENS * 1024) as f64, || {
        embedding::backward(&dy, &ids, &order, &mut table)
    })?;
    time("embedding backward, index_add_", (1.0 + 2.0 * 0.43) * 2.0 * (TOKENS * 1024) as f64, || {
        table
            .f_index_add_(0, &ids, &dy)
            .map(drop)
            .map_err(|error| torch_ext::Error::Torch { operation: "index_add_", message: error.to_string() })
    })?;

    let gradients = random(&[308_281_344])?;
    time("norm of all gradients", 2.0 * gradients.numel() as f64, || norm::two_norm(&gradients).map(drop))?;
    drop(gradients);

    let n = 151_936 * 1024;
    let constants = Constants {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-6,
        step: -1e-5,
        moments_key: 3,
        root: 1.0,
        decay_before: 1.0,
        decay_after: 1.0,
    };
    let (mut embedding, gradient) = (random(&[n])?, random(&[n])?);
    let hidden = Tensor::f_zeros([n], (Kind::Int16, device))?;
    let (mut first, mut second) = (floats(n)?, floats(n)?);
    time("adam, embedding, hidden bits", 26.0 * n as f64, || {
        let weight = Weight { values: &mut embedding, format: WeightFormat::HiddenBits(&hidden) };
        adam::full(weight, &gradient, Moments { first: &mut first, second: &mut second }, &constants)
    })?;
    time("adam, embedding, stochastic", 22.0 * n as f64, || {
        let weight = Weight { values: &mut embedding, format: WeightFormat::Stochastic { key: 7 } };
        adam::full(weight, &gradient, Moments { first: &mut first, second: &mut second }, &constants)
    })?;
    let narrow = || Tensor::f_zeros([n], (Kind::BFloat16, device));
    let (mut first, mut second) = (narrow()?, narrow()?);
    time("adam, embedding, hidden bits, bfloat16 moments", 18.0 * n as f64, || {
        let weight = Weight { values: &mut embedding, format: WeightFormat::HiddenBits(&hidden) };
        adam::full(weight, &gradient, Moments { first: &mut first, second: &mut second }, &constants)
    })?;
    let n = 2816 * 1024;
    let mut low_rank = floats(n)?;
    let (mut first, mut second) = (floats(n)?, floats(n)?);
    time("adam direction, 2816 × 1024 (in cache)", 24.0 * n as f64, || {
        adam::direction(&mut low_rank, Moments { first: &mut first, second: &mut second }, &constants)
    })?;

    for n in [256, 1024] {
        let tall = random(&[8, n, n])?.f_to_kind(Kind::Float)?;
        let matrices = tall.f_transpose(1, 2)?.f_matmul(&tall)?;
        let bytes = 2.0 * 4.0 * matrices.numel() as f64;
        time(&format!("eigenvectors, 8 of order {n}"), bytes, || eigen::eigenvectors(matrices.copy()).map(drop))?;
    }
    Ok(())
}

fn time(name: &str, bytes: f64, mut run: impl FnMut() -> Result<(), torch_ext::Error>) -> Result<(), torch_ext::Error> {
    for _ in 0..3 {
        run()?;
    }
    Cuda::synchronize(0);
    let start = Instant::now();
    for _ in 0..REPEATS {
        run()?;
    }
    Cuda::synchronize(0);
    let seconds = start.elapsed().as_secs_f64() / REPEATS as f64;
    println!("{name:42} {:9.1} µs {:8.2} TB/s", seconds * 1e6, bytes / seconds / 1e12);
    Ok(())
}
