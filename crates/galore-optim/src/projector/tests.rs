use super::*;
use crate::SubspaceSolver;
use crate::basis::Wanted;

fn energy(gradient: &Tensor, projector: &Projector) -> f64 {
    let projected = match (&projector.left, &projector.right) {
        (Some(left), None) => left.tr().matmul(gradient),
        (None, Some(right)) => gradient.matmul(&right.tr()),
        (Some(left), Some(right)) => left.tr().matmul(gradient).matmul(&right.tr()),
        (None, None) => panic!("no basis"),
    };
    projected.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[])
}

fn off_identity(basis: &Tensor, along: i64) -> f64 {
    let columns = if along == 0 { basis.shallow_clone() } else { basis.tr() };
    let product = columns.tr().matmul(&columns);
    (&product - Tensor::eye(product.size()[0], (Kind::Float, product.device()))).abs().max().double_value(&[])
}

fn refresh(projector: &mut Projector, gradient: &Tensor) {
    let gradient = gradient.unsqueeze(0);
    let (side, rank, previous) = (projector.side(), projector.rank(), projector.batch_of_bases().unwrap());
    let wanted = Wanted { side, rank, previous, key: 0, memory: None };
    let largest = basis::largest(&gradient).unwrap();
    let found = basis::find(projector.way(), &gradient, &largest, &wanted).unwrap();
    projector.set_bases(&found.bases.map(|basis| basis.f_squeeze_dim(0)).unwrap()).unwrap();
}

#[test]
fn eigenvectors_capture_what_singular_vectors_do() {
    tch::manual_seed(3);
    let device = if torch_ext::cuda::load() { Device::Cuda(0) } else { Device::Cpu };
    let types = ["std", "reverse_std", "right", "left", "full"].map(|name| name.parse().unwrap());
    for (rows, cols, rank) in [(40, 24, 6), (24, 40, 24), (33, 33, 33), (9, 1, 3), (160, 96, 96), (160, 96, 24)] {
        for proj_type in types {
            for size in [1.0, 1e-15] {
                // Singular values that fall to 1e-4 of the first, as those of a gradient do.
                let decay = (Tensor::arange(cols, (Kind::Float, device)) * (-9.0 / cols as f64)).exp();
                let gradient = Tensor::randn([rows, cols], (Kind::Float, device)) * decay * size;
                let config = GaLoreConfig { rank: rank.into(), proj_type, ..GaLoreConfig::default() };
                let [mut by_svd, mut ours] = [SubspaceSolver::Svd, SubspaceSolver::Eigenvectors].map(|subspace| {
                    let config = GaLoreConfig { subspace, ..config.clone() };
                    Projector::new([rows, cols], &config, (Kind::Float, device))
                });
                refresh(&mut by_svd, &gradient);
                refresh(&mut ours, &gradient);
                let scaled = &gradient / size;
                let ratio = energy(&scaled, &ours) / energy(&scaled, &by_svd);
                assert!((0.999..1.001).contains(&ratio), "{rows} x {cols}, rank {rank}, {proj_type:?}: {ratio}");
                for (name, basis) in ours.state() {
                    let along = i64::from(name == "basis_right");
                    assert!(off_identity(basis, along) < 1e-4, "{name}");
                }
                // A slightly different gradient: no vector of the new basis points against its
                // predecessor.
                let before: Vec<Tensor> = ours.state().map(|(_, basis)| basis.copy()).collect();
                refresh(&mut ours, &(&gradient * 1.01));
                for ((name, basis), before) in ours.state().zip(&before) {
                    let along = i64::from(name == "basis_right");
                    let overlap = (basis * before).sum_dim_intlist(along, false, None);
                    assert!(overlap.min().double_value(&[]) >= 0.0, "{name}");
                }
            }
        }
    }
}
