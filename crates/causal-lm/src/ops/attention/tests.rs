use super::*;
use crate::ops::check::{Check, device, each_precision, random};
use tch::Device;

/// Row by row with autograd, no grouping and no repeated heads: what both implementations must equal.
fn reference(t: &[Tensor], lengths: &[usize], scale: f64) -> Tensor {
    let (h, g) = (t[0].size()[1], t[1].size()[1]);
    let mut start = 0;
    let mut outputs = Vec::new();
    for length in lengths.iter().map(|length| *length as i64) {
        let heads: Vec<Tensor> = (0..h)
            .map(|head| {
                let of = |tensor: &Tensor, head: i64| tensor.narrow(0, start, length).select(1, head);
                let (query, key, value) = (of(&t[0], head), of(&t[1], head / (h / g)), of(&t[2], head / (h / g)));
                let future = Tensor::ones([length, length], (Kind::Bool, device())).triu(1);
                let scores = (query.matmul(&key.tr()) * scale).masked_fill(&future, f64::NEG_INFINITY);
                scores.softmax(1, Kind::Double).matmul(&value)
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
                let scale = 1.0 / (k as f64).sqrt();
                let rows = Rows::new(&lengths, device()).unwrap();
                let (query, key, value) =
                    (random(&[n, h, k], kind), random(&[n, g, k], kind), random(&[n, g, k], kind));
                let d_output = random(&[n, h, k], kind);
                let mut check = Check::of(&[&query, &key, &value], &d_output, |t| reference(t, &lengths, scale));
                let inputs = (&query, &key, &value);
                let (output, saved) = forward(attention, inputs, &rows, scale).unwrap();
                check.forward(&output);
                let (d_query, d_key, d_value) = backward(&d_output, inputs, &saved, &rows, scale).unwrap();
                if lengths != [1] {
                    // One token attends to itself alone: the gradients of q and k are rounding.
                    check.gradient(0, &d_query);
                    check.gradient(1, &d_key);
                }
                check.gradient(2, &d_value);
            });
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let rows = Rows::new(&[4], Device::Cpu).unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for (query, key) in [
        (zeros(&[5, 2, 4]), zeros(&[5, 2, 4])),
        (zeros(&[4, 3, 4]), zeros(&[4, 2, 4])),
        (zeros(&[4, 2, 4]), zeros(&[4, 2, 6])),
    ] {
        let result = forward(AttentionKind::Flash, (&query, &key, &key), &rows, 1.0);
        assert!(matches!(result, Err(Error::Shape { operation: "attention", .. })));
    }
    assert!(forward(AttentionKind::Flash, (&zeros(&[4]), &zeros(&[4]), &zeros(&[4])), &rows, 1.0).is_err());
}
