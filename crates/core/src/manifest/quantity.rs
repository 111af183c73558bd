//! Kubernetes quantities, exactly.

/// A non-negative amount: `mantissa / 10^decimals`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantity {
    mantissa: u128,
    decimals: u32,
}

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuantityError {
    #[error(
        "accepted: a quantity, digits with an optional suffix of m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, as in 500m or 64Mi"
    )]
    Grammar,
    #[error("accepted: 0 or more")]
    Negative,
    #[error("accepted: less than 8Ei (2^63)")]
    TooLarge,
}

/// Digits beyond these are refused: nothing real needs them, and the arithmetic stays within 128 bits.
const MOST_DIGITS: usize = 18;
const LARGEST_EXPONENT: i32 = 18;

impl Quantity {
    /// Grammar of `k8s.io/apimachinery` `resource.Quantity`: sign, digits with an optional point, suffix or exponent.
    pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Grammar);
        }
        let (binary, exponent) = suffix_value(suffix)?;
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if whole.is_empty() && fraction.is_empty() {
            return Ok(Quantity { mantissa: 0, decimals: 0 });
        }
        if negative {
            return Err(QuantityError::Negative);
        }
        if whole.len() > MOST_DIGITS + 1 || exponent > LARGEST_EXPONENT {
            return Err(QuantityError::TooLarge);
        }
        if fraction.len() > MOST_DIGITS || exponent < -LARGEST_EXPONENT {
            return Err(QuantityError::Grammar);
        }
        let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| QuantityError::Grammar)?;
        let decimals = i32::try_from(fraction.len()).unwrap_or(i32::MAX) - exponent;
        let scaled = digits.checked_mul(binary).ok_or(QuantityError::TooLarge)?;
        let quantity = match u32::try_from(decimals) {
            Ok(decimals) => Quantity { mantissa: scaled, decimals },
            Err(_) => {
                let power = 10_u128.pow(decimals.unsigned_abs());
                Quantity { mantissa: scaled.checked_mul(power).ok_or(QuantityError::TooLarge)?, decimals: 0 }
            }
        };
        quantity.units()?;
        Ok(quantity)
    }

    /// Whether it is a whole number of units.
    pub(super) fn is_whole(self) -> bool {
        self.mantissa.is_multiple_of(10_u128.pow(self.decimals))
    }

    /// In whole units, rounded up as the API server does.
    pub(super) fn units(self) -> Result<u64, QuantityError> {
        self.rounded_up(1)
    }

    /// In thousandths, rounded up.
    pub(super) fn thousandths(self) -> Result<u64, QuantityError> {
        self.rounded_up(1000)
    }

    fn rounded_up(self, factor: u128) -> Result<u64, QuantityError> {
        let scaled = self.mantissa.checked_mul(factor).ok_or(QuantityError::TooLarge)?;
        let whole = scaled.div_ceil(10_u128.pow(self.decimals));
        i64::try_from(whole).map(i64::unsigned_abs).map_err(|_| QuantityError::TooLarge)
    }
}

/// The binary factor and the decimal exponent that a suffix stands for.
fn suffix_value(suffix: &str) -> Result<(u128, i32), QuantityError> {
    let value = match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let power = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Grammar)?;
            let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
            if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(QuantityError::Grammar);
            }
            (1, power.parse().map_err(|_| QuantityError::Grammar)?)
        }
    };
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_exact_and_round_up() {
        for (text, units, thousandths) in [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("500m", 1, 500),
            ("0.5", 1, 500),
            (".5", 1, 500),
            ("1.", 1, 1000),
            ("100u", 1, 1),
            ("1n", 1, 1),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("64Mi", 67_108_864, 67_108_864_000),
            ("128974848", 128_974_848, 128_974_848_000),
            ("129e6", 129_000_000, 129_000_000_000),
            ("129M", 129_000_000, 129_000_000_000),
            ("1e3", 1000, 1_000_000),
            ("12E-1", 2, 1200),
            ("0.1Ki", 103, 102_400),
            ("+3k", 3000, 3_000_000),
            ("-0", 0, 0),
        ] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!((quantity.units().unwrap(), quantity.thousandths().unwrap()), (units, thousandths), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "m", "1 Gi", "1gi", "ten", "1..2", "1e", "1e+", "--1", "0x10", "1KiB", "1K", "1mm", "1e99999"]
        {
            assert_eq!(Quantity::parse(text), Err(QuantityError::Grammar), "{text}");
        }
        assert_eq!(Quantity::parse("-1"), Err(QuantityError::Negative));
        for text in ["8Ei", "9223372036854775808", "10E", "1e19", "99999999999999999999"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::TooLarge), "{text}");
        }
        assert_eq!(Quantity::parse("9223372036854775807").unwrap().units(), Ok(9_223_372_036_854_775_807));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+]?[0-9.]{0,40}[eEinumkKMGTP+0-9-]{0,6}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                prop_assert!(quantity.units().is_ok());
                let _unbounded = quantity.thousandths();
            }
        }
    }
}
