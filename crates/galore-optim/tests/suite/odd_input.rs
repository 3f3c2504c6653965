//! Parameters, gradients and settings that are refused.

use crate::{bits_equal, group, parameter, random};
use galore_optim::{
    AdamConfig, AdamW, Error, GaLoreAdamW, GaLoreConfig, MomentDtype, Optimizer, Parameter, ProjectionType,
    TargetModules, WeightUpdate, clip_gradients, global_gradient_norm, select_targets,
};
use tch::{Device, Kind, Tensor};

fn galore_of(parameters: Vec<Parameter>, galore: &GaLoreConfig) -> Result<GaLoreAdamW, Error> {
    let targets = group(parameters, AdamConfig::galore_default()).with_galore(galore.clone());
    GaLoreAdamW::new(vec![targets], WeightUpdate::Exact)
}

fn adamw_of(parameters: Vec<Parameter>) -> Result<AdamW, Error> {
    AdamW::new(vec![group(parameters, AdamConfig::torch_default())], WeightUpdate::Exact)
}

#[test]
fn targets_must_be_matrices() {
    for shape in [&[5i64][..], &[2, 3, 4, 5], &[]] {
        let weight = random(shape, 0);
        let error =
            galore_of(vec![parameter("a.norm.weight", &weight, &weight)], &GaLoreConfig::default()).unwrap_err();
        assert!(matches!(&error, Error::TargetNotMatrix { name, .. } if name == "a.norm.weight"), "{error}");
    }
}

#[test]
fn weights_must_be_contiguous_floats_with_names_of_their_own() {
    let weight = random(&[3, 4], 0);
    let error = adamw_of(vec![parameter("w", &weight.tr(), &weight.tr())]).unwrap_err();
    assert!(error.to_string().contains("`w` of shape [4, 3] is not contiguous"), "{error}");
    for kind in [Kind::Double, Kind::Int64] {
        let weight = weight.to_kind(kind);
        let error = adamw_of(vec![parameter("w", &weight, &weight)]).unwrap_err();
        assert!(matches!(error, Error::UnsupportedKind { what: "weight", .. }), "{error}");
    }
    let half = weight.to_kind(Kind::Half);
    let groups = vec![group(vec![parameter("w", &half, &half)], AdamConfig::torch_default())];
    let error = AdamW::new(groups, WeightUpdate::Stochastic { seed: 0 }).unwrap_err();
    assert!(error.to_string().contains("float16 except for stochastic rounding"), "{error}");
    let error = adamw_of(vec![parameter("w", &weight, &weight), parameter("w", &weight, &weight)]).unwrap_err();
    assert_eq!(error.to_string(), "two parameters are named `w`");
    let undefined = weight.grad();
    let error = galore_of(vec![parameter("w", &undefined, &weight)], &GaLoreConfig::default()).unwrap_err();
    assert_eq!(error.to_string(), "weight `w` is an undefined tensor");
}

#[test]
fn gradients_must_fit() {
    let weight = random(&[3, 4], 0);
    let mut optimizer = adamw_of(vec![parameter("w", &weight, &random(&[4, 3], 1))]).unwrap();
    let error = optimizer.step(0.1).unwrap_err();
    assert_eq!(error.to_string(), "gradient of `w` has shape [4, 3], its weight [3, 4]");
    let mut optimizer = adamw_of(vec![parameter("w", &weight, &weight.to_kind(Kind::Int64))]).unwrap();
    assert!(matches!(optimizer.step(0.1).unwrap_err(), Error::UnsupportedKind { what: "gradient", .. }));
    // A gradient may have other strides.
    let (a, b, gradient) = (weight.copy(), weight.copy(), random(&[4, 3], 1));
    adamw_of(vec![parameter("w", &a, &gradient.tr())]).unwrap().step(0.1).unwrap();
    adamw_of(vec![parameter("w", &b, &gradient.tr().contiguous())]).unwrap().step(0.1).unwrap();
    assert!(bits_equal(&a, &b) && !bits_equal(&a, &weight));
}

