//! Kernels against plain operations in float64, over odd shapes. These tests need a GPU. Without
//! one, only refusals are tested.

use super::*;

/// A GPU with kernels, or `None` if this machine has no GPU.
fn gpu() -> Option<Device> {
    if !crate::cuda::load() {
        return None;
    }
    let device = Device::Cuda(0);
    assert!(available(&[&Tensor::zeros([1], (Kind::Float, device))]), "there is a GPU, but kernels cannot be compiled");
    Some(device)
}

fn random(shape: &[i64], kind: Kind, device: Device) -> Tensor {
    Tensor::randn(shape, (Kind::Float, device)).to_kind(kind)
}

/// Compares by the norm. bfloat16 rounds at 4e-3, and float32 sums of a few thousand terms
/// accumulate errors of about 1e-6.
fn assert_close(ours: &Tensor, reference: &Tensor, kind: Kind, what: &str) {
    let difference = (ours.to_kind(Kind::Double) - reference.to_kind(Kind::Double)).norm().double_value(&[]);
    let scale = reference.to_kind(Kind::Double).norm().double_value(&[]).max(1e-30);
    let bound = if kind == Kind::BFloat16 { 5e-3 } else { 2e-6 };
    assert!(difference <= bound * scale, "{what} in {kind:?}: off by {:.2e}", difference / scale);
}

fn each(test: impl Fn(Kind, Device)) {
    if let Some(device) = gpu() {
        [Kind::Float, Kind::BFloat16].into_iter().for_each(|kind| test(kind, device));
    }
}

#[test]
fn refuses_what_it_cannot_take() {
    let tensor = Tensor::zeros([2, 8], (Kind::Float, Device::Cpu));
    assert!(!available(&[&tensor]) && !available(&[]));
    assert!(norm::two_norm(&tensor).unwrap_err().to_string().contains("x must be 16 contiguous elements"));
    assert!(
        swiglu::forward(swiglu::Activation::Silu, &tensor)
            .unwrap_err()
            .to_string()
            .contains("gate_up must be 16 contiguous")
    );
    assert!(norm::two_norm(&tensor).unwrap_err().to_string().ends_with("found [2, 8] of Float on Cpu"));
    if let Some(device) = gpu() {
        let tensor = Tensor::zeros([2, 8], (Kind::Float, device));
        assert!(!available(&[&tensor.tr()]) && !available(&[&tensor.to_kind(Kind::Double)]));
        let message =
            swiglu::backward(swiglu::Activation::Silu, tensor.narrow(1, 0, 3), &tensor).unwrap_err().to_string();
        assert!(message.contains("da must be 8 contiguous"), "{message}");
    }
}

#[test]
fn cross_entropy_and_its_gradient() {
    each(|kind, device| {
        for (m, v) in [(1, 1), (3, 7), (5, 1000), (17, 4104), (9, 49_152), (4, 151_935), (64, 151_936)] {
            let logits = random(&[m, v], kind, device) * 3.0;
            let targets = Tensor::randint(v, [m], (Kind::Int64, device));
            let wide = logits.to_kind(Kind::Double);
            let log_probabilities = wide.log_softmax(1, Kind::Double);
            // Every third row has no target.
            let known = Tensor::arange(m, (Kind::Int64, device)).remainder(3).not_equal(2);
            let losses = -log_probabilities.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1) * &known;
            let one_hot = Tensor::zeros_like(&wide).scatter_value(1, &targets.unsqueeze(1), 1.0);
            let gradient = (log_probabilities.exp() - one_hot) * 0.25 * known.unsqueeze(1);
            let correct =
                wide.gather(1, &targets.unsqueeze(1), false).ge_tensor(&wide.amax([1i64], true)) * known.unsqueeze(1);
            let targets = targets.where_scalarother(&known, -100);
            let scale = Tensor::from(0.25f64).to_device(device);

            let mut ours = logits.copy();
            let kept = cross_entropy::forward_backward(&mut ours, &targets, cross_entropy::Logits::Keep).unwrap();
            assert!(ours.equal(&logits));
            let what = cross_entropy::Logits::Gradient { scale: &scale };
            let rows = cross_entropy::forward_backward(&mut ours, &targets, what).unwrap();
            assert!(kept.losses.equal(&rows.losses));
            assert_close(&rows.losses, &losses, Kind::Float, "losses");
            assert!(rows.correct.equal(&correct.squeeze_dim(1).to_kind(Kind::Int)));
            assert_close(&ours, &gradient, kind, "gradient");
        }
        // Logits far from zero, and a target outside the vocabulary.
        let mut logits =
            Tensor::from_slice(&[-500.0f32, -700.0, 300.0, 200.0]).view([2, 2]).to_kind(kind).to_device(device);
        let targets = Tensor::from_slice(&[0i64, 2]).to_device(device);
        let rows = cross_entropy::forward_backward(&mut logits, &targets, cross_entropy::Logits::Keep).unwrap();
        assert_eq!(rows.losses.double_value(&[0]), 0.0);
        assert!(rows.losses.double_value(&[1]).is_nan());
    });
}

