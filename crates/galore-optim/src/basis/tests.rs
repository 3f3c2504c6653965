use super::*;
use tch::Device;

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);
const SOLVERS: [SubspaceSolver; 5] = [
    SubspaceSolver::Svd,
    SubspaceSolver::Eigenvectors,
    SubspaceSolver::Power,
    SubspaceSolver::Dct,
    SubspaceSolver::Random,
];
const SIDES: [Side; 3] = [Side::Left, Side::Right, Side::Both];

/// Gradients that are usual, of low rank, with rows of zeros, huge, tiny, and nearly constant.
fn gradients([rows, cols]: [i64; 2]) -> Vec<(&'static str, Tensor)> {
    tch::manual_seed(11);
    let random = || Tensor::randn([rows, cols], FLOAT);
    let thin = Tensor::randn([rows, 1], FLOAT).matmul(&Tensor::randn([1, cols], FLOAT));
    let mut sparse = Tensor::zeros([rows, cols], FLOAT);
    let _ = sparse.get(0).get(0).fill_(-3.0);
    vec![
        ("random", random()),
        ("low rank", thin),
        ("one element", sparse.copy()),
        ("huge", random() * 1e37),
        ("tiny", random() * 1e-36),
        ("denormal", sparse.fill_(1e-42)),
        ("wide range", random() * (Tensor::arange(cols, FLOAT) * (-60.0 / cols as f64)).exp()),
        ("constant", Tensor::ones([rows, cols], FLOAT)),
    ]
}

fn of(bases: &Bases) -> Vec<(&Tensor, Side)> {
    let sides = [(bases.left.as_ref(), Side::Left), (bases.right.as_ref(), Side::Right)];
    sides.into_iter().filter_map(|(basis, side)| Some((basis?, side))).collect()
}

#[test]
fn every_way_gives_orthonormal_bases_of_every_gradient() {
    for solver in SOLVERS {
        for shape @ [rows, cols] in [[12, 7], [7, 12], [9, 9], [70, 40], [1, 5]] {
            for rank in [1, 3, rows.min(cols)].map(|rank: i64| rank.min(rows).min(cols)) {
                for side in SIDES {
                    let way = way(solver, Device::Cpu);
                    let mut previous = None;
                    for (name, gradient) in gradients(shape) {
                        let gradient = gradient.unsqueeze(0);
                        let largest = largest(&gradient).unwrap();
                        assert_eq!(contents(&largest).unwrap(), [Content::Usable], "{name}");
                        let wanted = Wanted { side, rank, previous, key: 5, memory: None };
                        let what = format!("{solver}, {shape:?}, rank {rank}, {side:?}, {name}");
                        // Within the bound, by a way of its own or another.
                        let found = find(way, &gradient, &largest, &wanted)
                            .or_else(|_| find_on_cpu(way, &gradient, &largest, &wanted))
                            .unwrap_or_else(|error| panic!("{what}: {error}"));
                        for (basis, side) in of(&found.bases) {
                            let off = off_orthonormal(basis, side).unwrap();
                            assert!(off < 1e-4, "{what}: {off:e}");
                            let expected = if side == Side::Left { [1, rows, rank] } else { [1, rank, cols] };
                            assert_eq!(basis.size(), expected, "{what}");
                        }
                        assert_eq!(of(&found.bases).len(), if side == Side::Both { 2 } else { 1 });
                        previous = Some(found.bases);
                    }
                }
            }
        }
    }
}

#[test]
fn zero_and_non_finite_gradients_are_told_apart() {
    let with = |value: f64| {
        let one = Tensor::zeros([2, 2], FLOAT);
        let _ = one.get(1).get(0).fill_(value);
        one
    };
    let all = Tensor::stack(&[0.0, -0.0, 1.0, -1e-40, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(with), 0);
    use Content::{NotFinite, Usable, Zero};
    let expected = [Zero, Zero, Usable, Usable, NotFinite, NotFinite, NotFinite];
    assert_eq!(contents(&largest(&all).unwrap()).unwrap(), expected);
    assert_eq!(contents(&largest(&all.to_kind(Kind::BFloat16)).unwrap()).unwrap(), expected);
}

fn wanted(side: Side, rank: i64, previous: Option<Bases>) -> Wanted<'static> {
    Wanted { side, rank, previous, key: 1, memory: None }
}

/// The share of the gradient's energy that a right basis holds.
fn held(gradient: &Tensor, bases: &Bases) -> f64 {
    let energy = |tensor: &Tensor| tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    energy(&gradient.matmul(&bases.right.as_ref().unwrap().transpose(1, 2))) / energy(gradient)
}

