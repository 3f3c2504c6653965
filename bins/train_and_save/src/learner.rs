//! The model and its optimizer, as the loop drives them.

use crate::batches::MicroBatch;
use crate::identity::{Identity, RUN_FILE};
use crate::memory::noted;
use crate::optimizer::OPTIMIZER_FILE;
use crate::terminal::say;
use anyhow::Result;
use causal_lm::{CausalLm, LossSums, ModelFile, TokenBatch};
use galore_optim::{Optimizer, clip_gradients, global_gradient_norm};
use serde_json::{Map, Value};
use sft_data::ChatTokenizer;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};
use torch_ext::HostMemory;
use trainer_core::{BoxError, EvalSums, Learner, StepRecord, StepRequest, WindowFigures, WriteCheckpoint};

/// Weights looked at together for values that are not finite.
const FINITE_CHECK_ELEMENTS: usize = 16 << 20;

/// Trains a [`CausalLm`].
pub struct SftLearner {
    pub model: CausalLm,
    pub optimizer: Box<dyn Optimizer>,
    pub tokenizer: Arc<ChatTokenizer>,
    pub identity: Identity,
    /// Of the snapshots, kept from one to the next.
    snapshot_memory: HostMemory,
    /// Sums of the micro-batches since the last optimizer step.
    window: Window,
    /// Steps whose figures are still on the device.
    steps: Vec<Step>,
    /// Sums of the evaluation batches so far.
    evaluation: Option<Evaluation>,
}

#[derive(Default)]
struct Window {
    sums: Option<LossSums>,
    target_tokens: u64,
    /// Once it was asked for.
    grad_norm: Option<Tensor>,
}

/// On the device, the loss in float64.
struct Evaluation {
    loss: Tensor,
    correct: Tensor,
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
        let tokenizer = Arc::new(tokenizer);
        let (snapshot_memory, window) = (HostMemory::default(), Window::default());
        Self { model, optimizer, tokenizer, identity, snapshot_memory, window, steps: Vec::new(), evaluation: None }
    }

    /// Bytes of the model's files, and of those that a checkpoint holds besides. Text files other
    /// than the tokenizer's are not counted.
    pub fn file_bytes(&self) -> Result<(u64, u64)> {
        let parameters = self.model.parameters();
        let weights =
            parameters.num_parameters().unsigned_abs() * parameters.flat_weights().f_kind()?.elt_size_in_bytes() as u64;
        let tokenizer: usize = self.tokenizer.files().iter().map(|(_, bytes)| bytes.len()).sum();
        Ok((weights + tokenizer as u64, self.optimizer.state_bytes()))
    }

    /// Writes the model as it is when that is called, without a copy of it.
    pub fn model_as_it_is(&self) -> Result<WriteCheckpoint> {
        Ok(write_model(self.model.files()?, Arc::clone(&self.tokenizer)))
    }

    fn device(&self) -> Device {
        self.model.options().device
    }

    fn to_device(&self, batch: &MicroBatch) -> Result<TokenBatch, causal_lm::Error> {
        batch.tokens.to_device(self.device())
    }
}

/// Writes model and tokenizer files, as `from_pretrained` loads them. The weights' memory is given
/// back file by file.
fn write_model(files: Vec<ModelFile>, tokenizer: Arc<ChatTokenizer>) -> WriteCheckpoint {
    Box::new(move |folder| {
        for file in files {
            folder.write_file(Path::new(file.name()), &mut |to| Ok(file.write_to(to)?))?;
        }
        tokenizer
            .files()
            .iter()
            .try_for_each(|(path, bytes)| folder.write_file(path, &mut |to| Ok(to.write_all(bytes)?)))
    })
}

impl SftLearner {
    fn add_micro_batch(&mut self, batch: &MicroBatch, window_target_tokens: u64) -> Result<(), BoxError> {
        let batch = self.to_device(batch)?;
        let recorded = self.model.cuda_graphs_failure().is_none();
        let sums = self.model.forward_backward(&batch, 1.0 / window_target_tokens as f64)?;
        if let Some(error) = self.model.cuda_graphs_failure().filter(|_| recorded) {
            say(&format!("warning: no more CUDA graphs, operations are launched one by one: {error}"));
        }
        self.window.target_tokens = window_target_tokens;
        self.window.sums = Some(match self.window.sums.take() {
            None => sums,
            Some(earlier) => {
                LossSums { loss: earlier.loss.f_add(&sums.loss)?, correct: earlier.correct.f_add(&sums.correct)? }
            }
        });
        Ok(())
    }

    fn grad_norm(&mut self) -> Result<Tensor, BoxError> {
        let norm = match self.window.grad_norm.take() {
            Some(norm) => norm,
            None => global_gradient_norm(&[&self.model.parameters_mut().flat_gradients()?])?,
        };
        Ok(self.window.grad_norm.insert(norm).shallow_clone())
    }