#[test]
fn rms_norm_with_and_without_residual() {
    each(|kind, device| {
        for (n, d) in [(1, 8), (3, 7), (5, 33), (2000, 1024), (9, 896), (4, 5000), (2, 16384)] {
            let (x, residual, weight) =
                (random(&[n, d], kind, device), random(&[n, d], kind, device), random(&[d], kind, device));
            let dy = random(&[n, d], kind, device);
            let gains = [rms_norm::Gain::Rounded, rms_norm::Gain::Wide, rms_norm::Gain::WideOnePlus];
            for (residual, gain) in
                [None, Some(&residual)].into_iter().flat_map(|residual| gains.map(|gain| (residual, gain)))
            {
                let gained = rms_norm::Weight { values: &weight, gain };
                let offset = if gain == rms_norm::Gain::WideOnePlus { 1.0 } else { 0.0 };
                let sum = residual.map_or(x.copy(), |residual| &x + residual);
                let leaf = sum.to_kind(Kind::Double).detach().set_requires_grad(true);
                let wide_weight = weight.to_kind(Kind::Double).detach().set_requires_grad(true);
                let mean = (&leaf * &leaf).mean_dim([1i64].as_slice(), true, Kind::Double);
                let reference = &leaf * (mean + 1e-6).rsqrt() * (&wide_weight + offset);
                (&reference * dy.to_kind(Kind::Double)).sum(Kind::Double).backward();

                let ours = rms_norm::forward(&x, residual, gained, 1e-6).unwrap();
                assert_close(&ours.y, &reference, kind, "output");
                assert!(ours.sum.is_none_or(|ours| ours.equal(&sum)));
                let saved = rms_norm::Saved { x: &sum, weight: gained, reciprocal_rms: &ours.reciprocal_rms };
                let mut d_weight = Tensor::ones([d], (Kind::Float, device));
                let dx = rms_norm::backward(&dy, saved, residual, &mut d_weight).unwrap();
                let wanted = residual.map_or(leaf.grad(), |residual| leaf.grad() + residual);
                assert_close(&dx, &wanted, kind, "gradient of x");
                assert_close(&(d_weight - 1.0), &wide_weight.grad(), Kind::Float, "gradient of the weight");
            }
        }
    });
}

#[test]
fn sums_of_columns_are_added() {
    each(|kind, device| {
        for (rows, columns) in [(1, 1), (7, 33), (300, 8), (2500, 3072), (4100, 576)] {
            let x = random(&[rows, columns], kind, device);
            // Columns of wider matrices, aligned for wide accesses and not.
            for x in [x.shallow_clone(), random(&[rows, columns + 16], kind, device).narrow(1, 8, columns), {
                random(&[rows, columns + 3], kind, device).narrow(1, 1, columns)
            }] {
                let sum = x.to_kind(Kind::Double).sum_dim_intlist(0, false, None);
                assert!(column_sum::available(&x, &x.get(0).contiguous()));
                for gradient_kind in [Kind::Float, Kind::BFloat16] {
                    let before = random(&[columns], gradient_kind, device);
                    let mut gradient = before.copy();
                    column_sum::add(&x, &mut gradient).unwrap();
                    assert_close(&gradient, &(before.to_kind(Kind::Double) + &sum), gradient_kind, "sum of columns");
                }
            }
            let transposed = x.tr();
            assert!(rows < 2 || !column_sum::available(&transposed, &transposed.get(0).contiguous()));
        }
    });
}

