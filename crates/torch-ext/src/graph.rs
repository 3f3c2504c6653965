//! CUDA graphs: the GPU work of a function, recorded once and launched by one call.
//!
//! An operation costs the host about ten microseconds, whatever its size. The GPU finishes the
//! operations of a small model sooner than that and then waits for the host. As a graph, a whole
//! pass costs one call.
//!
//! A graph repeats exactly what was recorded: the same addresses, the same sizes and the same
//! values that the host passed. So inputs are tensors that live as long as the graph and are
//! written before each launch, outputs are read after it, and a number that changes must be a
//! tensor. The memory that the recorded function allocates comes from a [`Pool`] and stays
//! reserved. Graphs of one pool share its memory and run one at a time. A graph may overwrite what
//! an earlier graph of the pool left in memory, except tensors that are still held.

use crate::{Error, shim};
use std::ffi::{c_ulonglong, c_void};
use std::ptr::NonNull;

/// Memory that several graphs share. It is freed when the last of them is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    id: (c_ulonglong, c_ulonglong),
}

impl Pool {
    /// Makes an empty pool.
    ///
    /// # Errors
    /// [`Error::Torch`] without CUDA, or when libtorch's CUDA half has no graphs.
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

// SAFETY: the object behind the pointer is not tied to a thread, and one thread at a time uses it,
// since `launch` takes `&mut`.
unsafe impl Send for Graph {}

impl Graph {
    /// Records the work that `body` gives to CUDA device `index`.
    ///
    /// None of the work is done before [`Self::launch`], so the tensors that `body` returns have no
    /// values yet. `body` must not read from the device or wait for it. Run it once without
    /// recording first, so that its kernels are loaded.
    ///
    /// # Errors
    /// The errors of `body`, such as running out of memory; [`Error::Torch`] when part of it cannot
    /// be recorded, or without CUDA.
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
            // After an error in `body` the recording is incomplete.
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
        }
    }

    /// Starts the recorded work on torch's current stream.
    ///
    /// # Errors
    /// [`Error::Torch`] with CUDA's message.
    pub fn launch(&mut self) -> Result<(), Error> {
        // SAFETY: the pointer is that of a graph whose recording ended without an error.
        shim::check("graph_launch", unsafe { shim::torch_ext_graph_launch(self.0.as_ptr()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `record`, freed once.
        unsafe { shim::torch_ext_graph_free(self.0.as_ptr()) }
    }
}

/// Ends a recording, also when its body panics: until then nothing else can use the device.
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
            // The body is panicking, which is the error to report.
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

    /// Needs a GPU. New inputs give new outputs, two graphs share memory, and the device stays
    /// usable after an error.
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
        // Once without recording, so that the libraries behind it are loaded.
        let _ = body(0.0)().unwrap();
        let (mut first, first_sum) = Graph::record(0, pool, body(1.0)).unwrap();
        let (mut second, second_sum) = Graph::record(0, pool, body(2.0)).unwrap();
        assert_eq!(sum.abs().sum(Kind::Float).double_value(&[]), 0.0, "recorded, not run");

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
            // Other memory is allocated in between.
            let other = Tensor::ones([1 << 20], options);
            first.launch().unwrap();
            close(&first_sum, &expected.sum(Kind::Float));
            second.launch().unwrap();
            close(&second_sum, &(expected.sum(Kind::Float) * 2.0));
            expected_sum += &expected * 3.0;
            close(&sum, &expected_sum);
            assert_eq!(other.sum(Kind::Double).double_value(&[]), f64::from(1 << 20));
        }

        // Reading from the device cannot be recorded. The device stays usable.
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
