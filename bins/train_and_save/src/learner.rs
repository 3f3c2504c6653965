//! The model and its optimizer, as the loop drives them.

use crate::batches::MicroBatch;
use crate::identity::Identity;
use crate::optimizer::OPTIMIZER_FILE;
use anyhow::Result;
use causal_lm::{CausalLm, LossSums, TokenBatch};
use galore_optim::{Optimizer, clip_gradients, global_gradient_norm};
use serde_json::{Map, Value};
use sft_data::ChatTokenizer;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use trainer_core::{BoxError, EvalSums, Learner, StepRecord, StepRequest};

/// Weights looked at together for values that are not finite.
const FINITE_CHECK_ELEMENTS: usize = 16 << 20;

/// Trains a [`CausalLm`].
pub struct SftLearner {
    pub model: CausalLm,
    pub optimizer: Box<dyn Optimizer>,
    pub tokenizer: ChatTokenizer,
    pub identity: Identity,
    /// Sums of the micro-batches since the last optimizer step.
    window: Window,
    /// Steps whose figures are still on the device.
    steps: Vec<Step>,
}

#[derive(Default)]
struct Window {
    sums: Option<LossSums>,
    target_tokens: u64,
}

struct Step {
    loss: Tensor,
    correct: Tensor,
    grad_norm: Tensor,
    target_tokens: u64,
}

impl SftLearner {
    pub fn new(model: CausalLm, optimizer: Box<dyn Optimizer>, tokenizer: ChatTokenizer, identity: Identity) -> Self {
        Self { model, optimizer, tokenizer, identity, window: Window::default(), steps: Vec::new() }
    }

    fn device(&self) -> Device {
        self.model.options().device
    }

    fn to_device(&self, batch: &MicroBatch) -> Result<TokenBatch, causal_lm::Error> {
        batch.tokens.to_device(self.device())
    }
}

impl Learner for SftLearner {
    type Batch = MicroBatch;

    fn forward_backward(&mut self, batch: &MicroBatch, window_target_tokens: u64) -> Result<(), BoxError> {
        let batch = self.to_device(batch)?;
        let sums = self.model.forward_backward(&batch, 1.0 / window_target_tokens as f64)?;
        self.window.target_tokens = window_target_tokens;
        self.window.sums = Some(match self.window.sums.take() {
            None => sums,
            Some(earlier) => {
                LossSums { loss: earlier.loss.f_add(&sums.loss)?, correct: earlier.correct.f_add(&sums.correct)? }
            }
        });
        Ok(())
    }

    fn optimizer_step(&mut self, request: StepRequest) -> Result<(), BoxError> {
        let gradients = self.model.parameters_mut().flat_gradients()?;
        let grad_norm = global_gradient_norm(&[&gradients])?;
        if let Some(max_norm) = request.max_grad_norm {
            clip_gradients(&[gradients], max_norm, &grad_norm)?;
        }
        self.optimizer.step(request.learning_rate)?;
        self.model.parameters_mut().zero_gradients()?;
        let Window { sums, target_tokens } = std::mem::take(&mut self.window);
        if let Some(LossSums { loss, correct }) = sums {
            self.steps.push(Step { loss, correct, grad_norm, target_tokens });
        }
        Ok(())
    }

    fn take_step_records(&mut self) -> Result<Vec<StepRecord>, BoxError> {
        let to_record = |step: Step| -> Result<StepRecord, BoxError> {
            Ok(StepRecord {
                loss: step.loss.f_double_value(&[])? / step.target_tokens as f64,
                grad_norm: step.grad_norm.f_double_value(&[])?,
                correct_tokens: u64::try_from(step.correct.f_int64_value(&[])?)?,
                target_tokens: step.target_tokens,
            })
        };
        std::mem::take(&mut self.steps).into_iter().map(to_record).collect()
    }

    fn evaluate(&mut self, batch: &MicroBatch) -> Result<EvalSums, BoxError> {
        let batch = self.to_device(batch)?;
        let sums = self.model.loss(&batch)?;
        Ok(EvalSums {
            loss_sum: sums.loss.f_double_value(&[])?,
            correct_tokens: u64::try_from(sums.correct.f_int64_value(&[])?)?,
            target_tokens: u64::try_from(batch.num_targets())?,
        })
    }

    fn save_model(&mut self, dir: &Path) -> Result<(), BoxError> {
        self.model.save(dir)?;
        self.tokenizer.save(dir)?;
        Ok(())
    }

    fn save_training_state(&mut self, dir: &Path) -> Result<(), BoxError> {
        // Row order and stochastic rounding depend on seed, epoch and step alone: there is no other random state.
        self.identity.write(dir)?;
        Ok(self.optimizer.save(&dir.join(OPTIMIZER_FILE))?)
    }

    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError> {
        self.identity.check(dir)?;
        self.model.load_weights(dir)?;
        Ok(self.optimizer.load(&dir.join(OPTIMIZER_FILE))?)
    }

    fn check_finite(&mut self) -> Result<(), BoxError> {
        // A sum is not finite as soon as one of its terms is not; float64 has room for all that are.
        let parameters = self.model.parameters();
        let is_finite = |tensor: &Tensor| -> Result<bool, BoxError> {
            let flat = tensor.f_view([-1])?;
            let length = flat.size1()?;
            let mut total = Tensor::f_zeros([0i64; 0], (Kind::Double, flat.device()))?;
            // In pieces: on a GPU the sum makes a float64 copy first, eight bytes for each two of the weights.
            for start in (0..length).step_by(FINITE_CHECK_ELEMENTS) {
                let piece = flat.f_narrow(0, start, (length - start).min(FINITE_CHECK_ELEMENTS as i64))?;
                total = total.f_add(&piece.f_sum(Kind::Double)?)?;
            }
            Ok(total.f_double_value(&[])?.is_finite())
        };
        if is_finite(parameters.flat_weights())? {
            return Ok(());
        }
        for (spec, weight) in parameters.specs().iter().zip(parameters.weights()) {
            if !is_finite(weight)? {
                let name = &spec.name;
                return Err(format!(
                    "{name} has a value that is not finite; a lower learning_rate or max_grad_norm may help"
                )
                .into());
            }
        }
        Ok(())
    }

    fn report(&mut self) -> Result<Map<String, Value>, BoxError> {
        let refresh_ms = self.optimizer.subspace_refresh_time().as_secs_f64() * 1e3;
        let peak = match self.device() {
            Device::Cuda(index) => Some(torch_ext::cuda::memory(index)?.peak_bytes),
            _ => peak_resident_bytes(),
        };
        Ok(Map::from_iter([
            ("subspace_refresh_ms_total".to_owned(), refresh_ms.into()),
            ("peak_memory_bytes".to_owned(), peak.into()),
        ]))
    }

    fn synchronize(&mut self) -> Result<(), BoxError> {
        if let Device::Cuda(index) = self.device() {
            torch_ext::cuda::synchronize(index)?;
        }
        Ok(())
    }
}

/// The most memory this process has had resident, where the system says.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
