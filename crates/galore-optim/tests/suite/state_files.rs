//! Saving, resuming, and files that do not fit.

use crate::{bits_equal, group, parameter, random, set_gradients};
use galore_optim::{
    AdamConfig, AdamW, Error, GaLoreAdamW, GaLoreConfig, MomentDtype, Optimizer, ProjectionType, WeightUpdate,
    parse_optim_args,
};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use torch_ext::HostBufferPool;

/// A small model with a new optimizer: a wide and a tall target, an embedding and a bias.
struct Model {
    weights: Vec<Tensor>,
    gradients: Vec<Tensor>,
    optimizer: Box<dyn Optimizer>,
}

const SHAPES: [(&str, &[i64]); 4] = [("q", &[10, 16]), ("down", &[16, 10]), ("embed", &[20, 4]), ("bias", &[9])];

#[derive(Clone)]
struct Setup {
    kind: Kind,
    update: WeightUpdate,
    galore: Option<GaLoreConfig>,
    moments: MomentDtype,
}

impl Setup {
    fn galore(kind: Kind, update: WeightUpdate, proj_type: ProjectionType) -> Self {
        let galore = Some(GaLoreConfig {
            rank: 4.into(),
            update_proj_gap: 4,
            scale: 1.8.into(),
            proj_type,
            ..GaLoreConfig::default()
        });
        Setup { kind, update, galore, moments: MomentDtype::Float32 }
    }

    fn start(&self) -> Vec<Tensor> {
        SHAPES.iter().enumerate().map(|(i, (_, shape))| random(shape, i as i64).to_kind(self.kind)).collect()
    }

    fn model(&self, weights: &[Tensor]) -> Model {
        let weights: Vec<Tensor> = weights.iter().map(Tensor::copy).collect();
        let gradients: Vec<Tensor> =
            weights.iter().map(|weight| Tensor::zeros(weight.size(), (Kind::Float, Device::Cpu))).collect();
        let part = |indices: std::ops::Range<usize>, adam: AdamConfig| {
            let adam = AdamConfig { moments: self.moments, ..adam };
            group(indices.map(|i| parameter(SHAPES[i].0, &weights[i], &gradients[i])).collect(), adam)
        };
        let optimizer: Box<dyn Optimizer> = match &self.galore {
            Some(galore) => {
                let decayed = AdamConfig { weight_decay: 0.01, ..AdamConfig::galore_default() };
                let targets = part(0..2, AdamConfig::galore_default()).with_galore(galore.clone());
                Box::new(GaLoreAdamW::new(vec![targets, part(2..4, decayed)], self.update).unwrap())
            }
            None => Box::new(AdamW::new(vec![part(0..4, AdamConfig::torch_default())], self.update).unwrap()),
        };
        Model { weights, gradients, optimizer }
    }
}

impl Model {
    fn train(&mut self, steps: std::ops::Range<i64>) {
        for step in steps {
            set_gradients(&mut self.gradients, step);
            self.optimizer.step(1e-3).unwrap();
        }
    }
}

#[test]
fn a_copied_state_file_is_that_of_its_step_and_the_next_copy_has_its_memory() {
    let setup = Setup::galore(Kind::BFloat16, WeightUpdate::Exact, ProjectionType::Std);
    let mut model = setup.model(&setup.start());
    let (directory, memory) = (tempfile::tempdir().unwrap(), HostBufferPool::default());
    model.train(0..1);
    for step in 1..4 {
        model.optimizer.save(&file(&directory)).unwrap();
        let state = model.optimizer.state_file().unwrap();
        let copy = memory.copy(state.tensors()).unwrap();
        let header = state.into_header();
        assert_eq!(memory.idle_bytes(), 0, "step {step}");
        model.train(step..step + 1);
        assert!([&header[..], &copy[..]].concat() == std::fs::read(file(&directory)).unwrap(), "step {step}");
        drop(copy);
        assert!(memory.idle_bytes() as u64 >= model.optimizer.state_bytes(), "step {step}");
    }
}

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("optimizer.safetensors")
}

