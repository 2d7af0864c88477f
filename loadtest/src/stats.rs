//! Medians and spreads of few rounds; percentiles of many latencies.

/// Middle value; of an even number the mean of the two in the middle; NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Distance between the quartiles, relative to the median: how far rounds disagree.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    if middle == 0.0 { 0.0 } else { (quantile(values, 0.75) - quantile(values, 0.25)) / middle }
}

pub(crate) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

/// Linear between the two nearest ranks.
fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let mut below = 0;
    let mut rank = at;
    // The rank is at × last, taken apart into a whole place and the rest without float casts.
    rank *= number(last as u64);
    while rank >= 1.0 && below < last {
        rank -= 1.0;
        below += 1;
    }
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * rank
}

/// The value that `percent` of a hundred do not exceed (nearest rank); sorts in place; 0 of none.
pub(crate) fn percentile(values: &mut [u32], percent: usize) -> u32 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// A count as a float: exact below 2^53, which no count of a run reaches.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53; counts of a run stay below")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

/// `part` per `whole`; NaN when there is no whole.
pub(crate) fn per(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::NAN } else { number(part) / number(whole) }
}

#[cfg(test)]
mod tests {
    use super::{least, median, per, percentile, spread};

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn medians_of_odd_and_even() {
        assert!(near(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(near(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(near(median(&[7.0]), 7.0));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn spread_ignores_one_wild_round_of_five() {
        assert!(near(spread(&[10.0, 10.0, 10.0, 10.0, 50.0]), 0.0));
        assert!(near(spread(&[8.0, 9.0, 10.0, 11.0, 12.0]), 0.2));
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 50), 50);
        assert_eq!(percentile(&mut values, 99), 99);
        assert_eq!(percentile(&mut [5], 99), 5);
        assert_eq!(percentile(&mut [], 50), 0);
    }

    #[test]
    fn least_and_per() {
        assert!(near(least(&[3.0, 1.5, 2.0]), 1.5));
        assert!(near(per(1, 4), 0.25) && per(1, 0).is_nan());
    }
}