#[test]
fn power_steps_converge_to_the_leading_subspace() {
    tch::manual_seed(4);
    let decay = (Tensor::arange(30, FLOAT) * -0.2).exp();
    let gradient = Tensor::randn([1, 50, 30], FLOAT) * decay;
    let size = largest(&gradient).unwrap();
    let best = svd::SingularVectors.find(&gradient, &size, &wanted(Side::Right, 6, None)).unwrap();
    let mut bases = random::RandomColumns.find(&gradient, &size, &wanted(Side::Right, 6, None)).unwrap();
    let start = held(&gradient, &bases);
    for _ in 0..12 {
        bases = power::PowerStep.find(&gradient, &size, &wanted(Side::Right, 6, Some(bases))).unwrap();
    }
    let (found, best) = (held(&gradient, &bases), held(&gradient, &best));
    assert!(start < 0.7 * best && found > 0.999 * best, "{start} {found} {best}");
}

#[test]
fn a_cosine_in_the_gradient_is_found_in_one_column() {
    let n = 16;
    let place = Tensor::arange(n, FLOAT) * 2.0 + 1.0;
    let wave = |k: i64| (&place * (std::f64::consts::PI * k as f64 / (2 * n) as f64)).cos();
    let gradient = (wave(5) * 3.0 + wave(2)).unsqueeze(0).repeat([4, 1]).unsqueeze(0);
    let size = largest(&gradient).unwrap();
    let one = dct::CosineColumns.find(&gradient, &size, &wanted(Side::Right, 1, None)).unwrap();
    let two = dct::CosineColumns.find(&gradient, &size, &wanted(Side::Both, 2, None)).unwrap();
    assert!((held(&gradient, &one) - 0.9).abs() < 1e-5 && held(&gradient, &two) > 1.0 - 1e-6);
    // In order of frequency.
    let first = two.right.unwrap().get(0).get(0);
    assert!((first - wave(2) * (2.0 / n as f64).sqrt()).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn random_columns_depend_on_the_key_alone() {
    tch::manual_seed(8);
    let draw = |key, rank| {
        let gradient = Tensor::randn([1, 40, 24], FLOAT);
        let wanted = Wanted { key, ..wanted(Side::Both, rank, None) };
        random::RandomColumns.find(&gradient, &largest(&gradient).unwrap(), &wanted).unwrap()
    };
    let [one, same, other] = [3, 3, 4].map(|key| draw(key, 6).right.unwrap());
    assert!(one == same && one != other);
    // No direction is preferred: over many draws each holds the same share.
    let mean = (0..200).map(|key| draw(key, 6).right.unwrap().square().sum_dim_intlist(1, false, None)).sum::<Tensor>();
    let off = (mean / 200.0 - 6.0 / 24.0).abs().max().double_value(&[]);
    assert!(off < 0.05, "{off}");
}

/// The longer side follows from the shorter Gram matrix.
#[test]
fn both_sides_of_the_eigenvectors_are_the_singular_vectors() {
    tch::manual_seed(6);
    for shape in [[30, 12], [12, 30], [20, 20]] {
        let decay = (Tensor::arange(shape[1], FLOAT) * -0.3).exp();
        let gradient = Tensor::randn(shape, FLOAT).unsqueeze(0) * decay;
        let size = largest(&gradient).unwrap();
        let wanted = wanted(Side::Both, 4, None);
        let [ours, exact] = [&eigen::Eigenvectors as &dyn FindBases, &svd::SingularVectors]
            .map(|way| way.find(&gradient, &size, &wanted).unwrap());
        for ((ours, side), (exact, _)) in of(&ours).into_iter().zip(of(&exact)) {
            let along = if side == Side::Left { 1 } else { 2 };
            let overlaps = (ours * exact).sum_dim_intlist(along, false, None).abs();
            assert!(overlaps.min().double_value(&[]) > 0.9999, "{shape:?} {side:?}: {overlaps:?}");
        }
        // Each pair of vectors belongs to one singular value: U has the sign of G V.
        let (left, right) = (ours.left.unwrap(), ours.right.unwrap());
        let inside = left.transpose(1, 2).matmul(&gradient).matmul(&right.transpose(1, 2));
        assert!(inside.diagonal(0, 1, 2).min().double_value(&[]) > 0.0);
    }
}

#[test]
fn bases_that_are_nearly_orthonormal_are_mended_and_others_refused() {
    tch::manual_seed(9);
    let exact = orthonormal::columns(&Tensor::randn([2, 30, 12], FLOAT)).unwrap();
    let off_by = |size: f64| &exact + Tensor::randn([2, 30, 12], FLOAT) * size;
    let of = |basis: Tensor| super::orthonormal(Bases { left: Some(basis.copy()), right: Some(basis.transpose(1, 2)) });
    let same = of(exact.copy()).unwrap();
    assert!(same.left.unwrap() == exact && same.right.unwrap().transpose(1, 2) == exact);
    let nearly = off_by(3e-4);
    assert!(off_orthonormal(&nearly, Side::Left).unwrap() > TOLERANCE);
    let mended = of(nearly.copy()).unwrap();
    for (basis, side) in super::tests::of(&mended) {
        assert!(off_orthonormal(basis, side).unwrap() < 1e-5);
    }
    assert!((mended.left.unwrap() - nearly).abs().max().double_value(&[]) < 2e-3);
    assert!(of(off_by(0.1)).is_err() && of(off_by(0.0) * f64::NAN).is_err());
}
