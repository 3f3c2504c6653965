//! The model and its optimizer, as the loop drives them.

use crate::Error;
use crate::batches::MicroBatch;
use crate::fingerprint::{RUN_FILE, RunFile};
use crate::memory::with_memory_facts;
use crate::optimizer::OPTIMIZER_FILE;
use causal_lm::{CausalLm, LossSums, ModelFile, TokenBatch};
use checkpoint_callbacks::CheckpointSize;
use galore_optim::{Optimizer, clip_gradients, global_gradient_norm};
use serde_json::{Map, Value};
use sft_data::ChatTokenizer;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, TchError, Tensor};
use torch_ext::HostBufferPool;
use trainer_core::{BoxError, EvalSums, Learner, StepRecord, StepRequest, WindowFigures, WriteCheckpoint};

/// Trains a [`CausalLm`].
pub(crate) struct SftLearner {
    pub(crate) model: CausalLm,
    optimizer: Box<dyn Optimizer>,
    tokenizer: Arc<ChatTokenizer>,
    fingerprint: RunFile,
    /// Whether checkpoints are without the optimizer's state.
    pub(crate) saves_only_model: bool,
    /// Memory of the snapshots, kept from one to the next.
    snapshot_memory: HostBufferPool,
    /// Sums of the micro-batches since the last optimizer step.
    window: WindowSums,
    /// Steps whose figures are still on the device.
    steps: Vec<DeviceRecord>,
    /// Sums of the evaluation batches so far.
    evaluation: Option<EvaluationSums>,
}

#[derive(Default)]
struct WindowSums {
    sums: Option<LossSums>,
    target_tokens: u64,
    /// Set once it was asked for.
    grad_norm: Option<Tensor>,
}

/// On the device; the loss in float64.
struct EvaluationSums {
    loss: Tensor,
    correct: Tensor,
    target_tokens: u64,
}

/// A [`StepRecord`] whose figures are on the device.
struct DeviceRecord {
    loss: Tensor,
    correct: Tensor,
    grad_norm: Tensor,
    target_tokens: u64,
}

impl SftLearner {
    pub(crate) fn new(
        model: CausalLm,
        optimizer: Box<dyn Optimizer>,
        tokenizer: ChatTokenizer,
        fingerprint: RunFile,
    ) -> Self {
        Self {
            model,
            optimizer,
            tokenizer: Arc::new(tokenizer),
            fingerprint,
            saves_only_model: false,
            snapshot_memory: HostBufferPool::default(),
            window: WindowSums::default(),
            steps: Vec::new(),
            evaluation: None,
        }
    }

    /// Of the text files only the tokenizer's are counted.
    pub(crate) fn checkpoint_size(&self) -> Result<CheckpointSize, TchError> {
        let parameters = self.model.parameters();
        let element_bytes = parameters.flat_weights().f_kind()?.elt_size_in_bytes() as u64;
        let weights = parameters.num_parameters().unsigned_abs() * element_bytes;
        let tokenizer: usize = self.tokenizer.files().iter().map(|(_, bytes)| bytes.len()).sum();
        let state_bytes = if self.saves_only_model { 0 } else { self.optimizer.state_bytes() };
        Ok(CheckpointSize { model_bytes: weights + tokenizer as u64, state_bytes })
    }

    /// Writes the model as it is at the time of writing, without a copy of it.
    pub(crate) fn write_model(&self) -> Result<WriteCheckpoint, causal_lm::Error> {
        Ok(write_model(self.model.files()?, Arc::clone(&self.tokenizer)))
    }

    fn device(&self) -> Device {
        self.model.options().device
    }

    fn to_device(&self, batch: &MicroBatch) -> Result<TokenBatch, causal_lm::Error> {
        batch.tokens.to_device(self.device())
    }