#[test]
fn non_finite_gradients_are_named() {
    let (weight, gradient) = (random(&[6, 4], 0), random(&[6, 4], 1));
    let _ = gradient.get(2).fill_(f64::NAN);
    let mut optimizer = galore_of(vec![parameter("mlp.up", &weight, &gradient)], &GaLoreConfig::default()).unwrap();
    let error = optimizer.step(0.1).unwrap_err();
    assert!(matches!(&error, Error::NonFiniteGradient { name } if name == "mlp.up"), "{error}");
    assert!(bits_equal(&weight, &random(&[6, 4], 0)));
    // The optimizer is still usable: a good gradient works.
    gradient.shallow_clone().copy_(&random(&[6, 4], 1));
    optimizer.step(0.1).unwrap();
}

#[test]
fn learning_rates_must_be_finite_and_zero_moves_nothing() {
    let (weight, gradient) = (random(&[6, 4], 0), random(&[6, 4], 1));
    let mut optimizer = galore_of(vec![parameter("w", &weight, &gradient)], &GaLoreConfig::default()).unwrap();
    for learning_rate in [f64::NAN, f64::INFINITY, -1e-3] {
        assert!(matches!(optimizer.step(learning_rate).unwrap_err(), Error::LearningRate { .. }));
    }
    assert_eq!(optimizer.num_steps(), 0);
    optimizer.step(0.0).unwrap();
    assert_eq!(optimizer.num_steps(), 1);
    assert!(optimizer.subspace_refresh_time() > std::time::Duration::ZERO);
    assert!(bits_equal(&weight, &random(&[6, 4], 0)));
}

#[test]
fn zero_gradients_and_single_rows_are_fine() {
    for shape in [[1, 7], [7, 1], [1, 1]] {
        for proj_type in [ProjectionType::Std, ProjectionType::ReverseStd, ProjectionType::Full] {
            let (weight, gradient) = (random(&shape, 0), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
            let config = GaLoreConfig { proj_type, ..GaLoreConfig::default() };
            let mut optimizer = galore_of(vec![parameter("w", &weight, &gradient)], &config).unwrap();
            optimizer.step(0.1).unwrap();
            assert!(bits_equal(&weight, &random(&shape, 0)), "{shape:?} {proj_type:?}");
        }
    }
}

#[test]
fn parameters_without_gradient_are_passed_over() {
    let weights = [random(&[3], 0), random(&[3], 1)].map(|weight| weight.set_requires_grad(true));
    let parameters = ["used", "unused"].into_iter().zip(&weights).map(|(name, weight)| Parameter {
        name: name.to_owned(),
        weight: weight.shallow_clone(),
        gradient: None,
    });
    let mut optimizer = adamw_of(parameters.collect()).unwrap();
    weights[0].square().sum(Kind::Float).backward();
    optimizer.step(0.1).unwrap();
    assert!(!bits_equal(&weights[0].detach(), &random(&[3], 0)));
    assert!(bits_equal(&weights[1].detach(), &random(&[3], 1)));
    let steps: Vec<i64> = optimizer
        .state()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.ends_with(".step"))
        .map(|(_, step)| step.int64_value(&[]))
        .collect();
    assert_eq!(steps, [1, 0]);
}

