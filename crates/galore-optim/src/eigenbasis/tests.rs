use super::*;
use tch::Device;

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Gram matrices of gradients `[b, 2n, n]` whose singular values fall like those of a language
/// model: the largest eigenvalue is much larger than the next, the one a quarter of the way down is
/// 1e-4 of the largest, and the last one 1e-10.
fn grams(batch: i64, n: i64) -> Tensor {
    let values = Tensor::arange(n, DOUBLE) * (-10.0 / n as f64) - (Tensor::arange(n, DOUBLE) + 1.0).log10();
    of_eigenvalues(batch, n, (values * 10.0f64.ln()).exp())
}

/// The same with a long, flat tail, where neighbours are hard to separate: the k-th eigenvalue is
/// 1 / k.
fn flat_grams(batch: i64, n: i64) -> Tensor {
    of_eigenvalues(batch, n, (Tensor::arange(n, DOUBLE) + 1.0).reciprocal())
}

fn of_eigenvalues(batch: i64, n: i64, values: Tensor) -> Tensor {
    let mixed = |seed: f64| {
        let square = ((Tensor::arange(batch * n * n, DOUBLE) + seed) * 12.9898).sin() * 43_758.545;
        Tensor::f_linalg_qr(&(&square - square.floor() - 0.5).view([batch, n, n]), "reduced").unwrap().0
    };
    let vectors = mixed(1.0);
    (&vectors * values.view([1, 1, n])).matmul(&vectors.transpose(1, 2)).to_kind(Kind::Float)
}

/// The share of the best possible energy that the first `count` rows hold, for the worst matrix.
fn captured(grams: &Tensor, rows: &Tensor, count: i64) -> f64 {
    let (grams, rows) = (grams.to_kind(Kind::Double), rows.to_kind(Kind::Double).narrow(1, 0, count));
    let (values, _) = grams.linalg_eigh("L");
    let best = values.narrow(1, values.size()[1] - count, count).sum_dim_intlist(1, false, None);
    let held = (rows.matmul(&grams) * &rows).sum_dim_intlist([1, 2].as_slice(), false, None);
    (held / best).min().double_value(&[])
}

fn off_orthonormal(rows: &Tensor) -> f64 {
    let products = rows.matmul(&rows.transpose(1, 2));
    (products - Tensor::eye(rows.size()[1], (Kind::Float, rows.device()))).abs().max().double_value(&[])
}

#[test]
fn a_quarter_of_the_vectors_holds_as_much_as_the_exact_ones() {
    // 144 vectors are two panels.
    for (n, rank) in [(96, 24), (576, 144)] {
        let grams = grams(3, n);
        let rows = by_iteration(&grams, rank).unwrap().unwrap();
        assert!(off_orthonormal(&rows) < 1e-5, "{n}: {:e}", off_orthonormal(&rows));
        for count in [4, rank / 2, rank] {
            let held = captured(&grams, &rows, count);
            assert!((0.999..1.0001).contains(&held), "{n}, {count}: {held}");
        }
        // The axes are right, not only the span: no two vectors share energy.
        let inside = rows.matmul(&grams).matmul(&rows.transpose(1, 2)).to_kind(Kind::Double);
        let scale = inside.diagonal(0, 1, 2).clamp_min(1e-30).sqrt();
        let shared = inside / (scale.unsqueeze(1) * scale.unsqueeze(2)) - Tensor::eye(rank, DOUBLE);
        assert!(shared.narrow(1, 0, rank / 2).narrow(2, 0, rank / 2).abs().max().double_value(&[]) < 0.05);
        assert_eq!(leading(grams.copy(), rank).unwrap(), rows);
    }
}

#[test]
fn few_vectors_of_a_flat_spectrum_hold_as_much_too() {
    for rank in [4, 16, 64, 150] {
        let grams = flat_grams(2, 300);
        let rows = by_iteration(&grams, rank).unwrap().unwrap();
        assert_eq!(rows.size(), [2, rank, 300]);
        assert!(off_orthonormal(&rows) < 1e-5, "{rank}");
        for count in [4, rank] {
            let held = captured(&grams, &rows, count);
            assert!((0.9995..1.0001).contains(&held), "{rank}, {count}: {held}");
        }
    }
}

#[test]
fn more_than_half_of_the_vectors_come_from_the_solver() {
    let grams = grams(2, 40);
    for rank in [21, 40] {
        let rows = leading(grams.copy(), rank).unwrap();
        assert_eq!(rows.size(), [2, rank, 40]);
        assert!(off_orthonormal(&rows) < 1e-5);
        assert!(captured(&grams, &rows, 5) > 0.9999 && captured(&grams, &rows, rank) > 0.9999);
    }
}

#[test]
fn gradients_without_rank_have_bases_too() {
    let n = 64;
    let thin = Tensor::arange(2 * 3 * n, DOUBLE).sin().view([2, 3, n]).to_kind(Kind::Float);
    let grams = thin.transpose(1, 2).matmul(&thin);
    let rows = leading(grams.copy(), 16).unwrap();
    assert!(off_orthonormal(&rows) < TOLERANCE);
    assert!(captured(&grams, &rows, 3) > 0.9999);
    // One of the matrices is zero.
    let _ = grams.get(1).zero_();
    let rows = leading(grams.copy(), 16).unwrap();
    assert!(off_orthonormal(&rows) < TOLERANCE);
    assert!(captured(&grams.narrow(0, 0, 1), &rows.narrow(0, 0, 1), 3) > 0.9999);
}