#[test]
fn resumes_bit_for_bit() {
    let all = [
        ProjectionType::Std,
        ProjectionType::ReverseStd,
        ProjectionType::Right,
        ProjectionType::Left,
        ProjectionType::Full,
    ];
    let mut setups: Vec<Setup> =
        all.map(|proj_type| Setup::galore(Kind::Float, WeightUpdate::Exact, proj_type)).to_vec();
    for (kind, update) in [
        (Kind::BFloat16, WeightUpdate::Exact),
        (Kind::BFloat16, WeightUpdate::Nearest),
        (Kind::BFloat16, WeightUpdate::Stochastic { seed: 11 }),
        (Kind::Half, WeightUpdate::Exact),
    ] {
        setups.push(Setup::galore(kind, update, ProjectionType::Std));
        setups.push(Setup { kind, update, galore: None, moments: MomentDtype::Float32 });
    }
    for proj_type in [ProjectionType::Std, ProjectionType::Full] {
        let setup = Setup::galore(Kind::BFloat16, WeightUpdate::Exact, proj_type);
        setups.push(Setup { moments: MomentDtype::Bfloat16, ..setup });
    }
    for subspace in ["svd", "eigh", "power", "dct", "random"] {
        for rest in ["moments=keep", "moments=transport, lazy_refresh=true", "moments=reset, refresh=staggered"] {
            let args = format!("rank=0.3, scale=auto, update_proj_gap=2, seed=3, subspace={subspace}, {rest}");
            let galore = Some(parse_optim_args(&args).unwrap());
            let (kind, update) = (Kind::BFloat16, WeightUpdate::Exact);
            for moments in [MomentDtype::Float32, MomentDtype::Bfloat16] {
                setups.push(Setup { kind, update, galore: galore.clone(), moments });
            }
        }
    }
    for (basis, proj_type) in [("8bit", "std"), ("4bit", "full"), ("4bit", "reverse_std")] {
        let args = format!("rank=5, update_proj_gap=3, basis={basis}, proj_type={proj_type}, moments=transport");
        let galore = Some(parse_optim_args(&args).unwrap());
        let (kind, update, moments) = (Kind::BFloat16, WeightUpdate::Exact, MomentDtype::Bfloat16);
        setups.push(Setup { kind, update, galore, moments });
    }
    for setup in setups {
        let directory = tempfile::tempdir().unwrap();
        let mut straight = setup.model(&setup.start());
        straight.train(0..14);

        let mut stopped = setup.model(&setup.start());
        stopped.train(0..7);
        stopped.optimizer.save(&file(&directory)).unwrap();
        // The seed comes from the file.
        let other_seed = match setup.update {
            WeightUpdate::Stochastic { .. } => Setup { update: WeightUpdate::Stochastic { seed: 0 }, ..setup.clone() },
            _ => setup.clone(),
        };
        let mut resumed = other_seed.model(&stopped.weights);
        resumed.optimizer.load(&file(&directory)).unwrap();
        assert_eq!(resumed.optimizer.num_steps(), 7);
        resumed.train(7..14);

        let what = format!("{:?} {:?} {:?}", setup.kind, setup.update, setup.galore.map(|galore| galore.proj_type));
        for ((name, _), (a, b)) in SHAPES.iter().zip(straight.weights.iter().zip(&resumed.weights)) {
            assert!(bits_equal(a, b), "{what}: {name}");
        }
        let (a, b) = (straight.optimizer.state().unwrap(), resumed.optimizer.state().unwrap());
        assert_eq!(a.len(), b.len());
        for ((name, a), (other, b)) in a.iter().zip(&b) {
            assert!(name == other && bits_equal(a, b), "{what}: {name}");
        }
    }
}

