use super::*;

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
    let unavailable = [Unavailable::NoDriver, not_loaded(), Unavailable::NoDevice { driver: None }];
    for reason in &unavailable {
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

#[test]
fn auto_does_not_leave_a_device_unused_in_silence() {
    let old = Unavailable::DriverTooOld { found: "550.54.15".to_owned() };
    for reason in [not_loaded(), old, Unavailable::NoDevice { driver: None }] {
        let message = resolve(DeviceChoice::Auto, Err(reason.clone())).unwrap_err().to_string();
        let expected =
            format!("there is an NVIDIA device, but {reason}; mend that, or train on the CPU with `device` cpu");
        assert_eq!(message, expected);
        assert_eq!(resolve(DeviceChoice::Cpu, Err(reason)).unwrap(), Device::Cpu);
    }
    assert_eq!(resolve(DeviceChoice::Auto, Err(Unavailable::NoDriver)).unwrap(), Device::Cpu);
}
