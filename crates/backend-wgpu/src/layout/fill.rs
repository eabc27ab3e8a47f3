//! The words of slices.

use rayon::prelude::*;
use residua_backend::source::Source;

use super::plan::{Plan, TeamPlan, quad_words};
use super::source::{Stored, fillers};
use super::{LANES, NO_ROW, TEAM_WORDS};

/// Writes the slices `first..first + count` into their `words`. These must be zeros before. `scales` has a factor for
/// the sum of each row, or none at all.
pub(crate) fn fill<V: Stored>(
    plan: &Plan,
    source: &impl Source<V>,
    scales: &[f32],
    first: usize,
    count: usize,
    mut words: &mut [u32],
) {
    let mut slices = Vec::with_capacity(count);
    for number in first..first + count {
        let end = plan.slices.get(number + 1).map_or(plan.words, |next| next.start as usize);
        let own = words.split_off_mut(..end - plan.slices[number].start as usize).unwrap_or_default();
        slices.push((number, own));
    }
    slices.into_par_iter().for_each(|(number, words)| fill_slice(plan, source, scales, number, words));
}

fn fill_slice<V: Stored>(
    plan: &Plan,
    source: &impl Source<V>,
    scales: &[f32],
    number: usize,
    words: &mut [u32],
) {
    let lanes = plan.slices[number].team as usize;
    let room = LANES / lanes;
    let first = plan.first_team[number] as usize;
    let end = plan.first_team.get(number + 1).map_or(plan.teams.len(), |&next| next as usize);
    let (head, quads) = words.split_at_mut(LANES + TEAM_WORDS * room);
    let (starts, records) = head.split_at_mut(LANES);
    records.chunks_exact_mut(TEAM_WORDS).for_each(|record| record[0] = NO_ROW);
    for (position, team) in plan.teams[first..end].iter().enumerate() {
        let scale = scales.get(team.row as usize).copied().unwrap_or(1.0).to_bits();
        records[TEAM_WORDS * position..][..TEAM_WORDS].copy_from_slice(&[team.row, team.part, scale]);
        let mut writer = Writer {
            lane: position * lanes,
            quads,
            gap_bits: plan.gap_bits,
            value_bits: 8 * size_of::<V>() as u32,
            quad_words: quad_words(plan.gap_bits, V::WORDS),
        };
        writer.team(source, team, starts);
    }
}

/// Writes entries into the lanes of a team.
struct Writer<'a> {
    lane: usize,
    quads: &'a mut [u32],
    gap_bits: u32,
    value_bits: u32,
    quad_words: usize,
}

impl Writer<'_> {
    fn team<V: Stored>(&mut self, source: &impl Source<V>, team: &TeamPlan, starts: &mut [u32]) {
        let lane_len = 4 * team.quads();
        let (first, end) = (team.first, team.first + team.entries);
        let most = (1u32 << self.gap_bits) - 1;
        // The next entry, the column before it, and its place in its lane.
        let (mut entry, mut column, mut place) = (0, u32::MAX, 0);
        let lane_of = self.lane;
        let mut lane = lane_of;
        source.for_each(team.row as usize, |next, value| {
            let gap = next.wrapping_sub(column);
            let fillers = fillers(gap, self.gap_bits);
            for i in 0..=fillers {
                let (step, own) =
                    if i < fillers { (most, None) } else { (gap - fillers * most, Some(value.bits())) };
                if (first..end).contains(&entry) {
                    if place == lane_len {
                        (lane, place) = (lane + 1, 0);
                    }
                    if place == 0 {
                        starts[lane] = column;
                    }
                    if let Some(value) = own {
                        self.put(lane, place, step, value);
                    }
                    place += 1;
                }
                column = column.wrapping_add(step);
                entry += 1;
            }
        });
    }

    /// Writes an entry. Fillers need no write: they are zeros.
    fn put(&mut self, lane: usize, place: u32, gap: u32, value: u32) {
        let (quad, place) = ((place / 4) as usize * self.quad_words, place % 4);
        let mut set = |word: usize, bits: u32, position: u32, value: u32| {
            let (index, shift) = (position * bits / 32, position * bits % 32);
            self.quads[quad + (word + index as usize) * LANES + lane] |= value << shift;
        };
        set(0, self.gap_bits, place, gap);
        set(self.gap_bits as usize / 8, self.value_bits, place, value);
    }
}
