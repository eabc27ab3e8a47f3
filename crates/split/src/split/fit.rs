//! The scales of a quantised base, fitted together with the residual.
//!
//! The residual repairs the weights with the largest errors. So an error costs its square only up to a limit, the
//! square of the cut's score; a weight with a larger error enters the residual, and that place costs the limit. The
//! scale of a group minimises the sum of the costs. An outlier costs the limit whatever the scale is, so it does not
//! shape the base. Where blocks of columns have multipliers, the largest of the blocks' own scales becomes that of the row, and
//! each block takes the multiplier that costs least.

use half::f16;
use residua_format::{BaseKind, Coder, Grid, MULTIPLIERS, ValueType, plain_multipliers, vectorised};

/// What errors cost: the rule by which scales are chosen.
#[derive(Debug)]
pub(super) struct Costs {
    coder: Coder,
    /// The codes that plain scales go with.
    plain: Coder,
    /// The factor of each column's errors.
    factors: Vec<f32>,
    /// For each group or block of columns, the scale whose largest rounding error is about the limit.
    anchors: Vec<f32>,
    /// The most that an error costs, in squares of scaled scores.
    limit: f32,
    /// The limit of the sums that are returned, and of that for plain scales.
    summed: f32,
    summed_plain: f32,
    /// The scale of scores, a power of two.
    unit: f64,
    /// The square of a stored value's relative rounding error.
    rounding: f32,
}

/// Limits of costs, as comparable scores; infinite without a residual.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The most that an error costs.
    pub(super) limit: f32,
    /// The cut that is expected.
    pub(super) cut: f32,
    /// The cut that is expected with plain scales.
    pub(super) plain_cut: f32,
}

impl Limits {
    /// All the same.
    pub(super) fn all(limit: f32) -> Self {
        Self { limit, cut: limit, plain_cut: limit }
    }
}

/// Sums over a row or more, with errors limited to the cut that was expected.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fitted {
    /// Squared errors of the scales that follow from the largest magnitudes.
    plain: f64,
    fitted: Errors,
    /// The same with scales rounded to f16.
    rounded: Errors,
    /// Whether some scale is too large for f16, or too small to keep its precision.
    out_of_range: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    /// Squared errors, and those of rounding the residual.
    squares: f64,
    /// Errors above the cut.
    above: f64,
}

impl Costs {
    /// Bytes for `cols` columns.
    pub(super) fn bytes(cols: usize) -> u64 {
        8 * cols as u64
    }

    /// Costs with these limits. `plain` is the coder of plain scales, `largest` a bound of the weights' magnitudes. `None`
    /// if there is no error to speak of.
    pub(super) fn new(
        coder: &Coder,
        plain: &Coder,
        values: ValueType,
        weights: &[f32],
        Limits { limit, cut, plain_cut }: Limits,
        largest: f64,
    ) -> Option<Self> {
        let measurable = |score: &f32| score.is_finite() && *score > 0.0;
        let reference = [cut, plain_cut].into_iter().find(measurable).map_or(largest, f64::from);
        if reference == 0.0 {
            return None;
        }
        // The limit becomes about 1. Squares far above it may be infinite, squares far below it may be 0.
        let unit = reference.log2().floor().clamp(-100.0, 100.0);
        let unit = 2f64.powi(-(unit as i32));
        let factors: Vec<f32> = weights.iter().map(|&weight| (f64::from(weight) * unit) as f32).collect();
        let square = |score: f32| (f64::from(score) * unit).powi(2) as f32;
        let (limit, summed, summed_plain) = (square(limit), square(cut), square(plain_cut));
        let gap = widest_gap(coder.grid().levels());
        let anchors = factors.chunks(unit_of(coder.grid().kind(), weights.len())).map(|factors| {
            let mean = factors.iter().sum::<f32>() / factors.len() as f32;
            2.0 * limit.min(summed).sqrt() / (mean * gap)
        });
        let anchors = anchors.collect();
        // Half a unit in the last place.
        let rounding = match values {
            ValueType::F32 => 2f32.powi(-48),
            ValueType::F16 => 2f32.powi(-22),
            ValueType::Bf16 | ValueType::I8 => 2f32.powi(-16),
        };
        let (coder, plain) = (coder.clone(), plain.clone());
        Some(Self { coder, plain, factors, anchors, limit, summed, summed_plain, unit, rounding })
    }

    /// No costs: every scale is that of the group's largest magnitude, in full precision. A codebook is that of a
    /// normal distribution.
    pub(super) fn none(kind: BaseKind) -> Self {
        let plain = Coder::from(Grid::from(kind));
        Self {
            coder: plain.clone(),
            plain,
            factors: Vec::new(),
            anchors: Vec::new(),
            limit: 0.0,
            summed: 0.0,
            summed_plain: 0.0,
            unit: 0.0,
            rounding: 0.0,
        }
    }

