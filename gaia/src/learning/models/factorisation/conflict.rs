//! Deltas of many workers to one row.
//!
//! Workers add up what each found alone, from the same start. For a row with few ratings in a clock
//! that is as good as one worker going through all of them. But a popular item has hundreds: each
//! worker takes it most of the way to its optimum, and the sum of six overshoots five times and
//! diverges.
//!
//! So a worker scales its delta to what it adds in the presence of the others. Stepping through
//! ratings with total pull `a` (rate times the sum of squared inputs, `|q|^2 + 1` for a user row
//! with a bias) leaves `exp(-a)` of a row's distance from its optimum; `w` workers after each other
//! would leave `exp(-a w)`. Each of them covers `1 - exp(-a)` alone, so with `(1 - exp(-a w)) / (w
//! (1 - exp(-a)))` of its delta all of them together cover what they would in turn. For small pulls
//! that is one, the plain sum; for large ones `1 / w`, the mean.

/// How many workers' worth of ratings each row of a table has; shape `[rows]`.
///
/// `mine` and `all` count the ratings of each row that this worker and all workers have, and
/// `share` is the worker's share of all ratings that train the model. A row whose ratings are all
/// at one worker has one.
pub(super) fn workers(mine: &[u32], all: &[u32], share: f64) -> Vec<f32> {
    let most = if share > 0.0 { 1.0 / share } else { 1.0 };
    let workers =
        |(&mine, &all): (&u32, &u32)| (f64::from(all) / f64::from(mine.max(1))).clamp(1.0, most.max(1.0));
    mine.iter().zip(all).map(|pair| workers(pair) as f32).collect()
}

/// What part of its delta one of `workers` workers adds, each of which steps with total pull
/// `pull`.
pub(super) fn scale(pull: f32, workers: f32) -> f32 {
    // Below this, the quotient is one to within the precision of f32; it also keeps zero out of the
    // divisor.
    if pull * workers < 1e-6 {
        return 1.0;
    }
    libm::expm1f(-pull * workers) / (workers * libm::expm1f(-pull))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pulls_add_and_large_ones_average() {
        let table = [(0.0, 6.0, 1.0), (1e-4, 6.0, 0.99975), (0.5, 1.0, 1.0), (100.0, 4.0, 0.25)];
        for (pull, workers, part) in table {
            let found = scale(pull, workers);
            assert!((found - part).abs() < 1e-5, "pull {pull}, {workers} workers: {found}");
        }
        // Six workers that cover 39 % each: together they cover 1 - 0.61^6 = 95 %.
        let covered = 6.0 * scale(0.5, 6.0) * (1.0 - libm::expf(-0.5));
        assert!((covered - (1.0 - libm::expf(-3.0))).abs() < 1e-6);
    }

    #[test]
    fn a_row_that_one_worker_has_alone_is_not_in_conflict() {
        assert_eq!(workers(&[10, 5, 1, 0], &[10, 20, 90, 7], 0.1), [1.0, 4.0, 10.0, 7.0]);
        assert_eq!(workers(&[1], &[4], 1.0), [1.0], "the others train another model");
    }
}
