//! Cards by their makers' figures.

/// What a card can do. Figures are those of the data sheets: dense products of 16-bit numbers with
/// float32 sums, without sparsity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// The name, as in `card`.
    pub name: &'static str,
    /// Memory in MiB, as the driver tells it.
    pub memory_mib: u64,
    /// Peak rate of 16-bit products in TFLOP/s.
    pub teraflops: f64,
    /// Bandwidth of the memory in GB/s.
    pub gigabytes_per_second: f64,
}

/// A row of the table.
const fn card(name: &'static str, memory_mib: u64, teraflops: f64, gigabytes_per_second: f64) -> Card {
    Card { name, memory_mib, teraflops, gigabytes_per_second }
}

/// The cards that are known.
pub const CARDS: &[Card] = &[
    card("H200", 143_771, 989.0, 4800.0),
    card("H100", 81_559, 989.0, 3350.0),
    card("H20", 97_871, 148.0, 4000.0),
    card("A100-80GB", 81_920, 312.0, 2039.0),
    card("A100-40GB", 40_960, 312.0, 1555.0),
    card("L40S", 46_068, 362.0, 864.0),
    card("L20", 46_068, 119.5, 864.0),
    card("A6000", 49_140, 154.8, 768.0),
    card("A10", 23_028, 125.0, 600.0),
    card("L4", 23_034, 121.0, 300.0),
    card("RTX5090", 32_607, 209.5, 1792.0),
    card("RTX4090", 24_564, 165.2, 1008.0),
    card("RTX3090", 24_576, 71.0, 936.0),
];

impl Card {
    /// The card of this name. Upper case, spaces, dashes, `RTX` and `NVIDIA` make no difference;
    /// `A100` is the one of 80 GB.
    pub fn named(name: &str) -> Option<&'static Self> {
        let plain = |name: &str| {
            let name = name.to_ascii_uppercase().replace([' ', '-', '_'], "");
            name.replace("NVIDIA", "").replace("GEFORCE", "").replace("RTX", "")
        };
        let wanted = plain(name);
        let wanted = if wanted == "A100" { "A10080GB".to_owned() } else { wanted };
        CARDS.iter().find(|card| plain(card.name) == wanted)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_mib << 20
    }
}
