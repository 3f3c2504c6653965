use crate::{AttentionKind, CudaGraphs, Recompute};
use tch::{Device, Kind};

/// How a model is held and run.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// Where weights are. Default: the CPU.
    pub device: Device,
    /// Type that weights are held and saved in: `Float`, `BFloat16`, `Half`; `Double` for tests.
    /// `None`, the default: the type that the model's folder has.
    pub dtype: Option<Kind>,
    /// Type of activations and gradients. `None`, the default: that of the weights, but float32 for
    /// 16-bit weights on the CPU, where 16-bit arithmetic is tens of times slower.
    pub compute_dtype: Option<Kind>,
    /// How attention is computed.
    pub attention: AttentionKind,
    /// What the backward computes again.
    pub recompute: Recompute,
    /// Whether forward and backward are recorded and launched as a whole.
    pub cuda_graphs: CudaGraphs,
    /// How many logits exist at one time: the head runs on as many tokens as keep `tokens · v`
    /// below this. `None`, the default: 16 Mi on the CPU, which is 64 MiB of float32. On a GPU 320
    /// Mi, which is 640 MiB of bfloat16, or 160 Mi where memory lacks for keeping all blocks.
    pub logits_chunk_elements: Option<i64>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            dtype: None,
            compute_dtype: None,
            attention: AttentionKind::default(),
            recompute: Recompute::default(),
            cuda_graphs: CudaGraphs::default(),
            logits_chunk_elements: None,
        }
    }
}
