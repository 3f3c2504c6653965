use super::*;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const CHOICES: [(&str, DeviceChoice); 4] = [
    ("auto", DeviceChoice::Auto),
    ("cpu", DeviceChoice::Cpu),
    ("cuda:0", DeviceChoice::Cuda(0)),
    ("cuda:12", DeviceChoice::Cuda(12)),
];

#[test]
fn text_and_serde_agree_on_the_spelling() {
    for (text, choice) in CHOICES {
        assert_eq!(choice.to_string(), text);
        assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
        assert_eq!(serde_json::to_value(choice).unwrap(), text);
        assert_eq!(serde_json::from_value::<DeviceChoice>(text.into()).unwrap(), choice);
    }
    assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
    for wrong in ["", "gpu", "CPU", "auto:0", "cpu:0", "cuda:", "cuda:-1", "cuda:0:1", "cuda:one", ":0"] {
        let message = wrong.parse::<DeviceChoice>().unwrap_err().to_string();
        assert_eq!(message, format!("\"{wrong}\" is not a device: use auto, cpu, cuda or cuda:N"));
        assert!(serde_json::from_value::<DeviceChoice>(wrong.into()).is_err());
    }
}

fn not_loaded() -> Unavailable {
    Unavailable::NotLoaded { cause: "libtorch_cuda.so: cannot open shared object file".to_owned() }
}

#[test]
fn a_choice_becomes_a_device_that_exists() {
    let unavailable = [Unavailable::NoDriver, not_loaded(), Unavailable::NoDevice];
    for reason in &unavailable {
        assert_eq!(resolve(DeviceChoice::Auto, Err(reason.clone())).unwrap(), Device::Cpu);
        let message = resolve(DeviceChoice::Cuda(1), Err(reason.clone())).unwrap_err().to_string();
        assert_eq!(message, format!("cuda:1 cannot be used: {reason}"));
    }
    assert_eq!(resolve(DeviceChoice::Cpu, Ok(2)).unwrap(), Device::Cpu);
    assert_eq!(resolve(DeviceChoice::Auto, Ok(2)).unwrap(), Device::Cuda(0));
    assert_eq!(resolve(DeviceChoice::Cuda(1), Ok(2)).unwrap(), Device::Cuda(1));
    let message = resolve(DeviceChoice::Cuda(2), Ok(2)).unwrap_err().to_string();
    assert_eq!(message, "cuda:2 does not exist: this machine has 2 CUDA devices");
    assert!(resolve(DeviceChoice::Cuda(usize::MAX), Ok(2)).is_err());
    assert_eq!(choose(DeviceChoice::Cpu, &[]).unwrap(), Device::Cpu);
}

/// Keeps the messages of events.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl Visit for Messages {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Messages {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_driver_without_cuda_is_a_warning_with_the_cause() {
    let messages = Messages::default();
    tracing::subscriber::with_default(messages.clone(), || {
        for reason in [Unavailable::NoDriver, not_loaded()] {
            resolve(DeviceChoice::Auto, Err(reason)).unwrap();
        }
    });
    let messages = messages.0.lock().unwrap();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert!(message.starts_with("there is an NVIDIA driver, but torch 2.11's libtorch_cuda.so"), "{message}");
    assert!(message.contains("cannot open shared object file") && message.ends_with("; using the CPU"), "{message}");
}
