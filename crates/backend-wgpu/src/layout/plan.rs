//! Which lanes get which rows.

use std::cmp::Reverse;
use std::ops::Range;

use super::{Counts, FIRST_SEGMENT, LANES, TEAM_WORDS, Tuning};

/// A row, or a segment of a long one, for the lanes of one team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TeamPlan {
    pub(super) row: u32,
    /// Its first entry in the row. Fillers count as entries here.
    pub(super) first: u32,
    pub(super) entries: u32,
    /// Number of lanes, a power of two.
    pub(super) lanes: u32,
    /// 0 for a whole row, otherwise 1 + the number of the segment. [`FIRST_SEGMENT`] is set in the first one of a row.
    pub(super) part: u32,
}

impl TeamPlan {
    /// Quads in each lane.
    pub(super) fn quads(&self) -> u32 {
        self.entries.div_ceil(self.lanes).div_ceil(4)
    }
}

/// A slice's header as the kernels read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Slice {
    /// Its first word.
    pub(crate) start: u32,
    /// Quads in its longest lane.
    pub(crate) quads: u32,
    /// Lanes in each team.
    pub(crate) team: u32,
    pub(crate) unused: u32,
}

/// A row in segments, as the kernels read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct LongRow {
    pub(crate) row: u32,
    pub(crate) first: u32,
    pub(crate) segments: u32,
    pub(crate) unused: u32,
}

/// The layout of a run of rows.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rows: Range<usize>,
    /// Bits of a gap, 8 or 16.
    pub(crate) gap_bits: u32,
    pub(crate) slices: Vec<Slice>,
    /// In the order of their slices. Each slice has `LANES / team` teams; the last one of a size may have fewer.
    pub(super) teams: Vec<TeamPlan>,
    /// The first team of each slice.
    pub(super) first_team: Vec<u32>,
    pub(crate) long_rows: Vec<LongRow>,
    pub(crate) segments: u32,
    /// Words in all slices.
    pub(crate) words: usize,
}

/// Words that hold four entries of every lane.
pub(super) fn quad_words(gap_bits: u32, value_words: usize) -> usize {
    LANES * (gap_bits as usize / 8 + value_words)
}

