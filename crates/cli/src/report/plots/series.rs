//! Plots of several series, each in a different colour.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Axis, FONT, FONT_SIZE, GRID, INK, OURS, SIZE, WIDE, chart, draw};

/// Mid-tones that differ from each other and are visible on light and dark pages.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x8a, 0x93, 0xa6),
    RGBColor(0x1f, 0x9e, 0x89),
    RGBColor(0xd9, 0x6b, 0x27),
    RGBColor(0x8a, 0x63, 0xd2),
    RGBColor(0x2f, 0x7f, 0xd6),
    RGBColor(0xb8, 0x8a, 0x00),
    RGBColor(0xc2, 0x45, 0x7a),
];

/// The colour of a series, as HTML writes it.
pub(in crate::report) fn colour(series: usize) -> String {
    let RGBColor(red, green, blue) = COLOURS[series % COLOURS.len()];
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A row of [`dots`]: a dot for each series.
pub(in crate::report) struct Dots {
    pub(in crate::report) label: String,
    pub(in crate::report) values: Vec<f64>,
}

/// A row for each name, with a dot for each series on a common axis.
pub(in crate::report) fn dots(x: &Axis<'_>, rows: &[Dots]) -> Result<String, String> {
    let (left, right, top, step) = (270, 50, 20, 78);
    let bottom = top + rows.len() as i32 * step;
    let width = f64::from(SIZE.0 as i32 - left - right);
    let (low, high) = x.range;
    let place = |value: f64| left + ((value - low) / (high - low) * width).round() as i32;
    draw((SIZE.0, (bottom + 110) as u32), |area| {
        let label =
            |horizontal| (FONT, FONT_SIZE).into_font().color(&INK).pos(Pos::new(horizontal, VPos::Center));
        let spacing = spacing(high - low);
        let mut tick = (low / spacing).ceil() * spacing;
        while tick <= high {
            let at = place(tick);
            area.draw(&PathElement::new([(at, top), (at, bottom)], GRID))?;
            area.draw(&Text::new((x.format)(tick), (at, bottom + 28), label(HPos::Center)))?;
            tick += spacing;
        }
        let middle = (left + SIZE.0 as i32 - right) / 2;
        area.draw(&Text::new(x.label.to_owned(), (middle, bottom + 80), label(HPos::Center)))?;
        for (index, row) in rows.iter().enumerate() {
            let middle = top + index as i32 * step + step / 2;
            area.draw(&Text::new(row.label.clone(), (left - 28, middle), label(HPos::Right)))?;
            area.draw(&PathElement::new([(left, middle), (SIZE.0 as i32 - right, middle)], GRID))?;
            for (series, &value) in row.values.iter().enumerate() {
                let fill = COLOURS[series % COLOURS.len()].mix(0.9).filled();
                area.draw(&Circle::new((place(value), middle), 15, fill))?;
            }
        }
        Ok(())
    })
}

/// A round distance between ticks, for about six of them.
fn spacing(span: f64) -> f64 {
    let rough = span / 6.0;
    let unit = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * unit >= rough);
    (factor.unwrap_or(10.0) * unit).max(f64::MIN_POSITIVE)
}

/// A curve of [`lines`].
pub(in crate::report) struct Line {
    pub(in crate::report) series: usize,
    pub(in crate::report) points: Vec<(f64, f64)>,
}

/// Curves on common axes.
pub(in crate::report) fn lines(x: &Axis<'_>, y: &Axis<'_>, lines: &[Line]) -> Result<String, String> {
    draw(SIZE, |area| {
        let mut chart = chart(area, x, y)?;
        for line in lines {
            let style = COLOURS[line.series % COLOURS.len()].stroke_width(5);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        }
        Ok(())
    })
}

/// The memory of a job over time, with its limit and its stages.
pub(in crate::report) fn memory(
    x: &Axis<'_>,
    y: &Axis<'_>,
    points: &[(f64, f64)],
    limit: f64,
    stages: &[(f64, String)],
) -> Result<String, String> {
    draw(WIDE, |area| {
        let mut chart = chart(area, x, y)?;
        let fill = OURS.mix(0.25);
        chart.draw_series(
            AreaSeries::new(points.iter().copied(), 0.0, fill).border_style(OURS.stroke_width(4)),
        )?;
        let budget = [(x.range.0, limit), (x.range.1, limit)];
        chart.draw_series(DashedLineSeries::new(budget, 14, 10, COLOURS[2].stroke_width(4)))?;
        let ink = |at: Pos| (FONT, FONT_SIZE).into_font().color(&INK).pos(at);
        let end = ink(Pos::new(HPos::Right, VPos::Top));
        chart.draw_series([Text::new("budget", (x.range.1, limit * 0.985), end)])?;
        // Names at different heights, because short stages are close to each other.
        for (index, (start, name)) in stages.iter().enumerate() {
            let height = y.range.1 * (0.30 + 0.08 * (index % 6) as f64);
            let line = [(*start, 0.0), (*start, height)];
            chart.draw_series([PathElement::new(line, INK.stroke_width(2))])?;
            let style = ink(Pos::new(HPos::Left, VPos::Top));
            let beside = start + 0.004 * x.range.1;
            chart.draw_series([Text::new(name.clone(), (beside, height), style)])?;
        }
        Ok(())
    })
}
