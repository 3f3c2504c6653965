//! CUDA graphs: what a function asks of the GPU, recorded once and launched by one call.
//!
//! An operation costs the host some ten microseconds, whatever its size. A small model asks for
//! operations that the GPU is through with sooner than that, and then waits for the host; launched
//! as a graph, a whole pass costs one call.
//!
//! A graph repeats what was recorded to the letter: same addresses, same sizes, same values that
//! the host passed. So inputs are tensors that live as long as the graph and are written before
//! each launch, outputs are read after it, and a number that changes has to be a tensor. Memory
//! that the recorded function takes comes from a [`Pool`] and stays reserved. Graphs of one pool
//! share it: they run one at a time, and what they leave behind, but for tensors that are still
//! held, is overwritten by the next.

use crate::{Error, shim};
use std::ffi::{c_ulonglong, c_void};
use std::ptr::NonNull;

/// Memory that graphs take in turns. It is given back when the last of them is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    id: (c_ulonglong, c_ulonglong),
}

impl Pool {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Torch`] without CUDA, or when its libtorch has no graphs.
    pub fn new() -> Result<Self, Error> {
        let mut id = (0, 0);
        // SAFETY: the pointers are valid for the call.
        let message = unsafe { shim::torch_ext_graph_new_pool(&mut id.0, &mut id.1) };
        shim::check("graph_new_pool", message)?;
        Ok(Self { id })
    }
}

/// A recorded sequence of operations.
#[derive(Debug)]
pub struct Graph(NonNull<c_void>);

// SAFETY: the object behind the pointer belongs to no thread; it is used by one at a time, since
// `launch` takes `&mut`.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `body` asks of CUDA device `index`; nothing of it is done before
    /// [`Self::launch`], so the tensors that `body` returns have no values yet. It must not read
    /// from the device or wait for it, and should have run before as it is, so that kernels are
    /// loaded.
    ///
    /// # Errors
    /// Those of `body`, out of memory for one; [`Error::Torch`] when something in it cannot be
    /// recorded, or without CUDA.
    pub fn record<T, E: From<Error>>(
        index: usize,
        pool: Pool,
        body: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let mut graph = std::ptr::null_mut();
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        // SAFETY: the pointer is valid for the call.
        let message = unsafe { shim::torch_ext_graph_begin(index, pool.id.0, pool.id.1, &mut graph) };
        shim::check("graph_begin", message)?;
        let graph = NonNull::new(graph)
            .map(Graph)
            .ok_or(Error::Torch { operation: "graph_begin", message: "no graph was made".to_owned() })?;
        let end = End(Some(graph));
        let outcome = body();
        let graph = end.now();
        match (outcome, graph) {
            (Ok(value), Ok(graph)) => Ok((graph, value)),
            // A recording that an error broke off is not good either.
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
        }
    }

    /// Does what was recorded, in the order of torch's current stream.
    ///
    /// # Errors
    /// [`Error::Torch`] with CUDA's message.
    pub fn launch(&mut self) -> Result<(), Error> {
        // SAFETY: the pointer is that of a graph whose recording was ended without an error.
        shim::check("graph_launch", unsafe { shim::torch_ext_graph_launch(self.0.as_ptr()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `record`, freed once.
        unsafe { shim::torch_ext_graph_free(self.0.as_ptr()) }
    }
}

/// Ends a recording, whatever becomes of its body: until then nothing else could use the device.
struct End(Option<Graph>);

impl End {
    fn now(mut self) -> Result<Graph, Error> {
        let ended = Error::Torch { operation: "graph_end", message: "ended before".to_owned() };
        let graph = self.0.take().ok_or(ended)?;
        // SAFETY: the pointer is that of a graph that is being recorded.
        shim::check("graph_end", unsafe { shim::torch_ext_graph_end(graph.0.as_ptr()) })?;
        Ok(graph)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(graph) = self.0.take() {
            // Unwinding: there is a greater error already.
            let _ = End(Some(graph)).now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn without_cuda_graphs_are_an_error() {
        if !crate::cuda::load() {
            let message = Pool::new().unwrap_err().to_string();
            assert!(message.contains("libtorch_cuda.so has no"), "{message}");
            let pool = Pool { id: (0, 1) };
            assert!(Graph::record(0, pool, || Ok::<(), Error>(())).is_err());
        }
    }

    /// On a GPU: new inputs give new outputs, two graphs share memory, and errors leave the device
    /// usable.
    #[test]
    fn a_launch_repeats_what_was_recorded() {
        if !crate::cuda::load() {
            return;
        }
        let device = Device::Cuda(0);
        let options = (Kind::Float, device);
        let pool = Pool::new().unwrap();
        let (x, weight) = (Tensor::ones([64, 64], options), Tensor::randn([64, 64], options));
        let sum = Tensor::zeros([64, 64], options);
        let body = |factor: f64| {
            let (x, weight, sum) = (x.shallow_clone(), weight.shallow_clone(), sum.shallow_clone());
            move || -> Result<Tensor, Error> {
                let product = x.matmul(&weight).relu() * factor;
                let _ = sum.shallow_clone().f_add_(&product).unwrap();
                Ok(product.sum(Kind::Float))
            }
        };
        // As it is, so that the libraries behind it are loaded.
        let _ = body(0.0)().unwrap();
        let (mut first, first_sum) = Graph::record(0, pool, body(1.0)).unwrap();
        let (mut second, second_sum) = Graph::record(0, pool, body(2.0)).unwrap();
        assert_eq!(sum.abs().sum(Kind::Float).double_value(&[]), 0.0, "recorded, not done");

        let close = |found: &Tensor, expected: &Tensor| {
            let distance = (found - expected).abs().max().double_value(&[]);
            assert!(distance <= 1e-4 * expected.abs().max().double_value(&[]), "{distance}");
        };
        let mut expected_sum = sum.copy();
        for seed in 0..3 {
            tch::manual_seed(seed);
            let input = Tensor::randn([64, 64], options);
            x.shallow_clone().copy_(&input);
            let expected = input.matmul(&weight).relu();
            // Something else takes memory in between.
            let other = Tensor::ones([1 << 20], options);
            first.launch().unwrap();
            close(&first_sum, &expected.sum(Kind::Float));
            second.launch().unwrap();
            close(&second_sum, &(expected.sum(Kind::Float) * 2.0));
            expected_sum += &expected * 3.0;
            close(&sum, &expected_sum);
            assert_eq!(other.sum(Kind::Double).double_value(&[]), f64::from(1 << 20));
        }

        // Reading from the device cannot be recorded; the device works on.
        let failed = Graph::record(0, pool, || -> Result<f64, Error> {
            x.sum(Kind::Float)
                .f_double_value(&[])
                .map_err(|error| Error::Torch { operation: "read", message: error.to_string() })
        });
        assert!(failed.is_err());
        assert_eq!(Tensor::ones([8], options).sum(Kind::Float).double_value(&[]), 8.0);
        drop((first, second));
        let (mut third, third_sum) = Graph::record(0, Pool::new().unwrap(), body(1.0)).unwrap();
        third.launch().unwrap();
        close(&third_sum, &x.matmul(&weight).relu().sum(Kind::Float));
    }
}