    /// How weights become codes.
    pub(super) fn coder(&self) -> &Coder {
        &self.coder
    }

    pub(super) fn kind(&self) -> BaseKind {
        self.coder.grid().kind()
    }

    /// Chooses the scales of one row, and the numbers of its multipliers.
    ///
    /// # Errors
    /// The column of a weight that is not finite.
    pub(super) fn fit(
        &self,
        weights: &[f32],
        scales: &mut [f32],
        multipliers: &mut [u8],
    ) -> Result<Fitted, usize> {
        let fitted = match scales {
            [scale] if !multipliers.is_empty() => fit_blocks(self, weights, scale, multipliers),
            _ => fit_row(self, weights, scales),
        };
        fitted.ok_or_else(|| weights.iter().position(|w| !w.is_finite()).unwrap_or(0))
    }

    /// The scale of one group with other weights; `None` if some weight is not finite. `first` is its first column.
    pub(super) fn refit(&self, first: usize, weights: &[f32]) -> Option<f32> {
        let mut scale = [0.0];
        if self.factors.is_empty() {
            return plain_scale(weights, self.kind());
        }
        fit_columns(self, first, weights, &mut scale)?;
        Some(scale[0])
    }

    /// What these sums cost.
    fn total(&self, sums: Sums) -> f32 {
        sums.costs + self.rounding * sums.squares
    }

    fn errors(&self, sums: Sums) -> Errors {
        Errors { squares: self.total(sums).into(), above: sums.above.into() }
    }

    /// Whether fitted scales leave no larger error than plain ones, with the best `kept` errors stored in the residual.
    /// `cut` is the comparable score of the last of them.
    ///
    /// Let `φ(t)` be the sum of `min(error², t)` less `kept · t`. It is concave, and its maximum is the error that the
    /// best `kept` entries leave, at the square of the cut. So φ of the plain errors at their expected cut is at most
    /// what they leave. What the fitted errors leave is at most φ there and its slope there times the way to the true
    /// cut.
    pub(super) fn pays(&self, sums: &Fitted, cut: f32, kept: u64) -> bool {
        let errors = if sums.half_scales() { sums.rounded } else { sums.fitted };
        // The sums are rounded.
        let plain = sums.plain * (1.0 - 1e-5);
        if kept == 0 {
            return errors.squares <= plain;
        }
        let kept = kept as f64;
        let way = (f64::from(cut) * self.unit).powi(2) - f64::from(self.summed);
        let fitted = errors.squares - kept * f64::from(self.summed) + (errors.above - kept) * way;
        fitted <= plain - kept * f64::from(self.summed_plain)
    }
}

impl Fitted {
    /// Whether the base loses nothing to speak of when its scales are stored as f16.
    pub(super) fn half_scales(&self) -> bool {
        !self.out_of_range && self.rounded.squares <= self.fitted.squares * 1.002
    }

    pub(super) fn add(self, other: Self) -> Self {
        Self {
            plain: self.plain + other.plain,
            fitted: self.fitted.add(other.fitted),
            rounded: self.rounded.add(other.rounded),
            out_of_range: self.out_of_range || other.out_of_range,
        }
    }
}

impl Errors {
    fn add(self, other: Self) -> Self {
        Self { squares: self.squares + other.squares, above: self.above + other.above }
    }
}

/// Columns that are fitted together.
fn unit_of(kind: BaseKind, cols: usize) -> usize {
    kind.block().unwrap_or_else(|| kind.group(cols))
}

/// The widest gap between neighbouring multiples.
fn widest_gap(levels: &[i8]) -> f32 {
    let gaps = levels.windows(2).map(|pair| f32::from(pair[1]) - f32::from(pair[0]));
    gaps.fold(1.0, f32::max)
}

/// Scales to try, as shares of the plain scale.
const CLIPS: [f32; 5] = [0.88, 0.78, 0.68, 0.59, 0.5];
/// Scales to try, as multiples of the anchor.
const ANCHORED: [f32; 9] = [3.0, 2.2, 1.65, 1.25, 1.0, 0.8, 0.64, 0.5, 0.35];
/// Scales to try, as multiples of the best so far.
const FINER: [f32; 4] = [0.93, 1.07, 0.97, 1.03];

vectorised! {
    /// One group; `None` if some weight is not finite.
    fn fit_columns(costs: &Costs, first: usize, weights: &[f32], scale: &mut [f32]) -> Option<Fitted> {
        let anchor = costs.anchors[first / costs.kind().group(costs.factors.len())];
        fit_group(costs, weights, &costs.factors[first..first + weights.len()], anchor, &mut scale[0])
    }
}