#[test]
fn settings_out_of_range_are_reported_together() {
    let galore =
        GaLoreConfig { rank: 0.into(), update_proj_gap: -1, scale: f64::NAN.into(), ..GaLoreConfig::default() };
    let error = galore_of(vec![], &galore).unwrap_err().to_string();
    for part in ["rank = 0", "update_proj_gap = -1", "scale = NaN"] {
        assert!(error.contains(part), "{error}");
    }
    let adam = AdamConfig {
        beta1: 1.0,
        beta2: -0.1,
        epsilon: -1e-8,
        weight_decay: f64::INFINITY,
        moments: MomentDtype::Float32,
    };
    let error = AdamW::new(vec![group(vec![], adam)], WeightUpdate::Exact).unwrap_err().to_string();
    for part in ["beta1 = 1", "beta2 = -0.1", "epsilon = -0.00000001", "weight_decay = inf"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(serde_json::from_str::<GaLoreConfig>(r#"{"rank": 4, "proj_type": "reverse_std"}"#).is_ok());
    let error = serde_json::from_str::<GaLoreConfig>(r#"{"rnak": 4}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `rnak`"), "{error}");
}

#[test]
fn target_patterns_that_match_nothing_or_are_no_expressions() {
    let modules = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"];
    let list = |entries: &[&str]| TargetModules::List(entries.iter().map(|&entry| entry.to_owned()).collect());
    let error = select_targets(&modules, &list(&["attention"])).unwrap_err().to_string();
    assert!(
        error.contains(r#"["attention"] matches none of the 2 linear modules (for example model.layers.0"#),
        "{error}"
    );
    let error = select_targets(&modules, &TargetModules::Pattern("attn".to_owned())).unwrap_err().to_string();
    assert!(error.contains("`attn` (a regular expression for the whole name)"), "{error}");
    let error = select_targets(&modules, &list(&["mlp", "*attn*"])).unwrap_err().to_string();
    assert!(error.contains("`*attn*` is neither part of a module name nor a valid regular expression"), "{error}");
    assert!(select_targets(&[], &list(&["mlp"])).is_err());
}

/// On a GPU a kernel may compute the norm, and plain operations do where it does not fit.
#[test]
fn norm_of_several_tensors_of_several_kinds() {
    let device = if torch_ext::cuda::load() { Device::Cuda(0) } else { Device::Cpu };
    let random = |shape: &[i64], kind| Tensor::randn(shape, (Kind::Float, device)).to_kind(kind);
    let gradients = [
        random(&[700, 900], Kind::Float),
        random(&[20_003], Kind::BFloat16),
        random(&[300, 40], Kind::Float).tr(),
        random(&[5000], Kind::Half),
        Tensor::zeros([0], (Kind::Float, device)),
    ];
    let squares = |tensor: &Tensor| tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    for count in 1..=gradients.len() {
        let some: Vec<&Tensor> = gradients[..count].iter().collect();
        let expected = some.iter().map(|tensor| squares(tensor)).sum::<f64>().sqrt();
        let norm = global_gradient_norm(&some).unwrap();
        assert_eq!((norm.kind(), norm.size(), norm.device()), (Kind::Float, vec![], device));
        let norm = norm.double_value(&[]);
        assert!((norm - expected).abs() < 1e-6 * expected, "{count}: {norm} {expected}");
    }
}

#[test]
fn norm_of_nothing_and_of_nan() {
    assert_eq!(global_gradient_norm(&[]).unwrap().double_value(&[]), 0.0);
    let gradients = [Tensor::from_slice(&[1.0f32, f32::NAN])];
    let norm = global_gradient_norm(&[&gradients[0]]).unwrap();
    assert!(norm.double_value(&[]).is_nan());
    clip_gradients(&gradients, 1.0, &norm).unwrap();
    assert!(gradients[0].double_value(&[0]).is_nan());
    // bfloat16 gradients: a float32 norm, scaled in place in their own type.
    let gradients = [Tensor::from_slice(&[3.0f32, 4.0]).to_kind(Kind::BFloat16)];
    let norm = global_gradient_norm(&[&gradients[0]]).unwrap();
    assert_eq!((norm.kind(), norm.double_value(&[])), (Kind::Float, 5.0));
    clip_gradients(&gradients, 1.0, &norm).unwrap();
    assert_eq!(gradients[0].kind(), Kind::BFloat16);
    assert!((gradients[0].double_value(&[0]) - 0.6).abs() < 3e-3);
}