#[test]
fn norm_of_any_length_and_place() {
    each(|kind, device| {
        for n in [0, 1, 7, 8, 4097, 3_000_001] {
            let whole = random(&[n + 1], kind, device);
            // A view that begins at the second element is not aligned for wide accesses.
            for x in [whole.narrow(0, 0, n), whole.narrow(0, 1, n)] {
                let ours = norm::two_norm(&x).unwrap();
                assert_eq!((ours.kind(), ours.size()), (Kind::Float, vec![]));
                assert_close(&ours, &x.to_kind(Kind::Double).norm(), Kind::Float, "norm");
                assert!(ours.equal(&norm::two_norm(&x).unwrap()), "repeated calls differ");
            }
        }
        // At the end, which no wide access reaches, and in the middle.
        for place in [4096, 2000] {
            let mut x = random(&[4097], kind, device);
            for value in [f64::NAN, f64::INFINITY] {
                let _ = x.narrow(0, place, 1).fill_(value);
                let ours = norm::two_norm(&x).unwrap().double_value(&[]);
                assert!(if value.is_nan() { ours.is_nan() } else { ours == value }, "{ours}");
            }
            let _ = x.zero_();
            let _ = x.narrow(0, place, 1).fill_(-3.0);
            assert_eq!(norm::two_norm(&x).unwrap().double_value(&[]), 3.0);
        }
    });
}

#[test]
fn rope_and_back() {
    each(|kind, device| {
        for (n, h, g, k, r) in [
            (1, 1, 1, 2, 2),
            (5, 3, 1, 6, 6),
            (100, 14, 2, 64, 64),
            (7, 2, 2, 128, 128),
            (5, 3, 1, 7, 4),
            (9, 4, 2, 128, 96),
            (9, 4, 2, 80, 32),
            (9, 4, 2, 96, 18),
        ] {
            let x = random(&[n, h + 2 * g, k], kind, device);
            let angles = Tensor::randn([n, 1, r / 2], (Kind::Float, device));
            let (cos, sin) = (angles.cos().to_kind(kind), angles.sin().to_kind(kind));
            let turning = x.narrow(1, 0, h + g).to_kind(Kind::Double);
            let value = x.narrow(1, h + g, g);
            let turned = |sign: f64| {
                let (halves, sin) = (turning.narrow(2, 0, r).chunk(2, 2), sin.to_kind(Kind::Double) * sign);
                let turned = [
                    &halves[0] * &cos - &halves[1] * &sin,
                    &halves[1] * &cos + &halves[0] * &sin,
                    turning.narrow(2, r, k - r),
                ];
                Tensor::cat(&[Tensor::cat(&turned, 2), value.to_kind(Kind::Double)], 1)
            };
            let mut ours = x.copy();
            rope::rotate(&mut ours, h + g, &cos, &sin).unwrap();
            assert_close(&ours, &turned(1.0), kind, "rotated");
            assert!(ours.narrow(1, h + g, g).equal(&value));
            let parts: Vec<Tensor> = x.split_with_sizes([h, g, g], 1).iter().map(Tensor::contiguous).collect();
            let ours = rope::rotate_back([&parts[0], &parts[1], &parts[2]], &cos, &sin).unwrap();
            assert_close(&ours, &turned(-1.0), kind, "rotated back");
            assert!(ours.narrow(1, h + g, g).equal(&value));
        }
    });
}