#[test]
fn equal_states_are_equal_files() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::galore(Kind::BFloat16, WeightUpdate::Exact, ProjectionType::Std);
    let files = [0, 1].map(|i| {
        let mut model = setup.model(&setup.start());
        model.train(0..3);
        let path = directory.path().join(i.to_string());
        model.optimizer.save(&path).unwrap();
        std::fs::read(path).unwrap()
    });
    assert!(files[0] == files[1]);
    // Any reader of safetensors can read them.
    let tensors = safetensors::SafeTensors::deserialize(&files[0]).unwrap();
    assert_eq!(tensors.tensor("q.basis_left").unwrap().shape(), [10, 4]);
    assert_eq!(tensors.tensor("down.basis_right").unwrap().shape(), [4, 10]);
    assert_eq!(tensors.tensor("q.exp_avg").unwrap().shape(), [4, 16]);
    assert_eq!(tensors.tensor("bias.hidden_bits").unwrap().dtype(), safetensors::Dtype::I16);
    assert_eq!(tensors.tensor("bias.step").unwrap().data(), 3i64.to_le_bytes());
}

#[test]
fn a_state_before_the_first_step_has_no_basis() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::galore(Kind::Float, WeightUpdate::Exact, ProjectionType::Full);
    setup.model(&setup.start()).optimizer.save(&file(&directory)).unwrap();
    let mut used = setup.model(&setup.start());
    used.train(0..5);
    used.optimizer.load(&file(&directory)).unwrap();
    assert_eq!(used.optimizer.num_steps(), 0);
    assert!(used.optimizer.state().unwrap().iter().all(|(name, _)| !name.contains("basis")));
    // The moments are zero again, as in a new optimizer.
    let mut fresh = setup.model(&used.weights);
    used.train(0..5);
    fresh.train(0..5);
    assert!(bits_equal(&used.weights[0], &fresh.weights[0]));
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let setup = Setup::galore(Kind::BFloat16, WeightUpdate::Exact, ProjectionType::Std);
    let mut model = setup.model(&setup.start());
    model.train(0..5);
    model.optimizer.save(&path).unwrap();

    let load = |setup: &Setup| {
        let mut other = setup.model(&setup.start());
        other.train(0..1);
        let before = other.optimizer.state().unwrap().into_iter().map(|(_, tensor)| tensor.copy()).collect::<Vec<_>>();
        let error = other.optimizer.load(&path).unwrap_err();
        let after = other.optimizer.state().unwrap();
        assert!(before.iter().zip(&after).all(|(before, (_, after))| bits_equal(before, after)), "changed by {error}");
        error.to_string()
    };
    let mut galore = setup.galore.clone().unwrap();
    galore.rank = 5.into();
    let message = load(&Setup { galore: Some(galore), ..setup.clone() });
    assert!(message.contains("`q.exp_avg` has shape [4, 16], expected [5, 16]"), "{message}");
    assert!(message.contains("more"), "{message}");
    let message = load(&Setup::galore(Kind::BFloat16, WeightUpdate::Exact, ProjectionType::ReverseStd));
    assert!(message.contains("`q.basis_right` is missing"), "{message}");
    let message = load(&Setup { update: WeightUpdate::Nearest, ..setup.clone() });
    assert!(message.contains("`q.hidden_bits` belongs to no parameter"), "{message}");
    let message = load(&Setup { kind: Kind::Half, ..setup.clone() });
    assert!(message.contains("`q.master` is missing"), "{message}");
    let message = load(&Setup { galore: None, ..setup.clone() });
    assert!(message.contains("holds the state of galore_adamw, this optimizer is adamw"), "{message}");
    let message = load(&Setup { update: WeightUpdate::Stochastic { seed: 1 }, ..setup.clone() });
    assert!(message.contains("lacks `seed`"), "{message}");

    // Another type under the right name.
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let rewrite = |from: &str, to: &str| {
        assert!(header.contains(from));
        let mut header = header.replacen(from, to, 1).into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(&bytes[8 + length..]);
        std::fs::write(&path, file).unwrap();
    };
    rewrite(r#""bias.hidden_bits":{"dtype":"I16""#, r#""bias.hidden_bits":{"dtype":"F16""#);
    assert!(load(&setup).contains("`bias.hidden_bits` is F16, expected I16"), "{}", load(&setup));
    rewrite("galore-optim 2", "galore-optim 9");
    assert!(load(&setup).contains("has format `galore-optim 9`"));
    rewrite(r#""num_steps":"5""#, r#""num_steps":"-""#);
    assert!(load(&setup).contains("num_steps = `-`"));
}

/// The bytes of a state file with a changed header.
fn with_header(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    let changed = change(header);
    assert_ne!(changed, header);
    let mut changed = changed.into_bytes();
    changed.resize(changed.len().next_multiple_of(8), b' ');
    [&(changed.len() as u64).to_le_bytes(), &changed[..], &bytes[8 + length..]].concat()
}

#[test]
fn a_changed_setting_is_named_and_files_that_do_not_say_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let setup = Setup::galore(Kind::Float, WeightUpdate::Exact, ProjectionType::Std);
    let galore = setup.galore.clone().unwrap();
    let optimizer = |galore: &GaLoreConfig, adam: &AdamConfig| {
        let (q, down) = (random(&[10, 16], 1), random(&[16, 10], 2));
        let parameters = [("q", q), ("down", down)].map(|(name, weight)| parameter(name, &weight, &weight)).into();
        let targets = group(parameters, adam.clone()).with_galore(galore.clone());
        GaLoreAdamW::new(vec![targets], WeightUpdate::Exact).unwrap()
    };
    let adam = AdamConfig::galore_default();
    let mut first = optimizer(&galore, &adam);
    first.step(0.1).unwrap();
    first.save(&path).unwrap();

    let with = |change: &str| {
        let mut value = serde_json::to_value(&galore).unwrap();
        let change: serde_json::Map<_, _> = serde_json::from_str(change).unwrap();
        value.as_object_mut().unwrap().extend(change);
        serde_json::from_value::<GaLoreConfig>(value).unwrap()
    };
    for (change, expected) in [
        (r#"{"update_proj_gap":5}"#, "update_proj_gap was 4, is 5 (`q` and 1 more)"),
        (r#"{"scale":"auto"}"#, "scale was 1.8, is auto"),
        (r#"{"rank":0.4}"#, "rank was 4, is 0.4"),
        (r#"{"proj_type":"right"}"#, "proj_type was std, is right (`q` and 1 more)"),
        (r#"{"subspace":"dct"}"#, "subspace was the default, is dct"),
        (r#"{"refresh":"staggered"}"#, "refresh was the default, is staggered"),
        (r#"{"moments":"reset"}"#, "moments was the default, is reset"),
        (r#"{"lazy_refresh":true}"#, "lazy_refresh was the default, is true"),
        (r#"{"seed":7}"#, "seed was the default, is 7"),
        (r#"{"scale":2.5,"update_proj_gap":9}"#, "scale was 1.8, is 2.5 (`q` and 1 more), update_proj_gap was 4, is 9"),
    ] {
        let mut other = optimizer(&with(change), &adam);
        let error = other.load(&path).unwrap_err();
        assert!(error.to_string().contains(expected), "{change}: {error}");
        assert_eq!(other.num_steps(), 0);
        assert!(other.state().unwrap().iter().all(|(_, tensor)| tensor.abs().max().double_value(&[]) == 0.0));
    }
    for (change, expected) in [
        (AdamConfig { beta1: 0.8, ..adam.clone() }, "beta1 was 0.9, is 0.8"),
        (AdamConfig { beta2: 0.99, ..adam.clone() }, "beta2 was 0.999, is 0.99"),
        (AdamConfig { epsilon: 1e-8, ..adam.clone() }, "epsilon was 1e-6, is 1e-8"),
    ] {
        let error = optimizer(&galore, &change).load(&path).unwrap_err();
        assert!(matches!(error, Error::StateSettings { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().ends_with("use the old values, or start without the state"), "{error}");
    }
    // Like the learning rate, weight decay may change.
    optimizer(&galore, &AdamConfig { weight_decay: 0.1, ..adam.clone() }).load(&path).unwrap();
    optimizer(&galore, &adam).load(&path).unwrap();

    let bytes = std::fs::read(&path).unwrap();
    let old = with_header(&bytes, |header| {
        let start = header.find(r#","settings":"#).unwrap();
        let end = start
            + header[start..].find('}').unwrap()
            + header[start + header[start..].find('}').unwrap()..].find(r#"]"}"#).unwrap()
            + 2;
        format!("{}{}", &header[..start], &header[end..]).replace("galore-optim 2", "galore-optim 1")
    });
    std::fs::write(&path, old).unwrap();
    let mut loaded = optimizer(&with(r#"{"update_proj_gap":5}"#), &adam);
    loaded.load(&path).unwrap();
    for ((name, found), (_, wanted)) in loaded.state().unwrap().iter().zip(first.state().unwrap()) {
        assert!(bits_equal(found, &wanted), "{name}");
    }
}

#[test]
fn settings_and_refreshes_that_are_none_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let setup = Setup::galore(Kind::Float, WeightUpdate::Exact, ProjectionType::Std);
    let mut model = setup.model(&setup.start());
    // A refresh that is overdue.
    model.train(0..4);
    model.gradients.iter_mut().for_each(|gradient| drop(gradient.zero_()));
    model.optimizer.step(1e-3).unwrap();
    model.optimizer.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for (from, to, expected) in [
        (r#"\"overdue\""#, r#"\"undue\""#, "has bad refreshes: unknown variant `undue`"),
        (r#"\"basis\":\"overdue\""#, r#"\"moments_since\":77"#, "has refreshes of `down` that cannot be"),
        (r#"{\"down\":"#, r#"{\"dawn\":"#, "has refreshes of `dawn`, which is no parameter"),
        (r#""settings":"[{"#, r#""settings":"[["#, "has bad settings"),
        (r#""settings":"#, r#""sittings":"#, "lacks `settings`"),
    ] {
        std::fs::write(&path, with_header(&bytes, |header| header.replacen(from, to, 1))).unwrap();
        let error = setup.model(&setup.start()).optimizer.load(&path).unwrap_err();
        assert!(matches!(error, Error::StateFile { .. }) && error.to_string().contains(expected), "{from}: {error}");
    }
    std::fs::write(&path, &bytes).unwrap();
    let mut resumed = setup.model(&model.weights);
    resumed.optimizer.load(&path).unwrap();
    for model in [&mut model, &mut resumed] {
        model.train(5..9);
    }
    assert!(model.weights.iter().zip(&resumed.weights).all(|(a, b)| bits_equal(a, b)));
}

#[test]
fn truncated_and_foreign_files_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let setup = Setup::galore(Kind::BFloat16, WeightUpdate::Exact, ProjectionType::Std);
    let mut model = setup.model(&setup.start());
    model.train(0..5);
    model.optimizer.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 5, 8, 300, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = model.optimizer.load(&path).unwrap_err();
        assert!(
            matches!(error, Error::StateFile { .. }) && error.to_string().contains("truncated"),
            "{length}: {error}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    std::fs::write(&path, longer).unwrap();
    assert!(model.optimizer.load(&path).unwrap_err().to_string().contains("past its end"));
    std::fs::write(&path, b"PK\x03\x04 not a safetensors file at all, but long enough for a header").unwrap();
    assert!(model.optimizer.load(&path).unwrap_err().to_string().contains("absurd"));
    let mut garbled = bytes.clone();
    garbled[8] = b'[';
    std::fs::write(&path, garbled).unwrap();
    assert!(model.optimizer.load(&path).unwrap_err().to_string().contains("bad safetensors header"));
    let foreign = Tensor::zeros([2], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("a", foreign)], &path).unwrap();
    assert!(
        model
            .optimizer
            .load(&path)
            .unwrap_err()
            .to_string()
            .contains("not an optimizer state: its metadata lacks `format`")
    );
    let header = r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#;
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    assert!(matches!(model.optimizer.load(&path).unwrap_err(), Error::StateFile { .. }), "a size that overflows");
    let missing = directory.path().join("missing");
    assert!(matches!(model.optimizer.load(&missing).unwrap_err(), Error::Io { .. }));
    assert!(matches!(model.optimizer.save(&directory.path().join("no/folder")).unwrap_err(), Error::Io { .. }));
}