vectorised! {
    /// `None` if some weight is not finite.
    fn fit_row(costs: &Costs, weights: &[f32], scales: &mut [f32]) -> Option<Fitted> {
        let group = costs.kind().group(weights.len());
        let mut sums = Fitted::default();
        if costs.factors.is_empty() {
            for (weights, scale) in weights.chunks(group).zip(scales) {
                *scale = plain_scale(weights, costs.kind())?;
            }
            sums.out_of_range = true;
            return Some(sums);
        }
        let groups = weights.chunks(group).zip(costs.factors.chunks(group)).zip(&costs.anchors).zip(scales);
        for (((weights, factors), &anchor), scale) in groups {
            sums = sums.add(fit_group(costs, weights, factors, anchor, scale)?);
        }
        Some(sums)
    }
}

/// The scale that makes the largest magnitude the largest code; `None` if some weight is not finite.
#[inline(always)]
fn plain_scale(weights: &[f32], kind: BaseKind) -> Option<f32> {
    // The bits of floats without their sign order as integers do, infinities and NaN last.
    let mut bits = 0;
    for weight in weights {
        bits = bits.max((weight.to_bits() & 0x7FFF_FFFF) as i32);
    }
    let largest = Some(f32::from_bits(bits as u32)).filter(|largest| largest.is_finite())?;
    Some((largest / f32::from(kind.max_code())).min(kind.max_scale()))
}

vectorised! {
    /// A row whose blocks have multipliers; `None` if some weight is not finite.
    fn fit_blocks(costs: &Costs, weights: &[f32], scale: &mut f32, multipliers: &mut [u8]) -> Option<Fitted> {
        let kind = costs.kind();
        let plain = plain_scale(weights, kind)?;
        *scale = plain;
        plain_multipliers(weights, kind, &[plain], multipliers);
        if costs.factors.is_empty() || plain == 0.0 {
            return Some(Fitted { out_of_range: costs.factors.is_empty(), ..Fitted::default() });
        }
        let block = unit_of(kind, weights.len());
        let blocks = || weights.chunks(block).zip(costs.factors.chunks(block));
        let mut widest = 0.0f32;
        for ((weights, factors), &anchor) in blocks().zip(&costs.anchors) {
            // The best scale of a block is hardly ever larger than its plain one.
            let plain = plain_scale(weights, kind)?;
            if plain > widest {
                widest = widest.max(best_scale(costs, weights, factors, anchor, plain));
            }
        }
        *scale = widest;
        let rounded = f16::from_f32(widest);
        let mut fitted = Fitted { out_of_range: !rounded.is_normal(), ..Fitted::default() };
        for ((weights, factors), number) in blocks().zip(multipliers) {
            let sums = block_sums(weights, factors, &costs.plain, *number, (plain, costs.summed_plain));
            fitted.plain += f64::from(sums.costs);
            let tried = block_costs(costs, weights, factors, *scale);
            let mut best = f32::INFINITY;
            for (candidate, &cost) in tried.iter().enumerate().rev() {
                if cost < best {
                    (best, *number) = (cost, candidate as u8);
                }
            }
            for (scale, errors) in [(*scale, &mut fitted.fitted), (rounded.to_f32(), &mut fitted.rounded)] {
                let sums = block_sums(weights, factors, &costs.coder, *number, (scale, costs.summed));
                *errors = errors.add(costs.errors(sums));
            }
        }
        Some(fitted)
    }
}

/// What a block costs with each multiplier.
#[inline(always)]
fn block_costs(costs: &Costs, weights: &[f32], factors: &[f32], scale: f32) -> [f32; MULTIPLIERS.len()] {
    let products = costs.coder.products();
    let (mut sums, mut squares) = ([0.0; MULTIPLIERS.len()], [0.0; MULTIPLIERS.len()]);
    for (&weight, &factor) in weights.iter().zip(factors) {
        let multiples = products(weight / scale);
        for lane in 0..MULTIPLIERS.len() {
            let error = (weight - f32::from(multiples[lane]) * scale) * factor;
            let square = error * error;
            sums[lane] += if square < costs.limit { square } else { costs.limit };
            squares[lane] += square;
        }
    }
    for lane in 0..MULTIPLIERS.len() {
        sums[lane] += costs.rounding * squares[lane];
    }
    sums
}

/// Sums over one block with a multiplier, its codes chosen as they are stored.
#[inline(always)]
fn block_sums(
    weights: &[f32],
    factors: &[f32],
    coder: &Coder,
    number: u8,
    (scale, limit): (f32, f32),
) -> Sums {
    let level = coder.levels(number);
    add_up(weights, factors, (scale, limit), |weight| level(weight / scale))
}

