use super::*;
use crate::ops::check::{Check, assert_close, device, each_precision, random};
use tch::Device;

/// Attention row by row and head by head, without grouping rows or repeating heads.
fn reference(t: &[Tensor], lengths: &[usize], scores: Scores) -> Tensor {
    let (h, g) = (t[0].size()[1], t[1].size()[1]);
    let mut start = 0;
    let mut outputs = Vec::new();
    for length in lengths.iter().map(|length| *length as i64) {
        let heads: Vec<Tensor> = (0..h)
            .map(|head| {
                let of = |tensor: &Tensor, head: i64| tensor.narrow(0, start, length).select(1, head);
                let (query, key, value) = (of(&t[0], head), of(&t[1], head / (h / g)), of(&t[2], head / (h / g)));
                let mut values = query.matmul(&key.tr()) * scores.scale;
                if let Some(cap) = scores.soft_cap {
                    values = (values / cap).tanh() * cap;
                }
                let places = Tensor::arange(length, (Kind::Int64, device()));
                let distance = places.unsqueeze(1) - places.unsqueeze(0);
                let window = scores.window.map_or(length, |window| window.get() as i64);
                let hidden = distance.lt(0).logical_or(&distance.ge(window));
                values.masked_fill(&hidden, f64::NEG_INFINITY).softmax(1, Kind::Double).matmul(&value)
            })
            .collect();
        outputs.push(Tensor::stack(&heads, 1));
        start += length;
    }
    Tensor::cat(&outputs, 0)
}

#[test]
fn both_implementations_equal_autograd() {
    for (lengths, h, g, k) in
        [(vec![1], 1, 1, 2), (vec![5], 2, 2, 4), (vec![3, 3, 7, 1, 1], 4, 2, 8), (vec![40, 2], 6, 1, 16)]
    {
        for attention in [AttentionKind::Flash, AttentionKind::Eager] {
            each_precision(|kind| {
                let n = lengths.iter().sum::<usize>() as i64;
                let scores = Scores::scaled(1.0 / (k as f64).sqrt());
                let rows = RowLayout::new(&lengths, device()).unwrap();
                let (query, key, value) =
                    (random(&[n, h, k], kind), random(&[n, g, k], kind), random(&[n, g, k], kind));
                let d_output = random(&[n, h, k], kind);
                let mut check = Check::of(&[&query, &key, &value], &d_output, |t| reference(t, &lengths, scores));
                let inputs = Inputs { query: &query, key: &key, value: &value, rows: &rows, scores };
                let (output, saved) = forward(attention, inputs).unwrap();
                check.forward(&output);
                let gradients = backward(&d_output, inputs, &saved).unwrap();
                if lengths != [1] {
                    // A single token attends only to itself: the gradients of q and k are rounding
                    // errors.
                    check.gradient(0, &gradients.query);
                    check.gradient(1, &gradients.key);
                }
                check.gradient(2, &gradients.value);
            });
        }
    }
}

/// On a GPU, rows of one length go to cuDNN, which takes query, key and value as views of one
/// tensor. On a CPU both kinds run the same kernel.
#[test]
fn rows_of_one_length_with_cudnn_equal_sdpa_and_the_reference() {
    for (lengths, h, g, k) in [
        (vec![512; 3], 4, 4, 64),
        (vec![640; 2], 2, 2, 128),
        (vec![512, 513], 2, 2, 64),
        // Fewer key heads than query heads.
        (vec![520; 2], 4, 2, 64),
        (vec![1024], 14, 2, 64),
        (vec![512; 2], 6, 1, 128),
        (vec![777], 12, 2, 128),
        (vec![512; 2], 4, 2, 96),
        (vec![576; 2], 4, 1, 256),
    ] {
        // On the CPU short rows take the same path.
        let lengths: Vec<usize> =
            if device().is_cuda() { lengths } else { lengths.iter().map(|length| length / 16).collect() };
        for kind in [Kind::Float, Kind::BFloat16] {
            let n = lengths.iter().sum::<usize>() as i64;
            let scores = Scores::scaled(1.0 / (k as f64).sqrt());
            let rows = RowLayout::new(&lengths, device()).unwrap();
            let parts = random(&[n, h + 2 * g, k], kind).split_with_sizes([h, g, g], 1);
            let inputs = Inputs { query: &parts[0], key: &parts[1], value: &parts[2], rows: &rows, scores };
            let d_output = random(&[n, h, k], kind);
            let mut check =
                Check::of(&[&parts[0], &parts[1], &parts[2]], &d_output, |t| reference(t, &lengths, scores));
            let all = [AttentionKind::Flash, AttentionKind::Sdpa].map(|attention| {
                let (output, saved) = forward(attention, inputs).unwrap();
                check.forward(&output);
                let gradients = backward(&d_output, inputs, &saved).unwrap();
                check.gradient(0, &gradients.query);
                check.gradient(1, &gradients.key);
                check.gradient(2, &gradients.value);
                let fits = device().is_cuda() && kind == Kind::BFloat16 && lengths[0] == lengths[1];
                let expected = fits && attention == AttentionKind::Flash;
                assert_eq!(matches!(saved, Saved::Cudnn(_)), expected, "{lengths:?} {kind:?} {attention:?}");
                [output, gradients.query, gradients.key, gradients.value].map(|tensor| {
                    assert!(tensor.is_contiguous(), "the kernels that follow take no strides");
                    tensor
                })
            });
            for (cudnn, sdpa) in all[0].iter().zip(&all[1]) {
                assert_close(cudnn, &sdpa.to_kind(Kind::Double), kind, "cuDNN against libtorch");
            }
        }
    }
}

