use super::*;
use serde_json::{Value, json};

fn config(options: Value) -> SftConfig {
    let Value::Object(mut all) = json!({ "model_name": "m", "output_dir": "o" }) else { panic!() };
    all.extend(options.as_object().unwrap().clone());
    SftConfig::from_options(all).unwrap()
}

fn torch_error() -> causal_lm::Error {
    let text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which 512.00 \
                MiB is free. Process 1 has more.\nException raised from malloc at a.cpp:1\nframe #0";
    causal_lm::Error::Torch(tch::TchError::Torch(text.to_owned()))
}

#[test]
fn the_loop_is_told_and_the_user_is_helped() {
    let failed = with_memory_facts(Err::<(), _>(torch_error().into())).unwrap_err();
    let source = *failed.downcast::<OutOfMemory>().unwrap();
    let of_loop = |action, source| Error::from(LoopError::OutOfMemory { action, step: 7, rows: 8, source });
    let error = with_advice(of_loop("forward and backward", source), &config(json!({})), Phase::Training);
    assert_eq!(
        error.to_string(),
        "forward and backward at step 7 with 8 rows in a batch: out of memory on cuda:0: 2.00 GiB were asked for, 512.00 MiB of \
         79.25 GiB are free; what helps: `per_device_train_batch_size` 4 with `gradient_accumulation_steps` 2, which is the \
         same step, or `recompute` block, or a smaller `max_length` (now 1024), or a lower rank in `optim_args` (now 1024)"
    );
    let source = recognise(&torch_error()).unwrap();
    let plain = config(json!({ "recompute": "none", "per_device_eval_batch_size": 6 }));
    let error = with_advice(of_loop("evaluation", source), &plain, Phase::Training).to_string();
    assert!(
        error.ends_with("what helps: `per_device_eval_batch_size` 3, or a smaller `max_length` (now 1024)"),
        "{error}"
    );
    assert!(advice(&plain, Phase::Training).contains("or `recompute` block, or"));

    let (source, checkpoint) = (recognise(&torch_error()).unwrap(), Some("o/checkpoint-6".into()));
    let error = Error::from(LoopError::OutOfMemoryInUpdate { step: 7, checkpoint, source });
    let error = with_advice(error, &config(json!({})), Phase::Training).to_string();
    assert!(
        error.starts_with("the optimizer step at step 7: out of memory on cuda:0: 2.00 GiB were asked for"),
        "{error}"
    );
    assert!(error.contains("o/checkpoint-6"), "{error}");
    assert!(
        error.ends_with(
            "what helps: `recompute` block, or a lower rank in `optim_args` (now 1024), or a device with more memory"
        ),
        "{error}"
    );
}

#[test]
fn loading_has_its_own_advice_and_other_errors_are_left_alone() {
    let config = config(json!({ "dtype": "float32", "optim": "adamw_torch" }));
    let message = with_advice(torch_error().into(), &config, Phase::Loading).to_string();
    let expected = "what helps: `optim` galore_adamw, or `dtype` bfloat16, or a device with more memory";
    assert!(message.starts_with("out of memory on cuda:0: 2.00 GiB") && message.ends_with(expected), "{message}");

    let other = with_memory_facts(Err::<(), _>("shapes differ".into())).unwrap_err();
    assert!(!other.is::<OutOfMemory>());
    let other = with_advice(Error::CustomOptimizer(other), &config, Phase::Training);
    assert!(matches!(other, Error::CustomOptimizer(_)));
}

#[test]
fn the_host_says_what_it_has() {
    let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
    let found = recognise(&error).unwrap();
    assert_eq!(found.device, "the CPU");
    assert!(found.free_bytes.unwrap() <= found.total_bytes.unwrap());
}