    fn add_micro_batch(&mut self, batch: &MicroBatch, window_target_tokens: u64) -> Result<(), BoxError> {
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

    fn grad_norm(&mut self) -> Result<Tensor, BoxError> {
        let norm = match self.window.grad_norm.take() {
            Some(norm) => norm,
            None => global_gradient_norm(&[&self.model.parameters_mut().flat_gradients()?])?,
        };
        Ok(self.window.grad_norm.insert(norm).shallow_clone())
    }

    fn read_window_figures(&mut self) -> Result<Option<WindowFigures>, BoxError> {
        let grad_norm = self.grad_norm()?.f_to_kind(Kind::Double)?;
        let Some(LossSums { loss, .. }) = &self.window.sums else { return Ok(None) };
        // One copy for both: what takes time is the wait for the backward.
        let both = Tensor::f_stack(&[&loss.f_to_kind(Kind::Double)?, &grad_norm], 0)?.f_to_device(Device::Cpu)?;
        let (loss, grad_norm) = (both.f_double_value(&[0])?, both.f_double_value(&[1])?);
        // Clipping is faster with a norm that the host knows.
        self.window.grad_norm = Some(both.f_select(0, 1)?.f_to_kind(Kind::Float)?);
        Ok(Some(WindowFigures { loss: loss / self.window.target_tokens as f64, grad_norm }))
    }

    fn clip_and_update(&mut self, request: StepRequest) -> Result<(), BoxError> {
        let grad_norm = self.grad_norm()?;
        let WindowSums { sums, target_tokens, .. } = std::mem::take(&mut self.window);
        if let Some(max_norm) = request.max_grad_norm {
            clip_gradients(&[self.model.parameters_mut().flat_gradients()?], max_norm, &grad_norm)?;
        }
        // Before the update: a step has its record even when its update fails.
        if let Some(LossSums { loss, correct }) = sums {
            self.steps.push(DeviceRecord { loss, correct, grad_norm, target_tokens });
        }
        self.optimizer.step(request.learning_rate)?;
        Ok(self.model.parameters_mut().zero_gradients()?)
    }

    fn add_evaluation(&mut self, batch: &MicroBatch) -> Result<(), BoxError> {
        let batch = self.to_device(batch)?;
        let LossSums { loss, correct } = self.model.loss(&batch)?;
        let (loss, target_tokens) = (loss.f_to_kind(Kind::Double)?, u64::try_from(batch.num_targets())?);
        // Summed on the device: reading it would mean waiting for the device at each batch.
        self.evaluation = Some(match &self.evaluation {
            None => EvaluationSums { loss, correct, target_tokens },
            Some(earlier) => EvaluationSums {
                loss: earlier.loss.f_add(&loss)?,
                correct: earlier.correct.f_add(&correct)?,
                target_tokens: earlier.target_tokens + target_tokens,
            },
        });
        Ok(())
    }

    fn load(&mut self, checkpoint: &Path) -> Result<(), BoxError> {
        self.fingerprint.check(checkpoint)?;
        let state = checkpoint.join(OPTIMIZER_FILE);
        if !state.exists() {
            return Err(Box::new(Error::NoOptimizerState { checkpoint: checkpoint.to_owned() }));
        }
        self.model.load_weights(checkpoint)?;
        Ok(self.optimizer.load(&state)?)
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

impl Learner for SftLearner {
    type Batch = MicroBatch;

    fn forward_backward(&mut self, batch: &MicroBatch, window_target_tokens: u64) -> Result<(), BoxError> {
        with_memory_facts(self.add_micro_batch(batch, window_target_tokens))
    }

    fn window_figures(&mut self) -> Result<Option<WindowFigures>, BoxError> {
        with_memory_facts(self.read_window_figures())
    }

    fn discard_window(&mut self) -> Result<(), BoxError> {
        self.window = WindowSums::default();
        Ok(self.model.parameters_mut().zero_gradients()?)
    }

    fn optimizer_step(&mut self, request: StepRequest) -> Result<(), BoxError> {
        with_memory_facts(self.clip_and_update(request))
    }

    fn take_step_records(&mut self) -> Result<Vec<StepRecord>, BoxError> {
        let to_record = |step: DeviceRecord| -> Result<StepRecord, BoxError> {
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
        with_memory_facts(self.add_evaluation(batch))
    }

    fn take_eval_sums(&mut self) -> Result<EvalSums, BoxError> {
        let Some(EvaluationSums { loss, correct, target_tokens }) = self.evaluation.take() else {
            return Ok(EvalSums::default());
        };
        let correct_tokens = u64::try_from(correct.f_int64_value(&[])?)?;
        Ok(EvalSums { loss_sum: loss.f_double_value(&[])?, correct_tokens, target_tokens })
    }

    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError> {
        let write_model = write_model(self.model.snapshot(&self.snapshot_memory)?, Arc::clone(&self.tokenizer));
        // Row order and stochastic rounding depend on seed, epoch and step alone, so there is no
        // random state to save.
        let run_file = self.fingerprint.to_text()?;
        if self.saves_only_model {
            return Ok(Box::new(move |folder| {
                write_model(folder)?;
                folder.write_file(Path::new(RUN_FILE), &mut |to| Ok(to.write_all(run_file.as_bytes())?))
            }));
        }
        let state = self.optimizer.state_file()?;
        let state_bytes = self.snapshot_memory.copy(state.tensors())?;
        let state_header = state.into_header();
        Ok(Box::new(move |folder| {
            write_model(folder)?;
            folder.write_file(Path::new(RUN_FILE), &mut |to| Ok(to.write_all(run_file.as_bytes())?))?;
            folder.write_file(Path::new(OPTIMIZER_FILE), &mut |to| {
                to.write_all(&state_header)?;
                Ok(to.write_all(&state_bytes)?)
            })
        }))
    }

    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError> {
        with_memory_facts(self.load(dir))
    }

    fn check_finite(&mut self) -> Result<(), BoxError> {
        let remedy = "a lower learning_rate or max_grad_norm may help";
        self.model.check_finite().map_err(|error| format!("{error}; {remedy}").into())
    }

    fn report(&mut self) -> Result<Map<String, Value>, BoxError> {
        let refresh_ms = self.optimizer.subspace_refresh_time().as_secs_f64() * 1e3;
        let peak = match self.device() {
            Device::Cuda(index) => Some(torch_ext::cuda::memory(index)?.peak_bytes),
            _ => torch_ext::host::peak_resident_bytes(),
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
