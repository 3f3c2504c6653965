use super::blockwise::{SIGNED, UNSIGNED};
use super::*;
use sha2::{Digest, Sha256};

const CPU: Device = Device::Cpu;

fn both() -> [Box<dyn Codec>; 2] {
    [MomentDtype::Blockwise8bit, MomentDtype::Compact].map(|dtype| codec(dtype, 1 << 20, CPU).unwrap().unwrap())
}

fn numbers(numel: i64) -> Tensor {
    let x = Tensor::arange(numel, (Kind::Float, CPU));
    (&x * 0.7).sin() * (&x * 0.013).cos().exp() * 1e-3
}

#[test]
fn the_tables_are_those_of_bitsandbytes() {
    let digest = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(digest(SIGNED), "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c");
    assert_eq!(digest(UNSIGNED), "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398");
}

#[test]
fn ranges_are_the_same_as_the_whole_and_the_last_block_may_be_short() {
    for codec in both() {
        let numel = 256 * 5 + 17;
        for (moment, x) in [(Moment::First, numbers(numel)), (Moment::Second, numbers(numel).square())] {
            let [whole, parts] = [(); 2].map(|()| Coded::zeros(codec.as_ref(), moment, numel, CPU).unwrap());
            whole.write(codec.as_ref(), (0, numel), &x).unwrap();
            for (start, length) in [(0, 512), (512, 768), (1280, 17)] {
                parts.write(codec.as_ref(), (start, length), &x.narrow(0, start, length)).unwrap();
            }
            assert!(whole.codes.equal(&parts.codes) && whole.scales.equal(&parts.scales), "{codec:?}");
            let mut read = Tensor::zeros([17], (Kind::Float, CPU));
            parts.read(codec.as_ref(), (1280, 17), &mut read).unwrap();
            let error = (read - x.narrow(0, 1280, 17)).abs().max().double_value(&[]);
            let largest = x.narrow(0, 1280, 17).abs().max().double_value(&[]);
            assert!(error < 0.02 * largest, "{codec:?}: {error}");
        }
    }
}

#[test]
fn zero_stays_zero_and_what_is_not_zero_keeps_its_sign() {
    for codec in both() {
        let zeros = Tensor::zeros([2, codec.block()], (Kind::Float, CPU));
        for moment in [Moment::First, Moment::Second] {
            let (codes, scales) = codec.encode(moment, &zeros).unwrap();
            let decoded = codec.decode(moment, &codes, &scales).unwrap();
            assert_eq!(decoded.abs().max().double_value(&[]), 0.0, "{codec:?}");
        }
    }
    // The step divides by the root of the second moment, so a small one must not become zero.
    let group = Tensor::from_slice(&[1.0f32, 1e-9]).repeat([16]).view([1, 32]);
    let (codes, scales) = Compact.encode(Moment::Second, &group).unwrap();
    assert!(Compact.decode(Moment::Second, &codes, &scales).unwrap().min().double_value(&[]) > 0.0);
    let group = Tensor::from_slice(&[1.0f32, -1e-12]).repeat([128]).view([1, 256]);
    let blockwise = Blockwise::new(CPU).unwrap();
    let (codes, scales) = blockwise.encode(Moment::First, &group).unwrap();
    let least = blockwise.decode(Moment::First, &codes, &scales).unwrap().double_value(&[0, 1]);
    assert!((-1e-6..0.0).contains(&least), "{least}");
}

#[test]
fn codes_stand_for_what_they_do_in_bitsandbytes_bit_for_bit() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/states.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let view = file.tensor(name).unwrap();
        Tensor::from_data_size(view.data(), &[view.shape()[0] as i64], Kind::Float)
    };
    let codes = Tensor::arange(256, (Kind::Int, CPU)).to_kind(Kind::Uint8).repeat([3, 1]);
    let blockwise = Blockwise::new(CPU).unwrap();
    for (moment, name) in [(Moment::First, "decoded.signed"), (Moment::Second, "decoded.unsigned")] {
        let decoded = blockwise.decode(moment, &codes, &read("absmax").view([3, 1])).unwrap();
        assert!(decoded.view([-1]).equal(&read(name)), "{name}");
    }
}