#[test]
fn swiglu_and_its_gradients() {
    each(|kind, device| {
        let (silu, gelu) = (swiglu::Activation::Silu, swiglu::Activation::GeluTanh);
        let cases =
            [silu, gelu].map(|activation| [[1, 1], [3, 7], [33, 8], [100, 2816]].map(|shape| (activation, shape)));
        for (activation, [n, f]) in cases.into_iter().flatten() {
            let (gate_up, da) = (random(&[n, 2 * f], kind, device), random(&[n, f], kind, device));
            let leaf = gate_up.to_kind(Kind::Double).detach().set_requires_grad(true);
            let halves = leaf.chunk(2, 1);
            let activated = if activation == silu { halves[0].silu() } else { halves[0].gelu("tanh") };
            let reference = activated * &halves[1];
            (&reference * da.to_kind(Kind::Double)).sum(Kind::Double).backward();
            assert_close(&swiglu::forward(activation, &gate_up).unwrap(), &reference, kind, "output");
            let (d_gate_up, a) = swiglu::backward(activation, da.copy(), &gate_up).unwrap();
            assert_close(&d_gate_up, &leaf.grad(), kind, "gradient");
            assert_close(&a, &reference, kind, "output of the backward");
        }
        // A view that is not aligned for wide accesses.
        let view = random(&[65], kind, device).narrow(0, 1, 64).view([2, 32]);
        let halves = view.chunk(2, 1);
        assert_close(&swiglu::forward(silu, &view).unwrap(), &(halves[0].silu() * &halves[1]), kind, "unaligned");
    });
}

/// float16 keeps 11 bits of a gradient of any size, and the power of two cancels out.
#[test]
fn a_narrow_gradient_and_its_direction() {
    each(|kind, device| {
        for size in [1e-20, 1e-6, 3.0, 1e9] {
            let gradient = random(&[21, 33], kind, device) * size;
            let wide = gradient.to_kind(Kind::Double);
            let largest = gradient.norm_scalaropt_dtype(f64::INFINITY, Kind::Float);
            let mut narrow = Tensor::empty([21, 33], (Kind::Half, device));
            adam::narrow_gradient(&gradient, &largest, &mut narrow).unwrap();
            let factor = (narrow.to_kind(Kind::Double) * &wide).sum(Kind::Double) / wide.square().sum(Kind::Double);
            let factor = factor.double_value(&[]).log2().round().exp2();
            let relative = (narrow.to_kind(Kind::Double) / factor - &wide).abs() / wide.abs().clamp_min(size * 1e-6);
            assert!(relative.max().double_value(&[]) <= 1.0 / 2048.0, "{kind:?} {size:e}");
            let highest = narrow.abs().max().double_value(&[]);
            assert!((16384.0..=32768.0).contains(&highest), "{kind:?} {size:e}: {highest}");

            let moments =
                || (Tensor::zeros([21, 33], (Kind::Float, device)), Tensor::zeros([21, 33], (Kind::Float, device)));
            let constants = adam::Constants {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 0.0,
                step: -1.5,
                moments_key: 0,
                root: 0.5,
                decay_before: 1.0,
                decay_after: 1.0,
            };
            let ((mut first, mut second), mut expected) = (moments(), gradient.to_kind(Kind::Float));
            let moments_of_direction = adam::Moments { first: &mut first, second: &mut second };
            adam::direction(&mut expected, moments_of_direction, &constants).unwrap();
            let ((mut narrow_first, mut narrow_second), projected) = (moments(), narrow.to_kind(Kind::Float));
            let mut step = narrow.empty_like();
            let moments = adam::Moments { first: &mut narrow_first, second: &mut narrow_second };
            let gradient = adam::NarrowGradient { projected: &projected, largest: &largest };
            adam::narrow_direction(gradient, &mut step, moments, &constants).unwrap();
            let close = |found: &Tensor, expected: &Tensor, what| {
                let distance = (found.to_kind(Kind::Double) - expected).norm() / expected.to_kind(Kind::Double).norm();
                assert!(distance.double_value(&[]) < 1e-3, "{kind:?} {size:e} {what}: {distance:?}");
            };
            close(&narrow_first, &first, "first moment");
            if size > 1e-15 {
                // For smaller gradients float32 cannot hold the squares.
                close(&narrow_second, &second, "second moment");
                close(&step, &expected, "step");
            }
        }
        // A gradient of zeros stays zero, and infinity stays infinity.
        let gradient = Tensor::zeros([5], (kind, device));
        let mut narrow = Tensor::ones([5], (Kind::Half, device));
        let largest = Tensor::zeros([1], (Kind::Float, device));
        adam::narrow_gradient(&gradient, &largest, &mut narrow).unwrap();
        assert_eq!(narrow.abs().sum(Kind::Float).double_value(&[]), 0.0);
        let gradient = gradient.fill(f64::INFINITY);
        adam::narrow_gradient(&gradient, &largest.fill(f64::INFINITY), &mut narrow).unwrap();
        assert_eq!(narrow.isinf().all().int64_value(&[]), 1);
    });
}

