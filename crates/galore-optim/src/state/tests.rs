use super::*;
use crate::adam::AdamFormula;
use crate::{AdamConfig, GaLoreConfig, Parameter, ParameterGroup, WeightUpdate};
use tch::Device;

fn engine() -> Engine {
    let weight = |index: i64| (Tensor::arange(4000, (Kind::Float, Device::Cpu)) + index).sin().view([80, 50]);
    let parameters = (0..4).map(|index| {
        let weight = weight(index);
        Parameter::new(index.to_string(), &weight).with_gradient(&(&weight * 0.1))
    });
    let group = ParameterGroup::new(parameters.collect(), AdamConfig::galore_default());
    let galore = GaLoreConfig { rank: 7.into(), ..GaLoreConfig::default() };
    Engine::new(AdamFormula::GaLore, vec![group.with_galore(galore)], WeightUpdate::Exact).unwrap()
}

#[test]
fn a_file_that_ends_while_it_is_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut written = engine();
    (0..3).for_each(|_| written.step(0.1).unwrap());
    save(&written, &path).unwrap();
    let mut other = engine();
    other.step(0.2).unwrap();
    let everything = |engine: &Engine| {
        let copies = tensors(engine).unwrap().into_iter().map(|(name, tensor)| (name, tensor.copy()));
        (engine.num_steps, copies.collect::<Vec<_>>())
    };
    let before = everything(&other);
    // The last of four parameters is beyond the new end. The header has been read.
    let reader = StateReader::open(&path).unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length * 3 / 4).unwrap();
    let error = read(&mut other, reader).unwrap_err();
    assert!(matches!(error, Error::Io { action: "reading", .. }), "{error}");
    assert_eq!(everything(&other), before);
    save(&written, &path).unwrap();
    load(&mut other, &path).unwrap();
    assert_eq!(everything(&other), everything(&written));
}
