//! The plots, as SVG text.
//!
//! Colours of text, axes and grid are placeholders: the page's style sheet replaces them to fit a light or a dark
//! page. Colours of data are mid-tones that are visible on both.

mod series;

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) use series::{Dots, Line, colour, dots, lines, memory};

/// Stands for the colour of text and axes.
const INK: RGBColor = RGBColor(1, 1, 1);
/// Stands for the colour of the grid.
const GRID: RGBColor = RGBColor(2, 2, 2);
const OURS: RGBColor = RGBColor(0x1f, 0x9e, 0x89);
const OTHERS: RGBColor = RGBColor(0x8a, 0x93, 0xa6);
const LINE: RGBColor = RGBColor(0xd9, 0x6b, 0x27);

/// Twice the size on the page, because the SVG writer rounds to whole units and the rounding would be visible.
const SIZE: (u32, u32) = (1120, 660);
/// The same for a plot over the whole width.
const WIDE: (u32, u32) = (2320, 560);
const FONT: &str = "sans-serif";
const FONT_SIZE: i32 = 28;

/// A bar of [`bars`].
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    /// The bar's length.
    pub(super) value: f64,
    /// The same for people.
    pub(super) text: String,
    pub(super) ours: bool,
}

/// A value on an axis and its label.
pub(super) struct Axis<'a> {
    pub(super) label: &'a str,
    pub(super) range: (f64, f64),
    pub(super) format: fn(f64) -> String,
}

type Drawn = Result<(), Box<dyn Error>>;

/// Draws into a string.
fn draw(
    size: (u32, u32),
    paint: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        paint(&area).and_then(|()| Ok(area.present()?)).map_err(|error| error.to_string())?;
    }
    // The page gives the width, the view box the proportions.
    let fixed = format!("<svg width=\"{}\" height=\"{}\"", size.0, size.1);
    Ok(svg.replacen(&fixed, "<svg role=\"img\"", 1))
}

/// Horizontal bars with their values.
pub(super) fn bars(bars: &[Bar]) -> Result<String, String> {
    let (left, right, step) = (350, 180, 92);
    let height = bars.len() as i32 * step + 16;
    draw((SIZE.0, height as u32), |area| {
        let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let room = f64::from(SIZE.0 as i32 - left - right);
        let label =
            |horizontal| (FONT, FONT_SIZE).into_font().color(&INK).pos(Pos::new(horizontal, VPos::Center));
        for (index, bar) in bars.iter().enumerate() {
            let top = index as i32 * step + 16;
            let middle = top + (step - 32) / 2;
            let end = left + (bar.value / most * room).round().max(1.0) as i32;
            let colour = if bar.ours { OURS } else { OTHERS };
            area.draw(&Text::new(bar.label.clone(), (left - 20, middle), label(HPos::Right)))?;
            area.draw(&Rectangle::new([(left, top), (end, top + step - 32)], colour.filled()))?;
            area.draw(&Text::new(bar.text.clone(), (end + 16, middle), label(HPos::Left)))?;
        }
        Ok(())
    })
}

/// A curve, with a marked point.
pub(super) fn curve(
    x: &Axis<'_>,
    y: &Axis<'_>,
    points: &[(f64, f64)],
    mark: (f64, f64),
) -> Result<String, String> {
    draw(SIZE, |area| {
        let mut chart = chart(area, x, y)?;
        chart.draw_series(LineSeries::new(points.iter().copied(), LINE.stroke_width(5)))?;
        chart.draw_series([Circle::new(mark, 10, LINE.filled())])?;
        Ok(())
    })
}

/// Bars side by side: `(from, to, height)`.
pub(super) fn histogram(x: &Axis<'_>, y: &Axis<'_>, buckets: &[(f64, f64, f64)]) -> Result<String, String> {
    draw(SIZE, |area| {
        let bar = |&(from, to, height): &(f64, f64, f64)| {
            let gap = (to - from) * 0.06;
            Rectangle::new([(from + gap, 0.0), (to - gap, height)], OURS.filled())
        };
        chart(area, x, y)?.draw_series(buckets.iter().map(bar))?;
        Ok(())
    })
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Empty axes.
fn chart<'a, 'b>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    x: &Axis<'_>,
    y: &Axis<'_>,
) -> Result<Chart<'a, 'b>, Box<dyn Error>>
where
    'b: 'a,
{
    let mut chart = ChartBuilder::on(area)
        .margin(20)
        .margin_right(56)
        .x_label_area_size(92)
        .y_label_area_size(128)
        .build_cartesian_2d(x.range.0..x.range.1, y.range.0..y.range.1)
        .map_err(|error| error.to_string())?;
    let style = (FONT, FONT_SIZE).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(style.clone())
        .axis_desc_style(style)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|value| (x.format)(*value))
        .y_label_formatter(&|value| (y.format)(*value))
        .x_desc(x.label)
        .y_desc(y.label)
        .draw()
        .map_err(|error| error.to_string())?;
    Ok(chart)
}