#[inline(always)]
fn fit_group(
    costs: &Costs,
    weights: &[f32],
    factors: &[f32],
    anchor: f32,
    scale: &mut f32,
) -> Option<Fitted> {
    let plain = plain_scale(weights, costs.kind())?;
    *scale = plain;
    if plain == 0.0 {
        return Some(Fitted::default());
    }
    *scale = best_scale(costs, weights, factors, anchor, plain);
    // As the codes are chosen.
    let exact = |coder, scale: f32, limit| sums(weights, factors, (scale, limit), coder, |w| w / scale);
    let rounded = f16::from_f32(*scale);
    Some(Fitted {
        plain: exact(&costs.plain, plain, costs.summed_plain).costs.into(),
        fitted: costs.errors(exact(&costs.coder, *scale, costs.summed)),
        rounded: costs.errors(exact(&costs.coder, rounded.to_f32(), costs.summed)),
        out_of_range: !rounded.is_normal(),
    })
}

/// The scale that costs least. `plain` is the plain scale.
#[inline(always)]
fn best_scale(costs: &Costs, weights: &[f32], factors: &[f32], anchor: f32, plain: f32) -> f32 {
    if plain == 0.0 {
        return 0.0;
    }
    let mut best = (f32::INFINITY, plain);
    better(costs, weights, factors, plain, &mut best);
    for share in CLIPS {
        better(costs, weights, factors, plain * share, &mut best);
    }
    let below = CLIPS[CLIPS.len() - 1] * plain;
    for multiple in ANCHORED {
        if anchor * multiple < below {
            better(costs, weights, factors, anchor * multiple, &mut best);
        }
    }
    for multiple in FINER {
        let scale = (best.1 * multiple).min(costs.kind().max_scale());
        better(costs, weights, factors, scale, &mut best);
    }
    best.1
}

/// Replaces the best cost and scale if `scale` costs less. Weights are multiplied by its inverse, which is faster than what
/// chooses codes.
#[inline(always)]
fn better(costs: &Costs, weights: &[f32], factors: &[f32], scale: f32, best: &mut (f32, f32)) {
    let inverse = 1.0 / scale;
    let cost = costs.total(sums(weights, factors, (scale, costs.limit), &costs.coder, |w| w * inverse));
    if cost < best.0 {
        *best = (cost, scale);
    }
}

/// Numbers that are added side by side.
const LANES: usize = 16;

/// Sums over one group or block.
#[derive(Clone, Copy, Default)]
struct Sums {
    costs: f32,
    squares: f32,
    /// Errors above the limit.
    above: f32,
}

/// `steps` divides a weight by its scale.
#[inline(always)]
fn sums(
    weights: &[f32],
    factors: &[f32],
    (scale, limit): (f32, f32),
    coder: &Coder,
    steps: impl Fn(f32) -> f32,
) -> Sums {
    match coder.grid().kind().is_codebook() {
        true => {
            let level = coder.levels(coder.whole());
            add_up(weights, factors, (scale, limit), |weight| level(steps(weight)))
        }
        false => add_up(weights, factors, (scale, limit), |weight| coder.integer(steps(weight))),
    }
}

/// `multiple` is the multiple of the scale that stands for a weight.
#[inline(always)]
fn add_up(
    weights: &[f32],
    factors: &[f32],
    (scale, limit): (f32, f32),
    multiple: impl Fn(f32) -> f32,
) -> Sums {
    let (mut costs, mut squares, mut above) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let (w, w_rest) = weights.as_chunks::<LANES>();
    let (f, f_rest) = factors.as_chunks::<LANES>();
    for (w, f) in w.iter().zip(f) {
        // One loop after the other, so that each becomes vector instructions.
        let mut square = [0.0f32; LANES];
        for lane in 0..LANES {
            square[lane] = multiple(w[lane]);
        }
        for lane in 0..LANES {
            let error = (w[lane] - square[lane] * scale) * f[lane];
            square[lane] = error * error;
        }
        for lane in 0..LANES {
            costs[lane] += if square[lane] < limit { square[lane] } else { limit };
            squares[lane] += square[lane];
            above[lane] += if square[lane] > limit { 1.0 } else { 0.0 };
        }
    }
    for (lane, (w, f)) in w_rest.iter().zip(f_rest).enumerate() {
        let error = (w - multiple(*w) * scale) * f;
        let square = error * error;
        costs[lane] += if square < limit { square } else { limit };
        squares[lane] += square;
        above[lane] += if square > limit { 1.0 } else { 0.0 };
    }
    Sums { costs: sum(costs), squares: sum(squares), above: sum(above) }
}

/// Adds up in halves: blocks are short, and a chain of additions would take longer than the rest.
#[inline(always)]
fn sum(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}