/// Lays out a range of rows. `None` when that needs more than `limit` bytes in a binding.
pub(crate) fn plan(
    counts: &[Counts],
    rows: Range<usize>,
    value_words: usize,
    tuning: Tuning,
    limit: u64,
) -> Option<Plan> {
    let counts = &counts[rows.clone()];
    let sum = |count: fn(&Counts) -> u64| counts.iter().map(count).sum::<u64>();
    let (narrow, wide) = (sum(|c| c.entries + c.narrow), sum(|c| c.entries + c.wide));
    let bytes = value_words as u64;
    let (gap_bits, all) = if narrow * (1 + bytes) <= wide * (2 + bytes) { (8, narrow) } else { (16, wide) };
    // Every count below fits 32 bits too.
    if all * (u64::from(gap_bits) / 8 + bytes) > limit || all > u64::from(u32::MAX) / 4 {
        return None;
    }
    let lane = (all as usize / tuning.lanes).clamp(tuning.shortest, tuning.longest);

    let (mut teams, mut long_rows, mut segments) = (Vec::with_capacity(counts.len()), Vec::new(), 0);
    for (row, counts) in rows.clone().zip(counts) {
        let fillers = if gap_bits == 8 { counts.narrow } else { counts.wide };
        let (row, entries) = (row as u32, (counts.entries + fillers) as u32);
        let most = (LANES * tuning.longest) as u32;
        if entries <= most {
            let lanes = entries.div_ceil(lane as u32).next_power_of_two().clamp(1, LANES as u32);
            teams.push(TeamPlan { row, first: 0, entries, lanes, part: 0 });
            continue;
        }
        let count = entries.div_ceil(most);
        let each = entries.div_ceil(count);
        // Rounding up may leave nothing for the last segment.
        let count = entries.div_ceil(each);
        long_rows.push(LongRow { row, first: segments, segments: count, unused: 0 });
        for segment in 0..count {
            let first = segment * each;
            let entries = each.min(entries - first);
            let part = (1 + segments + segment) | if segment == 0 { FIRST_SEGMENT } else { 0 };
            teams.push(TeamPlan { row, first, entries, lanes: LANES as u32, part });
        }
        segments += count;
    }
    // A slice has teams of one size, with lanes of similar length.
    teams.sort_by_key(|team| (team.lanes, Reverse(team.quads()), team.row, team.first));

    let (mut slices, mut first_team, mut words, mut at) = (Vec::new(), Vec::new(), 0, 0);
    while at < teams.len() {
        let (lanes, quads) = (teams[at].lanes, teams[at].quads());
        let room = LANES / lanes as usize;
        let used = teams[at..].iter().take(room).take_while(|team| team.lanes == lanes).count();
        slices.push(Slice { start: words as u32, quads, team: lanes, unused: 0 });
        first_team.push(at as u32);
        words += LANES + TEAM_WORDS * room + quads as usize * quad_words(gap_bits, value_words);
        if 4 * words as u64 > limit || words > u32::MAX as usize {
            return None;
        }
        at += used;
    }
    Some(Plan { rows, gap_bits, slices, teams, first_team, long_rows, segments, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNING: Tuning = Tuning { lanes: 1, shortest: 32, longest: 256, chunks: 4, base_threads: 64 };

    fn counts(entries: &[u64]) -> Vec<Counts> {
        entries.iter().map(|&entries| Counts { entries, narrow: 0, wide: 0 }).collect()
    }

    fn planned(entries: &[u64], tuning: Tuning) -> Plan {
        plan(&counts(entries), 0..entries.len(), 2, tuning, u64::MAX).unwrap()
    }

    #[test]
    fn every_entry_is_in_one_team() {
        let entries: Vec<u64> = (0..300).map(|row| [0, 1, 7, 200, 900, 20_000, 100_001][row % 7]).collect();
        for lanes in [1, 1 << 16] {
            let plan = planned(&entries, Tuning { lanes, ..TUNING });
            let mut found = vec![0; entries.len()];
            let mut teams = plan.teams.clone();
            teams.sort_by_key(|team| (team.row, team.first));
            for team in teams {
                assert_eq!(u64::from(team.first), found[team.row as usize], "row {}", team.row);
                found[team.row as usize] += u64::from(team.entries);
                assert!(team.quads() * 4 * team.lanes >= team.entries);
            }
            assert_eq!(found, entries);
        }
    }

    #[test]
    fn long_rows_are_cut_into_numbered_segments() {
        let plan = planned(&[3, 16_384, 16_385, 40_000], TUNING);
        let long = |row, first, segments| LongRow { row, first, segments, unused: 0 };
        assert_eq!(plan.long_rows, [long(2, 0, 2), long(3, 2, 3)]);
        let mut parts: Vec<u32> = plan.teams.iter().map(|team| team.part).collect();
        parts.sort_unstable();
        assert_eq!(parts, [0, 0, 2, 4, 5, 1 | FIRST_SEGMENT, 3 | FIRST_SEGMENT]);
    }

    #[test]
    fn padding_stays_small() {
        // 4,096 rows of about 205 entries, as in a layer of 4,096 columns at 5 %.
        let entries: Vec<u64> = (0..4096).map(|row| 165 + (row * 7919 % 81)).collect();
        let all: u64 = entries.iter().sum();
        for lanes in [1 << 10, 1 << 16] {
            let plan = planned(&entries, Tuning { lanes, ..TUNING });
            let bytes = 4.0 * plan.words as f64 / all as f64;
            assert!(bytes < 3.5, "{lanes} lanes: {bytes} bytes per entry");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_planned() {
        let rows = counts(&[100; 10]);
        assert!(plan(&rows, 0..10, 2, TUNING, 100).is_none());
        assert!(plan(&rows, 0..10, 2, TUNING, 1 << 20).is_some());
    }

    #[test]
    fn gaps_are_as_wide_as_makes_the_matrix_smaller() {
        let of = |narrow, wide| {
            plan(&[Counts { entries: 100, narrow, wide }], 0..1, 2, TUNING, u64::MAX).unwrap().gap_bits
        };
        assert_eq!([of(0, 0), of(20, 0), of(400, 0)], [8, 8, 16]);
    }
}
