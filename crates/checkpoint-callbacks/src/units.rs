//! Bytes in the units that disks and `df -H` use.

/// `512 bytes`, `4.2 MB`, `1.3 GB`: with two digits at least.
pub(crate) fn in_units(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut number = bytes as f64;
    let mut unit = None;
    for larger in UNITS {
        // Rounded to one digit after the point, 999.95 is a thousand.
        if number < 999.95 {
            break;
        }
        number /= 1000.0;
        unit = Some(larger);
    }
    match unit {
        None if bytes == 1 => "1 byte".to_owned(),
        None => format!("{bytes} bytes"),
        Some(unit) => format!("{number:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_number() {
        let shown = [0, 1, 999, 1_000, 999_949, 999_950, 1_300_000_000, u64::MAX].map(in_units);
        assert_eq!(shown, ["0 bytes", "1 byte", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "1.3 GB", "18.4 EB"]);
    }
}