    fn look_at_window(&mut self) -> Result<Option<WindowFigures>, BoxError> {
        let grad_norm = self.grad_norm()?.f_to_kind(Kind::Double)?;
        let Some(LossSums { loss, .. }) = &self.window.sums else { return Ok(None) };
        // One copy for both: what takes time is the wait for the backward.
        let both = Tensor::f_stack(&[&loss.f_to_kind(Kind::Double)?, &grad_norm], 0)?.f_to_device(Device::Cpu)?;
        let (loss, grad_norm) = (both.f_double_value(&[0])?, both.f_double_value(&[1])?);
        // Clipping by what the host knows is faster.
        self.window.grad_norm = Some(both.f_select(0, 1)?.f_to_kind(Kind::Float)?);
        Ok(Some(WindowFigures { loss: loss / self.window.target_tokens as f64, grad_norm }))
    }

    fn clip_and_update(&mut self, request: StepRequest) -> Result<(), BoxError> {
        let grad_norm = self.grad_norm()?;
        let Window { sums, target_tokens, .. } = std::mem::take(&mut self.window);
        if let Some(max_norm) = request.max_grad_norm {
            clip_gradients(&[self.model.parameters_mut().flat_gradients()?], max_norm, &grad_norm)?;
        }
        // Before the update, which may fail of what is in the record.
        if let Some(LossSums { loss, correct }) = sums {
            self.steps.push(Step { loss, correct, grad_norm, target_tokens });
        }
        self.optimizer.step(request.learning_rate)?;
        Ok(self.model.parameters_mut().zero_gradients()?)
    }

    fn add_evaluation(&mut self, batch: &MicroBatch) -> Result<(), BoxError> {
        let batch = self.to_device(batch)?;
        let LossSums { loss, correct } = self.model.loss(&batch)?;
        let (loss, target_tokens) = (loss.f_to_kind(Kind::Double)?, u64::try_from(batch.num_targets())?);
        // Summed up where it is: to read it would be to wait for the device at each batch.
        self.evaluation = Some(match &self.evaluation {
            None => Evaluation { loss, correct, target_tokens },
            Some(earlier) => Evaluation {
                loss: earlier.loss.f_add(&loss)?,
                correct: earlier.correct.f_add(&correct)?,
                target_tokens: earlier.target_tokens + target_tokens,
            },
        });
        Ok(())
    }
}

impl Learner for SftLearner {
    type Batch = MicroBatch;

    fn forward_backward(&mut self, batch: &MicroBatch, window_target_tokens: u64) -> Result<(), BoxError> {
        noted(self.add_micro_batch(batch, window_target_tokens))
    }

    fn window_figures(&mut self) -> Result<Option<WindowFigures>, BoxError> {
        noted(self.look_at_window())
    }

    fn discard_window(&mut self) -> Result<(), BoxError> {
        self.window = Window::default();
        Ok(self.model.parameters_mut().zero_gradients()?)
    }

    fn optimizer_step(&mut self, request: StepRequest) -> Result<(), BoxError> {
        noted(self.clip_and_update(request))
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

    fn evaluate(&mut self, batch: &MicroBatch) -> Result<(), BoxError> {
        noted(self.add_evaluation(batch))
    }

    fn take_eval_sums(&mut self) -> Result<EvalSums, BoxError> {
        let Some(Evaluation { loss, correct, target_tokens }) = self.evaluation.take() else {
            return Ok(EvalSums::default());
        };
        let correct_tokens = u64::try_from(correct.f_int64_value(&[])?)?;
        Ok(EvalSums { loss_sum: loss.f_double_value(&[])?, correct_tokens, target_tokens })
    }

    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError> {
        let write_model = write_model(self.model.snapshot(&self.snapshot_memory)?, Arc::clone(&self.tokenizer));
        // Row order and stochastic rounding depend on seed, epoch and step alone: there is no
        // random state.
        let (identity, optimizer) = (self.identity.to_text()?, self.optimizer.snapshot(&self.snapshot_memory)?);
        Ok(Box::new(move |folder| {
            write_model(folder)?;
            folder.write_file(Path::new(RUN_FILE), &mut |to| Ok(to.write_all(identity.as_bytes())?))?;
            folder.write_file(Path::new(OPTIMIZER_FILE), &mut |to| Ok(optimizer.write_to(to)?))
        }))
    }

    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError> {
        let mut load = || -> Result<(), BoxError> {
            self.identity.check(dir)?;
            self.model.load_weights(dir)?;
            Ok(self.optimizer.load(&dir.join(OPTIMIZER_FILE))?)
        };
        noted(load())
    }

    fn check_finite(&mut self) -> Result<(), BoxError> {
        // A sum is not finite as soon as one of its terms is not; float64 has room for all that
        // are.
        let parameters = self.model.parameters();
        let is_finite = |tensor: &Tensor| -> Result<bool, BoxError> {
            let flat = tensor.f_view([-1])?;
            // Quick, as it needs no copy: in the weights' own type, but for float16, which has no
            // room for a sum.
            let kind = if flat.f_kind()? == Kind::Half { Kind::Float } else { flat.f_kind()? };
            if flat.f_sum(kind)?.f_double_value(&[])?.is_finite() {
                return Ok(true);
            }
            let length = flat.size1()?;
            let mut total = Tensor::f_zeros([0i64; 0], (Kind::Double, flat.device()))?;
            // In pieces: on a GPU the sum makes a float64 copy first, eight bytes for each two of
            // the weights.
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