/// Rows within the window, rows that end in it, and rows of several parts; caps that change the
/// scores by much.
#[test]
fn windows_and_capped_scores_equal_autograd() {
    for (lengths, window, soft_cap) in [
        (vec![5, 3, 3], Some(1), None),
        (vec![5, 3, 3, 12, 4], Some(4), None),
        (vec![9, 2], Some(9), None),
        (vec![1100, 40], Some(37), None),
        (vec![700, 700], Some(600), None),
        (vec![5, 3, 3], None, Some(0.7)),
        (vec![530, 7], None, Some(2.0)),
        (vec![530, 7], Some(20), Some(0.5)),
    ] {
        let scores = Scores { scale: 0.4, window: window.and_then(NonZeroUsize::new), soft_cap };
        for (attention, h, g) in
            [(AttentionKind::Flash, 4, 2), (AttentionKind::Eager, 4, 2), (AttentionKind::Flash, 1, 1)]
        {
            each_precision(|kind| {
                let n = lengths.iter().sum::<usize>() as i64;
                let rows = RowLayout::new(&lengths, device()).unwrap();
                let (query, key, value) =
                    (random(&[n, h, 8], kind), random(&[n, g, 8], kind), random(&[n, g, 8], kind));
                let d_output = random(&[n, h, 8], kind);
                let mut check = Check::of(&[&query, &key, &value], &d_output, |t| reference(t, &lengths, scores));
                let inputs = Inputs { query: &query, key: &key, value: &value, rows: &rows, scores };
                let (output, saved) = forward(attention, inputs).unwrap();
                check.forward(&output);
                let gradients = backward(&d_output, inputs, &saved).unwrap();
                if window != Some(1) {
                    // A token that sees only itself has no gradient of q and k but rounding errors.
                    check.gradient(0, &gradients.query);
                    check.gradient(1, &gradients.key);
                }
                check.gradient(2, &gradients.value);
            });
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let rows = RowLayout::new(&[4], Device::Cpu).unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for (query, key) in [
        (zeros(&[5, 2, 4]), zeros(&[5, 2, 4])),
        (zeros(&[4, 3, 4]), zeros(&[4, 2, 4])),
        (zeros(&[4, 2, 4]), zeros(&[4, 2, 6])),
    ] {
        let inputs = Inputs { query: &query, key: &key, value: &key, rows: &rows, scores: Scores::scaled(1.0) };
        let result = forward(AttentionKind::Flash, inputs);
        assert!(matches!(result, Err(Error::Shape { operation: "attention", .. })));
    }
    let vector = &zeros(&[4]);
    let inputs = Inputs { query: vector, key: vector, value: vector, rows: &rows, scores: Scores::scaled(1.0) };
    assert!(forward(AttentionKind::Flash, inputs).is_err());
}

#[test]
fn names_are_those_of_transformers() {
    for (name, kind) in
        [("flash_attention_2", AttentionKind::Flash), ("sdpa", AttentionKind::Sdpa), ("eager", AttentionKind::Eager)]
    {
        assert_eq!(name.parse::<AttentionKind>().unwrap(), kind);
        assert_eq!(kind.to_string(), name);
    }
    assert!("flash".parse::<AttentionKind>().is_err());
}