/// One launch for a stack of matrices adds to each, and rounds each as a launch of its own does.
#[test]
fn a_stack_is_updated_as_its_matrices_are() {
    let Some(device) = gpu() else { return };
    let mix = |value: u64| {
        let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for (count, rows, cols) in [(1, 1, 1), (3, 5, 7), (4, 33, 64), (5, 512, 200)] {
        let shape = [count, rows, cols];
        let (product, weights) = (random(&shape, Kind::Float, device), random(&shape, Kind::BFloat16, device));
        let hidden = Tensor::randint_low(-0x8000, 0x7fff, shape, (Kind::Int16, device));
        let numbers: Vec<i64> = (0..count).map(|index| (mix(index as u64) as i64) ^ 7).collect();
        let matrices = Tensor::from_slice(&numbers).to_device(device);
        let (seed, step) = (42, mix(17));
        let noise = adam::StackNoise { matrices: &matrices, seed, step };
        for (name, format) in [
            ("hidden bits", adam::StackFormat::HiddenBits(&hidden)),
            ("stochastic", adam::StackFormat::Stochastic(noise)),
            ("nearest", adam::StackFormat::Nearest),
        ] {
            let (mut stacked, hidden_before) = (weights.copy(), hidden.copy());
            let addition = adam::Addition { product: &product, factor: 0.25, decay_before: 0.5, decay_after: 0.75 };
            adam::add_to_stack(&mut stacked, format, addition).unwrap();
            for (number, index) in numbers.iter().zip(0..) {
                let (values, hidden) = (weights.select(0, index).copy(), hidden_before.select(0, index).copy());
                let own_format = match format {
                    adam::StackFormat::HiddenBits(_) => adam::WeightFormat::HiddenBits(&hidden),
                    adam::StackFormat::Stochastic(_) => {
                        adam::WeightFormat::Stochastic { key: mix(seed ^ mix(*number as u64 ^ step)) }
                    }
                    adam::StackFormat::Nearest => adam::WeightFormat::Nearest,
                };
                let mut master = Tensor::zeros([rows, cols], (Kind::Float, device));
                adam::read_master(&values, own_format, 0.5, &mut master).unwrap();
                // Exact: all factors are powers of two. In the sum, one rounding.
                let master = master + product.select(0, index) * 0.25;
                let weight = adam::Weight { values: &mut values.shallow_clone(), format: own_format };
                adam::write_master(&master, weight, 0.75).unwrap();
                assert!(values.equal(&stacked.select(0, index)), "{name} {count} {rows} {cols}: matrix {index}");
            }
            hidden.shallow_clone().copy_(&hidden_before);
        }
    }
}

#[test]
fn embedding_gradients_are_summed_by_id() {
    each(|kind, device| {
        for (n, d, v) in [(1, 1, 1), (7, 5, 3), (300, 33, 40), (1000, 1024, 600), (500, 4104, 7)] {
            let dy = random(&[n, d], kind, device);
            let ids = Tensor::randint(v, [n], (Kind::Int64, device));
            let skipped = n / 10;
            // Tokens that are left out come last.
            let order = ids.narrow(0, 0, n - skipped).argsort(0, false).to_kind(Kind::Int);
            let order = Tensor::cat(&[order, Tensor::full([skipped], -1, (Kind::Int, device))], 0);
            for table in [kind, Kind::Float] {
                let before = random(&[v, d], table, device);
                let kept = dy.narrow(0, 0, n - skipped).to_kind(Kind::Double);
                let expected = before.to_kind(Kind::Double).index_add(0, &ids.narrow(0, 0, n - skipped), &kept);
                let mut gradient = before.copy();
                embedding::backward(&dy, &ids, &order, &mut gradient).unwrap();
                assert_close(&gradient, &expected, table, "gradient");
                let mut again = before.copy();
                embedding::backward(&dy, &ids, &order, &mut again).unwrap();
                assert!(again.equal(&gradient), "not the same twice");
            }
        }
    });
}
